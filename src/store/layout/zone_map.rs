//! Zones: the earliest and latest time of the entries in a range of seqs. Entries arrive almost in time order, so a few zones
//! locate a time range in the log.

use std::collections::BTreeMap;

/// Entries per zone of each level, as a power of two.
pub(crate) const LEVELS: [u32; 3] = [8, 14, 20];

/// Earliest and latest time of each zone, by level and index.
pub(crate) type Zones = BTreeMap<(u8, u64), (i64, i64)>;

/// The zones of consecutive entries with these timestamps, starting at seq `from`.
pub(crate) fn of(from: u64, times: &[i64]) -> Zones {
    of_those((from..).zip(times.iter().copied()))
}

/// The zones of entries with rising seqs and these timestamps.
pub(crate) fn of_those(entries: impl Iterator<Item = (u64, i64)>) -> Zones {
    let mut zones = Zones::new();
    let mut lowest: Option<(u64, (i64, i64))> = None;
    for (seq, time) in entries {
        let index = seq >> LEVELS[0];
        match &mut lowest {
            Some((at, (low, high))) if *at == index => (*low, *high) = ((*low).min(time), (*high).max(time)),
            _ => {
                lowest.into_iter().for_each(|(at, zone)| widen(&mut zones, at, zone));
                lowest = Some((index, (time, time)));
            }
        }
    }
    lowest.into_iter().for_each(|(at, zone)| widen(&mut zones, at, zone));
    zones
}

/// Widens the zone at every level to include the lowest-level zone at `index`.
fn widen(zones: &mut Zones, index: u64, (low, high): (i64, i64)) {
    for (level, bits) in LEVELS.iter().enumerate() {
        let zone = zones.entry((level as u8, index >> (bits - LEVELS[0]))).or_insert((low, high));
        *zone = (zone.0.min(low), zone.1.max(high));
    }
}
