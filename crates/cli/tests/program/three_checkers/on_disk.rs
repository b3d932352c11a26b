//! What somebody may put into a folder beside what it needs, or in its place: links, pipes, folders, files without end, modules, a file that is
//! named like a key. The three checkers are run as their readers run them.

use super::{Place, browser, object, place, python, source};
use attestlog::json::Json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

fn key_in(folder: &Path) -> String {
    fs::read_to_string(folder.join("public-key")).unwrap().trim_end().to_owned()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let to = to.join(file.file_name());
        match file.file_type().unwrap().is_dir() {
            true => copy(&file.path(), &to),
            false => _ = fs::copy(file.path(), to).unwrap(),
        }
    }
}

/// Verdict and sentences, which are what the three must have in common.
fn common(found: &Json) -> Json {
    object(["verdict", "says"].map(|name| (name, found.get(name).cloned().unwrap_or(Json::Null))))
}

fn parsed(text: &str) -> Json {
    Json::parse(text.trim().as_bytes()).unwrap_or_else(|e| panic!("{e}: {text}")).value
}

/// The name of some inclusion proof.
fn some_proof(folder: &Path) -> PathBuf {
    let proofs = fs::read_dir(folder.join("proofs")).unwrap().map(|file| file.unwrap().path());
    proofs.filter(|path| path.extension().is_some_and(|end| end == "proof")).min().unwrap()
}

fn move_out(folder: &Path, name: &str) {
    let out = folder.with_extension("out");
    fs::rename(folder.join(name), &out).unwrap();
    symlink(&out, folder.join(name)).unwrap();
}

fn pipe(path: &Path) {
    let _ = fs::remove_file(path);
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
}

/// A file of three gigabytes that takes no room.
fn endless(path: &Path) {
    fs::File::create(path).unwrap().set_len(3 << 30).unwrap();
}

type Change = (&'static str, &'static str, fn(&Path));

/// A name, which folder is changed, and how.
fn changes() -> Vec<Change> {
    vec![
        ("as written", "p", |_| {}),
        ("as written, evidence", "e", |_| {}),
        ("a folder in proofs", "p", |f| fs::create_dir(f.join("proofs/sub")).unwrap()),
        ("a file in a folder in proofs", "p", |f| {
            fs::create_dir(f.join("proofs/sub")).unwrap();
            fs::write(f.join("proofs/sub/x"), "x").unwrap();
        }),
        ("a file too many", "p", |f| fs::write(f.join("proofs/x"), "x").unwrap()),
        ("a link to nowhere", "p", |f| symlink("nowhere", f.join("proofs/x")).unwrap()),
        ("a pipe in proofs", "p", |f| pipe(&f.join("proofs/x"))),
        ("a proof that is a link", "p", |f| {
            let proof = some_proof(f);
            move_out(f, proof.strip_prefix(f).unwrap().to_str().unwrap());
        }),
        ("proofs is a link", "p", |f| move_out(f, "proofs")),
        ("proofs is missing", "p", |f| fs::remove_dir_all(f.join("proofs")).unwrap()),
        ("proofs is a file", "p", |f| {
            fs::remove_dir_all(f.join("proofs")).unwrap();
            fs::write(f.join("proofs"), "").unwrap();
        }),
        ("entries are a link", "p", |f| move_out(f, "entries.jsonl")),
        ("the claim is a link", "p", |f| move_out(f, "package.json")),
        ("the checkpoint is a link", "e", |f| move_out(f, "checkpoint")),
        ("the key is a link", "p", |f| move_out(f, "public-key")),
        ("evidence that is a link", "e", |f| move_out(f, "entries.jsonl")),
        ("a folder in the place of the claim", "e", |f| fs::create_dir(f.join("package.json")).unwrap()),
        ("a pipe in the place of the checkpoint", "p", |f| pipe(&f.join("checkpoint"))),
        ("a pipe in the place of the entries", "e", |f| pipe(&f.join("entries.jsonl"))),
        ("a pipe in the place of the purges", "e", |f| pipe(&f.join("purges.jsonl"))),
        ("no purges", "e", |f| fs::remove_file(f.join("purges.jsonl")).unwrap()),
        ("a key without end", "p", |f| endless(&f.join("public-key"))),
        ("entries without end", "p", |f| endless(&f.join("entries.jsonl"))),
        ("a proof without end", "p", |f| endless(&some_proof(f))),
        ("a row without end", "e", |f| endless(&f.join("entries.jsonl"))),
        ("a checkpoint without end", "e", |f| endless(&f.join("checkpoint"))),
    ]
}

