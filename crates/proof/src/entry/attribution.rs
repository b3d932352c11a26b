//! The question that the log exists to answer: who did it?

use super::{Call, Trigger};
use std::fmt;

/// The chain of attribution of one call: who started it, in which role → which model, in which agent → which tool,
/// by which trigger. Prints as one line for people.
///
/// ```
/// # use attestlog::{AuditLog, ToolCall, Trigger};
/// # let log = AuditLog::in_memory()?;
/// let call = ToolCall::new("conv_1", "dr_smith", "read_chart")
///     .role("physician").model("gpt-4.1").trigger(Trigger::UserRequest);
/// let receipt = log.record(call)?;
/// let who = log.entry(receipt.seq)?.call().unwrap().attribution();
/// assert_eq!(who.to_string(), "dr_smith (physician) → gpt-4.1 → read_chart, at the user's request");
/// # Ok::<(), attestlog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attribution {
    /// Who started it.
    pub user: String,
    /// In which role.
    pub role: Option<String>,
    /// Which agent ran the model.
    pub agent: Option<String>,
    /// Which model decided.
    pub model: Option<String>,
    /// Which tool was called.
    pub tool: String,
    /// Which server offers it.
    pub server: Option<String>,
    /// What triggered it.
    pub trigger: Option<Trigger>,
    /// The seq of the call that a retry or follow-up refers to.
    pub follows: Option<u64>,
    /// Whether an emergency override was claimed.
    pub emergency: bool,
}

impl Attribution {
    pub(super) fn of(call: &Call) -> Attribution {
        Attribution {
            user: call.user_id.clone(),
            role: call.user_role(),
            agent: call.agent_id.clone(),
            model: call.model.clone(),
            tool: call.tool_name.clone(),
            server: call.tool_server.clone(),
            trigger: call.trigger,
            follows: call.follows,
            emergency: call.emergency,
        }
    }
}

impl fmt::Display for Attribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Shown(&self.user))?;
        if let Some(role) = &self.role {
            write!(f, " ({})", Shown(role))?;
        }
        match (&self.model, &self.agent) {
            (Some(model), Some(agent)) => write!(f, " → {} in {}", Shown(model), Shown(agent))?,
            (Some(who), None) | (None, Some(who)) => write!(f, " → {}", Shown(who))?,
            (None, None) => {}
        }
        write!(f, " → {}", Shown(&self.tool))?;
        if let Some(server) = &self.server {
            write!(f, " on {}", Shown(server))?;
        }
        match (self.trigger, self.follows) {
            (Some(Trigger::UserRequest), _) => f.write_str(", at the user's request")?,
            (Some(Trigger::Proactive), _) => f.write_str(", of the agent's own accord")?,
            (Some(Trigger::System), _) => f.write_str(", by a rule of the system")?,
            (Some(Trigger::Retry), Some(seq)) => write!(f, ", retrying {seq}")?,
            (Some(Trigger::Retry), None) => f.write_str(", retrying")?,
            (Some(Trigger::FollowUp), Some(seq)) => write!(f, ", following up {seq}")?,
            (Some(Trigger::FollowUp), None) => f.write_str(", following up")?,
            (None, _) => {}
        }
        if self.emergency {
            f.write_str(", in an emergency")?;
        }
        Ok(())
    }
}

/// A caller's text within one line for people: control characters are escaped, never sent to the terminal.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                c if c.is_control() => write!(f, "{}", c.escape_default())?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}
