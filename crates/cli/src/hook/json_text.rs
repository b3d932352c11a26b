//! Changes a JSON text and leaves the rest of it as it is, byte for byte: the order of members, blanks, the form of numbers.
//!
//! The text is checked by the library's parser first, which refuses comments, commas too many and names that occur twice; what is
//! read here afterwards is known to be JSON.

use attestlog::json::Json;
use std::ops::Range;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
struct Node {
    at: Range<usize>,
    /// The elements of an array with their numbers, or the members of an object with their names.
    inside: Vec<Child>,
}

#[derive(Debug, Clone, PartialEq)]
struct Child {
    /// Where the element or member begins: for a member, with its name.
    start: usize,
    name: String,
    node: Node,
}

/// A JSON text that is being changed.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonText {
    text: String,
    /// Whether it is of a file that is not there yet.
    fresh: bool,
}

impl JsonText {
    /// Takes a text, which must be an object.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn new(text: &str) -> Result<JsonText, String> {
        let parsed = Json::parse(text.as_bytes()).map_err(|e| {
            let comments = if text.contains("//") || text.contains("/*") { " (comments are not JSON)" } else { "" };
            format!("{e}{comments}")
        })?;
        match parsed.value {
            Json::Object(_) => Ok(JsonText { text: text.to_owned(), fresh: false }),
            other => Err(format!("is {}, not an object", other.type_name())),
        }
    }

    /// A text for a file that is not there yet. It is indented by one blank, by which it is known again.
    pub fn fresh() -> JsonText {
        JsonText { text: "{}\n".to_owned(), fresh: true }
    }

    /// Whether the text was begun by [`fresh`](JsonText::fresh).
    pub fn is_fresh(text: &str) -> bool {
        text.starts_with("{\n \"")
    }

    /// Whether nothing is in it, or only a member of this name.
    pub fn has_only(&self, name: Option<&str>) -> bool {
        self.names(&[]).iter().all(|there| Some(there.as_str()) == name)
    }

    /// The text as it is now.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The value at this path of names; an element of an array is named by its number.
    pub fn value(&self, path: &[&str]) -> Option<Json> {
        let value = Json::parse(self.text.as_bytes()).ok()?.value;
        let at = |value: &'_ Json, name: &str| match value {
            Json::Array(items) => items.get(name.parse::<usize>().ok()?).cloned(),
            other => other.get(name).cloned(),
        };
        path.iter().try_fold(value, |value, name| at(&value, name))
    }

    /// Adds an element at the end of the array at this path, whose objects and the array itself are made if they are missing.
    ///
    /// # Errors
    /// If something else stands there.
    pub fn push(&mut self, path: &[&str], element: &Json) -> Result<(), String> {
        for depth in 1..=path.len() {
            let (so_far, last) = (&path[..depth], depth == path.len());
            match (self.value(so_far), last) {
                (Some(Json::Array(_)), true) | (Some(Json::Object(_)), false) => {}
                (Some(other), _) => {
                    return Err(format!("{} is {}; put it right first", so_far.join("."), other.type_name()));
                }
                (None, _) => {
                    let name = Json::from(path[depth - 1]).to_canonical().to_string();
                    let empty = if last { "[]" } else { "{}" };
                    let gap = if self.is_compact() { ":" } else { ": " };
                    self.add(&path[..depth - 1], &format!("{name}{gap}{empty}"));
                }
            }
        }
        let step = self.step();
        let pretty =
            if self.is_compact() { element.to_canonical().to_string() } else { pretty(element, &step, path.len() + 1) };
        self.add(path, &pretty);
        Ok(())
    }

    /// Sets a member of the outermost object, if it is not there.
    pub fn set(&mut self, name: &str, value: &Json) {
        if self.value(&[name]).is_none() {
            let gap = if self.is_compact() { ":" } else { ": " };
            let name = Json::from(name).to_canonical().to_string();
            self.add(&[], &format!("{name}{gap}{}", value.to_canonical()));
        }
    }

    /// Removes a member of the outermost object.
    pub fn unset(&mut self, name: &str) {
        if let Some(i) = self.node(&[]).inside.iter().position(|child| child.name == name) {
            self.take(&[], i);
        }
    }

    /// Removes the elements for which `ours` returns true from the array at this path, then what is empty because of that: the array
    /// and the objects around it, except for those that `stays` names. Returns whether there were any.
    pub fn remove(&mut self, path: &[&str], ours: impl Fn(&Json) -> bool, stays: impl Fn(&[&str]) -> bool) -> bool {
        let Some(Json::Array(elements)) = self.value(path) else { return false };
        let gone: Vec<usize> =
            elements.iter().enumerate().filter(|(_, element)| ours(element)).map(|(i, _)| i).collect();
        for i in gone.iter().rev() {
            self.take(path, *i);
        }
        let mut depth = path.len();
        while !gone.is_empty() && depth > 0 && !stays(&path[..depth]) {
            let is_empty = match self.value(&path[..depth]) {
                Some(Json::Array(elements)) => elements.is_empty(),
                Some(Json::Object(members)) => members.is_empty(),
                _ => false,
            };
            if !is_empty {
                break;
            }
            depth -= 1;
            let inside = self.node(&path[..depth]).inside;
            if let Some(i) = inside.iter().position(|child| child.name == path[depth]) {
                self.take(&path[..depth], i);
            }
        }
        !gone.is_empty()
    }

    /// The names of the members of the object at this path.
    pub fn names(&self, path: &[&str]) -> Vec<String> {
        match self.value(path) {
            Some(Json::Object(members)) => members.iter().map(|(name, _)| name.to_owned()).collect(),
            _ => Vec::new(),
        }
    }

    fn node(&self, path: &[&str]) -> Node {
        let mut at = 0;
        let mut node = read(&self.text, &mut at);
        for name in path {
            match node.inside.into_iter().find(|child| child.name == *name) {
                Some(child) => node = child.node,
                None => return Node { at: 0..0, inside: Vec::new() },
            }
        }
        node
    }

    /// Whether the whole text stands on one line and has something in it.
    fn is_compact(&self) -> bool {
        let text = self.text.trim();
        !text.contains('\n') && !self.node(&[]).inside.is_empty()
    }

    /// What one level is indented by.
    fn step(&self) -> String {
        let first = self.node(&[]).inside.first().map(|child| child.start);
        let before = first.and_then(|start| self.text.get(..start)).unwrap_or_default();
        match before.rsplit_once('\n') {
            Some((_, blanks)) if !blanks.is_empty() && blanks.trim().is_empty() => blanks.to_owned(),
            _ if self.fresh => " ".to_owned(),
            _ => "  ".to_owned(),
        }
    }

    fn line(&self) -> &'static str {
        if self.text.contains("\r\n") { "\r\n" } else { "\n" }
    }

    /// Adds an element or a member, already written, at the end of the array or object at this path.
    fn add(&mut self, path: &[&str], written: &str) {
        let (node, line, step) = (self.node(path), self.line(), self.step());
        let written = written.replace('\n', line);
        let (inner, outer) = (step.repeat(path.len() + 1), step.repeat(path.len()));
        let (at, insert) = match node.inside.last() {
            Some(last) if self.is_compact() => (last.node.at.end, format!(",{written}")),
            Some(last) => (last.node.at.end, format!(",{line}{inner}{written}")),
            None if self.is_compact() => (node.at.start + 1, written),
            None => (node.at.start + 1, format!("{line}{inner}{written}{line}{outer}")),
        };
        // An empty array or object may have blanks in it.
        let end = if node.inside.is_empty() { node.at.end.saturating_sub(1) } else { at };
        self.text.replace_range(at..end.max(at), &insert);
    }

    /// Removes the element or member with this number from the array or object at this path, with the comma and the blanks that came
    /// with it.
    fn take(&mut self, path: &[&str], number: usize) {
        let Node { at, inside } = self.node(path);
        let Some(child) = inside.get(number) else { return };
        let range = match (number.checked_sub(1).and_then(|i| inside.get(i)), inside.get(number + 1)) {
            (Some(before), _) => before.node.at.end..child.node.at.end,
            (None, Some(after)) => child.start..after.start,
            (None, None) => at.start + 1..at.end - 1,
        };
        self.text.replace_range(range, "");
    }
}