/// An outside expert was handed folders with links, pipes and folders in the place of files: the page accepted some that the program refused,
/// the script ended with a traceback or waited for ever, and a file of three gigabytes took all memory.
#[test]
fn the_three_say_the_same_of_what_lies_in_a_folder() {
    let place = place("", true);
    place.run(&["report", "package", "s", "p", "--patient", "P-1", "--neighbours"]).ok();
    place.run(&["evidence", "s", "e"]).ok();
    let key = key_in(&place.path("p"));
    let mut asked = Vec::new();
    let mut browser = browser::Browser::start();
    let python = python();
    for (number, (name, base, change)) in changes().into_iter().enumerate() {
        let folder = place.path(&format!("changed-{number}"));
        copy(&place.path(base), &folder);
        change(&folder);
        let path = folder.to_str().unwrap();
        let ran = place.run(&["check", path, "--public-key", &key, "--json"]);
        assert!(ran.code < 2, "{name}: {}{}", ran.out, ran.err);
        let ours = common(&parsed(&ran.out));
        if let Ok(python) = &python {
            let script = source("verify.py");
            let out = Command::new(python)
                .arg("-I")
                .arg(script)
                .args([path, "--public-key", &key, "--json"])
                .output()
                .unwrap();
            let said = String::from_utf8(out.stdout).unwrap();
            assert_eq!(common(&parsed(&said)), ours, "{name}: verify.py: {said}");
        }
        if let Ok(browser) = &mut browser {
            let said = in_page(browser, &folder, &key);
            assert_eq!(common(&said), ours, "{name}: verify.html: {}", said.to_canonical());
        }
        asked.push((name, ours.get("verdict").and_then(Json::as_str) == Some("proved")));
    }
    let held: Vec<&str> = asked.iter().filter(|(_, held)| *held).map(|(name, _)| *name).collect();
    let expected = [
        "as written",
        "as written, evidence",
        "a folder in proofs",
        "a file in a folder in proofs",
        "a link to nowhere",
        "a folder in the place of the claim",
    ];
    assert_eq!(held, expected);
    for (who, why) in [("verify.py", python.err()), ("verify.html", browser.err())] {
        match why {
            Some(why) => println!("SKIPPED: {who}: {why}"),
            None => println!("{who}: {} folders on disk, no disagreement", asked.len()),
        }
    }
}

/// What the page's script finds in a folder that is chosen as its reader chooses it.
fn in_page(browser: &mut browser::Browser, folder: &Path, key: &str) -> Json {
    let session = browser.open(&source("verify.html")).unwrap();
    browser.choose(&session, "#folder", vec![folder.to_str().unwrap().to_owned()]).unwrap();
    let expression = format!(
        "(async () => {{ const files = new Map(); \
         for (const file of document.getElementById('folder').files) files.set(file.webkitRelativePath.split('/').slice(1).join('/'), file); \
         if (files.size === 0) return null; \
         return JSON.stringify(await Attestlog.checkFolder(files, {})); }})()",
        Json::from(key).to_canonical()
    );
    // The browser reads the folder in its own time; every folder here has files.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while std::time::Instant::now() < until {
        if let Some(found) = browser.evaluate(&session, &expression).unwrap().as_str() {
            return parsed(found);
        }
    }
    panic!("the page was given no file of {}", folder.display())
}

