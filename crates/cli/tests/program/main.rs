//! The program as it is used at a terminal: every command, its output, its exit codes.
#![allow(clippy::restriction, clippy::disallowed_methods, reason = "a test may panic, print and ask the machine")]

mod airline_proofs;
mod airline_purge;
mod anchors_timestamp;
mod bad_input;
mod call_counts;
mod claimed_times;
mod cli_alerts;
mod cli_anchors;
mod cli_backup;
mod cli_forward;
mod cli_manage;
mod cli_mistakes;
mod cli_package;
mod cli_prove;
mod cli_read;
mod cli_record;
mod cli_reports;
mod cli_verify;
#[path = "../common/mod.rs"]
mod common;
mod done_unsigned;
mod half_made;
mod key_vaults;
mod messages;
mod missing_keys;
mod os_keyring;
mod permissions;
mod policy_changes;
mod privacy;
mod purge_cli;
mod purge_crash;
mod python_bindings;
mod questions;
mod reading;
mod readme;
mod restoring;
mod rotation;
mod said_truly;
mod settled;
#[path = "../../../../tests/store_common/mod.rs"]
mod store_common;
mod three_checkers;
mod unknown_values;
#[path = "../../../../tests/witness/mod.rs"]
mod witness;
