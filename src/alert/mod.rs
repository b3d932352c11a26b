//! Alerts: rules over what was recorded, evaluated as it becomes durable, delivered until somebody takes them.
//!
//! What a rule is stands in `rules`. `evaluate` lets rules look at entries one by one, with what `window`, `pairs` and `grants` keep between
//! them; it does no I/O. `engine` feeds it from the log and writes what it raises, `deliver` tells receivers (`receivers` reads their
//! configuration), `background` runs both on threads. `listing` reads alerts back, and `lag` says how far all of this is behind the log. Of the
//! store only cursors and snapshots are used.

mod background;
mod deliver;
mod engine;
mod evaluate;
mod grants;
mod lag;
mod listing;
mod pairs;
#[cfg(feature = "config")]
mod receivers;
mod source;
mod window;

pub use crate::rules::{Hours, Measure, Part, Rule, Rules, Severity, Zone, parse_duration};
pub use background::{EngineStatus, RunningEngine};
#[cfg(feature = "witness")]
pub use deliver::Webhook;
pub use deliver::{Callback, CommandReceiver, Deliver, JsonLines};
pub use engine::{AlertEngine, Run};
pub use lag::{AlertLag, Undelivered};
pub use listing::{Acknowledgement, Alert, AlertState};
#[cfg(feature = "config")]
pub use receivers::{Receiver, Receivers, To};
