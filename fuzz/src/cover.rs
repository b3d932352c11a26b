//! Runs one target, named by the environment variable `FUZZ_TARGET`, under LLVM's coverage-guided fuzzer.
#![no_main]

use attestlog_fuzz::{Target, target};
use std::sync::OnceLock;

static CHOSEN: OnceLock<&'static Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let chosen = CHOSEN.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names the target");
        target(&name).unwrap_or_else(|| panic!("there is no target {name}"))
    });
    (chosen.run)(data);
});
