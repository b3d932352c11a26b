//! How redb compares keys, by redb's names of their types. Covers only types that this program uses as keys.

use std::cmp::Ordering;

/// The type of a key or of one part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// An unsigned little-endian integer of that many bytes.
    Unsigned(usize),
    I32,
    /// UTF-8, compared bytewise.
    Text,
    Bytes,
}

/// The order of keys of one type: parts of fixed width, of which only the last may have a variable width.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order(Vec<Part>);

impl Order {
    /// The order of the keys of a type, by redb's name for it; `None` where this program has no such keys.
    pub(crate) fn named(name: &str) -> Option<Order> {
        let name = match name {
            // A transaction and a counter within it; the kind of row and the region.
            "redb::TransactionIdWithPagination" => "(u64,u64)",
            "redb::AllocatorStateKey" => "(u8,u32)",
            name => name,
        };
        let inner = name.strip_prefix('(').and_then(|name| name.strip_suffix(')'));
        let parts: Option<Vec<Part>> = inner.unwrap_or(name).split(',').map(Part::named).collect();
        let parts = parts?;
        let (_, leading) = parts.split_last()?;
        let known = leading.iter().all(|part| part.width().is_some()) && (inner.is_some() || leading.is_empty());
        known.then_some(Order(parts))
    }

    /// The width of each key in bytes, if it is fixed.
    pub(crate) fn width(&self) -> Option<usize> {
        self.0.iter().map(|part| part.width()).sum()
    }

    /// Whether these bytes are a valid key of the type.
    pub(crate) fn is_key(&self, mut key: &[u8]) -> bool {
        for part in &self.0 {
            match part.width() {
                Some(width) => match key.split_at_checked(width) {
                    Some((_, rest)) => key = rest,
                    None => return false,
                },
                None => return *part == Part::Bytes || std::str::from_utf8(key).is_ok(),
            }
        }
        key.is_empty()
    }

    /// Which of two keys comes first.
    pub(crate) fn compare(&self, mut a: &[u8], mut b: &[u8]) -> Ordering {
        for part in &self.0 {
            let width = part.width().unwrap_or(usize::MAX);
            let ((one, rest_a), (other, rest_b)) = (a.split_at(width.min(a.len())), b.split_at(width.min(b.len())));
            let ordering = match part {
                Part::Unsigned(_) => one.iter().rev().cmp(other.iter().rev()),
                Part::I32 => number(one).cmp(&number(other)),
                Part::Text | Part::Bytes => one.cmp(other),
            };
            if ordering.is_ne() {
                return ordering;
            }
            (a, b) = (rest_a, rest_b);
        }
        Ordering::Equal
    }
}

fn number(bytes: &[u8]) -> i32 {
    bytes.try_into().map_or(0, i32::from_le_bytes)
}

impl Part {
    fn named(name: &str) -> Option<Part> {
        match name {
            "u8" => Some(Part::Unsigned(1)),
            "u32" => Some(Part::Unsigned(4)),
            "u64" => Some(Part::Unsigned(8)),
            "i32" => Some(Part::I32),
            "&str" => Some(Part::Text),
            "&[u8]" => Some(Part::Bytes),
            _ => None,
        }
    }

    fn width(self) -> Option<usize> {
        match self {
            Part::Unsigned(width) => Some(width),
            Part::I32 => Some(4),
            Part::Text | Part::Bytes => None,
        }
    }
}
