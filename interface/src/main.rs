//! Lists the public interface of the crates that others embed, and holds it against `docs/public-api.txt`, so that it changes only
//! where that file changes too. With `--write` it writes the file. Then it checks that each method of a host's main types has an
//! example.
//!
//! The listing is the `public-api` crate's, of rustdoc's JSON. Stable rustdoc writes that only with `RUSTC_BOOTSTRAP=1`.

use public_api::Builder;
use serde_json::Value;
use std::error::Error;
use std::fmt::Write;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::process::{Command, ExitCode};

/// The crates, with the features that they are listed with: all that are for a host.
const CRATES: [(&str, &str); 4] = [
    ("attestlog-proof", ""),
    ("attestlog", "owner,config,witness,keyring"),
    ("attestlog-capture", ""),
    ("attestlog-report", ""),
];

const LISTING: &str = "docs/public-api.txt";

/// The types of the engine whose public methods all have an example, besides those of `audit_log`: the handle and its groups.
const WITH_EXAMPLES: [&str; 3] = ["store::options::Options", "query::filter::Query", "instrument::queue::Queue"];

fn main() -> ExitCode {
    let write = std::env::args().nth(1).is_some_and(|argument| argument == "--write");
    match run(write) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::from(3)
        }
    }
}

fn run(write: bool) -> Result<ExitCode, Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let mut now = String::from(
        "The public interface. `cargo run --manifest-path interface/Cargo.toml -- --write` writes this file.\n",
    );
    let mut bare = Vec::new();
    for (name, features) in CRATES {
        let made = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["rustdoc", "--locked", "--lib", "--package", name, "--features", features])
            // Of its own, since the compiler's switch makes cargo build everything anew.
            .args(["--target-dir", "target/interface", "--", "-Z", "unstable-options", "--output-format", "json"])
            .env("RUSTC_BOOTSTRAP", "1")
            .current_dir(&root)
            .status()?;
        if !made.success() {
            return Err(format!("rustdoc made no JSON of {name}").into());
        }
        let json = root.join("target/interface/doc").join(format!("{}.json", name.replace('-', "_")));
        if name == "attestlog" {
            bare = without_example(&serde_json::from_reader(BufReader::new(File::open(&json)?))?)?;
        }
        let items = Builder::from_rustdoc_json(json)
            .omit_blanket_impls(true)
            .omit_auto_trait_impls(true)
            .omit_auto_derived_impls(true)
            .build()?;
        writeln!(now, "\n== {name}{}", if features.is_empty() { String::new() } else { format!(" ({features})") })?;
        for item in items.items() {
            writeln!(now, "{item}")?;
        }
    }
    bare.iter().for_each(|method| println!("{method} has no example"));
    println!("{} public methods without an example", bare.len());
    let shown = if bare.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    let place = root.join(LISTING);
    if write {
        std::fs::write(&place, &now)?;
        println!("{LISTING}: {} lines written", now.lines().count());
        return Ok(shown);
    }
    let listed = std::fs::read_to_string(&place)?;
    let (was, is): (Vec<&str>, Vec<&str>) = (listed.lines().collect(), now.lines().collect());
    was.iter().filter(|line| !is.contains(line)).for_each(|line| println!("-{line}"));
    is.iter().filter(|line| !was.contains(line)).for_each(|line| println!("+{line}"));
    if was == is {
        println!("{} lines, as {LISTING} says", is.len());
        return Ok(shown);
    }
    println!(
        "the public interface is not what {LISTING} says; where the change is meant, write the file anew: \
         cargo run --manifest-path interface/Cargo.toml -- --write"
    );
    Ok(ExitCode::FAILURE)
}

/// The public methods of the main types whose documentation has no example, by rustdoc's JSON.
fn without_example(json: &Value) -> Result<Vec<String>, Box<dyn Error>> {
    let index = json["index"].as_object().ok_or("rustdoc's JSON has no index")?;
    let (mut bare, mut seen) = (Vec::new(), 0);
    for item in index.values().map(|item| &item["inner"]["impl"]).filter(|of| of["trait"].is_null()) {
        let id = item["for"]["resolved_path"]["id"].to_string();
        let path = json["paths"][&id]["path"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let path = path.skip(1).collect::<Vec<_>>().join("::");
        if !path.starts_with("audit_log::") && !WITH_EXAMPLES.contains(&&*path) {
            continue;
        }
        for method in item["items"].as_array().into_iter().flatten().map(|id| &index[&id.to_string()]) {
            if method["visibility"] != "public" || method["inner"]["function"].is_null() {
                continue;
            }
            seen += 1;
            if !method["docs"].as_str().is_some_and(|docs| docs.contains("```")) {
                bare.push(format!("{path}::{}", method["name"].as_str().unwrap_or_default()));
            }
        }
    }
    bare.sort_unstable();
    match seen {
        0..140 => Err(format!("only {seen} methods were seen: rustdoc's JSON is read wrongly").into()),
        _ => Ok(bare),
    }
}
