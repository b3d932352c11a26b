//! Where values begin and end in a text. Each end is searched for once: an agent may write the name of a secret
//! thousands of times into one line, and then all these values end at the same place.

use super::value::closes;
use super::whole::{begun, ends_word};
use std::cell::{Cell, RefCell};
use std::ops::Deref;

/// Quotes with more escapes than this are only searched for nearby.
const ESCAPES: usize = 16;

/// A text, with a cache of the ranges that were searched last and their ends.
pub(super) struct Source<'t> {
    text: &'t str,
    line: Cell<(usize, usize)>,
    word: Cell<(usize, usize)>,
    /// One range per kind of quote and number of escapes.
    quotes: RefCell<Vec<((u8, usize), (usize, usize))>>,
    brackets: Cell<(usize, usize)>,
    /// The positions from which two texts were last searched for, and where each was found next.
    next: [Cell<(usize, usize)>; 2],
    #[cfg(test)]
    pub(super) steps: Cell<usize>,
}

/// No range has been searched.
const NOWHERE: (usize, usize) = (usize::MAX, 0);

impl Deref for Source<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        self.text
    }
}

fn ends_line(b: u8) -> bool {
    matches!(b, b'\n' | b'\r' | b'"' | b'\'')
}

impl<'t> Source<'t> {
    pub(super) fn of(text: &'t str) -> Source<'t> {
        Source {
            text,
            line: Cell::new(NOWHERE),
            word: Cell::new(NOWHERE),
            quotes: RefCell::default(),
            brackets: Cell::new(NOWHERE),
            next: [const { Cell::new(NOWHERE) }; 2],
            #[cfg(test)]
            steps: Cell::new(0),
        }
    }

    /// The first `what` at or after `from`. Each search text has its own `slot`.
    pub(super) fn next(&self, slot: usize, what: &str, from: usize) -> Option<usize> {
        let cell = self.next.get(slot)?;
        let found = self.known(cell, from, || {
            self.text.get(from..).and_then(|rest| rest.find(what)).map_or(self.text.len(), |at| from + at)
        });
        (found < self.text.len()).then_some(found)
    }

    /// The end of the cached range if it contains `from`; otherwise searches for the end and caches it.
    fn known(&self, cell: &Cell<(usize, usize)>, from: usize, find: impl FnOnce() -> usize) -> usize {
        let (start, end) = cell.get();
        if (start..=end).contains(&from) {
            return end;
        }
        let end = find();
        self.count(end - from);
        cell.set((from, end));
        end
    }

    #[cfg(test)]
    fn count(&self, steps: usize) {
        self.steps.set(self.steps.get() + steps);
    }

    #[cfg(not(test))]
    fn count(&self, _: usize) {}

    fn first(&self, from: usize, stop: fn(u8) -> bool) -> usize {
        let rest = self.text.as_bytes().get(from..).unwrap_or_default();
        from + rest.iter().position(|&b| stop(b)).unwrap_or(rest.len())
    }

    /// The position of the closing quote, which is escaped as often as the opening one.
    fn closing(&self, from: usize, quote: u8, escapes: usize) -> usize {
        let bytes = self.text.as_bytes();
        // So many escapes occur only in an attack: if the end is not near, the value extends to the end of the text.
        let most = if escapes > ESCAPES { super::credential::LONG } else { usize::MAX };
        let find = || {
            let mut slashes = 0;
            for (i, &b) in bytes.iter().enumerate().skip(from).take(most) {
                if b == quote && slashes <= escapes {
                    return i - slashes.min(escapes);
                }
                slashes = if b == b'\\' { slashes + 1 } else { 0 };
            }
            bytes.len()
        };
        if escapes > ESCAPES {
            return find();
        }
        let mut quotes = self.quotes.borrow_mut();
        let place = quotes.iter().position(|(kind, _)| *kind == (quote, escapes));
        if let Some((_, (start, end))) = place.and_then(|place| quotes.get(place))
            && (*start..=*end).contains(&from)
        {
            return *end;
        }
        let end = find();
        self.count(end.saturating_sub(from));
        match place.and_then(|place| quotes.get_mut(place)) {
            Some(known) => known.1 = (from, end),
            None => quotes.push(((quote, escapes), (from, end))),
        }
        end
    }

    /// The position after the bracket that closes the one at `from`; the end of the text if it is not closed.
    fn matching(&self, from: usize) -> usize {
        let bytes = self.text.as_bytes();
        // If a bracket is not closed, brackets inside it are only searched nearby, so the rest is not read again for
        // each.
        let (start, end) = self.brackets.get();
        let most = if (start..end).contains(&from) { super::credential::LONG } else { usize::MAX };
        let mut depth = 0usize;
        for (i, &b) in bytes.iter().enumerate().skip(from).take(most) {
            match b {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        self.count(i - from);
                        return i + 1;
                    }
                }
                _ => {}
            }
        }
        if most == usize::MAX {
            self.count(bytes.len() - from);
            self.brackets.set((from, bytes.len()));
        }
        bytes.len()
    }

    /// The value after optional spaces at `from`: up to its closing quote or bracket, or to the end of its word or
    /// line. With `json`, a bracketed text is read as one value.
    pub(super) fn value_at(&self, from: usize, line: bool, json: bool) -> Option<(usize, usize)> {
        let bytes = self.text.as_bytes();
        let mut start = from;
        while bytes.get(start).is_some_and(|b| matches!(b, b' ' | b'\t')) {
            start += 1;
        }
        // `**Password:** …`
        while bytes.get(start) == Some(&b'*') && matches!(bytes.get(start + 1), Some(b'*' | b' ')) {
            start += 1;
            while bytes.get(start) == Some(&b' ') {
                start += 1;
            }
        }
        // `!!str …` of YAML
        if bytes.get(start..start + 6) == Some(b"!!str ") {
            start += 6;
        }
        // Prefixes of Python strings and bytes, and of verbatim strings in C#.
        if matches!(bytes.get(start..start + 2), Some([b'b' | b'u' | b'r' | b'f', b'\'' | b'"'] | [b'@', b'"'])) {
            start += 1;
        }
        let escapes = bytes.get(start..)?.iter().take_while(|&&b| b == b'\\').count();
        let quote = bytes.get(start + escapes).copied().filter(|b| matches!(b, b'"' | b'\'' | b'`'));
        if quote.is_some() && escapes == 0 && !json && closes(self.text, start) {
            return None;
        }
        let (start, end) = match (quote, bytes.get(start)) {
            (Some(quote), _) => {
                let start = start + escapes + 1;
                (start, self.closing(start, quote, escapes))
            }
            (None, Some(b'{' | b'[')) if json || matches!(bytes.get(start..start + 2), Some([b'[', b'"' | b'\''])) => {
                (start, self.matching(start))
            }
            // A block, or a placeholder to be filled in.
            (None, Some(b'{')) => return begun(self.text, start),
            (None, _) if line => (start, self.known(&self.line, start, || self.first(start, ends_line))),
            (None, Some(&b)) if ends_word(b) => return begun(self.text, start),
            (None, _) => (start, self.known(&self.word, start, || self.first(start, ends_word))),
        };
        (start < end).then_some((start, end))
    }
}

