//! Alerts
#[cfg(feature = "config")]
mod config;
mod form;
mod hours;
mod rule;
mod window;
pub use form::parse_duration;
pub use hours::{Hours, Zone};
pub use rule::{Measure, Part, Rule, Rules, Severity};
