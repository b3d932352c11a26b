//! Keeps the tree tidy: files that can be read from the top down, no way to panic but in tests, every folder explained.

use std::fs;
use std::path::{Path, PathBuf};

const LINES: usize = 700;

fn files(under: &str) -> Vec<PathBuf> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        let Ok(entries) = fs::read_dir(dir) else { return };
        for path in entries.map(|e| e.unwrap().path()) {
            match path.is_dir() {
                // What a build left there is nobody's writing.
                true if path.ends_with("target") => {}
                true => walk(&path, found),
                false => found.push(path),
            }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(under), &mut found);
    found.sort();
    found
}

fn sources(under: &str) -> Vec<(PathBuf, String)> {
    let rust = files(under).into_iter().filter(|p| p.extension().is_some_and(|e| e == "rs"));
    rust.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// What is built: the engine, and the crates beside it without their tests.
fn code() -> Vec<(PathBuf, String)> {
    let beside = |(path, _): &(PathBuf, String)| !path.components().any(|part| part.as_os_str() == "tests");
    sources("src").into_iter().chain(sources("crates").into_iter().filter(beside)).collect()
}

fn assert_none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn files_are_short_and_end_with_a_line() {
    let mut wrong = Vec::new();
    for (path, text) in
        ["src", "crates", "tests", "examples", "benches", "fuzz/src", "loom/src"].iter().flat_map(|dir| sources(dir))
    {
        let lines = text.lines().count();
        if lines > LINES {
            wrong.push(format!("{}: {lines} lines, more than {LINES}", path.display()));
        }
        if !text.ends_with('\n') || text.ends_with("\n\n") {
            wrong.push(format!("{}: should end with one newline", path.display()));
        }
        if text.contains('\t') && path.starts_with(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
            wrong.push(format!("{}: has tabs", path.display()));
        }
        let explains =
            path.starts_with(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")) || is_test_module(&path);
        if !explains && !text.starts_with("//!") && !text.starts_with("#!") {
            wrong.push(format!("{}: does not say first what it is for", path.display()));
        }
    }
    assert_none(wrong);
}

/// What the program may and the library may not: the program prints and exits.
const NOT_IN_THE_LIBRARY: [&str; 5] = ["println!", "eprintln!", "print!(", "process::exit", "dbg!"];
const NOWHERE: [&str; 6] = ["unsafe ", "todo!", "unimplemented!", ".unwrap()", ".expect(\"", "FIXME"];

#[test]
fn nothing_panics_or_prints_but_tests() {
    let mut wrong = Vec::new();
    for (path, text) in code() {
        let name = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(&path).display().to_string();
        let program = name.contains("crates/cli");
        // Tests stand at the end of a file, or in a module of their own.
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        if is_test_module(&path) {
            continue;
        }
        for (number, line) in (1..).zip(code.lines()) {
            let code = line.trim_start();
            if code.starts_with("//") {
                continue;
            }
            let library = NOT_IN_THE_LIBRARY.iter().filter(|_| !program);
            for word in NOWHERE.iter().chain(library).filter(|word| code.contains(**word)) {
                wrong.push(format!("{name}:{number}: {word}"));
            }
        }
    }
    assert_none(wrong);
}

/// Whether a file is a module that its parent declares for tests only.
fn is_test_module(path: &Path) -> bool {
    let (Some(dir), Some(stem)) = (path.parent(), path.file_stem().and_then(|s| s.to_str())) else { return false };
    let parents = [dir.join("mod.rs"), dir.with_extension("rs"), dir.join("lib.rs"), dir.join("main.rs")];
    let declared = format!("#[cfg(test)]\nmod {stem};");
    parents.iter().any(|parent| fs::read_to_string(parent).is_ok_and(|text| text.contains(&declared)))
}

#[test]
fn every_folder_says_what_lives_there() {
    let mut wrong = Vec::new();
    for (path, _) in code() {
        let dir = path.parent().unwrap();
        let (inside, beside) = (dir.join("mod.rs"), dir.with_extension("rs"));
        let root = dir.ends_with("src");
        let head = [inside, beside].iter().find_map(|p| fs::read_to_string(p).ok()).unwrap_or_default();
        if !root && !head.starts_with("//!") {
            wrong.push(format!("{}: its mod.rs does not open with //!", dir.display()));
        }
    }
    wrong.dedup();
    assert_none(wrong);
}

#[test]
fn only_the_store_knows_redb_and_only_the_codec_knows_bincode() {
    let mut wrong = Vec::new();
    for (path, text) in code() {
        let name = path.display().to_string();
        let code = || text.lines().filter(|l| !l.trim_start().starts_with("//"));
        if !name.contains("src/store/")
            && code().any(|l| l.contains("redb::") && !l.trim_start().starts_with("pub use redb::"))
        {
            wrong.push(format!("{name}: uses redb"));
        }
        if !name.contains("src/codec/") && code().any(|l| l.contains("bincode::")) {
            wrong.push(format!("{name}: uses bincode"));
        }
    }
    assert_none(wrong);
}
