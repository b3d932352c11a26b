//! Whose reply a message may be, however a host reads its id.
//!
//! Invariant R44, for the id: a host may use the first or the last of several members, ignore the case of their names,
//! read numbers as doubles or whole numbers, and texts as numbers. Two ids that any of these takes for one have a
//! reading in common. That two have one and nobody confuses them does no harm: an answer too many is recorded.

use super::strict::folded;
use attestlog::json::Json;
use attestlog::redact::normal;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Whole numbers may be kept in 32 bits.
const WORD: f64 = 4_294_967_296.0;

/// The readings of one or several ids, as hashes: a message may hold millions of ids.
#[derive(Debug, Default)]
pub(super) struct Readings(HashSet<u64>);

impl Readings {
    /// The readings of all ids of a message that may be a reply.
    pub(super) fn of(message: &Json) -> Readings {
        let mut all = Readings::default();
        all.add_all(message);
        all
    }

    /// Adds the readings of all ids of a message.
    pub(super) fn add_all(&mut self, message: &Json) {
        ids(message).for_each(|id| self.add(id));
        // A reader whose ids are numbers takes a missing one for 0.
        if ids(message).next().is_none() && shows(message) {
            self.add(&Json::Null);
        }
    }

    /// Adds the readings of an id.
    pub(super) fn add(&mut self, id: &Json) {
        each(id, &mut |reading| match reading {
            Reading::Text(text) => drop(self.0.insert(hash(&text))),
            Reading::Number(number) => {
                let whole = number.trunc();
                let word = whole.rem_euclid(WORD);
                for number in [number, whole, word, word - WORD] {
                    self.0.insert(hash(&bits(number)));
                }
            }
        });
    }

    /// Whether one of the ids may be taken for this one, which is as its sender wrote it.
    pub(super) fn may_be(&self, id: &Json) -> bool {
        let mut found = false;
        each(id, &mut |reading| {
            found |= self.0.contains(&match reading {
                Reading::Text(text) => hash(&text),
                Reading::Number(number) => hash(&bits(number)),
            });
        });
        found
    }

    /// The readings, each once.
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        self.0.iter().copied()
    }
}

/// The id of a message if every reader finds the same: the only member that may be meant, a text or a number.
pub(super) fn plain_id(message: &Json) -> Option<&Json> {
    let id = message.get("id").filter(|id| matches!(id, Json::String(_) | Json::Number(_)))?;
    (ids(message).count() == 1).then_some(id)
}

/// Why hosts may read the id of a message differently, or take it for another.
pub(super) fn why(message: &Json) -> &'static str {
    match (ids(message).count(), message.get("id")) {
        (0, _) => "it has no id, which some read as 0",
        (1, None) => "its id has another name",
        (1, Some(Json::String(_) | Json::Number(_))) => "its id is not the call's, but some read it as that",
        (1, Some(Json::Array(_))) => "it has several ids",
        (1, Some(_)) => "its id is neither a text nor a number",
        _ => "it has several ids",
    }
}

/// The values of all members that some reader takes for the id.
pub(super) fn ids(message: &Json) -> impl Iterator<Item = &Json> {
    let members = message.as_object().into_iter().flat_map(|members| members.iter());
    members.filter(|(name, _)| folded(name) == "id").map(|(_, id)| id)
}

/// Whether some reader finds an id other than null in a message.
pub(super) fn has_id(message: &Json) -> bool {
    ids(message).any(|id| *id != Json::Null)
}

/// Whether some reader finds a result or an error in a message.
pub(super) fn shows(message: &Json) -> bool {
    let mut members = message.as_object().into_iter().flat_map(|members| members.iter());
    members.any(|(name, _)| matches!(folded(name).as_str(), "result" | "error"))
}

/// Whether a message is a request or a notification, and no reader finds a reply in it.
pub(super) fn is_request(message: &Json) -> bool {
    message.get("method").is_some() && !shows(message)
}

/// What some reader makes of an id.
enum Reading {
    Text(String),
    Number(f64),
}

fn each(id: &Json, to: &mut impl FnMut(Reading)) {
    let number = match id {
        Json::String(text) => {
            // Some end a text at its first NUL, which is replaced here.
            let text = text.split('\u{2400}').next().unwrap_or_default();
            let text = normal(text);
            to(Reading::Text(spelling(&text)));
            number_in(&text)
        }
        Json::Number(_) => number_in(id.to_canonical().as_str()),
        Json::Bool(value) => Some(f64::from(*value)),
        Json::Null => Some(0.0),
        // Several members of one name, or a list that is read as its only item.
        Json::Array(items) => return items.iter().for_each(|item| each(item, to)),
        Json::Object(_) => None,
    };
    number.into_iter().for_each(|number| to(Reading::Number(number)));
}