/// A package brought its own `cryptography` and `json`, and the script that lay beside them, called as README.txt said, loaded them. And a
/// file named like the reader's key, with the folder's own key in it, was taken in its place: PROVED, for a log of somebody else.
#[test]
fn nothing_in_a_folder_stands_in_for_what_its_reader_has() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => return println!("SKIPPED: {why}"),
    };
    let place = place("", false);
    place.run(&["report", "package", "s", "p", "--patient", "P-1", "--neighbours"]).ok();
    place.run(&["evidence", "s", "e"]).ok();
    let key = key_in(&place.path("p"));
    let run = |script: &str, args: &[&str], at: &str| {
        let mut command = Command::new(&python);
        command.arg("-B").arg(script).args(args).current_dir(place.path(at)).env("PYTHONIOENCODING", "ascii");
        let out = command.output().unwrap();
        (out.status.code(), String::from_utf8([out.stdout, out.stderr].concat()).unwrap())
    };
    for folder in ["p", "e"] {
        fs::create_dir(place.path(folder).join("cryptography")).unwrap();
        for module in [
            "cryptography/__init__",
            "argparse",
            "base64",
            "bisect",
            "hashlib",
            "json",
            "os",
            "posixpath",
            "re",
            "stat",
        ] {
            place.write(&format!("{folder}/{module}.py"), "raise SystemExit('LOADED FROM THE FOLDER')\n");
        }
        let from_here = run("verify.py", &["--public-key", &key], folder);
        assert!(from_here.0 == Some(0) && from_here.1.starts_with("PROVED\n"), "{}", from_here.1);
        let from_above = run(&format!("{folder}/verify.py"), &["--public-key", &key], ".");
        assert!(from_above.0 == Some(0), "{}", from_above.1);
        // Modules in the place from which it is run are none of its own either.
        let elsewhere = run(source("verify.py").to_str().unwrap(), &[".", "--public-key", &key], folder);
        assert!(elsewhere.0 == Some(0), "{}", elsewhere.1);
    }
    for (script, at) in [("check.py", "e"), ("e/check.py", ".")] {
        let (code, said) = run(script, &[], at);
        assert!(code == Some(0) && said.starts_with("OK: "), "{said}");
    }
    let other = Place::empty().run(&["init", "s"]).ok().trim().to_owned();
    let named = place.path("p").join(&other);
    fs::create_dir_all(named.parent().unwrap()).unwrap();
    fs::write(&named, format!("{key}\n")).unwrap();
    let (code, said) = run("verify.py", &["--public-key", &other], "p");
    assert!(code == Some(1) && said.contains("not the one that you gave"), "{said}");
    let mut wrong = other.clone();
    wrong.pop();
    fs::write(place.path("p").join(&wrong), format!("{key}\n")).unwrap();
    let ran = place.command(&["check", ".", "--public-key", &wrong]).current_dir(place.path("p")).output().unwrap();
    assert_eq!(ran.status.code(), Some(2), "what has the form of a key is not the name of a file");
    let (code, said) = run("verify.py", &["--public-key", "public-key"], "p");
    assert!(code == Some(2) && said.contains("lies in the folder"), "{said}");
    let (code, said) = run("verify.py", &["--public-key", &key, "--page-sha256", &"0".repeat(64)], "p");
    assert!(code == Some(1) && said.starts_with("REFUSED: verify.html is not the page"), "{said}");
}

/// The short script said OK, 404 entries, of a file with one row that stands for 404 purged ones.
#[test]
fn the_short_script_says_what_is_not_there() {
    let Ok(python) = python() else { return println!("SKIPPED: no Python with cryptography") };
    let place = place("", false);
    place.run(&["evidence", "s", "e"]).ok();
    let node = |rows: &str| {
        let hole = format!(
            "{{\"purged\":{{\"count\":1,\"first\":0,\"hash\":\"{}\"}}}}",
            attestlog::Hash::leaf(rows.lines().next().unwrap().as_bytes())
        );
        rows.replacen(rows.lines().next().unwrap(), &hole, 1)
    };
    let rows = fs::read_to_string(place.path("e/entries.jsonl")).unwrap();
    place.write("e/entries.jsonl", node(&rows));
    let out = Command::new(&python).args(["-B", "check.py"]).current_dir(place.path("e")).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(
        out.status.success() && said.contains("Of 1 there are only hashes: whether the log says that it purged them"),
        "{said}"
    );
    let out = Command::new(&python).args(["-B", "verify.py"]).current_dir(place.path("e")).output().unwrap();
    assert!(String::from_utf8_lossy(&out.stdout).contains("what is missing is not what was purged"));
}
