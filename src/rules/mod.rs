//! The rules of alerts: `rule` says what one is, `hours` what working hours are; `form` reads and writes rules as JSON, `config` reads them as
//! TOML. They stand in the policies. What evaluates them is `alert`.

#[cfg(feature = "config")]
mod config;
mod form;
mod hours;
mod rule;

pub use form::parse_duration;
pub(crate) use form::span;
pub use hours::{Hours, Zone};
pub use rule::{Measure, Part, Rule, Rules, Severity};
