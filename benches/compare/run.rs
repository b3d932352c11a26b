//! The run: every group of measurements for every size, into one report each.

use crate::machine::Machine;
use crate::report::{Report, count};
use crate::{Failure, Plan, plots};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The groups of measurements, in order; `--only` names some of them.
pub const GROUPS: &[(&str, Group)] = &[
    ("bulk", |c| c.bulk()),
    ("results", |c| c.whole_results()),
    ("queries", |c| c.queries()),
    ("proofs", |c| c.proofs()),
    ("verify", |c| c.verify()),
    ("open", |c| c.opening()),
    ("records", |c| c.records()),
    ("files", |c| c.files()),
    ("memory", |c| c.memory()),
    ("peers", |c| c.peers()),
];

pub type Group = fn(&mut Compare<'_>) -> Result<(), Failure>;

/// The measurements of one size.
pub struct Compare<'a> {
    pub size: u64,
    pub plan: &'a Plan,
    pub dir: &'a Path,
    pub cores: usize,
    pub report: &'a mut Report,
}

/// Runs everything that the plan says, prints it, and writes what it says into files.
pub fn run(plan: &Plan) -> Result<(), Failure> {
    let machine = Machine::here(&plan.dir);
    println!("{}\n", machine.text());
    let mut runs = Vec::new();
    for &size in &plan.sizes {
        let dir = tempfile::Builder::new().prefix("compare-").tempdir_in(&plan.dir)?;
        eprintln!("{} entries", count(size as f64));
        let mut report = Report::new(size, !plan.quick);
        let mut compare = Compare { size, plan, dir: dir.path(), cores: machine.cores, report: &mut report };
        let chosen = |name: &str| plan.only.is_empty() || plan.only.iter().any(|only| only == name);
        let mut groups = GROUPS.iter().filter(|(name, _)| chosen(name));
        let done = groups.try_for_each(|(name, group)| group(&mut compare).map_err(|e| format!("{name}: {e}")));
        // What was measured before a failure is said too.
        println!("{}", report.markdown());
        done?;
        runs.push(report);
    }
    let found = json!({
        "machine": machine.json(),
        "settings": { "quick": plan.quick, "alone": plan.alone, "only": plan.only },
        "runs": runs.iter().map(Report::json).collect::<Vec<Value>>(),
    });
    if let Some(path) = &plan.json {
        std::fs::write(path, serde_json::to_string_pretty(&found)? + "\n")?;
    }
    if let Some(dir) = &plan.plots {
        std::fs::create_dir_all(dir)?;
        std::fs::write(dir.join("run.json"), serde_json::to_string_pretty(&found)? + "\n")?;
        let tables: Vec<String> = runs.iter().map(Report::markdown).collect();
        let text = format!(
            "# One run of the comparison\n\nWritten by `compare --plots`; [performance.md](../performance.md) says what the \
             rows mean.\n\n{}\n\n{}",
            machine.text(),
            tables.join("\n")
        );
        std::fs::write(dir.join("run.md"), text)?;
        plots::draw(&found, dir)?;
    }
    Ok(())
}

impl Compare<'_> {
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// `n`, or far fewer with `--quick`.
    pub fn times(&self, n: u64) -> u64 {
        if self.plan.quick { n / 200 + 1 } else { n }
    }

    /// attestlog's store of this size, recorded if no earlier group did.
    pub fn ours(&mut self) -> Result<PathBuf, Failure> {
        let path = self.path("a");
        if !path.exists() {
            self.fill_ours()?;
        }
        Ok(path)
    }

    /// SQLite's; `None` if others are left out.
    pub fn sqlite(&mut self) -> Result<Option<PathBuf>, Failure> {
        let path = self.path("s");
        if self.plan.alone {
            return Ok(None);
        }
        if !path.exists() {
            self.fill_sqlite()?;
        }
        Ok(Some(path))
    }
}
