//! Clocks, percentiles, memory, and the least that a durable record costs.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// Durations of single operations.
#[derive(Default, Clone)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let done = work();
        self.0.push(start.elapsed());
        done
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The median in microseconds.
    pub fn p50(&mut self) -> f64 {
        self.percentile(0.5)
    }

    /// A percentile in microseconds, by nearest rank.
    pub fn percentile(&mut self, p: f64) -> f64 {
        self.0.sort_unstable();
        let rank = ((p * self.0.len() as f64).ceil() as usize).clamp(1, self.0.len().max(1));
        self.0.get(rank - 1).map_or(f64::NAN, |d| d.as_secs_f64() * 1e6)
    }

    /// The mean in microseconds.
    pub fn mean(&self) -> f64 {
        self.0.iter().sum::<Duration>().as_secs_f64() * 1e6 / self.0.len() as f64
    }

    pub fn max(&mut self) -> f64 {
        self.percentile(1.0)
    }
}

/// The processor time of this process, all threads, in seconds: it does not include what else the machine does.
pub fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in parentheses, may contain spaces.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(f64::NAN);
    (ticks(11) + ticks(12)) / 100.0
}

/// The peak resident memory of this process, in MB.
pub fn peak_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse::<f64>().map_or(f64::NAN, |kb| kb * 1024.0 / 1e6)
}

/// The total size of a file and of the files beside it with these suffixes.
pub fn bytes_of(path: &Path, beside: &[&str]) -> u64 {
    let with = |suffix: &&str| std::path::PathBuf::from(format!("{}{suffix}", path.display()));
    let all = std::iter::once(path.to_owned()).chain(beside.iter().map(with));
    all.filter_map(|p| std::fs::metadata(p).ok()).map(|m| m.len()).sum()
}

/// The total size of what is in a folder, or of a file.
pub fn bytes_below(path: &Path) -> u64 {
    match std::fs::read_dir(path) {
        Ok(inside) => inside.flatten().map(|e| bytes_below(&e.path())).sum(),
        Err(_) => std::fs::metadata(path).map_or(0, |m| m.len()),
    }
}

/// The minimum for a durable record: 400 bytes and a sync.
pub struct Bare(std::fs::File);

impl Bare {
    pub fn new(path: &Path) -> std::io::Result<Bare> {
        std::fs::File::create(path).map(Bare)
    }

    pub fn append(&mut self) -> std::io::Result<()> {
        self.0.write_all(&[b'x'; 400])?;
        self.0.sync_data()
    }
}
