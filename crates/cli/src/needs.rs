//! Where each command runs, and what it needs of whoever sends it to the process that has the store open.
//!
//! One table, without a line for *the others*: a command that is not in it does not compile.

use super::Command;
use super::alerts::AlertsCommand as Alerts;
use super::anchors::AnchorsCommand as Anchors;
use super::break_glass::BreakGlassCommand as BreakGlass;
use super::manage::{ClockCommand as Clock, HoldCommand as Hold, KeysCommand as Keys, PolicyCommand as Policy};
use super::report::ReportCommand as Report;
use attestlog::owner::{Effect, Need};

/// Where a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunsWhere {
    /// In its own process: it has no store, or sees to it itself. `record`, `import` and `mcp` send calls to be recorded, which
    /// needs [`Need::Append`]; `serve` waits until it owns the store.
    Own,
    /// Where the store is open.
    Store(Effect, Need),
}

/// Where this command runs.
pub fn place(command: &Command) -> RunsWhere {
    use Effect::{Changes, Follows, Reads};
    use Need::{Admin, Read};
    let (effect, need) = match command {
        Command::Demo(_)
        | Command::Init(_)
        | Command::Record(_)
        | Command::Import(_)
        | Command::Serve(_)
        | Command::Mcp(_)
        | Command::StartChild(_)
        | Command::Check(_)
        | Command::Restore(_)
        | Command::Redact(_)
        | Command::Keys(Keys::Backup { .. }) => return RunsWhere::Own,
        // A name that is kept as a pseudonym is found only for those who may use the keys; everything else for all.
        Command::Query(_)
        | Command::Timeline(_)
        | Command::Stats(_)
        | Command::Verify(_)
        | Command::Export(_)
        | Command::Report(Report::Access(_) | Report::Disclosures(_))
        | Command::Health(_) => (Reads, Read),
        Command::Tail(_) => (Follows, Read),
        Command::Keys(Keys::Show { .. })
        | Command::Policy(Policy::Show { .. })
        | Command::Hold(Hold::List { .. })
        | Command::Clock(Clock::Show { .. })
        | Command::Anchors(Anchors::Show { .. } | Anchors::Records { .. })
        | Command::Alerts(Alerts::List(_))
        | Command::BreakGlass(BreakGlass::List(_)) => (Reads, Read),
        // What was signed before is shown to whoever reads.
        Command::Prove(args) if args.signs_nothing() => (Reads, Read),
        // They sign.
        Command::Checkpoint(_) | Command::Prove(_) => (Reads, Admin),
        Command::Evidence(_) | Command::Backup(_) => (Changes, Admin),
        // It looks for names by their pseudonyms.
        Command::BreakGlass(BreakGlass::Check(_)) => (Reads, Admin),
        Command::BreakGlass(BreakGlass::Open(_) | BreakGlass::Close(_) | BreakGlass::Review(_)) => (Changes, Admin),
        Command::Alerts(Alerts::Watch(_)) => (Follows, Admin),
        Command::Alerts(Alerts::Ack(_) | Alerts::Settle(_) | Alerts::Forget(_))
        | Command::Anchors(Anchors::Set { .. } | Anchors::Flush { .. } | Anchors::Forget { .. })
        | Command::Keys(Keys::Rotate { .. })
        | Command::Policy(Policy::Set { .. })
        | Command::Hold(Hold::Place(_) | Hold::Release { .. } | Hold::Confirm { .. })
        | Command::Clock(Clock::Confirm { .. })
        | Command::Purge(_)
        | Command::Reveal(_)
        | Command::Erase(_) => (Changes, Admin),
    };
    RunsWhere::Store(effect, need)
}
