//! What is kept for each key between events: just enough to tell whether the window is full.
//!
//! Invariant N6: whether an event is a crossing depends only on the events in the window before it, and on the seq
//! since which the rule has been in force: nobody raised an alert for a window that was full before then. Alerts that
//! were raised need not be remembered, so state that is rebuilt from the log gives the same results as state that was
//! kept. Invariant N7: a key keeps at most as many events as the threshold; a key whose events have all left the window
//! is forgotten at the next sweep, and beyond a limit the keys that were quiet for longest are.
//!
//! Times are nanoseconds of the store's clock. If that clock was set back by more than the window, times that it showed
//! before count as long ago.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

/// The maximum number of keys per rule.
const MAX_KEYS: usize = 1_000_000;

/// The number of steps in a window of a baseline; the window slides in these steps.
const STEPS: usize = 8;

/// How many windows must be known before there is a baseline.
const MIN_PERIODS: u32 = 3;

/// A hasher for keys, which are hashes already.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only `u64` is hashed here, so this is never called; it would still be correct.
        self.0 = bytes.iter().fold(self.0, |h, b| h.rotate_left(8) ^ u64::from(*b));
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

/// An event: its time, and the seq of its entry.
pub(super) type Event = (i64, u64);

fn within(now: i64, then: i64, window: i64) -> bool {
    now.saturating_sub(then).unsigned_abs() < window.unsigned_abs()
}

/// The state of one key.
pub(super) trait Kept {
    /// The time of its last event.
    fn last(&self) -> i64;
}

/// The keys of one rule.
#[derive(Debug)]
pub(super) struct Keys<S> {
    keys: HashMap<u64, S, BuildHasherDefault<Hashed>>,
    window: i64,
    /// The number of keys at which to sweep.
    sweep_at: usize,
    /// How many keys were forgotten while their events were still in the window.
    pub forgotten: u64,
}

impl<S: Kept> Keys<S> {
    pub(super) fn new(window: i64) -> Keys<S> {
        Keys { keys: HashMap::default(), window, sweep_at: 1024, forgotten: 0 }
    }

    pub(super) fn has(&self, key: u64) -> bool {
        self.keys.contains_key(&key)
    }

    /// The state of a key, which `make` creates if there is none.
    pub(super) fn get(&mut self, key: u64, now: i64, make: impl FnOnce() -> S) -> &mut S {
        if self.keys.len() >= self.sweep_at {
            self.sweep(now);
        }
        self.keys.entry(key).or_insert_with(make)
    }

    fn sweep(&mut self, now: i64) {
        let window = self.window;
        self.keys.retain(|_, kept| within(now, kept.last(), window));
        if self.keys.len() >= MAX_KEYS {
            let mut lasts: Vec<i64> = self.keys.values().map(Kept::last).collect();
            let (_, middle, _) = lasts.select_nth_unstable(MAX_KEYS / 2);
            let middle = *middle;
            let before = self.keys.len();
            let mut room = MAX_KEYS / 2;
            self.keys.retain(|_, kept| {
                let stays = kept.last() >= middle && room > 0;
                room -= usize::from(stays);
                stays
            });
            self.forgotten += (before - self.keys.len()) as u64;
        }
        self.sweep_at = (self.keys.len() * 2).clamp(1024, MAX_KEYS);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.keys.len()
    }
}

/// The newest events of a key, at most as many as the threshold. Most keys have one.
#[derive(Debug)]
pub(super) enum Count {
    None,
    One(Event),
    #[allow(clippy::box_collection, reason = "most keys have one event: the enum stays small")]
    Many(Box<VecDeque<Event>>),
}

impl Kept for Count {
    fn last(&self) -> i64 {
        self.newest().map_or(i64::MIN, |(at, _)| at)
    }
}

impl Count {
    /// Adds an event. Returns whether the window now holds `threshold` events and did not before, or did so only before
    /// `since`.
    pub(super) fn add(&mut self, threshold: usize, window: i64, since: u64, event: Event) -> bool {
        match self {
            Count::One(first) if !within(event.0, first.0, window) => *self = Count::None,
            Count::Many(events) => {
                while events.front().is_some_and(|first| !within(event.0, first.0, window)) {
                    events.pop_front();
                }
            }
            _ => {}
        }
        let before = self.events().len();
        let raised = before >= threshold && self.newest().is_some_and(|(_, seq)| seq >= since);
        match self {
            Count::None => *self = Count::One(event),
            Count::One(_) if threshold == 1 => *self = Count::One(event),
            Count::One(first) => *self = Count::Many(Box::new(VecDeque::from([*first, event]))),
            Count::Many(events) => {
                events.push_back(event);
                if events.len() > threshold {
                    events.pop_front();
                }
            }
        }
        !raised && before + 1 >= threshold
    }

