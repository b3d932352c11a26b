//! The request trait, and the macro that generates the table of requests.

use crate::Result;
use crate::store::OpenStore;
use crate::text::Justification;
use crate::verify::Progress;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The authority that a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Records calls, as any process of this user may.
    Append,
    /// Reads what anybody can read who has the file but none of its keys.
    Read,
    /// Uses the owner's keys, or makes changes other than recording a call.
    Admin,
}

/// What a request does, which decides whether a handle that only reads may send it, and whether it can be repeated if the owner
/// exits before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Only reads.
    Reads,
    /// Writes, and doing it twice is like doing it once.
    Repeatable,
    /// Records calls under a number: doing it twice is like doing it once.
    Records,
    /// Leaves the store as it is, and writes files elsewhere, which must not exist.
    Exports,
    /// Changes the store.
    Changes,
}

#[cfg(feature = "owner")]
impl Effect {
    /// Whether the next owner can be asked if this one exits before it answers. Otherwise it is unknown whether it was done.
    pub(crate) fn can_be_repeated(self) -> bool {
        matches!(self, Effect::Reads | Effect::Repeatable | Effect::Records)
    }

    /// Whether entries are recorded.
    pub(crate) fn records(self) -> bool {
        matches!(self, Effect::Records | Effect::Changes)
    }

    /// Whether the store is no longer as it was.
    pub(crate) fn writes(self) -> bool {
        self.records() || self == Effect::Repeatable
    }
}

/// One operation on an open store. Requests and answers are sent in their JSON form.
pub(crate) trait Request: Clone + Serialize + DeserializeOwned {
    /// The type of the answer.
    type Answer: Serialize + DeserializeOwned;
    /// The request's name in the table.
    const NAME: &'static str;
    /// What the request does.
    const EFFECT: Effect;

    /// Performs the operation; one that takes long tells `told` how far it is.
    fn answer(self, store: &OpenStore, told: Option<&Progress>) -> Result<Self::Answer>;
}

/// A row of the table: what the owner needs for a request from another process.
#[cfg(feature = "owner")]
pub(crate) struct Row {
    pub name: &'static str,
    /// The authority that the request needs.
    pub need: Need,
    pub effect: Effect,
    /// Parses the request from JSON, performs it, and returns the answer as JSON.
    pub answer: fn(&str, &OpenStore, &Progress) -> Result<String>,
}

/// A [`Justification`] as sent between processes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct By {
    actor: String,
    reason: String,
}

impl By {
    pub(crate) fn told(&self) -> Justification<'_> {
        Justification { actor: &self.actor, reason: &self.reason }
    }
}

impl From<Justification<'_>> for By {
    fn from(by: Justification<'_>) -> By {
        By { actor: by.actor.to_owned(), reason: by.reason.to_owned() }
    }
}

/// Generates a request type from each row (name and members, answer, authority, effect, implementation), and the table.
macro_rules! requests {
    ($($(#[$attribute:meta])* $name:ident { $($member:ident: $type:ty),* } -> $answer:ty: $need:ident $effect:ident, |$of:ident, $store:ident $(, $told:ident)?| $how:expr;)*) => {
        $(
            $(#[$attribute])*
            #[derive(Debug, Clone, Serialize, Deserialize)]
            #[serde(deny_unknown_fields)]
            pub(crate) struct $name {
                $(pub $member: $type),*
            }

            $(#[$attribute])*
            impl Request for $name {
                type Answer = $answer;
                const NAME: &'static str = stringify!($name);
                const EFFECT: Effect = Effect::$effect;

                fn answer(self, $store: &OpenStore, _told: Option<&Progress>) -> Result<$answer> {
                    let $of = self;
                    $(let $told = _told;)?
                    $how
                }
            }
        )*

        /// Every request that another process can send.
        #[cfg(feature = "owner")]
        pub(crate) const ROWS: &[Row] = &[
            $($(#[$attribute])* Row {
                name: stringify!($name),
                need: super::table::Need::$need,
                effect: Effect::$effect,
                answer: |text, store, told| to_text(&from_text::<$name>(text)?.answer(store, Some(told))?),
            }),*
        ];
    };
}
