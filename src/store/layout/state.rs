//! The store's state: the one row of `meta` that every commit writes.

use crate::chain_state::STORE_FORMAT;
use crate::codec;
use crate::retention::ClockState;
use crate::{Hash, Result};
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
    /// Entries below this seq are in blocks, the rest in the tail.
    pub sealed: u64,
    /// The seed of the nonces of the tail's entries; zeros where there is none.
    #[serde(with = "crate::codec::nonce")]
    pub seed: [u8; 16],
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
    /// The state of an empty store with this expiry clock.
    pub(crate) fn empty(clock: ClockState) -> State {
        State {
            format: STORE_FORMAT,
            size: 0,
            head: Hash::ZERO,
            sealed: 0,
            seed: [0; 16],
            indexed: 0,
            merging: None,
            next_term: 0,
            last_recorded_at: i64::MIN,
            signed: 0,
            clock,
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<State> {
        // The format number comes first, so that it can be read even from a state written by a newer program.
        let format = bytes.get(1).copied().unwrap_or_default();
        if u32::from(format) > STORE_FORMAT {
            return Err(crate::Error::new(
                crate::ErrorKind::NewerFormat,
                format!("the store has format {format}, this program knows {STORE_FORMAT}: use a newer attestlog"),
            ));
        }
        Ok(codec::decode(bytes)?)
    }
}
