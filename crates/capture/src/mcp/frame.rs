//! Frames of the stdio transport: one JSON-RPC message or batch per line.

use super::repeats::{Steps, gathered, leniently};
use attestlog::json::{Json, Limits, Parsed, Path};

/// A longer frame is not held in memory but passed on in pieces. (Tests use a smaller limit.)
pub(super) const MAX_FRAME: usize = if cfg!(test) { 1 << 20 } else { 256 << 20 };
/// The most values that are read from a frame: a value of two bytes takes about forty in memory. A request with more is
/// refused as unreadable; no real call has that many.
const MOST_VALUES: usize = 4 << 20;

/// Splits a stream of bytes into frames.
#[derive(Debug, Default)]
pub struct Frames {
    begun: Vec<u8>,
}

impl Frames {
    /// Adds bytes and returns the frames that are now complete, each with its line break. A frame over 256 MiB is
    /// returned in pieces, of which only the last has a line break.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut whole = Vec::new();
        for part in bytes.split_inclusive(|&b| b == b'\n') {
            self.begun.extend_from_slice(part);
            let ended = part.ends_with(b"\n");
            if ended || self.begun.len() > MAX_FRAME {
                whole.push(std::mem::take(&mut self.begun));
            }
        }
        whole
    }

    /// The rest at the end of the stream, if there is any.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        Some(std::mem::take(&mut self.begun)).filter(|rest| !rest.is_empty())
    }
}

/// The contents of a frame.
#[derive(Debug)]
pub(super) enum Read {
    /// A message, or a batch of them.
    Json {
        value: Json,
        /// Whether characters that JSON text cannot hold were replaced.
        lenient_frame: bool,
        /// The places of numbers that a double cannot hold exactly; they are strings of digits now.
        lossy_numbers: Vec<Path>,
        /// The places of duplicate members; their values are a list now.
        repeats: Vec<Steps>,
    },
    /// White space only.
    Blank,
    /// Not JSON-RPC.
    Odd,
    /// Not readable without doubt, while another reader might find a message in it.
    Unreadable,
}

/// Whether a server that takes a carriage return for a line break, as Python does, might find a message in a part of
/// this frame, whatever the whole frame says.
pub(super) fn hides(frame: &[u8]) -> bool {
    let frame = frame.trim_ascii();
    frame.contains(&b'\r') && may_say(frame)
}

/// Whether any reader might find a message in these bytes: they contain an opening brace.
fn may_say(frame: &[u8]) -> bool {
    frame.contains(&b'{')
}

/// Reads a frame. If the strict reader refuses it, what other readers accept is replaced and the frame is read again.
pub(super) fn read(frame: &[u8]) -> Read {
    let frame = frame.trim_ascii();
    let Some(first) = frame.first() else { return Read::Blank };
    if matches!(first, b'{' | b'[') && frame.len() <= MAX_FRAME {
        let limits = Limits::bytes(MAX_FRAME).values(MOST_VALUES);
        let strict = |text: &[u8]| Json::parse_within(text, &limits);
        let known = |parsed: Parsed, lenient_frame, repeats| Read::Json {
            value: parsed.value,
            lenient_frame,
            lossy_numbers: parsed.restated,
            repeats,
        };
        match strict(frame) {
            Ok(parsed) => return known(parsed, false, Vec::new()),
            // A frame over the limits stays over them in any spelling, and a copy would be just as large.
            Err(e) if e.is_too_large() => {}
            Err(_) => {
                let text = replaced(frame);
                let lenient_frame = text.as_bytes() != frame;
                if let Ok(parsed) = strict(text.as_bytes()) {
                    return known(parsed, lenient_frame, Vec::new());
                }
                if let Some((text, repeats)) = gathered(&text)
                    && let Ok(parsed) = strict(text.as_bytes())
                {
                    return known(parsed, lenient_frame, repeats);
                }
            }
        }
    }
    // Deep nesting, a byte order mark, or another value before the message: servers differ in how they read it.
    if may_say(frame) { Read::Unreadable } else { Read::Odd }
}

/// The messages that some reader may find in a frame that is not readable without doubt. `None` if that cannot be said.
pub(super) fn readings(frame: &[u8]) -> Option<Vec<Json>> {
    let limits = Limits::bytes(MAX_FRAME).values(MOST_VALUES);
    let frame = Some(frame).filter(|frame| frame.len() <= MAX_FRAME)?;
    let mut found = Vec::new();
    for value in leniently(&replaced(frame))? {
        match Json::parse_within(value.as_bytes(), &limits).ok()?.value {
            Json::Array(messages) => found.extend(messages),
            one => found.push(one),
        }
    }
    Some(found)
}