    fn newest(&self) -> Option<Event> {
        match self {
            Count::None => None,
            Count::One(event) => Some(*event),
            Count::Many(events) => events.back().copied(),
        }
    }

    /// The events in the window.
    pub(super) fn events(&self) -> Vec<Event> {
        match self {
            Count::None => Vec::new(),
            Count::One(event) => vec![*event],
            Count::Many(events) => events.iter().copied().collect(),
        }
    }
}

/// The distinct values of a key, the most recent last, at most as many as the threshold.
#[derive(Debug, Default)]
pub(super) struct Distinct {
    values: Vec<(u64, Event)>,
}

impl Kept for Distinct {
    fn last(&self) -> i64 {
        self.values.last().map_or(i64::MIN, |(_, (at, _))| *at)
    }
}

impl Distinct {
    /// Adds a value. Returns whether the window now holds `threshold` values and did not before, or did so only before
    /// `since`.
    pub(super) fn add(&mut self, threshold: usize, window: i64, since: u64, value: u64, event: Event) -> bool {
        let gone = self.values.iter().take_while(|(_, (at, _))| !within(event.0, *at, window)).count();
        self.values.drain(..gone);
        let before = self.values.len();
        let raised = before >= threshold && self.values.last().is_some_and(|(_, (_, seq))| *seq >= since);
        if let Some(at) = self.values.iter().rposition(|(v, _)| *v == value) {
            self.values.remove(at);
        }
        self.values.push((value, event));
        let now = self.values.len();
        if now > threshold {
            self.values.remove(0);
        }
        !raised && now >= threshold
    }

    /// The newest event of each value.
    pub(super) fn events(&self) -> Vec<Event> {
        self.values.iter().map(|(_, event)| *event).collect()
    }
}

/// How many events a key had in each step.
#[derive(Debug)]
pub(super) struct Baseline {
    /// A ring of counts; `newest` is the most recent step.
    counts: Box<[u32]>,
    newest: i64,
    /// The sum of the newest window.
    recent: u32,
    last: Event,
}

impl Kept for Baseline {
    fn last(&self) -> i64 {
        self.last.0
    }
}

impl Baseline {
    pub(super) fn new(periods: u32) -> Baseline {
        let steps = STEPS * (periods as usize + 1);
        Baseline { counts: vec![0; steps].into(), newest: i64::MIN, recent: 0, last: (i64::MIN, 0) }
    }

    /// Adds an event. If there are now more events than the key's own past suggests, and were not before (or only
    /// before `since`), returns how many there are and how many are needed.
    pub(super) fn add(
        &mut self,
        (multiple, at_least): (f64, u32),
        window: i64,
        since: u64,
        event: Event,
    ) -> Option<(u32, u32)> {
        let step = event.0.div_euclid((window / STEPS as i64).max(1));
        self.advance(step.max(self.newest));
        let threshold = self.threshold(multiple, at_least);
        let before = self.recent;
        let at = self.slot(self.newest);
        if let Some(count) = self.counts.get_mut(at) {
            *count = count.saturating_add(1);
        }
        self.recent = self.recent.saturating_add(1);
        let is_first = self.last.1 < since;
        self.last = event;
        let crosses = |needed: &u32| (before < *needed || is_first) && self.recent >= *needed;
        threshold.filter(crosses).map(|needed| (self.recent, needed))
    }

    fn slot(&self, step: i64) -> usize {
        step.rem_euclid(self.counts.len() as i64) as usize
    }

    fn advance(&mut self, step: i64) {
        let ahead = step.saturating_sub(self.newest);
        if self.newest == i64::MIN || ahead >= self.counts.len() as i64 {
            self.counts.fill(0);
        } else {
            for step in self.newest + 1..=step {
                let at = self.slot(step);
                if let Some(count) = self.counts.get_mut(at) {
                    *count = 0;
                }
            }
        }
        if ahead > 0 || self.newest == i64::MIN {
            self.newest = step;
            self.recent = (0..STEPS as i64).map(|back| self.at(back)).sum();
        }
    }

    /// The count `back` steps before the newest.
    fn at(&self, back: i64) -> u32 {
        self.counts.get(self.slot(self.newest - back)).copied().unwrap_or(0)
    }

