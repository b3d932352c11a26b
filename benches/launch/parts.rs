//! `cargo bench --bench parts`: builds and runs `benches/parts`.
#![allow(clippy::restriction, clippy::disallowed_methods, reason = "it starts another program")]

mod run;

fn main() -> std::process::ExitCode {
    run::run("parts")
}
