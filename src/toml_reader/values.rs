//! The types that sections are made of: values with their place, names from a fixed set, one value or a list, ordered
//! members.

use super::Spot;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Unexpected, Visitor};
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

/// The deserializer recognises requests for these types by their names.
pub(super) const AT: &str = "attestlog value with its place";
pub(super) const ONE_OR_MORE: &str = "attestlog value or list";

/// A value and its place.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    pub value: T,
    pub spot: Spot,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<At<T>, D::Error> {
        struct Parts<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Parts<T> {
            type Value = At<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value with its place")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<At<T>, A::Error> {
                let lost = || A::Error::custom("a value has lost its place");
                let offset = parts.next_element::<u64>()?.ok_or_else(lost)? as usize;
                let key = parts.next_element::<u64>()?.ok_or_else(lost)? as usize;
                let member = parts.next_element()?.ok_or_else(lost)?;
                let value = parts.next_element()?.ok_or_else(lost)?;
                Ok(At { value, spot: Spot { offset, key, member } })
            }
        }
        from.deserialize_tuple_struct(AT, 4, Parts(PhantomData))
    }
}

/// One value, or a list of them.
#[derive(Debug)]
pub(crate) struct OneOrMore<T>(pub Vec<T>);

impl<T> Default for OneOrMore<T> {
    fn default() -> OneOrMore<T> {
        OneOrMore(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMore<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<OneOrMore<T>, D::Error> {
        from.deserialize_tuple_struct(ONE_OR_MORE, 1, All(PhantomData, "a value or a list")).map(OneOrMore)
    }
}

struct All<T>(PhantomData<T>, &'static str);

impl<'de, T: Deserialize<'de>> Visitor<'de> for All<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(all)
    }
}

/// A table with keys that people choose, in the order of the text.
#[derive(Debug)]
pub(crate) struct Entries<T>(pub Vec<(At<String>, At<T>)>);

impl<T> Default for Entries<T> {
    fn default() -> Entries<T> {
        Entries(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Entries<T>, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Entries<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Entries<T>, A::Error> {
                let mut all = Vec::new();
                while let Some(member) = members.next_entry()? {
                    all.push(member);
                }
                Ok(Entries(all))
            }
        }
        from.deserialize_map(Members(PhantomData))
    }
}

/// A set of things that each have a name.
pub(crate) trait Named: Sized {
    /// What one of them is called, such as `preset`.
    const WHAT: &'static str;
    /// All names.
    fn names() -> Vec<&'static str>;
    /// The one with this name.
    fn named(name: &str) -> Option<Self>;

    /// The one with this name, or an error message.
    fn find(name: &str) -> Result<Self, String> {
        Self::named(name)
            .ok_or_else(|| format!("no {} {name:?}; there are {}", Self::WHAT, listed(name, &Self::names())))
    }
}

/// One of them, given by its name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name<T>(pub T);

impl<'de, T: Named> Deserialize<'de> for Name<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Name<T>, D::Error> {
        T::find(&String::deserialize(from)?).map(Name).map_err(D::Error::custom)
    }
}

/// A value given as a text that is parsed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parsed<T>(pub T);

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Parsed<T>, D::Error> {
        String::deserialize(from)?.parse().map(Parsed).map_err(D::Error::custom)
    }
}

/// A text for the operating system or the network: not empty, without NUL; with `CONTROL`, other control characters are
/// allowed.
#[derive(Debug, Clone)]
pub(crate) struct Word<const CONTROL: bool>(pub String);

impl<'de, const CONTROL: bool> Deserialize<'de> for Word<CONTROL> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Word<CONTROL>, D::Error> {
        let text = String::deserialize(from)?;
        let wrong = |wanted: &str| Err(D::Error::invalid_value(Unexpected::Str(&text), &wanted));
        match () {
            () if text.is_empty() => wrong("a string that is not empty"),
            () if text.contains('\0') => wrong("a string without NUL"),
            () if !CONTROL && text.chars().any(char::is_control) => wrong("a string without control characters"),
            () => Ok(Word(text)),
        }
    }
}

/// A program and its arguments.
#[derive(Debug, Clone)]
pub(crate) struct Command<const CONTROL: bool>(pub Vec<String>);

impl<'de, const CONTROL: bool> Deserialize<'de> for Command<CONTROL> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Command<CONTROL>, D::Error> {
        const WANTED: &str = "a list: the program and each of its arguments";
        let words: Vec<Word<CONTROL>> = from.deserialize_any(All(PhantomData, WANTED))?;
        match words.is_empty() {
            true => Err(D::Error::invalid_value(Unexpected::Seq, &WANTED)),
            false => Ok(Command(words.into_iter().map(|word| word.0).collect())),
        }
    }
}

/// Lists all names, and suggests the one that was probably meant.
pub(crate) fn listed(name: &str, names: &[&str]) -> String {
    let all = names.join(", ");
    let near = names.iter().map(|known| (distance(name, known), known)).min();
    match near.filter(|(far, known)| *far <= 1 + known.len() / 5) {
        Some((_, known)) => format!("{all}; is it {known}?"),
        None => all,
    }
}

/// How many letters must be inserted, deleted, replaced, or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    // Long texts are not misspellings, and would take too long to compare.
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows: [Vec<usize>; 3] = [Vec::new(), Vec::new(), (0..=b.len()).collect()];
    for (i, x) in a.iter().enumerate() {
        rows.rotate_left(1);
        let [before, last, row] = &mut rows;
        row.clear();
        row.push(i + 1);
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX / 2);
            let mut least = (at(last, j + 1) + 1).min(at(row, j) + 1).min(at(last, j) + usize::from(x != y));
            if i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x) {
                least = least.min(at(before, j - 1) + 1);
            }
            row.push(least);
        }
    }
    rows[2].last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered_and_no_other() {
        let names = ["retention", "redaction", "alerts"];
        assert_eq!(listed("redactoin", &names), "retention, redaction, alerts; is it redaction?");
        assert_eq!(listed("alert", &names), "retention, redaction, alerts; is it alerts?");
        assert_eq!(listed("colour", &names), "retention, redaction, alerts");
        assert_eq!(["", "a", "ab", "ba", "abc", "xyz"].map(|b| distance("ab", b)), [2, 1, 0, 1, 1, 3]);
    }
}