    /// How many events are needed; `None` while too little is known.
    fn threshold(&self, multiple: f64, at_least: u32) -> Option<u32> {
        // Below `at_least`, even with one more event, there is no alert: the long sum is not needed.
        if self.recent.saturating_add(1) < at_least {
            return None;
        }
        let steps = self.counts.len() as i64;
        let oldest = (STEPS as i64..steps).rev().find(|back| self.at(*back) > 0)?;
        // Count windows that have begun: people work by days, so somebody's first day counts as a day.
        let known = oldest / STEPS as i64;
        if known < i64::from(MIN_PERIODS).min(steps / STEPS as i64 - 1) {
            return None;
        }
        let past: u64 = (STEPS as i64..=oldest).map(|back| u64::from(self.at(back))).sum();
        let needed = (multiple * past as f64 / known as f64).floor() + 1.0;
        Some((needed.min(f64::from(u32::MAX)) as u32).max(at_least))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Compares with a list of all events and the literal definition of the rule.
        #[test]
        fn counts_what_a_list_counts(gaps in prop::collection::vec(0i64..40, 1..200), threshold in 1usize..6) {
            let (mut state, mut all, mut now) = (Count::None, Vec::new(), 0);
            for (seq, gap) in gaps.into_iter().enumerate() {
                now += gap;
                let before = all.iter().filter(|at| now - **at < 100).count();
                all.push(now);
                let crossing = before < threshold && before + 1 >= threshold;
                prop_assert_eq!(state.add(threshold, 100, 0, (now, seq as u64)), crossing);
            }
        }

        #[test]
        fn tells_values_apart_as_a_list_does(
            events in prop::collection::vec((0i64..40, 0u64..6), 1..200), threshold in 1usize..5,
        ) {
            let (mut state, mut all, mut now) = (Distinct::default(), Vec::<(i64, u64)>::new(), 0);
            for (gap, value) in events {
                now += gap;
                let count = |all: &[(i64, u64)]| {
                    let mut values: Vec<u64> = all.iter().filter(|(at, _)| now - at < 100).map(|(_, v)| *v).collect();
                    values.sort_unstable();
                    values.dedup();
                    values.len()
                };
                let before = count(&all);
                all.push((now, value));
                let crossing = before < threshold && count(&all) >= threshold;
                prop_assert_eq!(state.add(threshold, 100, 0, value, (now, 0)), crossing);
            }
        }

        /// State that starts a whole window later gives the same results from then on.
        #[test]
        fn what_is_rebuilt_says_the_same(gaps in prop::collection::vec(0i64..30, 50..150), threshold in 1usize..6) {
            let times: Vec<i64> = gaps.iter().scan(0, |now, gap| { *now += gap; Some(*now) }).collect();
            let (from, mid) = (times[0], times[times.len() / 2]);
            let (mut kept, mut rebuilt) = (Count::None, Count::None);
            for (seq, &at) in times.iter().enumerate() {
                let said = kept.add(threshold, 100, 0, (at, seq as u64));
                if at > mid - 100 {
                    let again = rebuilt.add(threshold, 100, 0, (at, seq as u64));
                    prop_assert!(at < mid.max(from) || said == again);
                }
            }
        }
    }

    #[test]
    fn a_baseline_is_the_keys_own() {
        let window = 80;
        let mut state = Baseline::new(5);
        // Ten events in each of five windows, one step apart.
        for at in (0..400).step_by(8) {
            assert_eq!(state.add((3.0, 5), window, 0, (at, 0)), None);
        }
        let burst: Vec<_> = (0..60).filter_map(|i| state.add((3.0, 5), window, 0, (400 + i / 10, 0))).collect();
        assert_eq!(burst.len(), 1, "one alert for one burst");
        let (count, needed) = burst[0];
        assert!((24..=32).contains(&needed) && count == needed, "{burst:?}");
        // For somebody new there is no past to compare with.
        let mut new = Baseline::new(5);
        assert!((0..1000).all(|at| new.add((3.0, 5), window, 0, (at / 20, 0)).is_none()));
    }

    #[test]
    fn quiet_keys_are_forgotten() {
        let mut keys = Keys::new(100);
        for key in 0..100_000u64 {
            let now = key as i64;
            keys.get(key, now, || Count::None).add(3, 100, 0, (now, key));
        }
        assert!(keys.len() < 3000, "{}", keys.len());
        assert_eq!(keys.forgotten, 0);
    }
}
