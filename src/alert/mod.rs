//! Alerts: rules over what was recorded, evaluated as it becomes durable, delivered until somebody takes them.
//!
//! `rule` says what a rule is, `hours` what working hours are, `form` and `config` read and write rules. `evaluate` lets
//! rules look at entries one by one, with what `window`, `pairs` and `grants` keep between them; it does no I/O. `engine`
//! feeds it from the log and writes what it raises, `deliver` tells receivers, `background` runs both on threads. `listing`
//! reads alerts back. Calls go downwards in that order from `background` to `rule`; of the store only marks and snapshots
//! are used.

mod background;
#[cfg(feature = "config")]
mod config;
mod deliver;
mod engine;
mod evaluate;
mod form;
mod grants;
mod hours;
mod lag;
mod listing;
mod pairs;
#[cfg(feature = "config")]
mod receivers;
mod rule;
mod window;

pub use background::{EngineStatus, RunningEngine};
#[cfg(feature = "witness")]
pub use deliver::Webhook;
pub use deliver::{Callback, CommandReceiver, Deliver, JsonLines};
pub use engine::{AlertEngine, Run};
pub use form::parse_duration;
pub use hours::{Hours, Zone};
pub use lag::{AlertLag, Undelivered};
pub use listing::{Acknowledgement, Alert, AlertState};
#[cfg(feature = "config")]
pub use receivers::{Receiver, Receivers, To};
pub use rule::{Measure, Part, Rule, Rules, Severity};
