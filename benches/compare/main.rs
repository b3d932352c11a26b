//! Compares attestlog with SQLite, with redb with one row per index entry, and with the other crates that keep
//! tamper-evident audit logs: the same calls, one run, ratios, targets.
//!
//! ```text
//! cargo bench --bench compare [-- FLAGS]
//!   --entries N      a size, repeatable; 100,000 and 1,000,000 unless given
//!   --quick          small sizes: whether everything runs; nothing is judged
//!   --alone          without the others
//!   --only GROUPS    some groups of measurements: bulk,results,queries,proofs,verify,open,records,files,memory,peers
//!   --dir FOLDER     where the stores are written (default: here)
//!   --minutes N      a peer is cut off after so long (default: 3)
//!   --json FILE      writes what was found
//!   --plots FOLDER   writes what was found, the tables, and the plots that are made from it
//! compare plots FILE FOLDER     draws the plots of an earlier run's JSON again
//! ```
//!
//! The folder must be on the disk that is to be measured: on a file system in memory every sync is free. Opening ten
//! million entries after a kill, which takes a store of that size, is `--entries 10000000 --only open --alone`.

mod answers;
mod bulk;
mod files;
mod machine;
mod measure;
mod ours;
mod peers;
mod plots;
mod profile;
mod recording;
mod records;
mod report;
mod rows;
mod run;
mod sqlite;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The command line.
#[derive(Default)]
pub struct Plan {
    sizes: Vec<u64>,
    quick: bool,
    alone: bool,
    only: Vec<String>,
    dir: PathBuf,
    minutes: f64,
    json: Option<PathBuf>,
    plots: Option<PathBuf>,
}

fn plan(words: &[String]) -> Result<Plan, String> {
    let mut plan = Plan { dir: ".".into(), minutes: 3.0, ..Plan::default() };
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
            "--only" => plan.only.extend(value()?.split(',').map(str::to_owned)),
            "--dir" => plan.dir = value()?.into(),
            "--minutes" => {
                let number = value()?;
                plan.minutes = number.parse().map_err(|_| format!("--minutes {number}: not a number"))?;
            }
            "--json" => plan.json = Some(value()?.into()),
            "--plots" => plan.plots = Some(value()?.into()),
            // Cargo passes this to every benchmark.
            "--bench" => {}
            other => return Err(format!("{other}: not known; the top of benches/compare/main.rs lists the flags")),
        }
    }
    let groups: Vec<&str> = run::GROUPS.iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = plan.only.iter().find(|only| !groups.contains(&only.as_str())) {
        return Err(format!("--only {unknown}: not known; {} are", groups.join(", ")));
    }
    if plan.quick {
        plan.minutes = plan.minutes.min(0.1);
    }
    if plan.sizes.is_empty() {
        plan.sizes = if plan.quick { vec![1_000] } else { vec![100_000, 1_000_000] };
    }
    plan.sizes.sort_unstable();
    Ok(plan)
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |text: &str| text.parse().unwrap_or_default();
    let done = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["killed", path, batches] => records::killed(path.as_ref(), number(batches)),
        ["memory", path, entries] => files::memory(path.as_ref(), number(entries)),
        ["profile", what, path, entries] => profile::profile(what, path.as_ref(), number(entries)),
        ["peer", name, dir, entries, seconds] => peers::measure(name, dir.as_ref(), number(entries), number(seconds)),
        ["plots", file, dir] => plots::again(file.as_ref(), dir.as_ref()),
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
