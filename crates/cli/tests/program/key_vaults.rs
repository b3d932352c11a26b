//! Keys that are not in a file: in a host's vault, in the environment of the program.

use crate::common::{Place, call};
use attestlog::Justification;
use attestlog::json::Json;
use attestlog::keys::{EnvironmentKeys, KeyVault, Passphrase};
use attestlog::redact::{Action, Policy, Preset};
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, Error, ErrorKind, Options, PolicySet, Result, ToolCall};
use base64::Engine as _;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use zeroize::Zeroizing;

/// Behaves like a system's keyring: it holds bytes, and can be locked.
#[derive(Clone, Default)]
struct Mock {
    held: Arc<Mutex<Option<Vec<u8>>>>,
    locked: Arc<Mutex<bool>>,
}

impl KeyVault for Mock {
    fn name(&self) -> String {
        "the mock keyring".to_owned()
    }

    fn load(&self) -> Result<Option<Zeroizing<Vec<u8>>>> {
        self.open()?;
        Ok(self.held.lock().unwrap().clone().map(Zeroizing::new))
    }

    fn store(&self, text: &[u8]) -> Result<()> {
        self.open()?;
        *self.held.lock().unwrap() = Some(text.to_vec());
        Ok(())
    }
}

impl Mock {
    fn open(&self) -> Result<()> {
        match *self.locked.lock().unwrap() {
            true => Err(Error::new(ErrorKind::Key, "the mock keyring is locked; unlock it")),
            false => Ok(()),
        }
    }

    fn text(&self) -> String {
        String::from_utf8(self.held.lock().unwrap().clone().unwrap()).unwrap()
    }
}

fn policies() -> PolicySet {
    let mut set = PolicySet::default();
    set.redaction = Policy::builder(Preset::Hipaa).field("ssn", Action::Seal).build().unwrap();
    set
}

fn enrol(log: &AuditLog) -> u64 {
    let arguments = Json::parse(br#"{"ssn":"460-89-9847"}"#).unwrap().value;
    log.record(ToolCall::new("c", "u", "enrol").patient("P-1").arguments(arguments)).unwrap().seq
}

fn only_file(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_store_lives_with_its_keys_in_a_vault() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let vault = Mock::default();
    let options = || Options::new().background(false).key_vault(vault.clone());
    let log = options().policies(policies()).create(&path).unwrap();
    let seq = enrol(&log);
    let first = vault.text();
    log.keys().rotate_epoch_key().unwrap();
    log.keys().rotate_pseudonym_key().unwrap();
    log.close().unwrap();
    assert_eq!(only_file(dir.path()), ["store"]);
    assert_ne!(vault.text(), first);
    let log = options().open(&path).unwrap();
    assert_eq!(
        log.privacy().reveal(seq, "arguments.ssn", Justification { actor: "a", reason: "r" }).unwrap(),
        Json::from("460-89-9847")
    );
    log.privacy().erase("P-1", Justification { actor: "a", reason: "r" }).unwrap();
    assert!(log.privacy().reveal(seq, "arguments.ssn", Justification { actor: "a", reason: "r" }).is_err());
    let verification = log.verify(&VerifyOptions::new()).unwrap();
    assert!(verification.ok() && verification.signed, "{:?}", verification.findings);
    log.close().unwrap();
    // Another store does not replace it, and a locked vault is not a missing one.
    let again = options().create(dir.path().join("other")).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    assert_eq!(only_file(dir.path()), ["store"]);
    *vault.locked.lock().unwrap() = true;
    let locked = options().unsigned(true).open(&path).unwrap_err();
    assert_eq!((locked.kind(), locked.to_string().contains("unlock it")), (ErrorKind::Key, true));
    *vault.locked.lock().unwrap() = false;
    *vault.held.lock().unwrap() = Some(b"nonsense".to_vec());
    assert!(options().open(&path).unwrap_err().to_string().contains("the mock keyring"));
}

#[test]
fn a_passphrase_protects_what_a_vault_holds() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let vault = Mock::default();
    let options = |p: &str| {
        let phrase = Passphrase::new(p.to_owned()).unwrap();
        Options::new().background(false).key_vault(vault.clone()).passphrase(phrase)
    };
    options("right").create(&path).unwrap().close().unwrap();
    assert!(vault.text().starts_with("attestlog-key v1 wrapped\n"));
    assert_eq!(options("wrong").open(&path).unwrap_err().kind(), ErrorKind::Key);
    options("right").open(&path).unwrap().close().unwrap();
}

#[test]
fn a_vault_in_the_environment_that_is_not_set_holds_nothing() {
    let vault = EnvironmentKeys::new("ATTESTLOG_TEST_NOT_SET");
    assert!(vault.load().unwrap().is_none());
    assert!(!vault.is_replaceable());
    assert_eq!(vault.store(b"x").unwrap_err().kind(), ErrorKind::Key);
}

