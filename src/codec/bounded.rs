//! Lists of which a reader takes only so many.

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::marker::PhantomData;

/// Maximum number of elements of a list that another process sends: what is decoded must not be many times as large as what was
/// sent.
pub(crate) const MOST: usize = 1 << 16;

/// Decodes a list of at most [`MOST`] elements.
pub(crate) fn bounded<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    struct Few<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Few<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MOST} elements")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Vec<T>, A::Error> {
            let mut few = Vec::new();
            while let Some(one) = all.next_element()? {
                if few.len() == MOST {
                    return Err(A::Error::custom("too many at once"));
                }
                few.push(one);
            }
            Ok(few)
        }
    }

    from.deserialize_seq(Few(PhantomData))
}
