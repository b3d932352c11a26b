//! On what a run was made: the machine, the versions, the commit.

use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// Everything that a reader of the figures has to know.
pub struct Machine {
    pub cores: usize,
    cpu: String,
    kernel: String,
    file_system: String,
    memory: f64,
    load: String,
    rust: String,
    commit: String,
    profile: &'static str,
}

/// The crates whose versions are said.
const CRATES: [&str; 6] = ["attestlog", "redb", "rusqlite", "quipu-core", "audit-trail", "witness-log-core"];

impl Machine {
    /// Asks the machine. `dir` is where the stores are written.
    pub fn here(dir: &Path) -> Machine {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            text.lines().find_map(|l| l.strip_prefix(name)?.split_once(':')).map(|(_, v)| v.trim().to_owned())
        };
        let kilobytes = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        let commit = said(Command::new("git").arg("-C").arg(source).args(["rev-parse", "--short=10", "HEAD"]));
        let changed = said(Command::new("git").arg("-C").arg(source).args(["status", "--porcelain"]));
        Machine {
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown processor".to_owned()),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            file_system: file_system(dir),
            memory: kilobytes.trim_end_matches("kB").trim().parse().unwrap_or(f64::NAN) * 1024.0 / 1e9,
            load: read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
            rust: said(Command::new("rustc").arg("--version")),
            commit: if changed.is_empty() { commit } else { format!("{commit} and changes") },
            profile: if cfg!(debug_assertions) { "debug" } else { "release" },
        }
    }

    /// A paragraph.
    pub fn text(&self) -> String {
        let versions: Vec<String> = versions().into_iter().map(|(name, version)| format!("{name} {version}")).collect();
        format!(
            "{} cores ({}, {}), {:.0} GB of memory, {}, Linux {}; load at the start {}.\n{}; {}; {} build of commit {}.",
            self.cores,
            self.cpu,
            std::env::consts::ARCH,
            self.memory,
            self.file_system,
            self.kernel,
            self.load,
            self.rust,
            versions.join(", "),
            self.profile,
            self.commit,
        )
    }

    pub fn json(&self) -> Value {
        let versions: serde_json::Map<String, Value> =
            versions().into_iter().map(|(name, version)| (name, json!(version))).collect();
        json!({
            "cores": self.cores, "cpu": self.cpu, "arch": std::env::consts::ARCH, "memory_gb": self.memory,
            "kernel": self.kernel, "file_system": self.file_system, "load_at_start": self.load, "rustc": self.rust,
            "commit": self.commit, "build": self.profile, "versions": versions,
        })
    }
}

fn said(command: &mut Command) -> String {
    let text = command.output().map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned());
    text.unwrap_or_default()
}

/// The type and the options of the mount that `dir` is on.
fn file_system(dir: &Path) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let fields =
        mounts.lines().map(|l| l.split(' ').collect::<Vec<_>>()).filter(|f| f.len() > 3 && dir.starts_with(f[1]));
    let mount = fields.max_by_key(|f| f[1].len());
    mount.map_or_else(|| "unknown file system".to_owned(), |f| format!("{} ({})", f[2], f[3]))
}

/// The versions of what was compared: the packages as this package's lock has them, and SQLite's own.
fn versions() -> Vec<(String, String)> {
    let lock = include_str!("../Cargo.lock");
    let of = |name: &str| {
        let at = lock.find(&format!("name = \"{name}\"\nversion = \""))?;
        lock[at..].split('"').nth(3).map(str::to_owned)
    };
    let crates = CRATES.iter().filter_map(|name| Some(((*name).to_owned(), of(name)?)));
    crates.chain([("SQLite".to_owned(), rusqlite::version().to_owned())]).collect()
}
