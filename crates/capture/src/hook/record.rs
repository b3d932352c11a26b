//! Recording what events say.

use super::{Event, Step};
use attestlog::{AuditLog, Result};

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
            // The process of another event ends it.
            Step::Begin(call) => u64::from(log.begin_once(*call)?.is_some()),
            Step::End(call, unmatched) => u64::from(log.end_oldest(*call, unmatched)?.is_some()),
            Step::Settle(calls) => log.settle(calls)?,
            Step::Abandon(which) => log.abandon(&which)?,
        };
    }
    Ok(recorded)
}