/// The text with invalid UTF-8, NULs and unpaired surrogates replaced.
fn replaced(frame: &[u8]) -> String {
    let text = String::from_utf8_lossy(frame);
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_ref();
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        let unit = |from: usize| {
            let digits = escape.get(from..from + 6)?.strip_prefix("\\u")?;
            u32::from_str_radix(digits, 16).ok()
        };
        let (written, used) = match (unit(0), unit(6)) {
            (Some(0), _) => ("\u{2400}", 6),
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => (escape.get(..12).unwrap_or_default(), 12),
            (Some(0xd800..=0xdfff), _) => ("\u{fffd}", 6),
            // Copy the escaped character too, so that the second of two backslashes does not begin an escape.
            _ => {
                let used = 1 + escape.chars().nth(1).map_or(0, char::len_utf8);
                (escape.get(..used).unwrap_or_default(), used)
            }
        };
        out.push_str(written);
        rest = escape.get(used..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_whole_and_unchanged() {
        let mut frames = Frames::default();
        assert!(frames.push(b"{\"a\":").is_empty());
        assert_eq!(frames.push(b"1}\r\n\nx"), [b"{\"a\":1}\r\n".to_vec(), b"\n".to_vec()]);
        assert_eq!(frames.finish(), Some(b"x".to_vec()));
        assert_eq!(frames.finish(), None);
    }

    #[test]
    fn what_other_readers_let_pass_is_read() {
        let value = |text: &[u8]| match read(text) {
            Read::Json { value, lenient_frame, .. } => (value.to_canonical().as_str().to_owned(), lenient_frame),
            other => panic!("{other:?}"),
        };
        assert_eq!(value(br#" {"a":1} "#), (r#"{"a":1}"#.to_owned(), false));
        assert!(value(br#"{"a":"x\u0000\\u0000\ud800y\ud83d\ude00"}"#).1);
        assert_eq!(value(br#"{"a":"\u0000\\u0000\ud800"}"#).0, "{\"a\":\"\u{2400}\\\\u0000\u{fffd}\"}");
        assert_eq!(value(b"{\"a\":\"\xff\"}").0, "{\"a\":\"\u{fffd}\"}");
        assert_eq!(value(br#"{"a":1,"\u0061":2,"b":"\u0000"}"#), ("{\"a\":[1,2],\"b\":\"\u{2400}\"}".to_owned(), true));
        // A server that trims more than JSON's white space, or reads several values in a row, finds a call here. Such
        // frames were forwarded unrecorded until a fuzz target read them as such a server does.
        for before in ["\u{feff}", "\u{b}", "\u{a0}", "1", "null ", ">"] {
            let frame = format!(r#"{before}{{"id":1,"method":"tools/call","params":{{"name":"t"}}}}"#);
            assert!(matches!(read(frame.as_bytes()), Read::Unreadable), "{frame}");
        }
        assert!(matches!(read(b"hello"), Read::Odd));
        assert!(matches!(read(b"the tools are {nice}"), Read::Unreadable));
        assert!(matches!(read(b"\xef\xbb\xbf{\"method\":\"tools/call\"}"), Read::Unreadable), "some skip the mark");
        assert!(matches!(read(b"{half"), Read::Unreadable));
        assert!(matches!(read(b" \r\n"), Read::Blank));
    }

    /// Python's servers read lines with universal line breaks. Each of these is one line for everybody else; those
    /// servers found a call in what the proxy had taken for a notification's parameters, or for no JSON at all.
    #[test]
    fn a_carriage_return_hides_no_call() {
        assert!(hides(b"{\"method\":\"x\",\"params\":\r{\"method\":\"tools/call\"}\r}\n"));
        assert!(hides(b"hello\r{\"method\":\"\\u0074ools/call\"}\n"));
        assert!(!hides(b"\r{\"method\":\"tools/call\"}\r\n"), "at the ends it hides nothing");
        assert!(!hides(b"hello\rworld\n"));
    }

    #[test]
    fn a_frame_that_is_too_long_comes_in_pieces() {
        let mut frames = Frames::default();
        let piece = frames.push(&vec![b'x'; MAX_FRAME + 1]);
        assert_eq!(piece.len(), 1);
        assert_eq!(frames.push(b"y\nz\n"), [b"y\n".to_vec(), b"z\n".to_vec()]);
    }
}
