//! The facets: what entries are found by. Adding one is one line here and one in [`Body::facets`].

use super::{Body, Content};

macro_rules! fields {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal;)*) => {
        /// A facet of an entry: what it is indexed by.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum Field { $($(#[$doc])* $variant = $number,)* }

        impl Field {
            /// Every facet.
            pub const ALL: &[Field] = &[$(Field::$variant,)*];

            /// The facet's name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Field::$variant => $name,)* }
            }

            /// Its place in [`Field::ALL`].
            pub const fn place(self) -> usize {
                const PLACES: [u8; 1 << 8] = {
                    let mut places = [0; 1 << 8];
                    let mut i = 0;
                    while i < Field::ALL.len() {
                        places[Field::ALL[i] as usize] = i as u8;
                        i += 1;
                    }
                    places
                };
                PLACES[self as usize] as usize
            }

            pub const fn from_u8(n: u8) -> Option<Field> {
                match n { $($number => Some(Field::$variant),)* _ => None }
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
    /// `outcome`; a call that is only begun has `begun`
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
}

impl<S: AsRef<str>> Body<S> {
    /// Every facet of this entry with its value. A value comes once per facet.
    pub fn facets<'a>(&'a self, found: &mut impl FnMut(Field, &'a str)) {
        if let Some(retention) = &self.retention {
            found(Field::Class, retention.class.as_ref());
        }
        self.content.facets(found);
    }
}

impl<S: AsRef<str>> Content<S> {
    /// Every facet but the retention class, with its value.
    pub fn facets<'a>(&'a self, found: &mut impl FnMut(Field, &'a str)) {
        let call = match self {
            Content::Own(own) => return found(Field::Kind, own.kind.as_str()),
            Content::Call(call) => call,
        };
        found(Field::Kind, call.kind().as_str());
        found(Field::Conversation, call.conversation_id.as_ref());
        found(Field::User, call.user_id.as_ref());
        found(Field::Tool, call.tool_name.as_ref());
        for patient in &call.patient_ids {
            found(Field::Patient, patient.as_ref());
        }
        let optional = [
            (Field::Model, &call.model),
            (Field::Purpose, &call.purpose),
            (Field::Agent, &call.agent_id),
            (Field::Server, &call.tool_server),
        ];
        for (field, value) in optional {
            if let Some(value) = value {
                found(field, value.as_ref());
            }
        }
        found(Field::Outcome, call.completion.as_ref().map_or("begun", |c| c.outcome.as_str()));
        if let Some(trigger) = call.trigger {
            found(Field::Trigger, trigger.as_str());
        }
        if call.emergency {
            found(Field::Emergency, "true");
        }
    }
}
