//! attestlog beside SQLite and beside redb with a row per index entry: the same calls, one run, ratios.
//!
//! ```text
//! cargo bench --bench compare [-- --entries N]… [--quick] [--alone] [--dir FOLDER]
//! ```
//!
//! Sizes are 100,000 and 1,000,000 unless `--entries` says others. `--quick` looks only whether everything runs. `--alone`
//! leaves the others out. Files are made in a folder below `--dir` (default: the current one), which must be on the disk that
//! is meant: a file system in memory makes every sync free.

mod measure;
mod ours;
mod rows;
mod run;
mod sqlite;
mod table;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What was asked for.
pub struct Plan {
    sizes: Vec<u64>,
    quick: bool,
    alone: bool,
    dir: PathBuf,
}

fn plan(words: &[String]) -> Result<Plan, String> {
    let mut plan = Plan { sizes: Vec::new(), quick: false, alone: false, dir: ".".into() };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--entries" => {
                let number = value()?.replace(['_', ','], "");
                plan.sizes.push(number.parse().map_err(|_| format!("--entries {number}: not a number"))?);
            }
            "--quick" => plan.quick = true,
            "--alone" => plan.alone = true,
            "--dir" => plan.dir = value()?.into(),
            // What cargo says to every benchmark.
            "--bench" => {}
            other => return Err(format!("{other}: not known; --entries N, --quick, --alone, --dir FOLDER are")),
        }
    }
    if plan.sizes.is_empty() {
        plan.sizes = if plan.quick { vec![5_000] } else { vec![100_000, 1_000_000] };
    }
    plan.sizes.sort_unstable();
    Ok(plan)
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["killed", path] => run::killed(path.as_ref()),
        ["memory", path, entries] => run::memory(path.as_ref(), entries.parse().unwrap_or_default()),
        ["profile", what, path, entries] => run::profile(what, path.as_ref(), entries.parse().unwrap_or_default()),
        _ => match plan(&words) {
            Ok(plan) => run::run(&plan),
            Err(wrong) => {
                eprintln!("{wrong}");
                return ExitCode::from(2);
            }
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}
