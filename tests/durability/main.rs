//! What survives damage, crashes and hostile writers: no wrong answer, no lost record.
#![allow(clippy::restriction, clippy::disallowed_methods, reason = "a test may panic, print and ask the machine")]

mod backup;
#[path = "../crash/mod.rs"]
mod crash;
mod crash_points;
mod damaged_pages;
mod full_disk;
mod pages;
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
mod torn_commits;
mod unindexed;
mod written_over;
