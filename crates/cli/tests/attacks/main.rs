//! Attacks that once succeeded, one file for each attacker. Each test opens with the story of the attack, and fails without
//! the defence against it. DESIGN.md, "Threat model", has the same attackers as rows.
#![allow(clippy::restriction, clippy::disallowed_methods, reason = "a test may panic, print and ask the machine")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../mcp_common/mod.rs"]
mod mcp_common;
#[path = "../../../../tests/store_common/mod.rs"]
mod store_common;

mod agent_arguments;
mod auditor_fooled;
mod clock_mover;
mod erased_guesses;
mod false_facts;
mod false_identity;
mod file_editor;
mod key_holder;
mod local_user;
mod mcp_peer;
mod old_copy;
mod own_files;
mod restored_again;
mod restored_copy;
mod socket_peer;
mod two_names;
mod unsigned_end;
