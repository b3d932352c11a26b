//! `[[anchor]]` in the configuration file, and `anchors`: through the program, checkpoints go where the operator
//! configured.

use crate::common::{Place, call};
use crate::witness::*;
use attestlog::json::Json;
use attestlog::note::VerifierKey;
use std::sync::{Arc, Mutex};

const TIME: u64 = 1_760_000_000;

/// A witness for a log that does not exist yet; the log's key is given to it later.
fn later() -> (Server, Arc<Mutex<Option<VerifierKey>>>) {
    let log = Arc::new(Mutex::new(None::<VerifierKey>));
    let known = log.clone();
    let mut inner: Option<Box<dyn FnMut(&Request) -> Option<Answer> + Send>> = None;
    let server = Server::start(move |request| {
        let Some(key) = known.lock().unwrap().clone() else { return Some((503, b"not yet\n".to_vec())) };
        inner.get_or_insert_with(|| Box::new(honest_for(key, None, || TIME)))(request)
    });
    (server, log)
}

#[test]
fn checkpoints_go_where_the_configuration_says() {
    let place = Place::empty();
    let (server, log) = later();
    let witness = witness_key(9).0.to_string();
    place.write(
        "store.toml",
        format!(
            "[[anchor]]\nfile = 'elsewhere'\n[[anchor]]\nwitness = '{}'\nkey = '{witness}'\n\
             [[anchor]]\ncommand = ['sh', '-c', 'cat >> piped']\nname = 'pipe'\n",
            server.url
        ),
    );
    let key = place.run(&["init", "s", "--config", "store.toml"]).ok();
    let key = key.trim();
    // The witness does not answer yet: it is owed a checkpoint, and a message says so; nothing else waits.
    place.run_with(&["record", "s"], call("c", "u", "t", "").as_bytes()).ok();
    let shown = place.run(&["anchors", "show", "s", "--json"]).json();
    let of = |shown: &Json, name: &str, member: &str| {
        let all = shown.as_array().unwrap().to_vec();
        let anchor = all.iter().find(|a| a.get("name").unwrap().as_str().unwrap().starts_with(name)).unwrap();
        anchor.get(member).unwrap().clone()
    };
    assert_eq!(of(&shown, "witness", "owed").as_u64(), Some(3));
    assert_eq!(of(&shown, "file", "owed"), Json::Null);
    assert!(of(&shown, "witness", "last_failure").get("message").unwrap().as_str().unwrap().contains("503"));
    let health = place.run(&["health", "s", "--json"]).code(1).out;
    assert!(
        health.contains("was not given the checkpoint") && health.contains("\"last_anchor\":{\"age_seconds\""),
        "{health}"
    );
    let ran = place.run(&["anchors", "flush", "s"]).code(1);
    assert!(ran.err.contains("503") && ran.out.contains("witness"), "{} {}", ran.out, ran.err);
    // Reading contacts no anchor.
    let asked = server.asked.lock().unwrap().len();
    place.run(&["query", "s"]).ok();
    place.run(&["verify", "s"]).ok();
    assert_eq!(server.asked.lock().unwrap().len(), asked);
    *log.lock().unwrap() = Some(key.parse().unwrap());
    place.run(&["anchors", "flush", "s"]).ok();
    place.run_with(&["record", "s"], call("c", "u", "t", "").as_bytes()).ok();
    place.run(&["anchors", "flush", "s"]).ok();
    assert_eq!(of(&place.run(&["anchors", "show", "s", "--json"]).json(), "witness", "owed"), Json::Null);
    place.run(&["health", "s"]).ok();
    // The witness's answer is kept, and can be compared with, like a file and a pipe.
    place.write("records", place.run(&["anchors", "records", "s"]).ok());
    for (file, size) in [("records", 4), ("elsewhere", 4), ("piped", 4)] {
        let args = ["verify", "s", "--public-key", key, "--against", file, "--witness", &witness, "--json"];
        let found = place.run(&args).json();
        assert!(found.get("anchored_size").unwrap().as_u64() >= Some(size), "{file}: {found:?}");
    }
    // Neither a store nor its anchors can be created over existing ones.
    for name in ["s", "s.key"] {
        std::fs::remove_file(place.path(name)).unwrap();
    }
    assert!(place.run(&["init", "s"]).code(2).err.contains("s.anchors"));
    std::fs::remove_file(place.path("s.anchors")).unwrap();
    let ran = place.run(&["init", "s", "--config", "store.toml"]).code(2);
    assert!(ran.err.contains("elsewhere: an anchor file"), "{}", ran.err);
    for name in ["s", "s.key", "s.anchors"] {
        assert!(!place.path(name).exists(), "{name}");
    }
}

#[test]
fn anchors_are_changed_and_forgotten_by_name() {
    let place = Place::with_lines(&call("c", "u", "t", ""));
    place.write("one.toml", "[[anchor]]\ncommand = ['false']\n");
    place.run(&["anchors", "set", "s", "one.toml"]).ok();
    place.run(&["anchors", "flush", "s"]).code(1);
    // Setting policies with other anchors in the same file changes the anchors; the old one stays owed.
    place.write("two.toml", "[[anchor]]\nfile = 'kept'\n");
    place.run(&["policy", "set", "s", "two.toml"]).ok();
    place.run(&["anchors", "flush", "s"]).ok();
    assert!(place.path("kept").exists());
    let text = place.run(&["anchors", "show", "s"]).ok();
    assert!(text.contains("command false") && text.contains("file "), "{text}");
    place.run(&["anchors", "forget", "s", "command true"]).code(2);
    assert!(place.run(&["anchors", "forget", "s", "command false"]).ok().contains("forgotten"));
    // A configured anchor was `forgotten` with exit code 0, and remained as before.
    let kept = format!("file {}", place.path("kept").display());
    assert!(place.run(&["anchors", "forget", "s", &kept]).code(2).err.contains("anchors set"));
    assert!(!place.run(&["anchors", "show", "s"]).ok().contains("command false"));
    place.run(&["verify", "s", "--against", "kept"]).ok();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let path = place.path("s.anchors");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(place.run(&["checkpoint", "s"]).code(3).err.contains("others can write to it"));
        // Commands that only read run nothing, and say so.
        assert!(place.run(&["query", "s"]).code(0).err.contains("not used"));
    }
}

