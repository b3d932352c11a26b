//! Tasks that calls have become: what a server says about them apart from their result.
//!
//! Invariant R57: a call whose end was reported to the host has that end in the log, however it was reported; what is
//! said about it after its end is a follow-up entry.

use super::answering::Answered;
use super::{Observer, Pending};
use crate::mcp::reply::{self, Reply};
use attestlog::json::{Json, Object};

/// The notifications with a task's status: since 2025, and since 2026.
const TOLD: &[&str] = &["notifications/tasks/status", "notifications/tasks"];

impl Observer {
    /// Handles a notification of the server.
    pub(super) fn notified(&self, message: &Json, answered: &mut Answered) {
        let params = message.get("params");
        match (message.get("method").and_then(Json::as_str), params) {
            (Some("notifications/progress"), Some(params)) => self.progressed(params),
            (Some(method), Some(task)) if TOLD.contains(&method) => self.told(task, Json::Null, answered),
            _ => {}
        }
    }

    /// Handles a task's status that the server reports unasked or in a list; `reply_to` is the id of the request that
    /// waits for the frame.
    pub(super) fn told(&self, task: &Json, reply_to: Json, answered: &mut Answered) {
        let Some(id) = task.get("taskId").filter(|id| **id != Json::Null) else { return };
        let message = Json::from(Object::from_iter([("result", task.clone())]));
        let mut state = self.state();
        let is = |p: &Pending| p.task.as_ref() == Some(id);
        if let Some(at) = state.pending.iter().position(is) {
            if let (Reply::Task(_), Some(pending)) = (reply::read(&message, true), state.pending.get_mut(at)) {
                pending.heard = self.clock.monotonic();
                pending.status = reply::status(&message).or(pending.status);
                return;
            }
            let mut pending = state.pending.remove(at);
            pending.reply_to = Some(reply_to);
            self.ends(state, pending, &message, (0, Vec::new(), Vec::new()), answered);
        } else if let Some(at) = state.given_up.iter().rposition(is)
            && let Some(mut pending) = state.given_up.remove(at)
        {
            pending.reply_to = Some(reply_to);
            self.comes_late(state, pending, &message, (0, Vec::new(), Vec::new()), answered);
        }
    }

    /// Handles every task in a list.
    pub(super) fn listed(&self, result: &Json, reply_to: &Json, answered: &mut Answered) {
        for task in result.get("tasks").and_then(Json::as_array).unwrap_or_default() {
            self.told(task, reply_to.clone(), answered);
        }
    }

    /// Takes a progress notification as a sign that the server is still working on the call.
    fn progressed(&self, params: &Json) {
        let token = params.get("progressToken");
        let now = self.clock.monotonic();
        let of = |p: &&mut Pending| {
            token.zip(p.progress.as_ref()).is_some_and(|(token, own)| super::answering::same_id(own, token))
        };
        self.state().pending.iter_mut().filter(of).for_each(|p| p.heard = now);
    }

    /// Remembers a request of the server, because the host's answer to it is recorded.
    pub(super) fn asked_by_server(&self, message: &Json) {
        let method = message.get("method").and_then(Json::as_str).unwrap_or_default();
        let params = message.get("params").map(|params| super::shortened_only(params, "asked"));
        let mut state = self.state();
        if state.asked.len() >= super::MOST_ASKED {
            state.asked.pop_front();
        }
        let ids = crate::mcp::readings::ids(message).take(20).cloned().collect();
        state.asked.push_back((Json::Array(ids), reply::short(method), params));
    }
}

impl Pending {
    /// Whether a reply adds nothing about a call whose end is in the log, so that another reply is still awaited.
    pub(super) fn is_no_news(&self, reply: &Reply<'_>, status: Option<&'static str>, asked_for: Option<bool>) -> bool {
        let known = status.is_some() && self.status == status;
        match reply {
            Reply::Task(_) => status != Some("completed") || known,
            Reply::Cancelled => true,
            Reply::Failed(_) => known,
            // The error concerns the request, not the task.
            Reply::Error(_) if status.is_none() => asked_for == Some(false),
            Reply::Error(_) | Reply::Result(_) => known && asked_for != Some(true),
            _ => false,
        }
    }
}
