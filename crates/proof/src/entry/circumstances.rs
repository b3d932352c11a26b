//! What surrounds a call: who told of it, in which trace and agent, who approved it, what it touched. Most calls have none of
//! this, so an entry keeps it in one optional record.

use super::call::named;
use crate::{Hash, Timestamp};
use std::fmt;

/// What surrounds a call. Everything is optional; in the entry's line each member stands beside the others of the call.
///
/// ```
/// use attestlog_proof::entry::{Circumstances, Resource};
/// let mut around: Circumstances = Circumstances::default();
/// assert!(around.is_empty());
/// around.resources.push(Resource { kind: "file".to_owned(), name: "/etc/hosts".to_owned() });
/// assert!(!around.is_empty());
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Circumstances<S: AsRef<str> = String> {
    /// The distributed trace that the call belongs to.
    pub trace_id: Option<S>,
    /// The span of the call in that trace.
    pub span_id: Option<S>,
    /// The host's id of the prompt that led to the call.
    pub prompt_id: Option<S>,
    /// The agent that started the agent in which the model ran.
    pub parent_agent_id: Option<S>,
    /// The provider's id of the call in which that agent was started.
    pub parent_call_id: Option<S>,
    /// Who told of the call, in the order in which they did; empty if a host described it. A caller cannot set this.
    pub sources: Vec<Source<S>>,
    /// Who allowed or refused the call.
    pub approval: Option<Approval<S>>,
    /// Digests of what was in force when the call was made.
    pub digests: Digests,
    /// The process that recorded the call. Only the part that owns the store sets it.
    pub peer: Option<Peer<S>>,
    /// What the call read or changed, sorted and without duplicates.
    pub resources: Vec<Resource<S>>,
    /// In an entry that adds details to a call: the members for which its source tells something else than the log has, sorted.
    pub contradicts: Vec<S>,
    /// In an entry that adds details to a call and does not say how it ended: how long it took, in milliseconds.
    pub duration_ms: Option<f64>,
}

/// One who told of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source<S: AsRef<str> = String> {
    /// What kind of source it is.
    pub kind: SourceKind,
    /// The program that told, such as `claude-code`.
    pub program: Option<S>,
    /// That program's version.
    pub version: Option<S>,
    /// The members that this source gave and the earlier ones had not, sorted.
    pub added: Vec<S>,
}

impl Source {
    /// A source of this kind, of which nothing else is known.
    pub fn new(kind: SourceKind) -> Source {
        Source { kind, program: None, version: None, added: Vec::new() }
    }
}

named! {
    /// How somebody came to tell of a call.
    "source of calls" SourceKind {
        /// A hook that the agent ran.
        Hook = "hook",
        /// The record that the agent keeps of its session.
        Session = "session",
        /// The Model Context Protocol proxy, which saw the call.
        Proxy = "proxy",
        /// Telemetry that the agent sent.
        Telemetry = "telemetry",
        /// A transcript that was read by `import`.
        Import = "import",
    }
}

named! {
    /// What was decided about a call before it was made.
    "decision" Decision {
        /// It was allowed.
        Allowed = "allowed",
        /// It was refused.
        Denied = "denied",
        /// The question was withdrawn before it was answered.
        Cancelled = "cancelled",
    }
}

/// Who allowed or refused a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval<S: AsRef<str> = String> {
    /// What was decided.
    pub decision: Decision,
    /// The person or rule that decided. It is written as the policy writes users.
    pub by: Option<S>,
    /// Where the decision came from: `rule`, `user`, `mode`, `hook`, or another word of the host's.
    pub source: Option<S>,
    /// When the question was asked.
    pub asked_at: Option<Timestamp>,
    /// When it was answered.
    pub answered_at: Option<Timestamp>,
}

impl Approval {
    /// A decision of which nothing else is known.
    pub fn new(decision: Decision) -> Approval {
        Approval { decision, by: None, source: None, asked_at: None, answered_at: None }
    }
}

/// SHA-256 digests of what was in force when a call was made, so that it can be compared with what somebody shows later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digests {
    /// Of the tool's definition.
    pub tool_definition: Option<Hash>,
    /// Of the policy or permission rules of the host.
    pub policy: Option<Hash>,
    /// Of the instructions that the model had.
    pub instructions: Option<Hash>,
}

/// What comes before the hexadecimal digits of a digest.
pub const SHA256: &str = "sha256:";

impl Digests {
    /// Each digest under its name in lines, in the order of the names.
    pub fn named(&self) -> [(&'static str, Option<Hash>); 3] {
        let Digests { tool_definition, policy, instructions } = *self;
        [("instructions", instructions), ("policy", policy), ("tool_definition", tool_definition)]
    }

    /// The digest of this name in lines; `None` if there is none of this name.
    pub fn of_name(&mut self, name: &str) -> Option<&mut Option<Hash>> {
        match name {
            "tool_definition" => Some(&mut self.tool_definition),
            "policy" => Some(&mut self.policy),
            "instructions" => Some(&mut self.instructions),
            _ => None,
        }
    }

    /// Reads a digest in the form that lines have: `sha256:` and 64 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<Hash> {
        text.strip_prefix(SHA256)?.parse().ok()
    }
}

/// The process that recorded a call, as the system tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer<S: AsRef<str> = String> {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The number of the process.
    pub pid: u32,
    /// When it was started.
    pub started: Option<Timestamp>,
    /// The program that it runs.
    pub program: Option<S>,
}

/// Something that a call read or changed. Resources are sorted by name, then by kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resource<S: AsRef<str> = String> {
    /// Its path, name or address.
    pub name: S,
    /// What it is: `file`, `table`, `url`, `record`, or another word of the host's.
    pub kind: S,
}

impl<S: AsRef<str>> Default for Circumstances<S> {
    fn default() -> Circumstances<S> {
        Circumstances {
            trace_id: None,
            span_id: None,
            prompt_id: None,
            parent_agent_id: None,
            parent_call_id: None,
            sources: Vec::new(),
            approval: None,
            digests: Digests::default(),
            peer: None,
            resources: Vec::new(),
            contradicts: Vec::new(),
            duration_ms: None,
        }
    }
}

impl<S: AsRef<str>> Circumstances<S> {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        let Circumstances {
            trace_id,
            span_id,
            prompt_id,
            parent_agent_id,
            parent_call_id,
            sources,
            approval,
            digests,
            peer,
            resources,
            contradicts,
            duration_ms,
        } = self;
        [trace_id, span_id, prompt_id, parent_agent_id, parent_call_id].into_iter().all(Option::is_none)
            && sources.is_empty()
            && approval.is_none()
            && *digests == Digests::default()
            && peer.is_none()
            && resources.is_empty()
            && contradicts.is_empty()
            && duration_ms.is_none()
    }

    /// These circumstances as an entry keeps them: `None` if there are none.
    pub fn kept(self) -> Option<Box<Circumstances<S>>> {
        (!self.is_empty()).then(|| Box::new(self))
    }

    /// The first who told of the call; `None` if a host described it.
    pub fn first_source(&self) -> Option<SourceKind> {
        self.sources.first().map(|source| source.kind)
    }
}