/// Reads a value of a text that is known to be JSON.
fn read(text: &str, at: &mut usize) -> Node {
    let bytes = text.as_bytes();
    let skip = |at: &mut usize, also: &[u8]| {
        while bytes.get(*at).is_some_and(|byte| byte.is_ascii_whitespace() || also.contains(byte)) {
            *at += 1;
        }
    };
    skip(at, b"");
    let start = *at;
    let mut inside = Vec::new();
    match bytes.get(start) {
        Some(open @ (b'{' | b'[')) => {
            *at += 1;
            loop {
                skip(at, b",");
                let from = *at;
                match bytes.get(from) {
                    None => break,
                    Some(b'}' | b']') => {
                        *at += 1;
                        break;
                    }
                    Some(_) => {}
                }
                let mut name = inside.len().to_string();
                if *open == b'{' {
                    let written = read(text, at).at;
                    let parsed = text.get(written).and_then(|name| Json::parse(name.as_bytes()).ok());
                    name = parsed.and_then(|name| name.value.as_str().map(str::to_owned)).unwrap_or_default();
                    skip(at, b":");
                }
                inside.push(Child { start: from, name, node: read(text, at) });
            }
        }
        Some(b'"') => {
            *at += 1;
            while let Some(byte) = bytes.get(*at) {
                *at += if *byte == b'\\' { 2 } else { 1 };
                if *byte == b'"' {
                    break;
                }
            }
        }
        _ => {
            while bytes.get(*at).is_some_and(|byte| !byte.is_ascii_whitespace() && !b",]}:".contains(byte)) {
                *at += 1;
            }
        }
    }
    Node { at: start..(*at).min(text.len()), inside }
}

