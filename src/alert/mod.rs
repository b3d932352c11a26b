//! Alerts: rules over what was recorded. They are evaluated once an entry is durable, and delivered until the receiver
//! has taken them.
//!
//! `rules` defines what a rule is. `evaluate` applies rules to entries one by one, with state kept in `window`, `pairs`
//! and `grants`; it does no I/O. `engine` feeds it from the log and writes the alerts that it raises, as `entry` makes them;
//! `tampering` raises those about the log itself. `deliver` notifies receivers (`receivers` reads their configuration), and `background` runs both on threads. `listing` reads
//! alerts back, and `lag` reports how far all of this is behind the log. Only cursors and snapshots of the store are
//! used.

mod background;
mod deliver;
mod engine;
mod entry;
mod evaluate;
mod grants;
mod lag;
mod listing;
mod pairs;
mod people;
#[cfg(feature = "config")]
mod receivers;
mod settlement;
mod source;
mod tampering;
mod window;

pub use crate::rules::{Hours, Measure, Part, Rule, Rules, Severity, Zone, parse_duration};
pub use background::{EngineStatus, RunningEngine};
pub(crate) use deliver::Owed;
#[cfg(feature = "witness")]
pub use deliver::Webhook;
pub use deliver::{Callback, CommandReceiver, Deliver, JsonLines};
pub use engine::{AlertEngine, Run};
pub use lag::{AlertLag, Undelivered, Unreviewed};
pub use listing::{Acknowledgement, Alert, AlertState};
#[cfg(feature = "config")]
pub use receivers::{Receiver, Receivers, To};
pub use settlement::{NotFound, Settlement};