#[test]
fn what_is_wrong_with_an_anchor_is_told_with_its_place() {
    let place = Place::with_store();
    for (text, says) in [
        ("[[anchor]]\n", "bad.toml:1:1: an anchor has one of"),
        ("[anchor]\nfile = 'x'\n", "bad.toml:1:1"),
        ("[[anchor]]\nfile = 'x'\ncommand = ['y']\n", "bad.toml:1:1: an anchor has one of"),
        ("[[anchor]]\nfiel = 'x'\n", "bad.toml:2:1: unknown key \"fiel\""),
        ("[[anchor]]\nfile = 3\n", "bad.toml:2:8: anchor[0].file must be a string, not a whole number"),
        ("[[anchor]]\nfile = ''\n", "bad.toml:2:8: anchor[0].file must be a string that is not empty"),
        ("[[anchor]]\ncommand = 'rm -rf'\n", "bad.toml:2:11: anchor[0].command must be a list: the program"),
        ("[[anchor]]\ncommand = []\n", "bad.toml:2:11: anchor[0].command must be a list: the program"),
        ("[[anchor]]\nwitness = 'http://w.example/'\n", "bad.toml:2:11: a witness needs its key"),
        ("[[anchor]]\nwitness = 'http://w.example/'\nkey = 'k'\n", "bad.toml:3:7: key: "),
        ("[[anchor]]\ntimestamp = 'ftp://t.example/'\n", "bad.toml:1:1: a URL to post to begins with"),
        ("[[anchor]]\nfile = 'x'\ntimeout = 0\n", "bad.toml:3:11: anchor[0].timeout must be a number of seconds from"),
        ("[[anchor]]\nfile = 'x'\ntells_time = true\n", "bad.toml:3:14: only time-stamps"),
        ("[[anchor]]\nfile = 'x'\nname = 'y'\n", "bad.toml:3:8: a file is named by its path"),
    ] {
        place.write("bad.toml", text);
        for command in [
            &["anchors", "set", "s", "bad.toml"][..],
            &["policy", "set", "s", "bad.toml"],
            &["init", "t", "--config", "bad.toml"],
        ] {
            let ran = place.run(command).code(2);
            assert!(ran.err.contains(says), "{command:?}: {says}: {}", ran.err);
        }
    }
    assert!(!place.path("s.anchors").exists() && !place.path("t").exists());
}

/// Two anchors ran the same program for two people. What is owed is kept by name, and both were called `command s1.sh`: `init`
/// and `anchors set` took them ("2 in s.anchors"), one was never started, and `health` was content. The same with two programs
/// of one file name, with a name that was given twice, and with one file that was named twice.
#[test]
#[cfg(unix)]
fn anchors_of_one_name_are_refused() {
    let place = Place::with_store();
    std::fs::create_dir(place.path("x")).unwrap();
    for program in ["s1.sh", "x/s1.sh"] {
        place.write(program, "#!/bin/sh\ncat > /dev/null\n");
    }
    let (here, there) = (place.path("s1.sh").display().to_string(), place.path("x/s1.sh").display().to_string());
    let anchor = |what: String| format!("[[anchor]]\n{what}\n");
    let run = |program: &str, more: &str| anchor(format!("command = ['/bin/sh', '{program}'{more}]"));
    let named = |name: &str| anchor(format!("command = ['/bin/sh', '{here}']\nname = '{name}'"));
    let pairs = [
        run(&here, ", 'one'") + &run(&here, ", 'two'"),
        run(&here, "") + &run(&there, ""),
        named("mail") + &named("mail"),
        anchor("file = 'kept'".to_owned()) + &anchor("file = 'kept'".to_owned()),
        anchor("file = 'kept'".to_owned()) + &anchor(format!("file = '{}'", place.path("kept").display())),
        anchor("timestamp_command = ['/bin/sh', 'a']".to_owned())
            + &anchor("timestamp_command = ['/bin/sh', 'b']".to_owned()),
    ];
    for pair in pairs {
        place.write("pair.toml", &pair);
        for args in [&["anchors", "set", "s", "pair.toml"][..], &["init", "fresh", "--config", "pair.toml"]] {
            let err = place.run(args).code(2).err;
            assert!(err.contains("pair.toml") && err.contains("two anchors are called"), "{pair}: {err}");
        }
        assert!(!place.path("s.anchors").exists() && !place.path("fresh").exists(), "{pair}");
    }
    // With names of their own both are used, and every command shows both.
    place.write("two.toml", named("ann") + &named("ben"));
    place.run(&["anchors", "set", "s", "two.toml"]).ok();
    let flushed = place.run(&["anchors", "flush", "s"]).ok();
    let shown = place.run(&["anchors", "show", "s"]).ok();
    let health = place.run(&["health", "s", "--json"]).json();
    assert_eq!(health.get("anchors").unwrap().as_array().unwrap().len(), 2);
    for name in ["ann", "ben"] {
        assert!(flushed.contains(name) && shown.contains(name), "{flushed}{shown}");
    }
}
