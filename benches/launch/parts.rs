//! `cargo bench --bench parts`: builds and runs `benches/parts`.

mod run;

fn main() -> std::process::ExitCode {
    run::run("parts")
}
