//! What detectors find in one text: collected, merged into spans that do not overlap, and replaced.

use super::detect::{self, Hit};
use super::policy::Detector;
use super::sanitize::Sanitizer;
use super::treated::Action;
use crate::json::Json;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

impl Sanitizer {
    /// The action that is really applied to a span: a span too short to show its last four characters is masked.
    pub(super) fn shown_action(&self, text: &str, span: &Span) -> Action {
        match span.action {
            Action::Partial if text.get(span.start..span.end).and_then(partial).is_none() => Action::Mask,
            action => action,
        }
    }

    /// Collects the hits of all wanted detectors. The error is the name of a detector that failed.
    pub(super) fn scan(&self, text: &str, key: Option<&str>, hits: &mut Vec<Hit>) -> Result<(), String> {
        detect::scan(text, key, self.wanted, hits);
        let built_in = Detector::ALL.len();
        for (i, custom) in self.policy.customs.iter().enumerate().filter(|(_, c)| c.action != Action::Keep) {
            let found = |m: Range<usize>| hits.push(Hit { start: m.start, end: m.end, kind: built_in + i });
            matches(&custom.regex, text, found);
        }
        for (i, host) in self.hosts.iter().enumerate() {
            let kind = built_in + self.policy.customs.len() + i;
            let found = catch_unwind(AssertUnwindSafe(|| host.find(text)));
            let failed = || self.name(kind).to_owned();
            for range in found.map_err(|_| failed())?.map_err(|_| failed())? {
                if text.get(range.clone()).is_none() {
                    return Err(failed());
                }
                hits.push(Hit { start: range.start, end: range.end, kind });
            }
        }
        Ok(())
    }

    /// Merges hits into spans that do not overlap. Overlapping hits become one span with the name of the stronger
    /// detector; if their actions differ, the whole span is masked.
    pub(super) fn merge(&self, hits: &mut [Hit]) -> Vec<Span> {
        hits.sort_unstable_by_key(|h| (h.start, h.end));
        let mut spans: Vec<Span> = Vec::new();
        for hit in hits.iter().filter(|h| h.start < h.end) {
            let action = self.kinds.get(hit.kind).map_or(Action::Mask, |k| k.1);
            match spans.last_mut().filter(|s| hit.start < s.end) {
                Some(last) => {
                    last.end = last.end.max(hit.end);
                    if action != last.action {
                        last.action = Action::Mask;
                    }
                    if rank(hit.kind) < rank(last.kind) {
                        last.kind = hit.kind;
                    }
                }
                None => spans.push(Span { start: hit.start, end: hit.end, kind: hit.kind, action }),
            }
        }
        spans
    }

    pub(super) fn apply(&self, text: &str, spans: &[Span], change: impl Fn(Action) -> Action) -> String {
        let mut out = String::with_capacity(text.len() + 16 * spans.len());
        let mut at = 0;
        for span in spans {
            out.push_str(text.get(at..span.start).unwrap_or_default());
            at = span.end;
            let (name, found) = (self.name(span.kind), text.get(span.start..span.end).unwrap_or_default());
            match (change(span.action), self.pseudonyms.first()) {
                (Action::Drop, _) => {}
                (Action::Partial, _) => out.push_str(&partial(found).unwrap_or_else(|| placeholder(Some(name)))),
                (Action::Pseudonymise, Some(key)) => {
                    // The address or number is the same however it is escaped.
                    let plain = detect::plain(found);
                    out.push_str(&key.pseudonym(name, plain.as_deref().unwrap_or(found)));
                }
                _ => out.push_str(&placeholder(Some(name))),
            }
        }
        out.push_str(text.get(at..).unwrap_or_default());
        out
    }

    pub(super) fn name(&self, kind: usize) -> &str {
        self.kinds.get(kind).map_or("unknown", |k| k.0.as_str())
    }
}

/// The budget for one of the policy's own patterns on one text, in bytes searched. Beyond it the text is searched in
/// windows.
const WHOLE: usize = 16 << 20;
/// The size of a window and its overlap with the next: in a long text, a longer match is found only by chance.
const WINDOW: usize = 1 << 10;
const OVERLAP: usize = 256;

