//! Giving up calls that nobody will finish: those of a turn, a session or an agent that is over.

use super::known::{program_of, session_of};
use crate::entry::ToolCall;
use crate::json::Json;
use crate::store::guarded;
use crate::store::log::OpenStore;
use crate::store::read::snapshot::Snapshot;
use crate::{Error, ErrorKind, Outcome, Result, Timestamp};
use attestlog_proof::entry::{Facet, Phase, SourceKind};
use serde::{Deserialize, Serialize};

/// How many calls are abandoned at a time, and how many of them in one batch.
const MOST: usize = 10_000;
const TOGETHER: usize = 1_000;

/// Unfinished calls that nobody will finish any more.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Abandoned {
    /// Only calls of this conversation.
    pub conversation: Option<String>,
    /// Only calls of this user.
    pub user: Option<String>,
    /// Only calls of this agent; `Some(None)`: only calls without an agent.
    pub agent: Option<Option<String>>,
    /// Only calls of which this kind of source told first.
    pub source: Option<SourceKind>,
    /// Only calls of which this program told first.
    pub program: Option<String>,
    /// Only calls whose `session_metadata.session_id` is this.
    pub session: Option<String>,
    /// Only calls that were begun before this time.
    pub begun_before: Option<Timestamp>,
    /// Why nobody finishes them, for their entries.
    pub reason: String,
}

/// [`Abandoned`] as it is sent between processes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SentAbandoned {
    conversation: Option<String>,
    user: Option<String>,
    /// A list, because JSON's `null` alone does not tell no agent from any.
    agent: Option<[Option<String>; 1]>,
    source: Option<SourceKind>,
    program: Option<String>,
    session: Option<String>,
    begun_before: Option<Timestamp>,
    reason: String,
}

impl From<Abandoned> for SentAbandoned {
    fn from(which: Abandoned) -> SentAbandoned {
        let Abandoned { conversation, user, agent, source, program, session, begun_before, reason } = which;
        let agent = agent.map(|agent| [agent]);
        SentAbandoned { conversation, user, agent, source, program, session, begun_before, reason }
    }
}

impl From<SentAbandoned> for Abandoned {
    fn from(sent: SentAbandoned) -> Abandoned {
        let SentAbandoned { conversation, user, agent, source, program, session, begun_before, reason } = sent;
        let agent = agent.map(|[agent]| agent);
        Abandoned { conversation, user, agent, source, program, session, begun_before, reason }
    }
}

impl OpenStore {
    /// Ends these unfinished calls as [abandoned](Outcome::Abandoned), or if another source has told how one ended, as it says; returns
    /// how many. Left as they are: calls whose names
    /// are hidden, if `which` does not name them.
    pub(crate) fn abandon(&self, which: &Abandoned) -> Result<u64> {
        let _alone = self.alone();
        let snapshot = self.engine().snapshot_of_entries()?;
        let unfinished = guarded(|| snapshot.unfinished())?;
        let mut ends = Vec::new();
        for seq in unfinished {
            ends.extend(guarded(|| self.abandoned(&snapshot, seq, which))?.map(|end| (end, Phase::Finished(seq))));
            if ends.len() == MOST {
                break;
            }
        }
        let mut count = 0;
        for together in ends.chunks(TOGETHER) {
            count += self.end_together(together)?;
        }
        Ok(count)
    }

    /// Ends these calls in one batch, or if that cannot be, each that can be ended; returns how many.
    fn end_together(&self, ends: &[(ToolCall, Phase)]) -> Result<u64> {
        let may_stand_alone =
            |e: &Error| matches!(e.kind(), ErrorKind::Conflict | ErrorKind::InvalidInput | ErrorKind::TooLarge);
        match self.record_phases(ends.to_vec(), false, None) {
            Ok(receipts) => Ok(receipts.len() as u64),
            // One has ended meanwhile, or its names are not those that it seems to have.
            Err(e) if may_stand_alone(&e) && ends.len() > 1 => {
                ends.iter().map(|end| self.end_together(std::slice::from_ref(end))).sum()
            }
            Err(e) if matches!(e.kind(), ErrorKind::Conflict | ErrorKind::InvalidInput) => Ok(0),
            Err(e) => Err(e),
        }
    }

