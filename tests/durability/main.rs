//! What survives damage, crashes and writing hands: no wrong answer, no lost record.

mod backup;
mod cli_backup;
#[path = "../common/mod.rs"]
mod common;
#[path = "../crash/mod.rs"]
mod crash;
mod crash_points;
mod damaged_pages;
mod full_disk;
mod pages;
mod purge_crash;
mod sealing;
mod sigkill;
#[path = "../store_common/mod.rs"]
mod store_common;
mod tamper;
mod tamper_bytes;
mod tamper_chain;
mod tamper_sealed;
#[path = "../tampering/mod.rs"]
mod tampering;
