//! `init` and `verify`: their guarantees to scripts.

use crate::common::{Place, call, overwrite};
use attestlog::json::Json;

#[test]
fn init_makes_a_store_and_its_key_and_prints_the_public_key() {
    let place = Place::empty();
    let key = place.run(&["init", "s", "--origin", "example.com/ward-3"]).ok();
    let parts: Vec<&str> = key.trim_end().split('+').collect();
    assert!(parts.len() >= 3 && parts[0].starts_with("example.com/ward-3") && parts[1].len() == 8, "{key}");
    assert!(place.path("s").exists() && place.path("s.key").exists());
    #[cfg(unix)]
    for file in ["s", "s.key"] {
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(place.path(file)).unwrap().permissions());
        assert_eq!(mode & 0o077, 0, "{file} is readable by others");
    }
    // Neither a store nor a key is ever created under a name that exists.
    assert_ne!(place.run(&["init", "s"]).code, 0);
    std::fs::remove_file(place.path("s")).unwrap();
    assert_ne!(place.run(&["init", "s"]).code, 0);
    assert!(!place.path("s").exists());
}

#[test]
fn init_reads_one_file_for_all_policies() {
    let place = Place::empty();
    place.write(
        "store.toml",
        "[retention.classes]\ngeneral = '3 years'\n[redaction.fields]\nnotes = 'mask'\n[[patients]]\ntool = 'chart'\npaths = ['arguments.who']\n[results]\nkeep_full = 1000\n",
    );
    place.run(&["init", "s", "--config", "store.toml"]).ok();
    let line = call("c", "u", "chart", r#""arguments":{"who":"P-7","notes":"long story"},"result":{"text":"kept"}"#);
    place.run_with(&["record", "s", "--no-alerts"], line.as_bytes()).ok();
    let entry = place.run(&["query", "s", "--patient", "P-7", "--json"]).json();
    let arguments = entry.get("arguments").unwrap().to_canonical().to_string();
    assert!(!arguments.contains("long story"), "{arguments}");
    assert_eq!(entry.get("result_summary").unwrap().get("full").unwrap().get("text").unwrap().as_str(), Some("kept"));
    for (text, says) in [
        ("[retenton]\n", "bad.toml:1:2"),
        ("[retention]\ndefault = 'nothing'\n", "bad.toml:"),
        ("[redaction]\npreset = 'strong'\n", "bad.toml:2:"),
        ("[results]\nkeep_full = -1\n", "bad.toml:2"),
        ("not toml", "bad.toml"),
    ] {
        place.write("bad.toml", text);
        let ran = place.run(&["init", "t", "--config", "bad.toml"]).code(2);
        assert!(ran.err.contains(says), "{says}: {}", ran.err);
        assert!(!place.path("t").exists() && !place.path("t.key").exists());
    }
}

#[test]
fn a_clean_store_verifies_and_is_called_unanchored() {
    let place = Place::with_lines(&call("c", "u", "t", ""));
    let verification = place.run(&["verify", "s", "--json"]).json();
    let keys = [
        "ok",
        "size",
        "entries",
        "purged",
        "root",
        "head",
        "signed",
        "signed_size",
        "key_pinned",
        "anchored",
        "anchored_size",
        "rewritable_from",
        "restored",
        "lost_anchors",
        "recorded_without_key",
        "not_authenticated",
        "unfinished_commit",
        "pages_only",
        "findings",
        "unsettled",
        "seconds",
    ];
    let object = verification.as_object().unwrap();
    assert_eq!(object.len(), keys.len());
    for key in keys {
        assert!(object.get(key).is_some(), "{key}");
    }
    assert_eq!(object.get("ok"), Some(&Json::Bool(true)));
    assert_eq!(object.get("anchored"), Some(&Json::Bool(false)));
    assert_eq!(object.get("size"), object.get("entries"));
    let lines = place.run(&["query", "s", "--json"]).ok();
    let newest = attestlog::Hash::leaf(lines.lines().last().unwrap().as_bytes()).to_string();
    assert_eq!(object.get("head").unwrap().as_str(), Some(newest.as_str()));
    assert!(place.run(&["verify", "s"]).ok().contains("UNANCHORED"));
}

#[test]
fn an_edited_entry_is_named() {
    // Text that cannot be compressed, so that it appears in the file unchanged.
    let to = |i: u32| attestlog::Hash::of(&i.to_be_bytes()).to_string();
    let line = |i| call("c", "u", "pay", &format!(r#""arguments":{{"to":"{}"}}"#, to(i)));
    let place = Place::with_lines(&(0..50).map(line).collect::<String>());
    let edited = place.run(&["query", "s", "--json"]).ok().lines().position(|l| l.contains(&to(31))).unwrap() as u64;
    let other = to(31).replace(['0', '1', '2', '3'], "9");
    assert!(overwrite(&place.path("s"), &to(31).as_bytes()[8..], &other.as_bytes()[8..]) > 0);
    let ran = place.run(&["verify", "s", "--json"]).code(1);
    let verification = crate::common::json(&ran.out);
    assert_eq!(verification.get("ok"), Some(&Json::Bool(false)));
    let findings = verification.get("findings").unwrap().as_array().unwrap();
    assert!(findings.iter().any(|f| f.get("seq").and_then(Json::as_u64) == Some(edited)), "{}", ran.out);
    assert!(findings.iter().all(|f| f.get("kind").is_some() && f.get("detail").is_some()));
    let text = place.run(&["verify", "s"]).code(1).out;
    assert!(text.contains(&format!("entry {edited}")), "{text}");
}

#[test]
fn what_was_kept_elsewhere_anchors_the_store() {
    let place = Place::empty();
    let key = place.run(&["init", "s"]).ok();
    place.run_with(&["record", "s", "--no-alerts"], call("c", "u", "t", "").as_bytes()).ok();
    let kept = place.run(&["checkpoint", "s"]).ok();
    place.write("kept", kept);
    std::fs::copy(place.path("s"), place.path("older")).unwrap();
    place.run_with(&["record", "s", "--no-alerts"], call("c", "u", "later", "").as_bytes()).ok();
    let verification = place.run(&["verify", "s", "--public-key", key.trim(), "--against", "kept", "--json"]).json();
    assert_eq!(
        (verification.get("key_pinned"), verification.get("anchored")),
        (Some(&true.into()), Some(&true.into()))
    );
    assert_eq!(verification.get("anchored_size").unwrap().as_u64(), Some(3));
    // A key of another log, and a store that lacks what was kept.
    let other = place.run(&["init", "other"]).ok();
    place.run(&["verify", "s", "--public-key", other.trim()]).code(2);
    place.write("newer", place.run(&["checkpoint", "s"]).ok());
    place.run(&["verify", "older", "--against", "newer"]).code(1);
    place.run(&["verify", "s", "--against", "nowhere"]).code(2);
    place.run(&["verify", "s", "--public-key", "nonsense"]).code(2);
    // Nothing has expired yet.
    let purged = place.run(&["purge", "s", "--json", "--actor", "ops"]).json();
    assert_eq!((purged.get("purged").unwrap().as_u64(), purged.get("purge_seq")), (Some(0), Some(&Json::Null)));
    for key in ["purged", "kept_by_hold", "bytes_before", "bytes_after", "purge_seq"] {
        assert!(purged.get(key).is_some(), "{key}");
    }
    place.run(&["purge", "s"]).code(2);
}

/// Somebody damaged the lines of an anchor file that would have shown the rollback. They were reported only on standard
/// error: `nothing wrong found`, exit code 0, anchored, and nothing about it in the JSON.
#[test]
fn a_line_of_an_anchor_file_that_cannot_be_read_is_a_finding() {
    let place = Place::with_lines(&call("c", "u", "t", ""));
    place.write("anchors.toml", "[[anchor]]\nfile = 'kept'\n");
    place.run(&["anchors", "set", "s", "anchors.toml"]).ok();
    place.run(&["anchors", "flush", "s"]).ok();
    place.run_with(&["record", "s", "--no-alerts"], call("c", "v", "t", "").as_bytes()).ok();
    place.run(&["anchors", "flush", "s"]).ok();
    place.run(&["verify", "s", "--against", "kept"]).ok();
    let kept = std::fs::read_to_string(place.path("kept")).unwrap();
    let (first, rest) = kept.split_once('\n').unwrap();
    place.write("junk", format!("{first}\n{}", rest.replacen("checkpoint", "checkp#int", 1)));
    let ran = place.run(&["verify", "s", "--against", "junk"]).code(1);
    assert!(ran.out.contains("kept_damaged") && ran.out.contains("line 2"), "{}", ran.out);
    let json = crate::common::json(&place.run(&["verify", "s", "--against", "junk", "--json"]).code(1).out);
    assert_eq!(json.get("ok"), Some(&Json::Bool(false)));
    assert_eq!(json.get("anchored"), Some(&Json::Bool(false)));
    // A crash leaves a last line without its end; and somebody who could cut it could also have removed it.
    place.write("torn", format!("{first}\n{}", &rest[..40]));
    assert!(place.run(&["verify", "s", "--against", "torn"]).code(0).err.contains("not compared"));
}

#[test]
fn every_kind_of_finding_is_documented() {
    let page = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join("docs/verification.md");
    let page = std::fs::read_to_string(page).unwrap();
    for kind in attestlog::verify::FindingKind::ALL {
        assert!(page.contains(&format!("| `{kind}` | ")), "{kind} is not in docs/verification.md");
    }
    assert_eq!(page.matches("\n| `").count(), attestlog::verify::FindingKind::ALL.len() + 10);
}