/// A value over several lines.
fn pretty(value: &Json, step: &str, depth: usize) -> String {
    let (inner, outer) = (step.repeat(depth + 1), step.repeat(depth));
    let list = |open: char, items: Vec<String>, close: char| match items.is_empty() {
        true => format!("{open}{close}"),
        false => format!("{open}\n{inner}{}\n{outer}{close}", items.join(&format!(",\n{inner}"))),
    };
    match value {
        Json::Array(items) => list('[', items.iter().map(|item| pretty(item, step, depth + 1)).collect(), ']'),
        Json::Object(members) => {
            let member = |(name, value): (&str, &Json)| {
                format!("{}: {}", Json::from(name).to_canonical(), pretty(value, step, depth + 1))
            };
            list('{', members.iter().map(member).collect(), '}')
        }
        other => other.to_canonical().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element() -> Json {
        Json::parse(br#"{"hooks":[{"command":"x","type":"command"}]}"#).unwrap().value
    }

    /// A file that was read and written again as JSON lost its order, its indentation and the form of its numbers.
    #[test]
    fn what_was_there_stays_byte_for_byte_and_comes_back() {
        let texts = [
            "{}",
            "{}\n",
            "{\"z\":1.0,\"a\":[ 1,2 ]}",
            "{\n  \"z\": 1.50,\n  \"a\": \"\\u00e9 // no comment {[\"\n}\n",
            "{\r\n\t\"z\": 1\r\n}\r\n",
            "{\n    \"hooks\": {\n        \"E\": [\n            {\"other\": true}\n        ]\n    },\n    \"z\": null\n}\n",
            "{\"hooks\": {\"E\": [{\"other\": 1}], \"F\": []}, \"z\": [{}, []]}",
            "{\n  \"hooks\": {\n    \"A\": [1]\n  }\n}",
        ];
        for text in texts {
            let mut json = with_elements(text);
            for event in ["E", "G"] {
                assert!(json.remove(&["hooks", event], |found| *found == element(), |_| false), "{text}");
            }
            assert_eq!(json.text(), text);
            assert!(!json.remove(&["hooks", "E"], |found| *found == element(), |_| false));
        }
    }

    fn with_elements(text: &str) -> JsonText {
        let mut json = JsonText::new(text).unwrap();
        json.push(&["hooks", "E"], &element()).unwrap();
        json.push(&["hooks", "G"], &element()).unwrap();
        let now = Json::parse(json.text().as_bytes()).unwrap_or_else(|e| panic!("{e}: {}", json.text())).value;
        assert_eq!(now.get("hooks").unwrap().get("G").unwrap().as_array().unwrap(), [element()]);
        json
    }

    /// What was empty was taken away with the hooks.
    #[test]
    fn what_was_there_before_stays_though_it_is_empty() {
        for (text, left) in [
            ("{\"hooks\":{}}", "{\"hooks\":{}}"),
            ("{\"hooks\": {\"E\": [ ]}}", "{\"hooks\": {\"E\": []}}"),
            ("{\n  \"a\": 1,\n  \"hooks\": { }\n}\n", "{\n  \"a\": 1,\n  \"hooks\": {}\n}\n"),
        ] {
            let (mut json, before) = (with_elements(text), JsonText::new(text).unwrap());
            for event in ["E", "G"] {
                json.remove(&["hooks", event], |found| *found == element(), |path| before.value(path).is_some());
            }
            assert_eq!(json.text(), left);
            json.unset("hooks");
            assert!(json.value(&["hooks"]).is_none() && JsonText::new(json.text()).is_ok(), "{}", json.text());
        }
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_place() {
        for (text, says) in [
            ("{\n // mine\n}", "comments are not JSON"),
            ("{\"a\":1,}", "at byte 8"),
            ("[]", "not an object"),
            ("", "byte"),
            ("{\"a\":1,\"a\":2}", "a"),
        ] {
            let why = JsonText::new(text).unwrap_err();
            assert!(why.contains(says), "{text}: {why}");
        }
        let mut odd = JsonText::new("{\"hooks\":[]}").unwrap();
        assert!(odd.push(&["hooks", "E"], &element()).unwrap_err().contains("hooks is an array"));
    }
}
