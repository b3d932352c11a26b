//! Recording what events say.

use super::{Event, Step};
use attestlog::{AuditLog, Result, Told, ToolCall, Unmatched};

/// Has the log do the steps of an event, in order; returns how many entries were recorded.
///
/// # Errors
/// As [`AuditLog::record`]; the steps before the one that failed are done.
///
/// ```
/// use attestlog_capture::hook::{Agent, Identity, read, record};
/// # let log = attestlog::AuditLog::in_memory()?;
/// let mut identity = Identity::default();
/// identity.user = "ada".to_owned();
/// let now = "2026-11-29T12:00:00Z".parse()?;
/// for event in [
///     r#"{"hook_event_name":"PreToolUse","session_id":"s","tool_name":"Bash","tool_input":{},"tool_use_id":"t"}"#,
///     r#"{"hook_event_name":"PostToolUse","session_id":"s","tool_name":"Bash","tool_input":{},"tool_use_id":"t","tool_response":"ok"}"#,
/// ] {
///     assert_eq!(record(&log, read(Agent::ClaudeCode, event.as_bytes(), &identity, now)?)?, 1);
/// }
/// # Ok::<(), attestlog::Error>(())
/// ```
pub fn record(log: &AuditLog, event: Event) -> Result<u64> {
    let mut recorded = 0;
    for step in event.steps {
        recorded += match step {
            Step::Begin(call) if is_told(log, &call)? => 1,
            // The process of another event ends it.
            Step::Begin(call) => u64::from(log.begin_once(*call)?.is_some()),
            Step::End(call, unmatched) => u64::from(end(log, *call, unmatched)?),
            Step::Settle(calls) => log.settle(calls)?,
            Step::Abandon(which) => log.abandon(&which)?,
        };
    }
    Ok(recorded)
}

/// Records the end of a call; returns whether it was recorded.
fn end(log: &AuditLog, call: ToolCall, unmatched: Unmatched) -> Result<bool> {
    // Mostly the event before has begun the call, and nobody else knows of it.
    if call.call_id.is_some()
        && unmatched != Unmatched::Leave
        && (log.end_oldest(call.clone(), Unmatched::Leave)?.is_some() || is_told(log, &call)?)
    {
        return Ok(true);
    }
    Ok(log.end_oldest(call, unmatched)?.is_some())
}

/// Whether somebody else has recorded this call already, such as an import of the agent's session: then the event tells more of it.
fn is_told(log: &AuditLog, call: &ToolCall) -> Result<bool> {
    Ok(call.call_id.is_some() && matches!(log.tell(call.clone())?, Told::Added(..)))
}
