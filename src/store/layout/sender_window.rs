//! The row of a sender: its newest numbers and the seqs that they were recorded at.

use crate::{Error, Result, codec};
use serde::Serialize;
use std::collections::BTreeMap;

/// How many of a sender's newest numbers are remembered: more than it can have in flight at once.
pub(crate) const REMEMBERED: usize = 64;

/// The newest numbers of one sender and the seqs that they were recorded at.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Window {
    pub(crate) recorded: BTreeMap<u64, u64>,
    /// A MAC over the numbers, present only if one of their entries was purged: entries that remain name their sender
    /// themselves.
    pub(crate) mac: Vec<u8>,
}

/// Whether a number was recorded before.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    New,
    /// Recorded at this seq.
    At(u64),
    /// Older than the oldest remembered number.
    Forgotten,
}

impl Window {
    pub(crate) fn look(&self, number: u64) -> Seen {
        match (self.recorded.get(&number), self.recorded.first_key_value()) {
            (Some(&seq), _) => Seen::At(seq),
            (None, Some((&oldest, _))) if number < oldest && self.recorded.len() >= REMEMBERED => Seen::Forgotten,
            (None, _) => Seen::New,
        }
    }

    pub(crate) fn add(&mut self, number: u64, seq: u64) {
        self.recorded.insert(number, seq);
        while self.recorded.len() > REMEMBERED {
            self.recorded.pop_first();
        }
    }

    /// The oldest and the newest remembered number, each with its seq; zeros if there is none.
    pub(crate) fn ends(&self) -> ((u64, u64), (u64, u64)) {
        let row = |row: Option<(&u64, &u64)>| row.map_or((0, 0), |(number, seq)| (*number, *seq));
        (row(self.recorded.first_key_value()), row(self.recorded.last_key_value()))
    }

    /// The remembered numbers and their seqs.
    pub(crate) fn seqs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.recorded.iter().map(|(&number, &seq)| (number, seq))
    }

    /// Whether the row carries a MAC.
    pub(crate) fn has_mac(&self) -> bool {
        !self.mac.is_empty()
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        Ok(codec::encode(self)?)
    }

    /// Decodes a row. The numbers must rise, so that a window has only one encoding.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Window> {
        let (rows, mac): (Vec<(u64, u64)>, Vec<u8>) = codec::decode(bytes)?;
        if !matches!(mac.len(), 0 | 16) {
            return Err(Error::damaged("the MAC of a sender has another length"));
        }
        if !rows.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(Error::damaged("the numbers of a sender are not in order"));
        }
        Ok(Window { recorded: rows.into_iter().collect(), mac })
    }

    /// Forgets the numbers for which `keep` returns false.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(u64, u64) -> Result<bool>) -> Result<()> {
        let mut gone = Vec::new();
        for (number, seq) in self.seqs() {
            if !keep(number, seq)? {
                gone.push(number);
            }
        }
        gone.iter().for_each(|number| _ = self.recorded.remove(number));
        Ok(())
    }
}