/// The same, for a text that is searched once.
pub(super) fn value_at(text: &str, from: usize, line: bool, json: bool) -> Option<(usize, usize)> {
    Source::of(text).value_at(from, line, json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::detect::{Hits, bit, credential};
    use crate::redact::policy::Detector;

    /// One argument of a mebibyte of `authorization: [REDACTED] ` kept the recorder busy for thirteen seconds, and
    /// twice that in fifty: for each of these names the value was read to the end of the line before it turned out to
    /// be a placeholder. The same happened with variables (`password=${`), formats, links, elements that are never
    /// closed, and quotes with more and more escapes.
    #[test]
    fn each_end_is_looked_for_once() {
        let rising: String = (1..300).map(|n| format!("password={}\"$", "\\".repeat(n))).collect();
        let units = [
            "authorization: [REDACTED] ",
            "Cookie: ${",
            "password=${",
            "password=%d-",
            "token=$(",
            "callback?code=",
            "auth=",
            "<password>",
            "<password><![CDATA[",
            "<key>",
            "\"token\":[redacted [[ ] ",
            "password=\"",
            "password='\\\"",
            "--token \"",
            "where name = [",
            &rising,
        ];
        for unit in units {
            let text = unit.repeat((1 << 16) / unit.len() + 1);
            let source = Source::of(&text);
            let mut found = Vec::new();
            let mut hits = Hits { wanted: bit(Detector::Credential), out: &mut found };
            credential::in_source(&source, true, &mut hits);
            let steps = source.steps.get();
            assert!(steps <= 32 * text.len(), "{steps} steps for {} bytes of {unit:.40?}", text.len());
        }
    }

    /// The cached ends are equal to those of a fresh search.
    #[test]
    fn ends_that_are_remembered_are_those_that_are_there() {
        let text = "a=b c='d \\'e' f=\"g\\\\\" {h: [i]} j=k; l=\\\"m\\\" n=`o` p=q\r\nr=s t=[u v=\"w";
        let source = Source::of(text);
        for from in (0..text.len()).chain((0..text.len()).rev()) {
            for (line, json) in [(false, false), (true, false), (false, true)] {
                assert_eq!(source.value_at(from, line, json), value_at(text, from, line, json), "{from} {line} {json}");
            }
        }
    }
}
