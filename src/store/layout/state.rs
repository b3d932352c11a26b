//! The store's state: the one row of `meta` that every commit writes.

use crate::chain_state::STORE_FORMAT;
use crate::codec::{self, CodecError};
use crate::retention::ClockState;
use crate::store::layout::segment::Cuts;
use crate::{Error, ErrorKind, Hash, Result};
use serde::{Deserialize, Serialize};

/// The key of the state in `meta`.
pub(crate) const STATE_KEY: &str = "state";

/// The key in `meta` of what each anchor still has to receive.
pub(crate) const ANCHORS_KEY: &str = "anchors";

/// The store's state as of a commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// [`STORE_FORMAT`].
    pub format: u32,
    /// How many entries were recorded: the seq of the next one.
    pub size: u64,
    /// The hash of the newest entry.
    pub head: Hash,
    /// How many entries a segment has.
    pub segment: u32,
    /// Entries below this seq are in segments, the last of which may be a part of one; the rest is in the tail.
    pub sealed: u64,
    /// Whether rows of the next segment are being written. They do not count yet.
    pub sealing: bool,
    /// Index rows at or beyond this seq are not valid yet.
    pub indexed: u64,
    /// The end of the index batch that is being written, if any.
    pub merging: Option<u64>,
    /// The next term id.
    pub next_term: u64,
    /// The greatest `recorded_at` so far, in nanoseconds.
    pub last_recorded_at: i64,
    /// How many entries the newest checkpoint covers.
    pub signed: u64,
    /// The expiry clock.
    #[serde(with = "stored_clock")]
    pub clock: ClockState,
}

/// The expiry clock as it is stored.
mod stored_clock {
    use crate::Timestamp;
    use crate::retention::{ClockState, Frozen};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct StoredClock {
        now: Timestamp,
        wall: Timestamp,
        credited_nanos: u64,
        frozen: Option<StoredFrozen>,
    }

    #[derive(Serialize, Deserialize)]
    enum StoredFrozen {
        Unexplained { wall: Timestamp },
    }

    pub(super) fn serialize<S: Serializer>(clock: &ClockState, out: S) -> Result<S::Ok, S::Error> {
        let &ClockState { now, wall, credited_nanos, frozen } = clock;
        let frozen = frozen.map(|Frozen::Unexplained { wall }| StoredFrozen::Unexplained { wall });
        StoredClock { now, wall, credited_nanos, frozen }.serialize(out)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ClockState, D::Error> {
        let StoredClock { now, wall, credited_nanos, frozen } = StoredClock::deserialize(from)?;
        let frozen = frozen.map(|StoredFrozen::Unexplained { wall }| Frozen::Unexplained { wall });
        Ok(ClockState { now, wall, credited_nanos, frozen })
    }
}

impl State {
    /// The state of an empty store with segments of so many entries and this expiry clock.
    pub(crate) fn empty(segment: u32, clock: ClockState) -> State {
        State {
            format: STORE_FORMAT,
            size: 0,
            head: Hash::ZERO,
            segment,
            sealed: 0,
            sealing: false,
            indexed: 0,
            merging: None,
            next_term: 0,
            last_recorded_at: i64::MIN,
            signed: 0,
            clock,
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<State> {
        // The format number comes first, so that it can be read even from a state of another layout.
        let format = u32::from(bytes.get(1).copied().unwrap_or_default());
        if format > STORE_FORMAT {
            return Err(Error::new(
                ErrorKind::NewerFormat,
                format!("the store has format {format}, this program knows {STORE_FORMAT}: use a newer attestlog"),
            ));
        }
        if format < STORE_FORMAT && bytes.first() == Some(&codec::FORMAT) {
            let message = format!(
                "the store has format {format} of an earlier development version, which this program (format {STORE_FORMAT}) does not read: \
                 export it with the program that wrote it (`attestlog export STORE`), and record into a new store"
            );
            return Err(Error::new(ErrorKind::NewerFormat, message));
        }
        let state: State = codec::decode(bytes).map_err(|e| match e {
            CodecError::Format(_) => Error::new(ErrorKind::NewerFormat, e.to_string()).with_source(e),
            e => e.into(),
        })?;
        Cuts::every(state.segment)?;
        Ok(state)
    }

    /// How the log is cut into segments.
    ///
    /// # Errors
    /// `Damaged` if the state says something impossible.
    pub(crate) fn cuts(&self) -> Result<Cuts> {
        Cuts::every(self.segment)
    }
}
