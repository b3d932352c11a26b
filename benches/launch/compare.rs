//! `cargo bench --bench compare`: builds and runs `benches/compare`.
#![allow(clippy::restriction, clippy::disallowed_methods, reason = "it starts another program")]

mod run;

fn main() -> std::process::ExitCode {
    run::run("compare")
}
