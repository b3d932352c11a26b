//! System events: everything that happens *to* the log is recorded in the log.

use crate::json::Canonical;
use std::fmt;

/// Something that happened to the store itself, with its details.
#[derive(Debug, Clone, PartialEq)]
pub struct SystemEvent<S: AsRef<str> = String> {
    /// What happened.
    pub kind: Kind,
    /// The details, an object whose members depend on the kind (DESIGN.md lists them).
    pub detail: Canonical<S>,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal;)*) => {
        /// What an entry records. A closed set: a reader that meets an unknown kind is too old for the store.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum Kind { $($(#[$doc])* $variant = $number,)* }

        crate::stored_enum!(Kind { $($variant,)* });

        impl Kind {
            /// Every kind.
            pub const ALL: &[Kind] = &[$(Kind::$variant,)*];

            /// The kind's name in lines and filters.
            pub const fn as_str(self) -> &'static str {
                match self { $(Kind::$variant => $name,)* }
            }
        }
    };
}

kinds! {
    /// A tool was called; the entry includes the outcome.
    ToolCall = 0, "tool_call";
    /// A call was begun; its end is another entry, or is missing.
    CallBegun = 1, "call_begun";
    /// Seq 0: the store's identity, format and first keys.
    Genesis = 2, "genesis";
    /// A retention, redaction or alert policy took effect.
    Policy = 3, "policy";
    /// A legal hold was placed.
    HoldPlaced = 4, "hold_placed";
    /// A legal hold was released.
    HoldReleased = 5, "hold_released";
    /// Expired entries were purged.
    Purge = 6, "purge";
    /// The system clock was set back, jumped, or was confirmed.
    Clock = 7, "clock";
    /// A key was rotated, or the store was opened without its key.
    Key = 8, "key";
    /// A batch of index rows was written.
    IndexBatch = 9, "index_batch";
    /// A copy of the store was made.
    Backup = 10, "backup";
    /// The store was restored from a copy.
    Restore = 11, "restore";
    /// A data subject's sealed values were destroyed.
    Erasure = 12, "erasure";
    /// A sealed value was shown to somebody.
    Reveal = 13, "reveal";
    /// An alert rule fired.
    Alert = 14, "alert";
    /// Somebody acknowledged an alert.
    AlertAck = 15, "alert_ack";
    /// Emergency access was granted.
    BreakGlassOpened = 16, "break_glass_opened";
    /// Emergency access ended.
    BreakGlassClosed = 17, "break_glass_closed";
    /// Somebody else reviewed an emergency access.
    BreakGlassReviewed = 18, "break_glass_reviewed";
    /// Somebody confirmed what is in force after a restore.
    RestoreConfirmed = 19, "restore_confirmed";
    /// Another source told more of a call that is already in the log.
    CallDetail = 20, "call_detail";
}

impl<S: AsRef<str>> SystemEvent<S> {
    /// The same event, owned.
    pub fn to_owned(&self) -> SystemEvent {
        SystemEvent { kind: self.kind, detail: self.detail.to_owned() }
    }
}

crate::named_form!(Kind, "kind");

impl Kind {
    /// Whether this is the entry of a call, rather than a system event.
    pub const fn is_call(self) -> bool {
        matches!(self, Kind::ToolCall | Kind::CallBegun | Kind::CallDetail)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
