//! A table's definition: a row in the tree of tables.

use super::page::{Root, little};
use super::{Shape, order::Order};

/// A table with one value per key.
const NORMAL: u8 = 3;
/// Precedes redb's name for a type: 1 for redb's own types, 4 for composed ones (3 where an older version wrote them).
const OWN: [u8; 3] = [1, 3, 4];

/// A table's definition.
#[derive(Debug)]
pub(crate) struct Definition {
    pub rows: u64,
    pub root: Option<Root>,
    pub order: Order,
    pub value: Option<usize>,
}

impl Definition {
    /// Decodes the definition of a table and checks it against this shape.
    pub(crate) fn read(bytes: &[u8], shape: &Shape) -> Result<Definition, &'static str> {
        let mut at = 0;
        let mut take = |count: usize| {
            let taken = bytes.get(at..at + count);
            at += count;
            taken.ok_or("what the file says of it is cut short")
        };
        let kind = take(1)?;
        let rows = little(take(8)?, 0, 8);
        let there = take(1)?;
        let root = take(Root::BYTES)?;
        let mut width = || -> Result<Option<usize>, &'static str> {
            let fixed = take(1)?;
            let width = little(take(4)?, 0, 4);
            Ok((fixed != [0]).then_some(width as usize))
        };
        let (key_width, value_width) = (width()?, width()?);
        let alignments = (little(take(4)?, 0, 4), little(take(4)?, 0, 4));
        let key_length = little(take(4)?, 0, 4);
        let names = bytes.get(at..).unwrap_or_default();
        let (key, value) = usize::try_from(key_length)
            .ok()
            .and_then(|length| names.split_at_checked(length))
            .ok_or("what the file says of it is cut short")?;
        let is = |name: &[u8], wanted: &str| {
            name.split_first().is_some_and(|(whose, name)| OWN.contains(whose) && name == wanted.as_bytes())
        };
        if kind != [NORMAL] {
            return Err("it is not a table with one value for each key");
        }
        if !is(key, &shape.key.0) || key_width != shape.key.1 {
            return Err("its keys are of another type than this program's");
        }
        if !is(value, &shape.value.0) || value_width != shape.value.1 {
            return Err("its values are of another type than this program's");
        }
        if alignments != (1, 1) {
            return Err("its rows are aligned as redb does not align them");
        }
        let order = Order::named(&shape.key.0).filter(|order| order.width() == shape.key.1);
        let order = order.ok_or("its keys are of a type that this program cannot compare")?;
        let root = if there == [0] { None } else { Root::read(root, 0) };
        Ok(Definition { rows, root, order, value: value_width })
    }
}
