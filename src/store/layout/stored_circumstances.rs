//! The stored form of what surrounds a call, a part of `stored_entry` and of what one process sends to another; and that of a
//! duration.

use crate::{Hash, Timestamp};
use attestlog_proof::entry::{Approval, Circumstances, Decision, Digests, Peer, Resource, Source, SourceKind};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// [`Circumstances`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredCircumstances<S: AsRef<str>> {
    sources: Vec<StoredSource<S>>,
    trace_id: Option<S>,
    span_id: Option<S>,
    prompt_id: Option<S>,
    parent_agent_id: Option<S>,
    parent_call_id: Option<S>,
    approval: Option<StoredApproval<S>>,
    digests: [Option<Hash>; 3],
    peer: Option<StoredPeer<S>>,
    resources: Vec<StoredResource<S>>,
    contradicts: Vec<S>,
    #[serde(with = "millis")]
    duration_ms: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct StoredSource<S: AsRef<str>> {
    kind: SourceKind,
    program: Option<S>,
    version: Option<S>,
    added: Vec<S>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct StoredApproval<S: AsRef<str>> {
    decision: Decision,
    by: Option<S>,
    source: Option<S>,
    asked_at: Option<Timestamp>,
    answered_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct StoredPeer<S: AsRef<str>> {
    uid: u32,
    gid: u32,
    pid: u32,
    started: Option<Timestamp>,
    program: Option<S>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct StoredResource<S: AsRef<str>> {
    kind: S,
    name: S,
}

/// Decodes circumstances that say something. Those that say nothing are stored as none, so each call has one stored form.
pub(super) fn not_empty<'de, D, S>(from: D) -> Result<Option<Box<StoredCircumstances<S>>>, D::Error>
where
    D: Deserializer<'de>,
    S: AsRef<str> + Deserialize<'de>,
{
    let stored = Option::<Box<StoredCircumstances<S>>>::deserialize(from)?;
    match stored.as_ref().is_some_and(|stored| stored.is_empty()) {
        true => Err(D::Error::custom("circumstances that say nothing")),
        false => Ok(stored),
    }
}

impl<T: AsRef<str>> StoredCircumstances<T> {
    pub(crate) fn of<'a, S: AsRef<str>>(around: &'a Circumstances<S>) -> StoredCircumstances<T>
    where
        T: From<&'a str>,
    {
        let Circumstances {
            trace_id,
            span_id,
            prompt_id,
            parent_agent_id,
            parent_call_id,
            sources,
            approval,
            digests: Digests { tool_definition, policy, instructions },
            peer,
            resources,
            contradicts,
            duration_ms,
        } = around;
        let text = |text: &'a Option<S>| text.as_ref().map(|text| T::from(text.as_ref()));
        let texts = |texts: &'a [S]| texts.iter().map(|text| T::from(text.as_ref())).collect::<Vec<T>>();
        let source = |Source { kind, program, version, added }: &'a Source<S>| StoredSource {
            kind: *kind,
            program: text(program),
            version: text(version),
            added: texts(added),
        };
        let approval =
            approval.as_ref().map(|Approval { decision, by, source, asked_at, answered_at }| StoredApproval {
                decision: *decision,
                by: text(by),
                source: text(source),
                asked_at: *asked_at,
                answered_at: *answered_at,
            });
        let peer = peer.as_ref().map(|Peer { uid, gid, pid, started, program }| StoredPeer {
            uid: *uid,
            gid: *gid,
            pid: *pid,
            started: *started,
            program: text(program),
        });
        let resource = |Resource { name, kind }: &'a Resource<S>| StoredResource {
            kind: T::from(kind.as_ref()),
            name: T::from(name.as_ref()),
        };
        StoredCircumstances {
            sources: sources.iter().map(source).collect(),
            trace_id: text(trace_id),
            span_id: text(span_id),
            prompt_id: text(prompt_id),
            parent_agent_id: text(parent_agent_id),
            parent_call_id: text(parent_call_id),
            approval,
            digests: [*tool_definition, *policy, *instructions],
            peer,
            resources: resources.iter().map(resource).collect(),
            contradicts: texts(contradicts),
            duration_ms: *duration_ms,
        }
    }
}

impl<S: AsRef<str>> StoredCircumstances<S> {
    fn is_empty(&self) -> bool {
        let StoredCircumstances {
            sources,
            trace_id,
            span_id,
            prompt_id,
            parent_agent_id,
            parent_call_id,
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
            && digests.iter().all(Option::is_none)
            && peer.is_none()
            && resources.is_empty()
            && contradicts.is_empty()
            && duration_ms.is_none()
    }

    pub(crate) fn into_circumstances(self) -> Circumstances<S> {
        let StoredCircumstances {
            sources,
            trace_id,
            span_id,
            prompt_id,
            parent_agent_id,
            parent_call_id,
            approval,
            digests: [tool_definition, policy, instructions],
            peer,
            resources,
            contradicts,
            duration_ms,
        } = self;
        let source = |StoredSource { kind, program, version, added }| Source { kind, program, version, added };
        let approval = approval.map(|StoredApproval { decision, by, source, asked_at, answered_at }| Approval {
            decision,
            by,
            source,
            asked_at,
            answered_at,
        });
        let peer = peer.map(|StoredPeer { uid, gid, pid, started, program }| Peer { uid, gid, pid, started, program });
        let resource = |StoredResource { kind, name }| Resource { name, kind };
        Circumstances {
            trace_id,
            span_id,
            prompt_id,
            parent_agent_id,
            parent_call_id,
            sources: sources.into_iter().map(source).collect(),
            approval,
            digests: Digests { tool_definition, policy, instructions },
            peer,
            resources: resources.into_iter().map(resource).collect(),
            contradicts,
            duration_ms,
        }
    }
}

/// Most durations are whole nanoseconds and are stored as `2 * (nanos + 1)`. Any other is stored as `2 * bits + 1`, where
/// `bits` are those of the double; none is stored as 0.
pub(super) mod millis {
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Below this, every number of nanoseconds can be recovered from its milliseconds.
    const MOST: u64 = 1 << 50;

    fn of_nanos(nanos: u64) -> f64 {
        nanos as f64 / 1e6
    }

    fn to_nanos(ms: f64) -> Option<u64> {
        let nanos = (ms * 1e6).round() as u64;
        (nanos < MOST && of_nanos(nanos) == ms).then_some(nanos)
    }

    pub(crate) fn serialize<S: Serializer>(ms: &Option<f64>, out: S) -> Result<S::Ok, S::Error> {
        let stored = match ms.map(|ms| to_nanos(ms).ok_or(ms)) {
            None => 0,
            Some(Ok(nanos)) => (nanos + 1) << 1,
            Some(Err(ms)) if ms.is_finite() && ms > 0.0 => ms.to_bits() << 1 | 1,
            Some(Err(_)) => return Err(S::Error::custom("a duration is not negative")),
        };
        out.serialize_u64(stored)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
        let stored = u64::deserialize(from)?;
        let (ms, nanos) = match (stored & 1, (stored >> 1).checked_sub(1)) {
            (0, None) => return Ok(None),
            (0, Some(nanos)) => (of_nanos(nanos), Some(nanos)),
            _ => (f64::from_bits(stored >> 1), None),
        };
        // Each duration has exactly one encoding.
        let is_one = ms.is_finite() && to_nanos(ms) == nanos;
        if is_one { Ok(Some(ms)) } else { Err(D::Error::custom("a duration in another form")) }
    }
}
