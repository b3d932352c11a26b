//! Runs the real program in a directory of its own.
#![allow(dead_code, reason = "each test file uses its part")]

use attestlog::json::Json;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// The result of running the program.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// Checks that the program ended with `code`.
    #[track_caller]
    pub fn code(self, code: i32) -> Ran {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }

    /// Checks that nothing went wrong; returns standard output.
    #[track_caller]
    pub fn ok(self) -> String {
        self.code(0).out
    }

    /// Standard output as one JSON value; checks that nothing went wrong.
    #[track_caller]
    pub fn json(self) -> Json {
        json(&self.ok())
    }
}

/// One JSON value.
#[track_caller]
pub fn json(text: &str) -> Json {
    Json::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{e}: {text}")).value
}

/// A directory with a store in it.
pub struct Place {
    pub dir: TempDir,
}

impl Place {
    /// An empty directory.
    pub fn empty() -> Place {
        Place { dir: tempfile::tempdir().unwrap() }
    }

    /// A directory with a fresh store `s`.
    pub fn with_store() -> Place {
        let place = Place::empty();
        place.run(&["init", "s"]).ok();
        place
    }

    /// A directory with a store `s` that holds these lines, without alerts about them: tests count entries.
    pub fn with_lines(lines: &str) -> Place {
        let place = Place::with_store();
        place.run_with(&["record", "s", "--no-alerts"], lines.as_bytes()).ok();
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_attestlog"));
        command.args(args).current_dir(self.dir.path()).env_remove("NO_COLOR");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, b"")
    }

    /// Runs the program with this on its standard input.
    pub fn run_with(&self, args: &[&str], input: &[u8]) -> Ran {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // The program may end before it has read everything.
        let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The number of entries that a query finds.
    #[track_caller]
    pub fn count(&self, filters: &[&str]) -> u64 {
        let args = [&["query", "s", "--count"], filters].concat();
        self.run(&args).ok().trim().parse().unwrap()
    }
}

/// The input line of a call, with additional members.
pub fn call(conversation: &str, user: &str, tool: &str, more: &str) -> String {
    let more = if more.is_empty() { String::new() } else { format!(",{more}") };
    format!(r#"{{"conversation_id":"{conversation}","user_id":"{user}","tool_name":"{tool}"{more}}}"#) + "\n"
}

/// The folder of real input that is not part of the project, if it exists; prints a message if not.
pub fn shared(what: &str) -> Option<PathBuf> {
    let root = std::env::var_os("ATTESTLOG_SHARED").map(PathBuf::from);
    let root = root.unwrap_or_else(|| Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join("../shared"));
    let path = root.join(what);
    if path.exists() {
        return Some(path);
    }
    println!("SKIPPED: {} is not there", path.display());
    None
}

/// Replaces `from` by `to`, which has the same length, everywhere in a file; returns how often.
pub fn overwrite(path: &Path, from: &[u8], to: &[u8]) -> usize {
    assert_eq!(from.len(), to.len());
    let mut bytes = std::fs::read(path).unwrap();
    let mut found = 0;
    let mut at = 0;
    while let Some(next) = bytes[at..].windows(from.len()).position(|w| w == from) {
        bytes[at + next..at + next + to.len()].copy_from_slice(to);
        at += next + to.len();
        found += 1;
    }
    std::fs::write(path, bytes).unwrap();
    found
}

/// A small file system at a folder of the place, unmounted when this is dropped.
pub struct Small(PathBuf);

impl Small {
    /// Mounts one of this size, as `mount` takes it. `None` without the right to mount, which is said.
    pub fn mount(at: &Path, size: &str) -> Option<Small> {
        std::fs::create_dir_all(at).unwrap();
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "tmpfs"])
            .arg(at)
            .output();
        if done.is_ok_and(|done| done.status.success()) {
            return Some(Small(at.to_owned()));
        }
        println!("SKIPPED: no small file system can be mounted here");
        None
    }

    /// Uses every byte that is left.
    pub fn fill(&self) {
        for size in [1 << 20, 4096, 1] {
            let mut file = std::fs::OpenOptions::new().append(true).create(true).open(self.0.join("ballast")).unwrap();
            while file.write_all(&vec![1; size]).is_ok() {}
        }
    }

    /// Frees it again.
    pub fn make_room(&self) {
        std::fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Ends a process that a test started, however the test ends.
pub struct Ended(pub Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
