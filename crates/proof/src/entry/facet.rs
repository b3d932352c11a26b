//! The facets that entries are indexed by. Adding one takes a line here, one in [`Content::facets`] and one in `names::domain`.

use super::{Body, Call, Circumstances, Content, Peer, Phase};
use std::fmt;

macro_rules! fields {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal;)*) => {
        /// A facet of an entry: a property that it is indexed by.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum Facet { $($(#[$doc])* $variant = $number,)* }

        impl Facet {
            /// Every facet.
            pub const ALL: &[Facet] = &[$(Facet::$variant,)*];

            /// The facet's name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Facet::$variant => $name,)* }
            }

            /// Its index in [`Facet::ALL`].
            pub const fn place(self) -> usize {
                const PLACES: [u8; 1 << 8] = {
                    let mut places = [0; 1 << 8];
                    let mut i = 0;
                    while i < Facet::ALL.len() {
                        places[Facet::ALL[i] as usize] = i as u8;
                        i += 1;
                    }
                    places
                };
                PLACES[self as usize] as usize
            }

            /// The facet with this number in the store's index; `None` if there is none.
            pub const fn from_u8(n: u8) -> Option<Facet> {
                match n { $($number => Some(Facet::$variant),)* _ => None }
            }
        }
    };
}

fields! {
    /// `conversation_id`
    Conversation = 1, "conversation";
    /// `user_id`
    User = 2, "user";
    /// `tool_name`
    Tool = 3, "tool";
    /// Each of `patient_ids`
    Patient = 4, "patient";
    /// `model`
    Model = 5, "model";
    /// `outcome`; `begun` for a call that has only begun
    Outcome = 6, "outcome";
    /// `call_trigger`
    Trigger = 7, "trigger";
    /// `purpose`
    Purpose = 8, "purpose";
    /// `emergency`: only `true` is indexed
    Emergency = 9, "emergency";
    /// `kind`
    Kind = 10, "kind";
    /// `retention_class`
    Class = 11, "class";
    /// `agent_id`
    Agent = 12, "agent";
    /// `tool_server`
    Server = 13, "server";
    /// The name of each of `resources`
    Resource = 14, "resource";
    /// `trace_id`
    Trace = 15, "trace";
    // 16 is reserved for `call_id`, which is not indexed: DESIGN.md says what that would cost.
    /// `peer.program`
    Peer = 17, "peer";
}

impl fmt::Display for Facet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

crate::named_form!(serde Facet, "facet");

impl<S: AsRef<str>> Body<S> {
    /// Calls `found` with every facet of this entry and its value. A value comes once per facet.
    pub fn facets<'a>(&'a self, found: &mut impl FnMut(Facet, &'a str)) {
        if let Some(retention) = &self.retention {
            found(Facet::Class, retention.class.as_ref());
        }
        self.content.facets(found);
    }
}

impl<S: AsRef<str>> Content<S> {
    /// Calls `found` with every facet but the retention class, and its value.
    pub fn facets<'a>(&'a self, found: &mut impl FnMut(Facet, &'a str)) {
        let call = match self {
            Content::System(own) => return found(Facet::Kind, own.kind.as_str()),
            Content::Call(call) => call,
        };
        // Without `..`: a member that is added is a facet, or entries are not found by it.
        let Call {
            trigger,
            completion,
            conversation_id,
            user_id,
            patient_ids,
            model,
            agent_id,
            tool_server,
            tool_name,
            purpose,
            emergency,
            circumstances,
            phase,
            // No facets.
            policy_seq: _,
            follows: _,
            grant: _,
            backfilled: _,
            late_answer: _,
            timestamp: _,
            turn_number: _,
            session_metadata: _,
            arguments: _,
            call_id: _,
            treated: _,
            restated: _,
            sender: _,
            given: _,
        } = &**call;
        found(Facet::Kind, call.kind().as_str());
        found(Facet::Conversation, conversation_id.as_ref());
        found(Facet::User, user_id.as_ref());
        found(Facet::Tool, tool_name.as_ref());
        for patient in patient_ids {
            found(Facet::Patient, patient.as_ref());
        }
        let optional =
            [(Facet::Model, model), (Facet::Purpose, purpose), (Facet::Agent, agent_id), (Facet::Server, tool_server)];
        for (field, value) in optional {
            if let Some(value) = value {
                found(field, value.as_ref());
            }
        }
        if let Some(around) = circumstances {
            around.facets(found);
        }
        match (completion, phase) {
            (Some(ended), _) => found(Facet::Outcome, ended.outcome.as_str()),
            // Details need not say how the call ended.
            (None, Phase::Detail(_)) => {}
            (None, _) => found(Facet::Outcome, "begun"),
        }
        if let Some(trigger) = trigger {
            found(Facet::Trigger, trigger.as_str());
        }
        if *emergency {
            found(Facet::Emergency, "true");
        }
    }
}

impl<S: AsRef<str>> Circumstances<S> {
    fn facets<'a>(&'a self, found: &mut impl FnMut(Facet, &'a str)) {
        // Without `..`, as above.
        let Circumstances {
            trace_id,
            resources,
            peer,
            // No facets.
            span_id: _,
            prompt_id: _,
            parent_agent_id: _,
            parent_call_id: _,
            sources: _,
            approval: _,
            digests: _,
            contradicts: _,
            duration_ms: _,
        } = self;
        // Of one name there may be resources of several kinds, next to each other.
        let mut before = None;
        for resource in resources {
            let name = resource.name.as_ref();
            if before.replace(name) != Some(name) {
                found(Facet::Resource, name);
            }
        }
        if let Some(trace) = trace_id {
            found(Facet::Trace, trace.as_ref());
        }
        if let Some(Peer { program: Some(program), .. }) = peer {
            found(Facet::Peer, program.as_ref());
        }
    }
}
