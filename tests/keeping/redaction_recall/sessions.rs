//! What a coding agent reads and sends: lines of this project's own sources and documents, whole pieces of files, diffs
//! with headers as in `git log -p`, and lines as printed by `grep`, `git blame` and test runs.
//!
//! Files about secrets are left out, because they are full of examples.

use super::random::Random;
use std::path::{Path, PathBuf};

/// Files whose examples contain secrets on purpose.
const ABOUT_SECRETS: &[&str] = &[
    "/redact/",
    "redaction",
    "privacy",
    "sealing",
    "pseudonym",
    "policy",
    "config",
    "detector",
    "vault",
    "kms",
    "attack",
    "/keys/",
];

fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().flatten().map(|e| e.path()).collect();
    entries.sort();
    for path in entries {
        let name = path.to_string_lossy().replace('\\', "/");
        let name = name.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(&name).to_owned();
        if ABOUT_SECRETS.iter().any(|a| name.contains(a)) {
            continue;
        }
        if path.is_dir() {
            files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// Deliberate secrets in other files; they are left out too.
const EXAMPLES: &[&str] = &[
    "460-89",
    "460899847",
    "078-05",
    "hunter2",
    "never stored",
    "4111111111111111",
    "4111 1111",
    "4012888888881881",
    "k-123",
    "tok-93",
    "me:pw@",
    "PRIVATE KEY",
    "\"ssn\":\"1\"",
    "\"password\\\":",
    "t-{n}",
    "PETER_SECRET",
    "ghp_16C7e42F",
    "QWERTYUIOPASDFGHJKLZXCVBNM",
];

pub fn strings() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for folder in ["src", "crates", "examples", "benches", "tests"] {
        files(&root.join(folder), &mut paths);
    }
    paths.extend(["DESIGN.md", "Cargo.toml", "Cargo.lock"].map(|f| root.join(f)));
    let (mut random, mut out) = (Random(11), Vec::new());
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        if EXAMPLES.iter().any(|example| text.contains(example)) {
            continue;
        }
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        let lines: Vec<&str> = text.lines().collect();
        out.extend(lines.iter().filter(|l| l.len() > 2).map(|l| (*l).to_owned()));
        for (n, piece) in lines.chunks(40).enumerate() {
            out.push(piece.join("\n"));
            let number = 40 * n + 1;
            out.push(diff(&mut random, &name, number, piece));
            let at = |i: usize| number + i;
            out.push(piece.iter().enumerate().map(|(i, l)| format!("{name}:{}:{l}\n", at(i))).collect());
            out.push(piece.iter().enumerate().map(|(i, l)| format!("{:>6}\t{l}\n", at(i))).collect());
            let blame = random.fill("{h8} (J. Roe 2024-0{n1}-1{n1} 1{n1}:2{n1}:3{n1} +0200 ");
            out.push(piece.iter().enumerate().map(|(i, l)| format!("{blame}{}) {l}\n", at(i))).collect());
        }
        out.push(random.fill("running {n2} tests\ntest {word}::{word}_{word} ... ok\n\ntest result: ok. {n2} passed; 0 failed; finished in {n1}.{d2}s"));
        out.push(random.fill("-rw-r--r-- 1 root root {n5} Nov 2{n1} 1{n1}:0{n1} {word}.rs\n-rw-r--r-- 1 root root {n4} 2024-05-1{n1} 10:2{n1}:3{n1}.{d9} +0000 {word}.md"));
    }
    out
}

/// A piece of a file as shown by `git log -p`.
fn diff(random: &mut Random, name: &str, number: usize, lines: &[&str]) -> String {
    let head = random.fill(
        "commit {h40}\nAuthor:     J. Roe\nDate:   Mon Nov 1{n1} 1{n1}:0{n1}:4{n1} 2024 -0{n1}00\n\n    {word}: the {word} {word} of {n4}\n\n",
    );
    let index = random.fill("index {h10}..{h10} 100644");
    let size = lines.len();
    let body: String = lines.iter().enumerate().map(|(i, l)| format!("{}{l}\n", [' ', '+', '-'][i % 3])).collect();
    format!(
        "{head}diff --git a/{name} b/{name}\n{index}\n--- a/{name}\n+++ b/{name}\n@@ -{number},{size} +{number},{size} @@\n{body}"
    )
}
