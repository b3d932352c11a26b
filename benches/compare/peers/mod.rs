//! Other crates that keep audit logs that show tampering, each set up as somebody would who wants it to win.
//!
//! All exist on crates.io, build with this package, and store something on a disk; none is left out. Each runs in a
//! process of its own, which bounds its time and tells its memory apart. What a crate has no operation for is not built
//! around it: the cell stays empty, and [`Peer::notes`] says what else is not the same. Every record counts as
//! acknowledged when it is synced, for all of them: after each batch of a bulk load, and after each single record.

mod audit_trail;
mod quipu;
mod witness_log;

use crate::measure::{Times, bytes_below, peak_memory};
use crate::ours::{self, BATCH};
use crate::report::count;
use crate::run::Compare;
use crate::workload::{self, Dice, Workload};
use crate::{Failure, answers};
use attestlog::{Content, Entry};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

pub const NAMES: [&str; 3] = ["quipu-core", "audit-trail", "witness-log-core"];

/// One of them, open.
trait Peer {
    /// What is not the same as what attestlog and SQLite do.
    fn notes(&self) -> &'static [&'static str];

    /// Records entries; all of them are on the disk when it returns.
    fn record(&mut self, entries: &[Entry]) -> Result<(), Failure>;

    /// Closes and opens it again.
    fn reopen(&mut self) -> Result<(), Failure>;

    /// The calls of a conversation: how many were found. `None` if the crate finds nothing.
    fn by_conversation(&mut self, id: &str) -> Result<Option<usize>, Failure>;

    /// The newest 50 of a user.
    fn newest_of_user(&mut self, id: &str) -> Result<Option<usize>, Failure>;

    /// Verifies all that the crate can; returns how many entries that are.
    fn verify(&mut self) -> Result<u64, Failure>;

    /// Proves that an entry is in the log, and checks the proof. `None` if it has no such proofs.
    fn prove(&mut self, seq: u64) -> Result<Option<()>, Failure>;
}

fn create(name: &str, dir: &Path) -> Result<Box<dyn Peer>, Failure> {
    Ok(match name {
        "quipu-core" => Box::new(quipu::Quipu::create(dir)?),
        "audit-trail" => Box::new(audit_trail::AuditTrail::create(dir)?),
        "witness-log-core" => Box::new(witness_log::Witness::create(dir)?),
        other => return Err(format!("{other}: not known; {} are", NAMES.join(", ")).into()),
    })
}

impl Compare<'_> {
    pub fn peers(&mut self) -> Result<(), Failure> {
        if self.plan.alone {
            return Ok(());
        }
        for name in NAMES {
            let dir = self.path(name);
            std::fs::create_dir(&dir)?;
            let mut command = Command::new(std::env::current_exe()?);
            let seconds = (self.plan.minutes * 60.0) as u64;
            command.args(["peer", name]).arg(&dir).args([self.size.to_string(), seconds.to_string()]);
            let out = command.output()?;
            if !out.status.success() {
                let why = format!("not measured: {}: {}", out.status, String::from_utf8_lossy(&out.stderr).trim());
                if self.plan.quick {
                    return Err(format!("{name}: {why}").into());
                }
                self.report.add_peer(name, &[], vec![why]);
                std::fs::remove_dir_all(&dir)?;
                continue;
            }
            let found: Value = serde_json::from_slice(&out.stdout)?;
            let values = found["values"].as_object().into_iter().flatten();
            let values: Vec<(String, f64)> = values.filter_map(|(id, v)| Some((id.clone(), v.as_f64()?))).collect();
            let notes = found["notes"].as_array().into_iter().flatten();
            self.report.add_peer(name, &values, notes.filter_map(|n| n.as_str().map(str::to_owned)).collect());
            eprintln!("  {name}: {} figures", values.len());
            std::fs::remove_dir_all(&dir)?;
        }
        Ok(())
    }
}

