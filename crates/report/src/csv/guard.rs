//! What makes a cell harmless: nothing in it is evaluated by a spreadsheet or obeyed by a terminal.

use std::borrow::Cow;

/// The beginning of an escaped character.
const ESCAPE: &str = "\\u{";

/// The cell with an apostrophe wherever a spreadsheet could start to evaluate it (see the [module](super)).
///
/// ```
/// use attestlog_report::csv::{guard, unguard};
/// assert_eq!(guard("=HYPERLINK(\"http://x\")"), "'=HYPERLINK(\"http://x\")");
/// assert_eq!(guard("P-1"), "P-1");
/// assert_eq!(unguard(&guard("'=1")), "'=1");
/// ```
pub fn guard(cell: &str) -> String {
    let cell = &*harmless(cell);
    let mut out = String::with_capacity(cell.len() + 1);
    let mut start = true;
    for (i, c) in cell.char_indices() {
        if start && (c == '\'' || calculates(&cell[i..])) {
            out.push('\'');
        }
        out.push(c);
        start = starts_cell(c);
    }
    out
}

/// Undoes [`guard`].
pub fn unguard(cell: &str) -> String {
    let mut out = String::with_capacity(cell.len());
    let mut start = true;
    for c in cell.chars() {
        if start && c == '\'' {
            start = false;
            continue;
        }
        out.push(c);
        start = starts_cell(c);
    }
    restored(&out)
}

/// The text with every character escaped that a terminal acts on.
fn harmless(text: &str) -> Cow<'_, str> {
    let acts = |c: char| {
        (c.is_control() && c != '\n' && c != '\t') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(acts) && !text.contains(ESCAPE) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for (i, c) in text.char_indices() {
        match acts(c) || text[i..].starts_with(ESCAPE) {
            true => out.push_str(&format!("{ESCAPE}{:x}}}", u32::from(c))),
            false => out.push(c),
        }
    }
    out.into()
}

/// Undoes [`harmless`].
fn restored(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once(ESCAPE) {
        out.push_str(before);
        let escaped = behind.split_once('}');
        match escaped.and_then(|(hex, rest)| Some((char::from_u32(u32::from_str_radix(hex, 16).ok()?)?, rest))) {
            Some((c, behind)) => {
                out.push(c);
                rest = behind;
            }
            // Not an escape that `harmless` writes.
            None => {
                out.push_str(ESCAPE);
                rest = behind;
            }
        }
    }
    out.push_str(rest);
    out
}

/// Whether a reader configured for another separator starts a new cell after this character.
fn starts_cell(c: char) -> bool {
    matches!(c, ';' | '\t' | '\r' | '\n')
}

/// Whether the text of a cell could be evaluated. Blanks and invisible characters at its beginning are skipped, because
/// some readers skip them.
pub(super) fn calculates(text: &str) -> bool {
    for c in text.chars() {
        match c {
            '=' | '+' | '-' | '@' | '|' | '%' | '\t' | '\r' | '\n' => return true,
            '\u{ff1d}' | '\u{ff0b}' | '\u{ff0d}' | '\u{ff20}' | '\u{ff5c}' | '\u{ff05}' => return true,
            '\u{2212}' | '\u{fe62}' | '\u{fe63}' | '\u{fe66}' | '\u{fe6b}' => return true,
            '"' => {}
            c if c.is_whitespace() || c.is_control() || attestlog::redact::is_invisible(c) => {}
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_calculates_is_marked() {
        for evil in ["=1", "+1", "-1", "@SUM(A1)", "\t=1", "\n=1", "  =1", "\u{ff1d}1", "\u{feff}=1", "\"=1", "%0A"] {
            assert!(guard(evil).starts_with('\''), "{evil:?}");
        }
        assert_eq!(guard("a;=cmd|' /C calc'!A0"), "a;'=cmd|' /C calc'!A0");
        for good in ["", "P-1", "a=b", "1-2", "{\"a\":-1}", "don't", "  x"] {
            assert_eq!(guard(good), good);
        }
    }

    /// Printing an export once set the window's title and moved the cursor over the previous row: quotes do not protect
    /// a terminal.
    #[test]
    fn nothing_acts_on_a_terminal() {
        let acts = |c: char| {
            (c.is_control() && !matches!(c, '\n' | '\t'))
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        for evil in [
            "\u{1b}]0;title\u{7}",
            "\u{1b}[2J",
            "a\rb",
            "\u{9b}2J",
            "\u{7f}",
            "\0",
            "\u{8}\u{8}",
            "\u{202e}txt.exe",
            "\u{2066}x",
        ] {
            let shown = guard(evil);
            assert!(!shown.contains(acts), "{shown:?}");
            assert_eq!(unguard(&shown), evil);
        }
        for same in [r"\u{1b}", r"\\u{", r"\u{", r"\u", r"C:\users", r#"{"a":"\u001b"}"#] {
            assert_eq!(unguard(&guard(same)), same);
        }
        assert_eq!(guard(r#"C:\users"#), r#"C:\users"#);
    }

    proptest! {
        #[test]
        fn whatever_was_recorded_comes_back(cell in "(\\PC|\\p{Cc}|[\\\\u{}=';]|\u{202e}){0,24}") {
            prop_assert_eq!(unguard(&guard(&cell)), cell);
        }

        #[test]
        fn the_guard_can_be_undone(cell in "([=+@;'\t\r\n \"-]|[a-c]|\u{feff}|,){0,12}") {
            prop_assert_eq!(unguard(&guard(&cell)), cell);
        }
    }
}
