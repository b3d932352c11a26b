//! Makes callers' text safe to show to a person, on a terminal or in a page. The program's own output uses it too, so
//! that one list decides what is escaped.
//!
//! Invariant: nothing produced here moves a cursor, changes the writing direction, is invisible, or opens a tag. Such a
//! character is shown as its code point (`\u{202e}`), so that two different ids also look different.

use attestlog::redact::is_invisible;
use std::fmt::Write;

/// The text on one line, with every character escaped that a terminal or a page would act on.
///
/// ```
/// assert_eq!(attestlog_report::text::visible("a\u{1b}[2J\n"), "a\\u{1b}[2J\\n");
/// ```
pub fn visible(text: &str) -> String {
    escape(text, true, false)
}

/// Like [`visible`], for text in which backslashes are already escapes: JSON.
pub fn visible_json(text: &str) -> String {
    escape(text, false, false)
}

/// Like [`visible`], for messages of several lines: line breaks are kept.
pub fn visible_lines(text: &str) -> String {
    escape(text, false, true)
}

fn escape(text: &str, backslashes: bool, lines: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' if lines => out.push('\n'),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' if backslashes => out.push_str("\\\\"),
            c if c.is_control() || is_invisible(c) => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// [`visible`] text of about `limit` characters: the start and the end of a longer text, and how much is left out.
pub(super) fn shortened(text: &str, limit: usize) -> String {
    let count = text.chars().count();
    if count <= limit {
        return visible(text);
    }
    let tail = limit / 4;
    let head = limit - tail;
    let start: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(count - tail).collect();
    format!("{}…[{} more]…{}", visible(&start), count - head - tail, visible(&end))
}

/// The text escaped for an HTML element or a quoted attribute.
pub(super) fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// The number of terminal columns of a character: 0 for combining marks, 2 for wide East Asian characters and
/// pictographs, otherwise 1. Accurate enough to align a table.
pub fn columns(c: char) -> usize {
    match c {
        '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{591}'..='\u{5bd}' | '\u{64b}'..='\u{65f}' => 0,
        '\u{e31}' | '\u{e34}'..='\u{e3a}' | '\u{e47}'..='\u{e4e}' | '\u{1ab0}'..='\u{1aff}' => 0,
        '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}' | '\u{fe00}'..='\u{fe0f}' | '\u{fe20}'..='\u{fe2f}' => 0,
        '\u{1100}'..='\u{115e}' | '\u{2e80}'..='\u{303e}' | '\u{3041}'..='\u{a4cf}' | '\u{a960}'..='\u{a97f}' => 2,
        '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff01}'..='\u{ff60}' => 2,
        '\u{ffe0}'..='\u{ffe6}' | '\u{1f300}'..='\u{1f64f}' | '\u{1f680}'..='\u{1faff}' => 2,
        '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// The number of terminal columns of a text.
pub fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// The text cut to at most `limit` columns; an ellipsis shows that it was cut.
///
/// ```
/// assert_eq!(attestlog_report::text::cut("abcdef", 4), "abc…");
/// ```
pub fn cut(text: &str, limit: usize) -> String {
    if width(text) <= limit {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += columns(c);
        if used > limit {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

/// The text in lines of at most `limit` columns (at least 2), broken at blanks where possible.
pub fn wrap(text: &str, limit: usize) -> Vec<String> {
    let limit = limit.max(2);
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut used = 0;
    for word in text.split(' ').filter(|w| !w.is_empty()) {
        let needed = width(word);
        if used > 0 && used + 1 + needed > limit {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        for c in word.chars() {
            let more = columns(c);
            if used + more > limit {
                // Break a long word after punctuation, if that is not too close to the start of the line.
                let rest = match line.rfind(['_', '-', '.', '/', ':', ',']) {
                    Some(joint) if joint + 1 > line.len() / 3 => line.split_off(joint + 1),
                    _ => String::new(),
                };
                used = width(&rest);
                lines.push(std::mem::replace(&mut line, rest));
            }
            line.push(c);
            used += more;
        }
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal() {
        assert_eq!(visible("a\u{1b}[2J\r\nb\u{202e}c\u{200b}"), "a\\u{1b}[2J\\r\\nb\\u{202e}c\\u{200b}");
        assert_eq!(html(r#"<a href="x" id='y'>&"#), "&lt;a href=&quot;x&quot; id=&#39;y&#39;&gt;&amp;");
    }

    #[test]
    fn long_text_keeps_its_ends() {
        let long = "ab".repeat(5_000);
        assert_eq!(shortened(&long, 40), format!("{}…[9960 more]…{}", "ab".repeat(15), "ab".repeat(5)));
        assert_eq!(shortened("short", 40), "short");
    }

    #[test]
    fn nothing_is_cut_silently() {
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("abcd", 4), "abcd");
        assert_eq!(cut("漢字漢字", 5), "漢字…");
    }

    proptest::proptest! {
        #[test]
        fn lines_fit_and_lose_nothing(text in "[a-z\u{4e00}-\u{4e10} ]{0,200}", limit in 2usize..60) {
            let lines = wrap(&text, limit);
            for line in &lines {
                proptest::prop_assert!(width(line) <= limit);
            }
            proptest::prop_assert!(width(&cut(&text, limit)) <= limit);
            let letters = |s: &str| s.chars().filter(|c| *c != ' ').collect::<String>();
            proptest::prop_assert_eq!(letters(&lines.concat()), letters(&text));
        }
    }
}
