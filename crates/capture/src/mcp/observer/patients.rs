//! The patients that a call concerns, however many they are.
//!
//! Invariant R79: no patient named by a recorded call is silently left out of the log. Patients for whom one entry has
//! no room are in follow-up entries, recorded before the host gets the answer. A call whose arguments name more
//! patients than one entry holds is not made. An id that is too long is represented by its length and digest, and does
//! not displace other patients.

use super::{Observer, Pending, asking::note};
use crate::shorten::LARGE;
use attestlog::entry::CallLimits;
use attestlog::entry::failure::{failure, reads_as_failure};
use attestlog::json::{Json, Object};
use attestlog::retention::PatientPaths;
use attestlog::{AuditLog, CallResult, Error, ErrorKind, Outcome, Result, ToolCall};
use std::collections::BTreeSet;

/// Note with the number of ids that were too long.
pub(super) const TOO_LONG: &str = "long_patient_ids";
/// Note of an entry that continues the patients of the entry before it.
const FURTHER: &str = "further_patients";
/// A smaller message cannot hold an id that is too long, or more patients than one entry holds.
const FEW: usize = 48 << 10;

impl Observer {
    /// The patients that a call of this tool names in a message of `size` bytes, and how many ids were too long. For a
    /// large message the store's own patient paths are applied here too, if this process owns the store: the store gets
    /// such a message only shortened.
    pub(super) fn patients(
        &self,
        (log, size): (Option<&AuditLog>, usize),
        tool: &str,
        arguments: Option<&Json>,
        result: Option<&Json>,
    ) -> (BTreeSet<String>, usize) {
        let (mut ids, mut too_long) = self.settings.patients.find_all(tool, arguments, result);
        let policy = log.filter(|_| size > FEW).and_then(own_paths);
        if let Some(policy) = policy {
            let (more, also) = policy.find_all(tool, arguments, result);
            ids.extend(more);
            too_long = too_long.max(also);
        }
        (ids, too_long)
    }

    /// Records the patients for whom the end entries at `seqs` had no room.
    pub(super) fn record_further(&self, ended: &[Pending], seqs: &[u64]) -> Result<()> {
        for (pending, seq) in ended.iter().filter(|p| !p.lost).zip(seqs) {
            let mut rest = pending.further.as_slice();
            while !rest.is_empty() {
                let (now, later) = rest.split_at(room(rest));
                rest = later;
                let call = further(&pending.call).follow_up_of(*seq);
                self.end(vec![(None, now.iter().cloned().fold(call, ToolCall::patient))])?;
            }
        }
        Ok(())
    }
}

/// The store's own patient paths, if this process owns the store.
fn own_paths(log: &AuditLog) -> Option<PatientPaths> {
    if log.is_owner() { log.retention().policies().ok().map(|policies| policies.patients) } else { None }
}

impl Pending {
    /// Moves the patients for whom this entry has no room to `further`.
    pub(super) fn split_patients(&mut self) {
        let ids = &mut self.call.patient_ids;
        if ids.len() > 1 {
            ids.sort_unstable();
            ids.dedup();
        }
        self.further = ids.split_off(room(ids));
    }
}

/// How many of these ids, from the first on, fit into one entry.
fn room(ids: &[String]) -> usize {
    let mut bytes = 0;
    let fits = |id: &&String| {
        bytes += id.len() + 3;
        bytes <= LARGE
    };
    ids.iter().take(CallLimits::default().patients).take_while(fits).count().max(1).min(ids.len())
}

/// Whether there are more ids than one entry holds, or any is too long. The store would refuse an entry that names
/// them.
pub(super) fn too_many(ids: &[String], too_long: usize) -> bool {
    too_long > 0 || ids.len() > CallLimits::default().patients
}

/// The error for a call that names more patients than one entry holds, or ids that are too long.
pub(super) fn refused(call: &ToolCall) -> Option<Error> {
    let limits = CallLimits::default();
    let says = |note: &str| call.session_metadata.get("mcp").and_then(|mcp| mcp.get(note)).is_some();
    let what = match () {
        () if says(TOO_LONG) => format!("it names a patient by more than {} bytes: send the id alone", limits.id_bytes),
        () if call.patient_ids.len() > limits.patients => {
            format!("it names more than {} patients: call it for fewer at once", limits.patients)
        }
        () => return None,
    };
    Some(Error::new(ErrorKind::TooLarge, what))
}

/// The outcome with which a call is recorded.
pub(super) fn outcome(call: &ToolCall) -> Outcome {
    call.outcome.unwrap_or(match &call.result {
        Some(CallResult::Value(value)) if failure(value).or_else(|| reads_as_failure(value)).is_none() => Outcome::Ok,
        None => Outcome::Ok,
        _ => Outcome::ToolError,
    })
}

/// The call without what its end entry already says.
fn further(call: &ToolCall) -> ToolCall {
    let outcome = outcome(call);
    let mut further = call.clone();
    (further.arguments, further.result, further.duration_ms) = (None, None, None);
    // It follows the entry that has the answer, which answers the call; a call has one late answer.
    further.late_answer = false;
    further.patient_ids.clear();
    further.restated.clear();
    further.session_metadata.insert("mcp", Object::new());
    note(further, FURTHER, true).outcome(outcome)
}
