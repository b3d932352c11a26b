//! Numbers that a sender's calls skip within one input of `record`. A call that was lost leaves such a gap.

use attestlog::Sender;
use std::collections::BTreeMap;

/// The most senders and gaps that are kept; any beyond that are ignored.
const MOST: usize = 1000;
/// How many gaps are named.
const NAMED: usize = 5;

/// The numbers seen so far.
#[derive(Debug, Default)]
pub struct SenderGaps(BTreeMap<String, Numbers>);

#[derive(Debug)]
struct Numbers {
    first: u64,
    last: u64,
    /// First and last number of each gap, keyed by the first.
    missing: BTreeMap<u64, u64>,
}

impl SenderGaps {
    /// Notes the number of a call.
    pub fn saw(&mut self, sender: &Sender) {
        let n = sender.number;
        if let Some(numbers) = self.0.get_mut(&sender.id) {
            numbers.saw(n);
        } else if self.0.len() < MOST {
            self.0.insert(sender.id.clone(), Numbers { first: n, last: n, missing: BTreeMap::new() });
        }
    }

    /// The message for each sender whose calls skip numbers.
    pub fn told(&self) -> impl Iterator<Item = String> {
        self.0.iter().filter(|(_, numbers)| !numbers.missing.is_empty()).map(|(id, numbers)| {
            let named = numbers.missing.iter().take(NAMED).map(|(from, to)| match from == to {
                true => from.to_string(),
                false => format!("{from} to {to}"),
            });
            let named = named.collect::<Vec<_>>().join(", ");
            let more = if numbers.missing.len() > NAMED { ", …" } else { "" };
            let Numbers { first, last, .. } = numbers;
            format!(
                "sender {id:?}: of its numbers {first} to {last} this input does not have {named}{more}. If they are not in the log \
                 already, calls were lost before they came here"
            )
        })
    }
}

impl Numbers {
    fn saw(&mut self, n: u64) {
        let gap = self.missing.range(..=n).next_back().map(|(from, to)| (*from, *to)).filter(|(_, to)| n <= *to);
        if let Some((from, to)) = gap {
            self.missing.remove(&from);
            if from < n {
                self.missing.insert(from, n - 1);
            }
            if n < to {
                self.missing.insert(n + 1, to);
            }
        }
        if self.missing.len() < MOST {
            // Each end differs from the number beside it, so neither sum can overflow.
            if n > self.last && n - self.last > 1 {
                self.missing.insert(self.last + 1, n - 1);
            }
            if n < self.first && self.first - n > 1 {
                self.missing.insert(n + 1, self.first - 1);
            }
        }
        (self.first, self.last) = (self.first.min(n), self.last.max(n));
    }
}
