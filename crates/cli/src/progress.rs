//! The progress bar: on standard error, on a terminal only, and only if something takes longer than a second.

use super::render::{bytes, count};
use std::io::{self, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Anything shorter gets no bar.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the bar is drawn.
const INTERVAL: Duration = Duration::from_millis(100);
const BAR: usize = 24;

/// What the bar counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Entries, calls.
    Entries,
    /// Rows of tables.
    Rows,
    /// Bytes of a file.
    Bytes,
}

/// A progress bar; disappears when it is dropped.
#[derive(Debug)]
pub struct Progress {
    label: &'static str,
    unit: Unit,
    shown: bool,
    began: Instant,
    drawn: Mutex<Option<Instant>>,
}

impl Progress {
    /// A bar that appears after a second; `shown`: somebody watches standard error.
    pub fn new(label: &'static str, unit: Unit, shown: bool) -> Progress {
        Progress { label, unit, shown, began: Instant::now(), drawn: Mutex::new(None) }
    }

    /// Sets the progress; `total` is 0 if unknown.
    pub fn at(&self, done: u64, total: u64) {
        if !self.shown || self.began.elapsed() < PATIENCE {
            return;
        }
        let Ok(mut drawn) = self.drawn.try_lock() else { return };
        if drawn.is_some_and(|last| last.elapsed() < INTERVAL) {
            return;
        }
        *drawn = Some(Instant::now());
        let line = self.text(done, total);
        self.put(&format!("\r\x1b[K{line}"));
    }

    fn put(&self, text: &str) {
        let _ = io::stderr().write_all(text.as_bytes());
    }

    fn text(&self, done: u64, total: u64) -> String {
        let figure = |n| if self.unit == Unit::Bytes { bytes(n) } else { count(n) };
        let Self { label, .. } = self;
        if total == 0 {
            return format!("{label} {}", figure(done));
        }
        let part = (done as f64 / total as f64).clamp(0.0, 1.0);
        let full = (part * BAR as f64).round() as usize;
        let bar = format!("{}{}", "━".repeat(full), "╌".repeat(BAR - full));
        let left = match part {
            p if p > 0.0 => {
                let seconds = self.began.elapsed().as_secs_f64() * (1.0 - p) / p;
                format!(", about {} s left", seconds.ceil())
            }
            _ => String::new(),
        };
        format!("{label} {bar} {:3.0} % of {}{left}", part * 100.0, figure(total))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn.lock().is_ok_and(|d| d.is_some()) {
            self.put("\r\x1b[K");
        }
    }
}
