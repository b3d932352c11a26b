//! Frames of the server that cannot be read, while some host may find a reply in them.

use super::answering::Answered;
use super::{Observer, Pending};
use crate::mcp::frame;
use crate::mcp::ids;
use crate::mcp::readings::{Readings, is_request, shows};
use crate::mcp::reply;
use attestlog::json::Json;
use attestlog::{Outcome, ToolCall};

const WHY: &str =
    "the reply cannot be read here: it is no JSON that all read alike, is nested too deeply, or is too long";

/// Why a host does not get a frame.
const WITHHELD: &str = "the server's reply cannot be read";

impl Observer {
    /// Handles an unreadable frame. If a host may find the reply to a call in it, by its id, the call ends, with the
    /// patients that any reader finds. If it cannot be said what a host would find, the host does not get the frame.
    pub(super) fn unread(&self, bytes: &[u8]) -> Answered {
        let mut answered = Answered { doubtful: true, ..Answered::default() };
        let mut state = self.state();
        state.odd += 1;
        let is_piece = bytes.len() > frame::MAX_FRAME;
        let messages = frame::readings(bytes);
        let is_read = messages.is_some();
        let mut messages = messages.unwrap_or_default();
        if frame::hides(bytes) {
            messages.extend(lines(bytes).filter_map(frame::readings).flatten());
        }
        let mut meant = Readings::default();
        messages.retain(|message| !is_request(message));
        messages.iter().for_each(|message| meant.add_all(message));
        if !is_read && !is_piece {
            let ids = ids::all(bytes);
            let mut anywhere = Readings::default();
            for (id, is_outermost) in ids.iter().flatten() {
                anywhere.add(id);
                if *is_outermost {
                    meant.add(id);
                }
            }
            // With too many ids, it may be to any.
            let mut waiting = state.pending.iter().chain(&state.given_up);
            if waiting.any(|p| ids.is_none() || p.may_be_meant(&anywhere)) {
                answered.withheld = Some(WITHHELD);
            }
        }
        let taken: Vec<(Pending, bool)> = match is_piece {
            // What follows the first piece is not looked at, and the reply may be to any call.
            true => state.pending.drain(..).map(|pending| (pending, false)).collect(),
            false => state.taken(&meant),
        };
        drop(state);
        // A part of a message that is written over several lines, or one in a dialect of JSON: a host that reads more than this does
        // could find a reply in it, and no entry would have that.
        if taken.is_empty() && !is_piece && bytes.iter().any(|byte| matches!(byte, b'{' | b'[')) {
            answered.withheld = Some(WITHHELD);
        }
        for (mut pending, is_late) in taken {
            pending.unsure = Some(Box::new(pending.call.clone()));
            pending.notes.insert("odd_reply", "it cannot be read");
            let end = pending.end.filter(|_| is_late);
            if let (Some(_), Some(begun)) = (end, pending.begun) {
                pending.begun = None;
                pending.notes.insert("begun_seq", begun);
            }
            let mut call = self.finished(&mut pending);
            if let Some(end) = end {
                call = call.follow_up_of(end);
                call.late_answer = !pending.succeeded;
            }
            pending.call = self.unreadable(call, &pending, (&messages, bytes.len()));
            answered.ended.push(pending);
        }
        answered
    }

    /// The call with an unreadable reply, and the patients of the messages that may be it.
    fn unreadable(&self, call: ToolCall, pending: &Pending, (messages, size): (&[Json], usize)) -> ToolCall {
        let own = messages.iter().filter(|message| pending.may_be_meant(&Readings::of(message)));
        let seen: Vec<&Json> = own.flat_map(reply::shown).collect();
        let (call, _) = self.concerning(call, &seen, size);
        call.typed_error("unreadable_reply", WHY).outcome(Outcome::ProtocolError)
    }
}

/// Whether a reader that takes a carriage return for a line break may find a reply in a part of this frame.
pub(super) fn hides_a_reply(bytes: &[u8]) -> bool {
    frame::hides(bytes) && lines(bytes).filter_map(frame::readings).flatten().any(|message| shows(&message))
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.trim_ascii().split(|b| *b == b'\r')
}
