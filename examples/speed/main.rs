//! What single jobs of the engine cost: `cargo run --release --example speed JOB [ARG…]`. Each job's file says at its top what it
//! measures. They are one program, since each program that is linked costs whoever runs the tests some seconds.
#![allow(clippy::restriction, clippy::disallowed_methods, reason = "an example may panic, print and ask the machine")]

mod alerts;
mod owner;
mod proofs;
mod purges;
mod redaction;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((job, args)) = args.split_first() else {
        eprintln!("name a job: alerts, owner, proofs, purges or redaction");
        return ExitCode::from(2);
    };
    match job.as_str() {
        "alerts" => alerts::run(args).unwrap(),
        "owner" => owner::run(args),
        "proofs" => proofs::run(args).unwrap(),
        "purges" => return purges::all(args),
        "redaction" => redaction::run(),
        other => {
            eprintln!("no job is called {other:?}: alerts, owner, proofs, purges or redaction");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
