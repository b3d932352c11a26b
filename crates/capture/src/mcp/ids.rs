//! The ids in a frame that cannot be read as a whole: who waits for an answer to it.
//!
//! A refused frame gets an answer, and an answer without the request's id leaves the host waiting forever. So the
//! frame's members are scanned as text: whatever else the frame holds (too deep, too long, `NaN`, cut off), the id of
//! the outermost object is found if it is there exactly once. A reply that cannot be read may be for each of the ids
//! that are there.

use super::strict::folded;
use attestlog::json::Json;

/// The most ids of a batch that are looked for.
const MOST: usize = 1_000;

/// The ids of the message in these bytes, or of the messages of a batch, and whether each message has a method. An id
/// that occurs twice in its message, or is neither a string nor a number, is left out.
pub(super) fn of(frame: &[u8]) -> Vec<(Json, bool)> {
    let frame = frame.strip_prefix("\u{feff}".as_bytes()).unwrap_or(frame).trim_ascii_start();
    let level = match frame.first() {
        Some(b'{') => 1,
        Some(b'[') => 2,
        _ => return Vec::new(),
    };
    let mut walk = Walk::new(frame, level);
    let mut found = Vec::new();
    while found.len() < MOST && walk.step().is_some() {
        found.append(&mut walk.alone);
    }
    // A message that was cut off counts as ended: its id may have come before.
    walk.leave();
    found.append(&mut walk.alone);
    found
}

/// All ids in these bytes that some reader may take for a message's, whatever the case of their names, and whether each
/// is a member of the first message or batch, as far as that can be said. `None` if there are too many.
pub(super) fn all(frame: &[u8]) -> Option<Vec<(Json, bool)>> {
    let start = frame.iter().position(|b| matches!(b, b'{' | b'[')).unwrap_or(frame.len());
    let frame = frame.get(start..).unwrap_or_default();
    let mut walk = Walk::new(frame, if frame.starts_with(b"[") { 2 } else { 1 });
    walk.any_depth = true;
    while walk.every.len() < MOST && walk.step().is_some() {}
    Some(walk.every).filter(|all| all.len() < MOST)
}

struct Walk<'a> {
    frame: &'a [u8],
    at: usize,
    /// The depth at which the members of a message are.
    level: usize,
    depth: usize,
    /// Whether the value at that depth is an object, and so a message.
    in_object: bool,
    key_next: bool,
    /// The ids of the current message; `None` for an id that cannot be answered.
    ids: Vec<Option<Json>>,
    method: bool,
    /// The messages that have one id.
    alone: Vec<(Json, bool)>,
    /// Whether a message may be anywhere, and the ids found then.
    any_depth: bool,
    every: Vec<(Json, bool)>,
}

