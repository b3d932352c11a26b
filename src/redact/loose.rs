//! Texts that are almost JSON, as models write them: with a duplicate member, an extra comma, `NaN`, or cut off.
//!
//! A stray comma must not hide who is named in such a text, so as much of it as possible is read. Values that are read here are not
//! recorded. The text is read in one pass, up to `MAX_TEXT` bytes and [`MAX_DEPTH`] levels deep.

use crate::json::{Json, Limits, Object};
use std::collections::HashSet;
use std::iter::Peekable;
use std::str::CharIndices;

/// Values that are nested deeper are skipped.
const MAX_DEPTH: usize = 64;

/// Parses a text that begins like an object or an array. A duplicate member becomes an array of its values.
pub(super) fn read(text: &str) -> Option<Json> {
    read_marking(text).map(|(json, _)| json)
}

/// The same, with the strings in it that have escapes: the others stand in the text as they are.
pub(super) fn read_marking(text: &str) -> Option<(Json, HashSet<String>)> {
    if !text.starts_with(['{', '[']) {
        return None;
    }
    let mut reader = Reader { text, chars: text.char_indices().peekable(), unescaped: HashSet::new() };
    let value = reader.value(MAX_DEPTH);
    Some((value, reader.unescaped))
}

struct Reader<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
    /// The strings that were written with escapes, as they were meant.
    unescaped: HashSet<String>,
}

impl Reader<'_> {
    fn peek(&mut self) -> Option<char> {
        self.chars.peek().map(|(_, c)| *c)
    }

    /// Skips white space and the characters in `skip`, and peeks at the next character.
    fn next_but(&mut self, skip: &[char]) -> Option<char> {
        while self.chars.next_if(|(_, c)| c.is_whitespace() || skip.contains(c)).is_some() {}
        self.peek()
    }

    fn value(&mut self, depth: usize) -> Json {
        match self.next_but(&[]) {
            Some('{') => self.object(depth),
            Some('[') => self.list(depth),
            Some(quote @ ('"' | '\'')) => Json::String(self.quoted(quote)),
            _ => self.word(),
        }
    }

    fn object(&mut self, depth: usize) -> Json {
        self.chars.next();
        let mut members: Vec<(String, Vec<Json>)> = Vec::new();
        let mut at = std::collections::HashMap::new();
        loop {
            match self.next_but(&[',']) {
                None => break,
                Some('}') => {
                    self.chars.next();
                    break;
                }
                Some(']') => break,
                Some(_) => {}
            }
            let from = self.chars.peek().map(|(at, _)| *at);
            let key = match self.peek() {
                Some(quote @ ('"' | '\'')) => self.quoted(quote),
                _ => self.bare(&[':', ',', '}']).to_owned(),
            };
            if self.next_but(&[]) == Some(':') {
                self.chars.next();
                let value = if depth == 0 { self.skip() } else { self.value(depth - 1) };
                let index = *at.entry(key.clone()).or_insert(members.len());
                match members.get_mut(index) {
                    Some((_, values)) => values.push(value),
                    None => members.push((key, vec![value])),
                }
            } else if self.chars.peek().map(|(at, _)| *at) == from {
                // No key starts here: skip one character.
                self.chars.next();
            }
        }
        let one = |(key, mut values): (String, Vec<Json>)| match values.len() {
            1 => (key, values.pop().unwrap_or(Json::Null)),
            _ => (key, Json::Array(values)),
        };
        Json::Object(members.into_iter().map(one).collect::<Object>())
    }

    fn list(&mut self, depth: usize) -> Json {
        self.chars.next();
        let mut items = Vec::new();
        loop {
            match self.next_but(&[',']) {
                None | Some('}') => break,
                Some(']') => {
                    self.chars.next();
                    break;
                }
                Some(_) if depth == 0 => items.push(self.skip()),
                Some(_) => {
                    let from = self.chars.peek().map(|(at, _)| *at);
                    items.push(self.value(depth - 1));
                    if self.chars.peek().map(|(at, _)| *at) == from {
                        self.chars.next();
                    }
                }
            }
        }
        Json::Array(items)
    }

    /// Skips one character.
    fn skip(&mut self) -> Json {
        self.chars.next();
        Json::Null
    }

    /// Reads a quoted string, up to its closing quote or the end of the text. Escapes are those of JSON.
    fn quoted(&mut self, quote: char) -> String {
        let from = self.chars.next().map_or(0, |(at, c)| at + c.len_utf8());
        let mut to = self.text.len();
        while let Some((at, c)) = self.chars.next() {
            if c == '\\' {
                self.chars.next();
            } else if c == quote {
                to = at;
                break;
            }
        }
        let inside = self.text.get(from..to).unwrap_or_default();
        // The lenient parser takes unescaped control characters and the other kind of quotation mark.
        let text =
            Json::parse_lenient(format!("\"{inside}\"").as_bytes(), &Limits::bytes(super::patient::MAX_TEXT + 2));
        let meant = text.ok().and_then(|text| text.value.as_str().map(str::to_owned));
        let meant = meant.unwrap_or_else(|| inside.to_owned());
        if meant != inside {
            self.unescaped.insert(meant.clone());
        }
        meant
    }

    fn bare(&mut self, until: &[char]) -> &str {
        let from = self.chars.peek().map_or(self.text.len(), |(at, _)| *at);
        while self.chars.next_if(|(_, c)| !until.contains(c)).is_some() {}
        let to = self.chars.peek().map_or(self.text.len(), |(at, _)| *at);
        self.text.get(from..to).unwrap_or_default().trim()
    }

    /// Reads a number or an unquoted word. `null`, booleans and the like become `Null`.
    fn word(&mut self) -> Json {
        let word = self.bare(&[',', '}', ']', '\n']);
        match word {
            "" | "null" | "None" | "undefined" | "NaN" | "nan" | "Infinity" | "-Infinity" | "true" | "false"
            | "True" | "False" => Json::Null,
            word => match Json::parse(word.as_bytes()) {
                Ok(parsed) => parsed.value,
                Err(_) => Json::String(word.to_owned()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nearly_json_is_read() {
        for (text, wanted) in [
            (r#"{"a":"P-0","a":"P-1"}"#, r#"{"a":["P-0","P-1"]}"#),
            (r#"{"a":"P-1",}"#, r#"{"a":"P-1"}"#),
            (r#"{"a":"P-1","n":NaN}"#, r#"{"a":"P-1","n":null}"#),
            (r#"{"a":"P-1","n":{"b":[1,"x"#, r#"{"a":"P-1","n":{"b":[1,"x"]}}"#),
            ("{'a': 'P-1', 'b': True, c: 17}", r#"{"a":"P-1","b":null,"c":17}"#),
            ("{\"a\":\"P\\u002d1\n\"}}", r#"{"a":"P-1\n"}"#),
            (r#"[{"a":P-1}]]"#, r#"[{"a":"P-1"}]"#),
            (r#"{"a" "b":1,:2,"c":3}"#, r#"{"b":1,"":2,"c":3}"#),
            ("{", "{}"),
        ] {
            let wanted = Json::parse(wanted.as_bytes()).unwrap().value;
            assert_eq!(read(text), Some(wanted), "{text}");
        }
        assert_eq!((read("P-1"), read("")), (None, None));
        // Parsing terminates for every text.
        for text in ["{{{{", "[[[]}}]", "{]:}", "[:,]", "{\"a\":}", "[}"] {
            assert!(read(text).is_some(), "{text}");
        }
        assert!(read(&"[".repeat(100_000)).is_some() && read(&"{\"a\":".repeat(100_000)).is_some());
    }
}
