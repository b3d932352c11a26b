//! Which patients a call concerns, however many there are.
//!
//! Invariant R79: no patient whom a recorded call names is left out of the log without a word. What has no room in one entry
//! stands in further ones that follow it, before the host has the answer; a call whose arguments name more than one entry takes
//! is not made; what is too long to be an id stands for itself by its length and digest, and keeps nobody else out.

use super::{Observer, Pending, asking::note};
use crate::mcp::shorten::LARGE;
use attestlog::failure::failure;
use attestlog::json::{Json, Object};
use attestlog::owner::SharedStore;
use attestlog::{CallLimits, CallResult, Error, ErrorKind, Outcome, Result, ToolCall};
use std::collections::BTreeSet;

/// The note that says how many ids were too long.
pub(super) const TOO_LONG: &str = "long_patient_ids";
/// The note of an entry for which the one that it follows had no room.
const FURTHER: &str = "further_patients";
/// A message that is smaller holds no id that is too long, and fewer patients than an entry takes.
const FEW: usize = 48 << 10;

impl Observer {
    /// The patients that a call of this tool names in a message of `size` bytes, and how many ids were too long. What the
    /// store looks for itself is looked for here too, as far as this process has the store: what is large does not come there whole.
    pub(super) fn patients(
        &self,
        (joint, size): (Option<&SharedStore>, usize),
        tool: &str,
        arguments: Option<&Json>,
        result: Option<&Json>,
    ) -> (BTreeSet<String>, usize) {
        let (mut ids, mut too_long) = self.settings.patients.find_all(tool, arguments, result);
        let policy = joint.filter(|_| size > FEW).and_then(|joint| joint.owned(|log| log.policies().patients));
        if let Some(policy) = policy {
            let (more, also) = policy.find_all(tool, arguments, result);
            ids.extend(more);
            too_long = too_long.max(also);
        }
        (ids, too_long)
    }

    /// Records the patients for whom the ends, recorded at these seqs, had no room.
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

impl Pending {
    /// Leaves those patients to further entries for whom this one has no room.
    pub(super) fn split_patients(&mut self) {
        let ids = &mut self.call.patient_ids;
        if ids.len() > 1 {
            ids.sort_unstable();
            ids.dedup();
        }
        self.further = ids.split_off(room(ids));
    }
}

/// How many of these, from the first on, one entry takes.
fn room(ids: &[String]) -> usize {
    let mut bytes = 0;
    let fits = |id: &&String| {
        bytes += id.len() + 3;
        bytes <= LARGE
    };
    ids.iter().take(CallLimits::default().patients).take_while(fits).count().max(1).min(ids.len())
}

/// Whether that many are more than an entry takes, or any is too long: the store would not take what names them either.
pub(super) fn too_many(ids: &[String], too_long: usize) -> bool {
    too_long > 0 || ids.len() > CallLimits::default().patients
}

/// Why a call is not made that names more patients than can be recorded of it, or longer ones.
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

/// The call without what its end says already.
fn further(call: &ToolCall) -> ToolCall {
    let outcome = call.outcome.unwrap_or(match &call.result {
        Some(CallResult::Value(value)) if failure(value).is_none() => Outcome::Ok,
        None => Outcome::Ok,
        _ => Outcome::ToolError,
    });
    let mut further = call.clone();
    (further.arguments, further.result, further.duration_ms) = (None, None, None);
    further.patient_ids.clear();
    further.restated.clear();
    further.session_metadata.insert("mcp", Object::new());
    note(further, FURTHER, true).outcome(outcome)
}
