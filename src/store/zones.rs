//! Zones: between which times the entries of a range of seqs lie. Entries arrive almost in time order, so a few zones
//! tell where in the log a time range is.

use std::collections::BTreeMap;

/// Entries per zone of each level, as a power of two.
pub(crate) const LEVELS: [u32; 3] = [8, 14, 20];

/// The zones of the entries from `from` on with these timestamps.
pub(crate) fn of(from: u64, times: &[i64]) -> BTreeMap<(u8, u64), (i64, i64)> {
    let mut zones = BTreeMap::new();
    for (seq, &time) in (from..).zip(times) {
        for (level, bits) in LEVELS.iter().enumerate() {
            let zone = zones.entry((level as u8, seq >> bits)).or_insert((time, time));
            *zone = (zone.0.min(time), zone.1.max(time));
        }
    }
    zones
}