/// The text in small letters; a UUID without its hyphens.
fn spelling(text: &str) -> String {
    let bare = text.replace('-', "");
    let is_uuid = bare.len() == 32 && bare.bytes().all(|b| b.is_ascii_hexdigit());
    if is_uuid { bare.to_lowercase() } else { text.to_lowercase() }
}

/// The same for 0 and -0.
fn bits(number: f64) -> u64 {
    (number + 0.0).to_bits()
}

fn hash(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// The number that some reader finds in a text: as Python's `int` and JavaScript's `Number` do.
fn number_in(text: &str) -> Option<f64> {
    let text = text.trim().replace('_', "");
    if text.is_empty() {
        return Some(0.0);
    }
    let (less, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(&text)),
    };
    let lower = digits.to_ascii_lowercase();
    let based = [("0x", 16), ("0o", 8), ("0b", 2)];
    let based = based.into_iter().find_map(|(mark, base)| Some((lower.strip_prefix(mark)?, base)));
    let number = match based {
        Some((digits, base)) => {
            let all = digits.chars().map(|c| c.to_digit(base).map(f64::from));
            all.collect::<Option<Vec<f64>>>()?.into_iter().fold(0.0, |sum, digit| sum * f64::from(base) + digit)
        }
        // Not the words that Rust takes for numbers.
        None if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => return None,
        None => digits.parse().ok()?,
    };
    Some(if less { -number } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::parse(text.as_bytes()).unwrap().value
    }

    #[test]
    fn ids_that_some_reader_takes_for_one_have_a_common_reading() {
        let one = json("1");
        for id in [
            "\"1\"",
            "1.0",
            "1e0",
            "1.0000000000000000001",
            "\" 1\\n\"",
            "\"01\"",
            "\"+1\"",
            "\"0x1\"",
            "\"1.0\"",
            "\"0_1\"",
            "\"1\u{2400}x\"",
            "true",
            "[1]",
            "[77,[1]]",
            "1.5",
            "4294967297",
            "-4294967295",
        ] {
            let message = json(&format!(r#"{{"id":{id},"result":1}}"#));
            assert!(Readings::of(&message).may_be(&one), "{id}");
        }
        for id in ["2", "0.5", "\"one\"", "{}", "\"1x\"", "null", "\"\"", "\"nan\"", "\"0xg\""] {
            let message = json(&format!(r#"{{"id":{id},"result":1}}"#));
            assert!(!Readings::of(&message).may_be(&one), "{id}");
        }
        let is = |a: &str, b: &str| Readings::of(&json(&format!(r#"{{"id":{a}}}"#))).may_be(&json(b));
        let uuid = "\"67E55044-10b1-426f-9247-bb680e5fe0c8\"";
        assert!(is(uuid, &uuid.replace('-', "").to_lowercase()) && is("\"aB\"", "\"ab\""));
        assert!(!is("\"1-11\"", "\"11-1\"") && is("9007199254740993", "9007199254740992") && is("1e400", "1e500"));
        assert!(is("null", "0") && is("\"\"", "0") && is("-0.0", "0") && is("false", "0"));
        assert!(is("4294967295", "-1"));
        assert!(!is("\"abc\"", "\"abd\"") && !is("1", "1.5") && !is("1e300", "1"));
        assert!(Readings::of(&json(r#"{"result":1}"#)).may_be(&json("0")));
        assert!(!Readings::of(&json("{}")).may_be(&json("0")));
    }

    #[test]
    fn an_id_is_plain_if_it_is_the_only_one() {
        for (message, plain) in [
            (r#"{"id":1}"#, true),
            (r#"{"id":"a","ids":2}"#, true),
            (r#"{"id":1,"ID":1}"#, false),
            (r#"{"id":1,"_id":1}"#, false),
            (r#"{"ID":1}"#, false),
            (r#"{"id":[1,2]}"#, false),
            (r#"{"id":null}"#, false),
            ("[1]", false),
        ] {
            assert_eq!(plain_id(&json(message)).is_some(), plain, "{message}");
            assert_eq!(why(&json(message)).starts_with("its id is not"), plain, "{message}");
        }
        assert!(is_request(&json(r#"{"id":1,"method":"x"}"#)));
        assert!(!is_request(&json(r#"{"id":1,"method":"x","Result":1}"#)));
    }
}
