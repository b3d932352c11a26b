//! What of a numbered line that repeats a recorded call could not be compared with that call.
//!
//! Nothing that is answered depends on a sealed value (R90), so a line with another sealed value is taken for a repeat like any other.
//! Whoever sends it is told which members the answer says nothing of (R103). They are read from the recorded entry: where something is
//! sealed stands in it in clear.

use attestlog::AuditLog;
use attestlog::Call;
use attestlog::json::Json;

/// The digits of the digests of arguments, session and names, and of an error, in a call's `given`.
const DIGESTS: usize = 64;

/// The members that were not compared with the entry at `seq`; `timed`: the line says when the call was made.
pub fn members(log: &AuditLog, seq: u64, timed: bool) -> Vec<String> {
    // Where it was purged, its number and nothing else is known.
    let Ok(entry) = log.entry(seq) else { return vec!["entry".to_owned()] };
    let mut members = entry.call().map(of_call).unwrap_or_default();
    members.extend((!timed).then(|| "timestamp".to_owned()));
    members
}

fn of_call(call: &Call) -> Vec<String> {
    let treated = call.treated.as_ref().map(|treated| treated.to_json());
    let mut members = Vec::new();
    for (action, detectors) in treated.as_ref().and_then(Json::as_object).into_iter().flat_map(|all| all.iter()) {
        // Without digests of what was given, only what the policy left of a value was compared.
        if action == "seal" || call.given.is_none() && action != "keep" {
            paths(detectors, &mut members);
        }
    }
    let error = call.completion.as_ref().is_some_and(|end| end.error.is_some() && end.result_summary.is_none());
    members
        .extend((error && call.given.as_ref().is_some_and(|given| given.len() < DIGESTS)).then(|| "error".to_owned()));
    members.sort_unstable();
    members.dedup();
    members
}

/// The paths that a part of `treated` lists.
fn paths(listed: &Json, found: &mut Vec<String>) {
    match listed {
        Json::String(path) => found.push(path.clone()),
        Json::Array(items) => items.iter().for_each(|item| paths(item, found)),
        Json::Object(members) => match members.get("path") {
            Some(path) => paths(path, found),
            None => members.iter().for_each(|(_, item)| paths(item, found)),
        },
        _ => {}
    }
}