    /// The end of the call that was begun at `seq`, if it is one of these.
    fn abandoned(&self, snapshot: &Snapshot, seq: u64, which: &Abandoned) -> Result<Option<ToolCall>> {
        let Some(entry) = snapshot.checked(seq)? else { return Ok(None) };
        let Some(begun) = entry.call().filter(|call| call.phase == Phase::Begun) else { return Ok(None) };
        let policies = self.engine().policies();
        let is = |facet, asked: &Option<String>, name: &str| match asked {
            None => true,
            Some(asked) => policies.terms(facet, asked).iter().any(|term| term == name),
        };
        let wanted = is(Facet::Conversation, &which.conversation, &begun.conversation_id)
            && is(Facet::User, &which.user, &begun.user_id)
            && which.agent.as_ref().is_none_or(|agent| *agent == begun.agent_id)
            && which.source.is_none_or(|source| begun.first_source() == Some(source))
            && which.program.as_ref().is_none_or(|program| program_of(begun) == Some(&**program))
            && which.session.as_ref().is_none_or(|session| session_of(begun).as_ref() == Some(session))
            && which.begun_before.is_none_or(|before| entry.body.recorded_at < before);
        if !wanted {
            return Ok(None);
        }
        let mut end = ToolCall::new(
            which.conversation.as_ref().unwrap_or(&begun.conversation_id),
            which.user.as_ref().unwrap_or(&begun.user_id),
            &*begun.tool_name,
        )
        .outcome(Outcome::Abandoned);
        (end.call_id, end.agent_id) = (begun.call_id.clone(), begun.agent_id.clone());
        (end.model, end.tool_server) = (begun.model.clone(), begun.tool_server.clone());
        end.turn_number = begun.turn_number;
        if let Some(around) = &begun.circumstances {
            end.circumstances.sources = around.sources.clone();
        }
        if let Some((outcome, told_at)) = self.told_end(begun, seq)? {
            end = end.outcome(outcome).metadata("ended_as_told_at", told_at);
        }
        // What the policy has treated is not treated again.
        if begun.treated.is_none() {
            end.arguments = begun.arguments.as_ref().map(|text| text.to_json());
            end.circumstances.prompt_id = begun.circumstances.as_ref().and_then(|around| around.prompt_id.clone());
        }
        Ok(Some(end.metadata("abandoned_because", Json::from(which.reason.as_str()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Query;
    use attestlog_proof::entry::Kind;

    fn call(id: Option<&str>) -> ToolCall {
        let mut call = ToolCall::new("c", "u", "t").arguments(Json::from("a"));
        call.call_id = id.map(str::to_owned);
        call
    }

    fn begin(log: &OpenStore, call: ToolCall) -> Result<()> {
        log.record_phases([(call, Phase::Begun)], false, None).map(drop)
    }

    #[test]
    fn what_nobody_finishes_is_abandoned_and_nothing_else() -> Result<()> {
        let log = OpenStore::in_memory()?;
        begin(&log, call(Some("1")))?;
        begin(&log, call(None).agent("sub"))?;
        let mut other = call(Some("1"));
        other.conversation_id = "d".to_owned();
        begin(&log, other)?;
        let mut which =
            Abandoned { conversation: Some("c".to_owned()), reason: "over".to_owned(), ..Abandoned::default() };
        which.agent = Some(Some("sub".to_owned()));
        assert_eq!(log.abandon(&which)?, 1);
        which.agent = Some(None);
        assert_eq!(log.abandon(&which)?, 1);
        which.agent = None;
        assert_eq!(log.abandon(&which)?, 0);
        assert_eq!(log.count(&Query::new().unfinished())?, 1);
        let ended = log.query(&Query::new().conversation("c").kind(Kind::ToolCall))?;
        for entry in ended {
            let entry = entry?;
            assert_eq!(entry.call().unwrap().completion.as_ref().unwrap().outcome, Outcome::Abandoned);
            assert!(entry.line().contains(r#""abandoned_because":"over""#), "{}", entry.line());
        }
        Ok(())
    }
}