/// Reports every match that is not empty. Returns an upper bound of the bytes searched.
///
/// One search is linear, but each search for the next match may read to the end of the text to learn that a shorter
/// match is the longest, so many matches in a long text would take quadratic time. Once the searches could have read 16
/// MiB, the rest of the text is searched in windows.
fn matches(regex: &regex::Regex, text: &str, mut found: impl FnMut(Range<usize>)) -> usize {
    let (mut at, mut end, mut work) = (0, text.len(), 0usize);
    loop {
        let room = text.get(..end).unwrap_or_default();
        work += room.len().saturating_sub(at);
        let m = regex.find_at(room, at);
        if let Some(m) = m.filter(|m| !m.is_empty()) {
            found(m.range());
        }
        at = match m {
            Some(m) => boundary(text, if m.is_empty() { m.end() + 1 } else { m.end() }),
            None if end < text.len() => boundary(text, (at + 1).max(end - OVERLAP)),
            None => return work,
        };
        if at >= text.len() {
            return work;
        }
        end = if work > WHOLE { boundary(text, at.saturating_add(WINDOW)) } else { text.len() };
    }
}

/// The first character boundary at or after `at`.
fn boundary(text: &str, mut at: usize) -> usize {
    while at < text.len() && !text.is_char_boundary(at) {
        at += 1;
    }
    at.min(text.len())
}

/// A range of a text and the action for it.
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) kind: usize,
    pub(super) action: Action,
}

/// The policy's own detectors are the strongest.
fn rank(kind: usize) -> usize {
    if kind >= Detector::ALL.len() { 0 } else { kind + 1 }
}

pub(super) fn placeholder(what: Option<&str>) -> String {
    match what {
        Some(what) => format!("[REDACTED:{what}]"),
        None => "[REDACTED]".to_owned(),
    }
}

/// Whether a value is a placeholder that this module wrote, so that treating it twice changes nothing.
pub(super) fn is_placeholder(text: &str) -> bool {
    let inner = text.strip_prefix("[REDACTED").and_then(|s| s.strip_suffix(']'));
    inner.is_some_and(|s| {
        s.is_empty()
            || s.strip_prefix(':').is_some_and(|s| {
                s.len() <= 64 && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            })
    })
}

/// The last four letters or digits; `None` if there are fewer than eight.
pub(super) fn partial(text: &str) -> Option<String> {
    let plain: Vec<char> = text.chars().filter(|c| c.is_alphanumeric()).collect();
    let shown = plain.len().checked_sub(4).filter(|&hidden| hidden >= 4)?;
    Some(format!("[…{}]", plain.get(shown..)?.iter().collect::<String>()))
}

pub(super) fn count(text: &str, range: Range<usize>) -> usize {
    text.get(range).map_or(0, |t| t.chars().count())
}

/// Whether a value is a string or a number.
pub(super) fn is_scalar(value: &Json) -> bool {
    matches!(value, Json::String(_) | Json::Number(_))
}

/// The text of a value that has no parts.
pub(super) fn scalar_text(value: &Json) -> Option<String> {
    match value {
        Json::String(s) => Some(s.clone()),
        Json::Number(_) | Json::Bool(_) => Some(value.to_canonical().as_str().to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every `A` is a match, and each search reads to the end for a longer match that never comes.
    #[test]
    fn the_work_of_a_pattern_is_bounded() {
        let regex = crate::redact::pattern::compile(".*[^A]|A").unwrap();
        for len in [1 << 10, 1 << 16, 1 << 18] {
            let text = "A".repeat(len);
            let mut count = 0;
            let work = matches(&regex, &text, |_| count += 1);
            assert_eq!(count, len, "each is found");
            assert!(work <= WHOLE + len + (WINDOW + 1) * len, "{work} for {len}");
        }
    }

    #[test]
    fn windows_find_what_stands_across_them() {
        let regex = crate::redact::pattern::compile("EMP-[0-9]{6}|é").unwrap();
        let text = "éEMP-123456 ".repeat(200_000);
        let mut found = Vec::new();
        matches(&regex, &text, |m| found.push(m));
        assert_eq!(found.len(), 400_000);
        assert!(found.iter().all(|m| text.get(m.clone()).is_some()));
        let mut none = 0;
        assert_eq!(matches(&crate::redact::pattern::compile("x?").unwrap(), "ab", |_| none += 1), 3);
        assert_eq!(none, 0);
    }
}
