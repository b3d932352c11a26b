//! The runner: each target on its corpus, then on mutated inputs, on any stable toolchain.
//!
//! ```text
//! fuzz [--runs N | --seconds S] [--seed X] [TARGET…]    default: 2,000 runs of every target
//! fuzz replay TARGET FILE…                              what failed before
//! fuzz list                                             the targets
//! fuzz seeds TARGET FOLDER                              the inputs to begin from, as files, for another fuzzer
//! ```
//!
//! The same seed and the same corpus give the same inputs. An input that fails is written to `artifacts/TARGET` in the
//! `fuzz` folder of the current directory, or in the current directory if that is the `fuzz` folder.

use attestlog_fuzz::mutate::{Random, mutate};
use attestlog_fuzz::{TARGETS, Target, target};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// An input that takes longer than this is reported as a failure: no target has a reason to take so long.
const SLOW: Duration = Duration::from_secs(20);

struct Plan {
    runs: u64,
    time: Option<Duration>,
    seed: u64,
    targets: Vec<&'static Target>,
}

/// redb panics over damaged files, and attestlog turns these panics into errors. Printed, they would be hundreds of
/// lines in which a real failure would be overlooked. So this prints every panic except those of redb that attestlog
/// catches.
fn say_failures_only() {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let redbs = info.location().is_some_and(|place| place.file().contains("/redb-"));
        if !(redbs && attestlog::is_guarded()) {
            say(info);
        }
    }));
}

fn main() -> ExitCode {
    say_failures_only();
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some("list") => {
            TARGETS.iter().for_each(|t| println!("{}", t.name));
            ExitCode::SUCCESS
        }
        Some("replay") => replay(&words[1..]),
        Some("seeds") => seeds(&words[1..]),
        _ => match plan(&words) {
            Ok(plan) => smoke(&plan),
            Err(wrong) => {
                eprintln!("{wrong}");
                ExitCode::from(2)
            }
        },
    }
}

fn plan(words: &[String]) -> Result<Plan, String> {
    let mut plan = Plan { runs: 2_000, time: None, seed: 1, targets: Vec::new() };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|n| n.parse::<u64>().ok()).ok_or(format!("{word} needs a number"));
        match word.as_str() {
            "--runs" => plan.runs = number()?,
            "--seconds" => plan.time = Some(Duration::from_secs(number()?)),
            "--seed" => plan.seed = number()?,
            name => plan.targets.push(target(name).ok_or(format!("there is no target {name}"))?),
        }
    }
    if plan.targets.is_empty() {
        plan.targets = TARGETS.iter().collect();
    }
    Ok(plan)
}

fn folder() -> PathBuf {
    let here = Path::new("fuzz");
    if here.join("corpus").is_dir() { here.to_owned() } else { PathBuf::from(".") }
}

fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let mut pool = (target.seeds)();
    for kind in ["corpus", "found"] {
        let Ok(files) = std::fs::read_dir(folder().join(kind).join(target.name)) else { continue };
        let mut paths: Vec<PathBuf> = files.flatten().map(|f| f.path()).collect();
        paths.sort();
        pool.extend(paths.iter().filter_map(|p| std::fs::read(p).ok()));
    }
    pool
}

fn smoke(plan: &Plan) -> ExitCode {
    let mut failed = false;
    for target in &plan.targets {
        let pool = corpus(target);
        let start = Instant::now();
        let mut random = Random::new(plan.seed);
        let mut slowest = Duration::ZERO;
        let mut runs = 0u64;
        let mut bad = None;
        loop {
            let input = match pool.get(runs as usize) {
                Some(input) => input.clone(),
                None => mutate(&mut random, &pool, target.words),
            };
            let began = Instant::now();
            let held = std::panic::catch_unwind(|| (target.run)(&input)).is_ok();
            slowest = slowest.max(began.elapsed());
            runs += 1;
            if !held || began.elapsed() > SLOW {
                bad = Some(input);
                break;
            }
            let enough = match plan.time {
                Some(time) => start.elapsed() >= time,
                None => runs >= plan.runs,
            };
            if enough && runs > pool.len() as u64 {
                break;
            }
        }
        let took = start.elapsed();
        print!(
            "{:<12} {runs:>9} runs from {:>3} inputs in {:>6.1} s, slowest {:>7.1} ms",
            target.name,
            pool.len(),
            took.as_secs_f64(),
            slowest.as_secs_f64() * 1e3
        );
        match bad {
            None => println!("  ok"),
            Some(input) => {
                failed = true;
                println!("  FAILED: {}", keep(target, &input).display());
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn seeds(words: &[String]) -> ExitCode {
    let Some((target, folder)) = words.first().and_then(|name| target(name)).zip(words.get(1)) else {
        eprintln!("seeds TARGET FOLDER");
        return ExitCode::from(2);
    };
    for seed in (target.seeds)() {
        if let Err(e) = std::fs::write(Path::new(folder).join(attestlog::Hash::of(&seed).to_string()), &seed) {
            eprintln!("{folder}: {e}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn keep(target: &Target, input: &[u8]) -> PathBuf {
    let folder = folder().join("artifacts").join(target.name);
    let path = folder.join(format!("{}", attestlog::Hash::of(input)));
    if let Err(e) = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, input)) {
        eprintln!("the failing input could not be kept: {e}");
    }
    path
}

fn replay(words: &[String]) -> ExitCode {
    let Some((target, files)) = words.split_first().and_then(|(name, files)| Some((target(name)?, files))) else {
        eprintln!("replay TARGET FILE…");
        return ExitCode::from(2);
    };
    for file in files {
        match std::fs::read(file) {
            Ok(input) => (target.run)(&input),
            Err(e) => {
                eprintln!("{file}: {e}");
                return ExitCode::from(2);
            }
        }
        println!("{file}: ok");
    }
    ExitCode::SUCCESS
}
