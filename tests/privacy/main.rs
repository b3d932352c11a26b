//! What never reaches the disk, and who may read what does: redaction, pseudonyms, keys.

mod cli_manage;
#[path = "../common/mod.rs"]
mod common;
mod detector_formats;
mod identities;
mod key_vaults;
mod keys;
mod os_keyring;
mod permissions;
mod pii_corpus;
mod privacy;
mod pseudonyms;
mod redaction;
mod redaction_recall;
mod rotation;
