//! The program as somebody uses it at a terminal: every command, its output, its exit codes.

mod airline_proofs;
mod airline_purge;
mod anchors_timestamp;
mod bad_input;
mod claimed_times;
mod cli_alerts;
mod cli_anchors;
mod cli_backup;
mod cli_manage;
mod cli_mistakes;
mod cli_prove;
mod cli_read;
mod cli_record;
mod cli_reports;
mod cli_verify;
#[path = "../common/mod.rs"]
mod common;
mod key_vaults;
mod missing_keys;
mod os_keyring;
mod permissions;
mod privacy;
mod purge_cli;
mod purge_crash;
mod reading;
mod readme;
mod rotation;
#[path = "../../../../tests/store_common/mod.rs"]
mod store_common;
mod unknown_values;
#[path = "../../../../tests/witness/mod.rs"]
mod witness;
