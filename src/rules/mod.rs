//! The rules of alerts: `rule` defines them, `hours` working hours, `form` and `config` read and write them. Rules are
//! part of the policies; `alert` applies them to entries.

#[cfg(feature = "config")]
mod config;
mod form;
mod hours;
mod rule;

pub use form::parse_duration;
pub(crate) use form::span;
pub use hours::{Hours, Zone};
pub(crate) use rule::pattern;
pub use rule::{Measure, Part, Rule, Rules, Severity};