/// Measures one of them, in this process, and prints the figures as JSON under the ids of the report's rows.
pub fn measure(name: &str, dir: &Path, size: u64, seconds: u64) -> Result<(), Failure> {
    let limit = Duration::from_secs(seconds.max(5));
    let mut peer = create(name, dir)?;
    let mut notes: Vec<String> = peer.notes().iter().map(|note| (*note).to_owned()).collect();
    let mut values = serde_json::Map::new();
    let mut put = |id: &str, value: f64| _ = value.is_finite().then(|| values.insert(id.to_owned(), json!(value)));

    let mut workload = Workload::new(size);
    let (mut took, mut recorded) = (Duration::ZERO, 0);
    while recorded < size && took < limit {
        let entries = ours::entries(workload.take(BATCH.min(size - recorded)))?;
        let start = Instant::now();
        peer.record(&entries)?;
        took += start.elapsed();
        recorded += entries.len() as u64;
    }
    if recorded < size {
        let (least, all) = (count(recorded as f64), count(size as f64));
        notes.push(format!(
            "cut off after {} s of recording: its figures are for {least} entries, not {all}",
            limit.as_secs()
        ));
    }
    put("bulk", recorded as f64 / took.as_secs_f64());
    put("disk", bytes_below(dir) as f64 / recorded as f64);

    let mut single = Times::default();
    let entries = ours::entries(Workload::new(5_000).take(if size < 10_000 { 20 } else { 2_000 }))?;
    let start = Instant::now();
    for entry in &entries {
        if start.elapsed() > limit / 4 {
            break;
        }
        single.time(|| peer.record(std::slice::from_ref(entry)))?;
    }
    put("record", single.p50());
    put("record_mean", single.mean());
    put("memory", peak_memory());

    let mut open = Times::default();
    for _ in 0..3 {
        open.time(|| peer.reopen())?;
    }
    put("open", open.p50());

    let mut dice = Dice::new(7);
    let conversations = answers::conversations(recorded);
    put(
        "by_conversation",
        asked(limit / 4, || {
            let id = workload::conversation(dice.below(conversations));
            peer.by_conversation(&id)
        })?,
    );
    put("by_user", asked(limit / 4, || peer.newest_of_user(&workload::user(dice.skewed(workload::USERS))))?);
    put("prove", asked(limit / 4, || Ok(peer.prove(dice.below(recorded))?.map(|()| 1)))?);

    let start = Instant::now();
    let verified = peer.verify()?;
    if verified < recorded {
        return Err(format!("{name}: {verified} of {recorded} entries were verified").into());
    }
    put("verify", verified as f64 / start.elapsed().as_secs_f64());
    put("memory_verify", peak_memory());
    println!("{}", json!({ "values": values, "notes": notes }));
    Ok(())
}

/// The median of as many questions as the time allows, at most 200; no figure if the crate does not answer them.
fn asked(limit: Duration, mut ask: impl FnMut() -> Result<Option<usize>, Failure>) -> Result<f64, Failure> {
    let mut times = Times::default();
    let mut found = 0;
    let start = Instant::now();
    while times.len() < 200 && (times.len() < 3 || start.elapsed() < limit.min(Duration::from_secs(20))) {
        match times.time(&mut ask)? {
            None => return Ok(f64::NAN),
            Some(hits) => found += hits,
        }
    }
    match found {
        0 => Err("no question found anything".into()),
        _ => Ok(times.p50()),
    }
}

/// What SQLite has in columns, without what the crate has members of its own for: as a JSON text. Values that are JSON
/// already are written as they are.
fn content(entry: &Entry) -> String {
    let Content::Call(call) = &entry.body.content else { return String::new() };
    let done = call.completion.as_ref();
    let mut out = String::with_capacity(512);
    let mut put = |name: &str, value: Option<&str>, is_json: bool| {
        let Some(value) = value else { return };
        out.push_str(if out.is_empty() { "{\"" } else { ",\"" });
        out.push_str(name);
        out.push_str("\":");
        match is_json {
            true => out.push_str(value),
            false => out.push_str(&Value::from(value).to_string()),
        }
    };
    put("model", call.model.as_deref(), false);
    put("turn", call.turn_number.map(|n| n.to_string()).as_deref(), true);
    put("trigger", call.trigger.map(|t| t.as_str()), false);
    put("purpose", call.purpose.as_deref(), false);
    put("outcome", done.map(|d| d.outcome.as_str()), false);
    put("duration_ms", done.and_then(|d| d.duration_ms).map(|d| d.to_string()).as_deref(), true);
    put("arguments", call.arguments.as_ref().map(|a| a.as_str()), true);
    put("result", done.and_then(|d| d.result_summary.as_ref()).map(|r| r.as_str()), true);
    put("error", done.and_then(|d| d.error.as_ref()).map(|e| e.message.as_str()), false);
    put("metadata", call.session_metadata.as_ref().map(|m| m.as_str()), true);
    put("class", entry.body.retention.as_ref().map(|r| r.class.as_str()), false);
    put("until", entry.body.retention.as_ref().map(|r| r.until.nanos().to_string()).as_deref(), true);
    put("recorded_at", Some(entry.body.recorded_at.nanos().to_string()).as_deref(), true);
    out.push('}');
    out
}
