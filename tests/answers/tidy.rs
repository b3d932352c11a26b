//! Keeps the tree tidy: files that can be read from the top down, no way to panic but in tests, every folder explained.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const LINES: usize = 700;

fn files(under: &str) -> Vec<PathBuf> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        let Ok(entries) = fs::read_dir(dir) else { return };
        for path in entries.map(|e| e.unwrap().path()) {
            match path.is_dir() {
                // Build output is not part of the source.
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

pub fn sources(under: &str) -> Vec<(PathBuf, String)> {
    let rust = files(under).into_iter().filter(|p| p.extension().is_some_and(|e| e == "rs"));
    rust.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The code that is built: the engine, the other crates without their tests, and what is native of the Python package.
fn code() -> Vec<(PathBuf, String)> {
    let beside = |(path, _): &(PathBuf, String)| !path.components().any(|part| part.as_os_str() == "tests");
    let bindings = sources("bindings/python/src");
    sources("src").into_iter().chain(sources("crates").into_iter().filter(beside)).chain(bindings).collect()
}

fn assert_none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn files_are_short_and_end_with_a_line() {
    let mut wrong = Vec::new();
    for (path, text) in ["src", "crates", "tests", "examples", "benches", "bindings/python/src", "fuzz/src", "loom/src"]
        .iter()
        .flat_map(|dir| sources(dir))
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

/// What the program may do and the library may not: print and exit.
const NOT_IN_THE_LIBRARY: [&str; 5] = ["println!", "eprintln!", "print!(", "process::exit", "dbg!"];
const NOWHERE: [&str; 6] = ["unsafe ", "todo!", "unimplemented!", ".unwrap()", ".expect(\"", "FIXME"];

#[test]
fn nothing_panics_or_prints_but_tests() {
    let mut wrong = Vec::new();
    for (path, text) in code() {
        let name = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(&path).display().to_string();
        let program = name.contains("crates/cli");
        // Tests are at the end of a file, or in a module of their own.
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

/// How a file is made, opened for writing or put in the place of another, and the files that may do so: `src/files.rs`, after it
/// has asked `src/files/kept.rs` whether it may, and those that write to what they have just checked by their own means.
const WRITERS: [(&str, &[&str]); 10] = [
    ("create_new(", &[]),
    (" File::create", &[]),
    ("::File::create", &[]),
    ("fs::write(", &[]),
    ("fs::copy(", &[]),
    ("hard_link(", &[]),
    (".append(true)", &[]),
    (".create(true)", &[]),
    // The replaced file of a purge, under its own name.
    ("fs::rename(", &["src/store/file/replacement.rs"]),
    // The store itself; the bytes of a key file that was replaced; pipes and devices; `/dev/null`.
    (
        ".write(true)",
        &[
            "src/store/file/replacement.rs",
            "src/store/file/overlay.rs",
            "src/keys/file.rs",
            "crates/cli/src/export.rs",
            "crates/cli/src/mcp.rs",
        ],
    ),
];

/// R98. The story: an anchor and a receiver wrote into the store and its key file, and an export over another store's key, since
/// each writer had a check of its own, or none.
#[test]
fn whatever_writes_a_file_asks_first_whether_it_is_kept_for_something_else() {
    let mut wrong = Vec::new();
    for (path, text) in code() {
        let name = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(&path).display().to_string();
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        if name == "src/files.rs" || is_test_module(&path) {
            continue;
        }
        for (number, line) in (1..).zip(code.lines()).filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for (how, _) in WRITERS.iter().filter(|(how, who)| line.contains(how) && !who.contains(&name.as_str())) {
                wrong.push(format!("{name}:{number}: {how}: use crate::files"));
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
        // What fuzz targets and tests use of the stored bytes is in `log`, because it calls every reader.
        if !name.contains("src/store/")
            && !name.contains("src/log/f")
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

/// Calls, bodies and contents derived serde's traits for the file, so that a host who wrote one with `serde_json` got a second
/// JSON form, with other names than the line's. What is stored has types of its own.
#[test]
fn no_public_type_derives_its_stored_form() {
    // What is derived for these is their JSON form (`record::json_forms`), or they are frames of the socket.
    const KNOWN: [&str; 5] = ["Place", "CallError", "Sender", "Command", "Effect"];
    let mut wrong = Vec::new();
    for (path, text) in code().into_iter().filter(|(path, _)| !path.components().any(|part| part.as_os_str() == "cli"))
    {
        let code = code_of(&text);
        for derived in code.split("#[derive(").skip(1) {
            let Some((traits, rest)) = derived.split_once(")]") else { continue };
            let item =
                rest.lines().find(|line| !line.is_empty() && !line.trim_start().starts_with("#[")).unwrap_or_default();
            let name = ["pub struct ", "pub enum "].iter().find_map(|keyword| item.strip_prefix(keyword));
            let name = name.and_then(|name| name.split(|c: char| !c.is_alphanumeric()).next());
            if traits.contains("erialize") && name.is_some_and(|name| !KNOWN.contains(&name)) {
                wrong.push(format!("{}: {item}", path.display()));
            }
        }
    }
    assert_none(wrong);
}

/// The module that a `crate::` path names, or the one from which the crate's root re-exports the name.
fn module_of(path: &str, modules: &BTreeSet<String>, root: &BTreeMap<String, String>) -> Option<String> {
    let first = path.split("::").next().unwrap_or_default();
    modules.get(first).or_else(|| root.get(first)).cloned()
}

/// The names that the root of the engine re-exports from its modules: `pub use store::{AuditLog, …}`.
fn names_of_the_root(lib: &str) -> BTreeMap<String, String> {
    let uses = lib.split("use ").skip(1).filter_map(|rest| rest.split(';').next());
    let of_one = uses.filter_map(|one| one.split_once("::"));
    let names = of_one.flat_map(|(module, names)| {
        let names = names.trim_matches(['{', '}']).split([',', '{', '}']).map(str::trim).map(str::to_owned);
        // A name may come from a module within the module: `query::filter::Query`.
        let names = names.filter_map(|name| name.rsplit("::").next().map(str::to_owned));
        names.filter(|name| !name.is_empty()).map(move |name| (name, module.to_owned()))
    });
    names.collect()
}

/// The paths after `crate::` in code, with groups expanded one level deep.
fn crate_paths(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            None => {
                paths.push(rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default().to_owned())
            }
            Some(group) => {
                let (mut depth, mut name) = (0, String::new());
                for c in group.chars() {
                    match c {
                        '}' if depth == 0 => break,
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 0 => paths.push(std::mem::take(&mut name)),
                        _ => {}
                    }
                    if depth == 0 && !matches!(c, ',' | '}') {
                        name.push(c);
                    }
                }
                paths.push(name);
            }
        }
    }
    paths.iter().map(|path| path.trim().to_owned()).filter(|path| !path.is_empty()).collect()
}

/// The lines of a list of layers in ARCHITECTURE.md, each as its names: these come before the two spaces that precede the
/// description.
fn layers<'a>(architecture: &'a str, list: &str) -> Vec<Vec<&'a str>> {
    let list = architecture.split(&format!("```layers{list}\n")).nth(1).unwrap().split("```").next().unwrap();
    list.lines().map(|line| line.split("  ").next().unwrap().split(' ').collect()).collect()
}

/// A file's code without its tests and comments.
fn code_of(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().lines();
    code.filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| [line, "\n"]).collect()
}

/// Thirty files of the store formed one cycle around what its threads share. ARCHITECTURE.md also lists these files from
/// the bottom up.
#[test]
fn no_file_of_the_store_uses_one_of_a_higher_layer() {
    let architecture = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap();
    let layers = layers(&architecture, " store");
    let layer = |file: &str| layers.iter().position(|line| line.contains(&file));
    let store = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    // `engine/mod.rs` is `engine`, and the files below `file/pages` are one.
    let name = |path: &Path| {
        let path = path.strip_prefix(&store).ok()?.with_extension("");
        let parts: Vec<_> =
            path.iter().map(|part| part.to_str().unwrap()).filter(|part| *part != "mod").take(2).collect();
        Some(parts.join("/")).filter(|name| !name.is_empty())
    };
    let files: Vec<(String, String)> = sources("src/store")
        .iter()
        .filter(|(path, _)| !is_test_module(path))
        .filter_map(|(path, text)| Some((name(path)?, code_of(text))))
        .collect();
    let folders = ["layout", "file", "read", "write", "maintain"];
    // The names that the store's own root re-exports from its files.
    let root = fs::read_to_string(store.join("mod.rs")).unwrap();
    let of_root = names_of_the_root(&root.replace("pub(crate) use ", "use "));
    let of_crate = names_of_the_root(&fs::read_to_string(store.with_file_name("lib.rs")).unwrap());

    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (own, code) in files.iter().filter(|(own, _)| !folders.contains(&own.as_str())) {
        if layer(own).is_none() {
            wrong.push(format!("ARCHITECTURE.md has no layer for src/store/{own}"));
        }
        if own != "file/pages" && code.contains("super::") {
            wrong.push(format!("src/store/{own}: names a module by `super::`, where this test does not follow it"));
        }
        if code.contains("crate::store::{") {
            wrong.push(format!(
                "src/store/{own}: has a group of modules in one `use`, where this test does not follow it"
            ));
        }
        let words = |path: &str| -> Vec<String> {
            let end = path.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(path.len());
            path[..end].split("::").map(str::to_owned).collect()
        };
        let in_store = code.split("crate::store::").skip(1).map(words);
        let from_root =
            crate_paths(code).into_iter().filter(|name| of_crate.get(name).is_some_and(|from| from == "store"));
        for path in in_store.chain(from_root.map(|name| vec![name])) {
            let named = [path[..path.len().min(2)].join("/"), path[0].clone()];
            let used = named.iter().find(|name| layer(name).is_some()).cloned();
            let used = used.or_else(|| Some(words(of_root.get(&path[0])?).join("/")));
            let Some(used) = used.filter(|used| used != own) else { continue };
            seen += 1;
            // `layout::NODE_LEVEL` is defined in the folder itself.
            if layer(&used) >= layer(own) && path[0] != "layout" {
                wrong.push(format!("src/store/{own}: uses {used}, which is not below it"));
            }
        }
    }
    assert!(seen > 200, "only {seen} arrows were seen: this test reads the code wrongly");
    wrong.dedup();
    assert_none(wrong);
}

/// Nine modules of the engine formed one cycle, and nobody could say where to start reading. ARCHITECTURE.md lists them
/// from the bottom up; a module that uses one of its own line or of a later one is a step back to that.
#[test]
fn no_module_uses_one_of_a_higher_layer() {
    let architecture = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap();
    let layers = layers(&architecture, "");
    let layer = |module: &str| layers.iter().position(|line| line.contains(&module));

    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let top = |path: &Path| {
        let first = path.strip_prefix(&src).unwrap().components().next().unwrap();
        first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
    };
    let files = sources("src");
    let modules: BTreeSet<String> = files.iter().map(|(path, _)| top(path)).filter(|name| name != "lib").collect();
    let root = names_of_the_root(&fs::read_to_string(src.join("lib.rs")).unwrap());

    let mut wrong: Vec<String> = Vec::new();
    for module in &modules {
        if layer(module).is_none() {
            wrong.push(format!("ARCHITECTURE.md has no layer for src/{module}"));
        }
    }
    let mut seen = 0;
    for (path, text) in files.iter().filter(|(path, _)| !path.ends_with("lib.rs") && !is_test_module(path)) {
        let code = code_of(text);
        let own = top(path);
        for used in crate_paths(&code).iter().filter_map(|path| module_of(path, &modules, &root)) {
            seen += 1;
            if used != own && layer(&used) >= layer(&own) {
                wrong.push(format!("{}: uses {used}, which is not below {own}", path.display()));
            }
        }
    }
    assert!(seen > 500, "only {seen} arrows were seen: this test reads the code wrongly");
    wrong.dedup();
    assert_none(wrong);
}