impl<'a> Walk<'a> {
    fn new(frame: &[u8], level: usize) -> Walk<'_> {
        Walk {
            frame,
            at: 0,
            level,
            depth: 0,
            in_object: false,
            key_next: false,
            ids: Vec::new(),
            method: false,
            alone: Vec::new(),
            any_depth: false,
            every: Vec::new(),
        }
    }

    fn step(&mut self) -> Option<()> {
        let byte = *self.frame.get(self.at)?;
        match byte {
            b'"' => {
                let text = self.string()?;
                if self.any_depth {
                    self.id_anywhere(text);
                } else if self.key_next && self.in_object && self.depth == self.level {
                    self.member(text);
                }
                self.key_next = false;
                return Some(());
            }
            b'{' | b'[' => {
                self.depth += 1;
                if self.depth == self.level {
                    (self.in_object, self.key_next) = (byte == b'{', true);
                }
            }
            b'}' | b']' => {
                if self.depth == self.level {
                    self.leave();
                }
                match self.depth.checked_sub(1) {
                    None if self.any_depth => {}
                    less => self.depth = less?,
                }
            }
            b',' => self.key_next = true,
            _ => {}
        }
        self.at += 1;
        Some(())
    }

    /// Ends the current message.
    fn leave(&mut self) {
        if let [Some(id)] = self.ids.as_slice() {
            self.alone.push((id.clone(), self.method));
        }
        (self.ids, self.method, self.in_object) = (Vec::new(), false, false);
    }

    /// The string that begins here, with its quotes.
    fn string(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.frame.get(self.at)? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        self.frame.get(start..self.at)
    }

    /// Handles the value of a message's member, if it is the id or the method.
    fn member(&mut self, name: &[u8]) {
        let name = Json::parse(name).ok().and_then(|name| name.value.as_str().map(str::to_owned));
        match name.as_deref() {
            Some("method") => self.method = true,
            Some("id") => {
                let id = self.id();
                self.ids.push(id);
            }
            _ => {}
        }
    }

    /// Remembers the id if this is the name of one.
    fn id_anywhere(&mut self, name: &[u8]) {
        let name = Json::parse(name).ok().and_then(|name| name.value.as_str().map(folded));
        if name.as_deref() == Some("id") {
            let outermost = self.in_object && self.depth == self.level;
            let id = self.id().map(|id| (id, outermost));
            self.every.extend(id);
        }
    }

    fn id(&mut self) -> Option<Json> {
        self.space();
        if self.frame.get(self.at) != Some(&b':') {
            return None;
        }
        self.at += 1;
        self.space();
        let text = match self.frame.get(self.at)? {
            b'"' => self.string()?.to_vec(),
            _ => {
                let rest = self.frame.get(self.at..)?;
                let end = rest.iter().position(|b| !(b.is_ascii_alphanumeric() || b"+-.".contains(b)))?;
                rest.get(..end)?.to_vec()
            }
        };
        let id = Json::parse(&text).ok()?.value;
        matches!(id, Json::String(_) | Json::Number(_)).then_some(id)
    }

    fn space(&mut self) {
        while self.frame.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_found_whatever_else_cannot_be_read() {
        let of = |frame: &str| super::of(frame.as_bytes());
        let seven = || vec![(Json::from(7u32), true)];
        let deep = format!(r#"{{"method":"x","params":{}"id":1{},"id":7}}"#, "{\"a\":[".repeat(500), "]}".repeat(500));
        for frame in [
            r#"{"jsonrpc":"2.0","id":7,"method":"x","params":{"id":9,"a":NaN}}"#,
            "\u{feff} {\"method\" : \"id\", \"\\u0069d\"\t: 7 , \"params\":{\"id\":1}}",
            r#"{"id":7,"method":"x","params":{"a":"},{\"id\":8"#,
            &deep,
        ] {
            assert_eq!(of(frame), seven(), "{frame}");
        }
        assert_eq!(of(r#"{"id":"a\"b","result":NaN}"#), [(Json::from("a\"b"), false)]);
        let two = of(r#"[{"id":1,"method":"x","a":[NaN]},{"a":1},7,["id",3],{"id":"2"}]"#);
        assert_eq!(two, [(Json::from(1u32), true), (Json::from("2"), false)]);
        for none in [
            "",
            "x",
            "{",
            r#"{"id":1,"id":2}"#,
            r#"{"id":null}"#,
            r#"{"id":[1]}"#,
            r#"{"a":{"id":1}}"#,
            r#"{"id""#,
            r#"{"a":"id":7}"#,
            r#"{"ID":7}"#,
            "\"id\":7",
            r#"{"id":7"#,
        ] {
            assert_eq!(of(none), [], "{none}");
        }
    }

    #[test]
    fn all_ids_that_may_be_meant_are_found() {
        for (frame, outermost) in [
            (r#"{"id":1,"id":"2",}"#, true),
            (r#"x] {"ID":1} {"\u0069d" : "2",}"#, true),
            (r#"[{"id":1,"b":NaN},{"_id":"2"},]"#, true),
            (r#"{"b":{"id":1},"c":[{"id":"2"},]}"#, false),
        ] {
            let both = [(Json::from(1u32), outermost), (Json::from("2"), outermost)];
            assert_eq!(all(frame.as_bytes()).unwrap(), both, "{frame}");
        }
        assert_eq!(all("{\"id\":1}".repeat(MOST).as_bytes()), None);
        assert_eq!(all(b"chart").unwrap(), []);
    }
}
