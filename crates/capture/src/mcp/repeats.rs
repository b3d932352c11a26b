//! Duplicate members of an object: readers differ in which one they use, so all of them are kept.
//!
//! Only texts that the strict reader refuses come here. A text that is not JSON is refused here too.

use attestlog::json::Json;
use std::collections::BTreeMap;

/// A path of member names; an array element is given by its index.
pub(super) type Steps = Vec<String>;

const DEEPEST: usize = 128;

/// The text with duplicate members of an object merged into one whose value is the list of theirs, and the places of
/// these members.
pub(super) fn gathered(text: &str) -> Option<(String, Vec<Steps>)> {
    let mut reader = Reader::new(text, false);
    let value = reader.value()?;
    reader.space();
    (reader.at == text.len()).then_some((value, reader.found))
}

/// The objects and lists in a text that is not JSON, as far as any reader might read them, one after the other, with
/// duplicate members merged: words that JSON does not have (`NaN`) become texts, and so does what is nested too deeply.
/// `None` if something remains that could be read as this or that.
pub(super) fn leniently(text: &str) -> Option<Vec<String>> {
    let mut reader = Reader::new(text, true);
    let mut values = Vec::new();
    while let Some(next) = reader.text.get(reader.at..)?.iter().position(|b| matches!(b, b'{' | b'[')) {
        reader.at += next;
        values.push(reader.value()?);
    }
    Some(values)
}

struct Reader<'a> {
    text: &'a [u8],
    whole: &'a str,
    at: usize,
    path: Steps,
    found: Vec<Steps>,
    lenient: bool,
}

impl Reader<'_> {
    fn new(text: &str, lenient: bool) -> Reader<'_> {
        Reader { text: text.as_bytes(), whole: text, at: 0, path: Vec::new(), found: Vec::new(), lenient }
    }

    fn space(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn next(&mut self) -> Option<u8> {
        self.space();
        self.text.get(self.at).copied()
    }

    fn value(&mut self) -> Option<String> {
        let deepest = if self.lenient { DEEPEST / 2 } else { DEEPEST };
        match self.next()? {
            b'{' if self.path.len() <= deepest => self.object(),
            b'[' if self.path.len() <= deepest => self.array(),
            b'{' | b'[' if self.lenient => self.too_deep(),
            b'{' | b'[' => None,
            b'"' => self.string(),
            _ => {
                let start = self.at;
                while self.text.get(self.at).is_some_and(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b)) {
                    self.at += 1;
                }
                let word = self.whole.get(start..self.at).filter(|word| !word.is_empty())?;
                match self.lenient && Json::parse(word.as_bytes()).is_err() {
                    true => Some(Json::from(word).to_canonical().as_str().to_owned()),
                    false => Some(word.to_owned()),
                }
            }
        }
    }

    /// The object or list that begins here, as a text.
    fn too_deep(&mut self) -> Option<String> {
        let (start, mut depth) = (self.at, 0_usize);
        loop {
            match self.text.get(self.at)? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return self.whole.get(start..self.at).map(|all| Json::from(all).to_canonical().as_str().to_owned());
            }
        }
    }

    fn string(&mut self) -> Option<String> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.text.get(self.at)? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        let text = self.whole.get(start..self.at)?;
        let control = |c: char| c < ' ';
        match self.lenient && text.contains(control) {
            // Some readers let a line break or a tab be in a text.
            true => Some(text.replace(control, " ")),
            false => Some(text.to_owned()),
        }
    }

    fn array(&mut self) -> Option<String> {
        self.at += 1;
        let mut items = Vec::new();
        if self.next()? != b']' {
            loop {
                self.path.push(items.len().to_string());
                items.push(self.value()?);
                self.path.pop();
                match self.next()? {
                    b',' => self.at += 1,
                    b']' => break,
                    _ => return None,
                }
            }
        }
        self.at += 1;
        Some(format!("[{}]", items.join(",")))
    }

    fn object(&mut self) -> Option<String> {
        self.at += 1;
        let mut members: BTreeMap<String, Vec<String>> = BTreeMap::new();
        if self.next()? != b'}' {
            loop {
                if self.next()? != b'"' {
                    return None;
                }
                // Compares names after unescaping, so that two spellings of one name are equal.
                let key = Json::parse(self.string()?.as_bytes()).ok()?.value;
                if self.next()? != b':' {
                    return None;
                }
                self.at += 1;
                self.path.push(key.as_str()?.to_owned());
                let value = self.value()?;
                let path = self.path.clone();
                self.path.pop();
                let values = members.entry(key.to_canonical().as_str().to_owned()).or_default();
                values.push(value);
                if values.len() == 2 {
                    self.found.push(path);
                }
                match self.next()? {
                    b',' => self.at += 1,
                    b'}' => break,
                    _ => return None,
                }
            }
        }
        self.at += 1;
        let member = |(key, values): (&String, &Vec<String>)| match values.as_slice() {
            [one] => format!("{key}:{one}"),
            all => format!("{key}:[{}]", all.join(",")),
        };
        Some(format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(",")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_values_of_one_name_are_kept() {
        let (text, found) = gathered(r#"{"a":1, "\u0061":{"x":"}","x":[2]},"b":[{"c":1,"c":2}]}"#).unwrap();
        assert_eq!(text, r#"{"a":[1,{"x":["}",[2]]}],"b":[{"c":[1,2]}]}"#);
        assert_eq!(found.concat(), ["a", "x", "a", "b", "0", "c"]);
        for wrong in ["", "{", "{\"a\"}", "[1,]", "{\"a\":1}x", "\"", "{a:1}", "\"\\"] {
            assert!(gathered(wrong).is_none(), "{wrong}");
        }
        assert!(gathered(&"[".repeat(100_000)).is_none());
    }

    #[test]
    fn what_some_reader_reads_is_read() {
        let read = |text: &str| leniently(text).map(|values| values.join(" "));
        assert_eq!(
            read("\u{feff}{\"a\":NaN,\"b\":-Infinity,\"b\":01}").unwrap(),
            r#"{"a":"NaN","b":["-Infinity","01"]}"#
        );
        assert_eq!(read("1 {\"a\":\"x\ty\"} [2]x").unwrap(), r#"{"a":"x y"} [2]"#);
        let deep = format!("{}{{\"a\":\"]\"}}{}", "[".repeat(200), "]".repeat(200));
        assert!(read(&deep).unwrap().contains(r#"{\"a\":\"]\"}"#));
        for wrong in ["{\"a\":1,}", "{\"a\":", "{a:1}", "{'a':1}", "[1 2]", &"[".repeat(100_000)] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert_eq!(read("chart").unwrap(), "");
    }
}