fn with_key(place: &Place, args: &[&str], key: &str, input: &str) -> (i32, String) {
    use std::io::Write;
    let mut child = place.command(args).env("ATTESTLOG_KEY", key).stdin(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    let said = String::from_utf8([out.stdout, out.stderr].concat()).unwrap();
    (out.status.code().unwrap(), said)
}

#[test]
fn the_program_takes_the_keys_from_the_environment() {
    let place = Place::empty();
    place.write("p.toml", "[redaction]\npreset = \"hipaa\"\n[redaction.fields]\nssn = \"seal\"\n");
    place.run(&["init", "s", "--config", "p.toml"]).ok();
    let key = base64::engine::general_purpose::STANDARD.encode(fs::read(place.path("s.key")).unwrap());
    fs::rename(place.path("s.key"), place.path("aside")).unwrap();
    let line = call("c", "u", "enrol", r#""patient_id":"P-1","arguments":{"ssn":"460-89-9847"}"#);
    place.run_with(&["record", "s"], line.as_bytes()).code(3);

    let (code, said) = with_key(&place, &["record", "s"], &key, &line);
    assert_eq!(code, 0, "{said}");
    assert_eq!(with_key(&place, &["query", "s", "--patient", "P-1", "--count"], &key, "").1.trim(), "1");
    let (code, said) = with_key(&place, &["verify", "s", "--json"], &key, "");
    assert_eq!((code, said.contains(r#""signed":true"#)), (0, true), "{said}");
    let because = ["--actor", "dr_no", "--reason", "claim"];
    let (code, said) = with_key(&place, &[&["reveal", "s", "2", "arguments.ssn"], &because[..]].concat(), &key, "");
    assert_eq!((code, said.trim()), (0, r#""460-89-9847""#));

    // Keys cannot be destroyed there, and nothing is started that would require it.
    let size = with_key(&place, &["query", "s", "--count"], &key, "").1;
    for args in [
        &["keys", "rotate", "s"][..],
        &["keys", "rotate", "s", "--pseudonyms"],
        &[&["erase", "s", "--subject", "P-1"], &because[..]].concat(),
    ] {
        let (code, said) = with_key(&place, args, &key, "");
        assert_eq!((code, said.contains("ATTESTLOG_KEY")), (3, true), "{args:?}: {said}");
        assert!(said.contains("put them into a key file"), "{said}");
    }
    assert_eq!(with_key(&place, &["query", "s", "--count"], &key, "").1, size);
    assert_eq!(with_key(&place, &["init", "t"], &key, "").0, 3);
    assert!(!place.path("t").exists());

    // The message says what is wrong with the value without showing it.
    for wrong in ["!!!hunter2~~~", &key[..key.len() / 2 / 4 * 4], ""] {
        let (code, said) = with_key(&place, &["checkpoint", "s"], wrong, "");
        assert_eq!(code, if wrong.is_empty() { 2 } else { 3 }, "{said}");
        assert!(wrong.len() < 8 || !said.contains(&wrong[..8]), "{said}");
    }
    // The file still works, with what was recorded in between.
    fs::rename(place.path("aside"), place.path("s.key")).unwrap();
    place.run(&["keys", "rotate", "s"]).ok();
    place.run(&[&["erase", "s", "--subject", "P-1"], &because[..]].concat()).ok();
    place.run(&["verify", "s"]).ok();
}

#[test]
fn a_passphrase_file_protects_a_new_key_file() {
    let place = Place::empty();
    place.write("pass", "correct horse\n");
    place.write("wrong", "wrong horse\n");
    place.run(&["init", "s", "--passphrase-file", "pass"]).ok();
    let text = fs::read_to_string(place.path("s.key")).unwrap();
    assert!(text.starts_with("attestlog-key v1 wrapped\nargon2id "), "{text}");
    let line = call("c", "u", "t", "");
    place.run_with(&["record", "s", "--passphrase-file", "pass"], line.as_bytes()).ok();
    for args in [&["query", "s"][..], &["record", "s"], &["checkpoint", "s"], &["keys", "rotate", "s"]] {
        let ran = place.run_with(&[args, &["--passphrase-file", "wrong"]].concat(), line.as_bytes()).code(3);
        assert!(ran.err.contains("wrong passphrase") && !ran.err.contains("horse"), "{}", ran.err);
        let ran = place.run_with(args, line.as_bytes()).code(3);
        assert!(ran.err.contains("passphrase"), "{}", ran.err);
    }
    // A rotation keeps the passphrase, and so does a backup.
    place.run(&["keys", "rotate", "s", "--passphrase-file", "pass"]).ok();
    place.run(&["keys", "backup", "s", "copy.key", "--passphrase-file", "pass"]).ok();
    for name in ["s.key", "copy.key"] {
        assert!(fs::read_to_string(place.path(name)).unwrap().starts_with("attestlog-key v1 wrapped\n"));
    }
    fs::rename(place.path("copy.key"), place.path("s.key")).unwrap();
    place.run(&["checkpoint", "s", "--passphrase-file", "pass"]).ok();
    place.run(&["verify", "s", "--passphrase-file", "pass"]).ok();
}
