//! The documents are true: the README's example is the one that is compiled, its commands exist, every dependency has its
//! reason, and the lock file's crates come from one registry.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The blocks of a language in a Markdown text.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let open = format!("```{language}\n");
    text.split(&open).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

/// The first cells of the table below a heading, without their back-ticks.
fn first_cells(text: &str, heading: &str) -> String {
    let section = text.split(&format!("\n## {heading}\n")).nth(1).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    section.lines().filter_map(|l| l.strip_prefix("| ")?.split(" | ").next()).collect::<Vec<_>>().join(", ")
}

#[test]
fn the_first_example_is_the_one_that_is_compiled() {
    let example = read("examples/first.rs");
    // The file begins with what it is for, which the README has just said.
    let code = example.split_once("\n\n").map(|(_, code)| code);
    assert_eq!(blocks(&read("README.md"), "rust").first().copied(), code);
}

#[test]
fn every_dependency_has_a_reason() {
    let readme = read("README.md");
    let listed: BTreeSet<String> = first_cells(&readme, "Dependencies")
        .split([',', ' ', '`'])
        .filter(|word| !word.is_empty() && !word.starts_with('='))
        .map(str::to_owned)
        .collect();
    let manifests: String = ["Cargo.toml", "crates/cli/Cargo.toml"].map(read).concat();
    let mut inside = false;
    for line in manifests.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
        } else if let (true, Some((name, _))) = (inside, line.split_once('=')) {
            assert!(
                name.trim().starts_with("attestlog") || listed.contains(name.trim()),
                "README.md does not say why {} is used",
                name.trim()
            );
        }
    }
}

#[test]
fn the_commands_that_the_readme_shows_exist() {
    let program = env!("CARGO_BIN_EXE_attestlog");
    for block in blocks(&read("README.md"), "sh") {
        for command in block.lines().filter_map(|l| l.strip_prefix("attestlog ")?.split(' ').next()) {
            let help = std::process::Command::new(program).args([command, "--help"]).output().unwrap();
            assert!(help.status.success(), "there is no command {command}");
        }
    }
}

/// A newcomer pastes the block, so it is run as one: by a shell, in an empty folder.
#[test]
#[cfg(unix)]
fn the_block_of_the_first_minute_runs_as_it_is_printed() {
    let readme = read("README.md");
    let block = readme.split("\n## In a minute\n").nth(1).map(|section| blocks(section, "sh")[0]).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_attestlog")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-e", "-c", block]).current_dir(&folder).env("PATH", path);
    let shell = shell.env_remove("ATTESTLOG_KEY").env_remove("ATTESTLOG_PASSPHRASE").output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&shell.stdout), String::from_utf8_lossy(&shell.stderr));
    assert!(shell.status.success(), "{out}{err}");
    for said in
        ["recorded 1 call", "[REDACTED:secret]", "update_order_status      1", "valid: entry 2", "nothing wrong found"]
    {
        assert!(out.contains(said), "{said}: {out}{err}");
    }
    for file in std::fs::read_dir(&folder).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(7).any(|text| text == b"hunter2"), "the password is on the disk");
    }
}

/// A reader ran the block `The command line` from top to bottom: it verified against a file that no command before it had made,
/// and proved something of a copy that a later line made, which then refused the copy that the reader had made by hand.
#[test]
#[cfg(unix)]
fn the_block_of_commands_runs_from_top_to_bottom() {
    let readme = read("README.md");
    let block = readme.split("\n## The command line\n").nth(1).map(|section| blocks(section, "sh")[0]).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_attestlog")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let folder = tempfile::tempdir().unwrap();
    let call = readme.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert_eq!(call.trim().lines().count(), 1, "the sample call is on one line");
    std::fs::write(folder.path().join("calls.jsonl"), call).unwrap();
    let transcript = r#"{"conversation_id":"conv_1","user_id":"usr_7","messages":[
        {"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"issue_refund","arguments":"{}"}}]},
        {"role":"tool","tool_call_id":"1","content":"done"}]}"#;
    std::fs::write(folder.path().join("transcript.json"), transcript).unwrap();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-e", "-x", "-c", block]).current_dir(&folder).env("PATH", path);
    let shell = shell.env_remove("ATTESTLOG_KEY").env_remove("ATTESTLOG_PASSPHRASE").output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&shell.stdout), String::from_utf8_lossy(&shell.stderr));
    assert!(shell.status.success(), "{out}{err}");
}

#[test]
fn what_is_locked_comes_from_one_registry() {
    for lock in ["Cargo.lock", "fuzz/Cargo.lock", "benches/Cargo.lock", "loom/Cargo.lock", "interface/Cargo.lock"] {
        for source in read(lock).lines().filter_map(|l| l.strip_prefix("source = ")) {
            assert_eq!(source, "\"registry+https://github.com/rust-lang/crates.io-index\"", "{lock}");
        }
    }
    assert!(read("Cargo.lock").contains("name = \"bincode\"\nversion = \"2.0.1\""));
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Invariants are numbered once: a number in the code is in DESIGN.md, and no two modules use the same one.
#[test]
fn invariants_are_numbered_once() {
    let design = read("DESIGN.md");
    let mut files = Vec::new();
    for folder in ["src", "crates"] {
        rust_files(&root().join(folder), &mut files);
    }
    let mut seen: std::collections::BTreeMap<String, PathBuf> = std::collections::BTreeMap::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let docs = text.lines().filter_map(|l| l.strip_prefix("//!")).collect::<Vec<_>>().join(" ");
        for word in docs.split("nvariant ").skip(1).filter_map(|rest| rest.split_once(':').map(|(word, _)| word)) {
            let number = word.len() <= 3 && word.starts_with(|c: char| c.is_ascii_uppercase());
            if !number || !word[1..].bytes().all(|b| b.is_ascii_digit()) {
                continue;
            }
            assert!(design.contains(&format!("\n| {word} |")), "{word} of {} is not in DESIGN.md", file.display());
            if let Some(other) = seen.insert(word.to_owned(), file.clone()) {
                assert_eq!(
                    other.parent(),
                    file.parent(),
                    "{word} stands in {} and {}",
                    other.display(),
                    file.display()
                );
            }
        }
    }
}
