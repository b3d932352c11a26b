//! `cargo bench --bench compare`: builds and runs `benches/compare`.

mod run;

fn main() -> std::process::ExitCode {
    run::run("compare")
}
