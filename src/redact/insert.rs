//! Rows of SQL in a text: `INSERT INTO patients (id, ssn, password) VALUES (7, '460-89-9847', '…')`.
//!
//! Each value is treated as a member with its column's name, like JSON in the middle of a text: by field rules, by the names
//! of secrets, and by detectors. What is not a constant (`?`, `$1`, a function) is left to the detectors of texts.

use super::detect::value::is_reference;
use super::sanitize::{At, MAX_INNER, Outcome, Sanitizer, State};
use crate::Result;
use crate::json::{Json, Object};
use aho_corasick::AhoCorasick;
use std::ops::Range;
use std::sync::LazyLock;

/// What is longer is no list of columns, and no constant without quotes.
const LONGEST: usize = 2048;

static STARTS: LazyLock<Option<AhoCorasick>> =
    LazyLock::new(|| AhoCorasick::builder().ascii_case_insensitive(true).build(["insert", "replace"]).ok());

/// A constant in a row: the name of its column, its place, with its quotes, and its value.
struct Cell<'a> {
    column: &'a str,
    place: Range<usize>,
    value: Json,
}

/// The constants in all rows of a text, in their order.
fn cells(text: &str) -> Vec<Cell<'_>> {
    let mut cells = Vec::new();
    let mut done = 0;
    for found in STARTS.iter().flat_map(|starts| starts.find_iter(text)).filter(|_| text.contains(['(', ')'])) {
        if found.start() >= done {
            done = statement(text, found.end(), &mut cells).unwrap_or(found.end());
        }
    }
    cells
}

/// Reads a statement behind its first word; returns where its last row ends.
fn statement<'a>(text: &'a str, at: usize, cells: &mut Vec<Cell<'a>>) -> Option<usize> {
    let near = text.get(at..text.floor_char_boundary(at + LONGEST))?;
    let open = near.find('(')?;
    let into = |lead: &str| lead.split_ascii_whitespace().take(4).any(|word| word.eq_ignore_ascii_case("into"));
    near.get(..open).filter(|lead| lead.len() <= 256 && into(lead))?;
    let close = open + near.get(open..)?.find(')')?;
    let name = |name: &'a str| name.trim().trim_matches(['"', '`', '[', ']', '\\']);
    let columns: Vec<&str> = near.get(open + 1..close)?.split(',').map(name).collect();
    let after = near.get(close + 1..)?.trim_start();
    after.get(..6).filter(|word| word.eq_ignore_ascii_case("values"))?;
    let mut reader = Reader { text, at: at + near.len() - after.len() + 6 };
    let mut end = None;
    while reader.takes('(') {
        let mut columns = columns.iter();
        loop {
            let cell = reader.cell()?;
            if let (Some(column), Some((place, value))) = (columns.next(), cell) {
                cells.push(Cell { column, place, value });
            }
            if !reader.takes(',') {
                break;
            }
        }
        if !reader.takes(')') {
            break;
        }
        end = Some(reader.at);
        if !reader.takes(',') {
            break;
        }
    }
    end
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn takes(&mut self, sign: char) -> bool {
        let rest = self.rest().trim_start();
        let found = rest.starts_with(sign);
        if found {
            self.at = self.text.len() - rest.len() + sign.len_utf8();
        }
        found
    }

    /// Goes to the comma or parenthesis behind an expression. Returns the expression, with its place if it is a constant;
    /// `None` if it does not end.
    fn cell(&mut self) -> Option<Option<(Range<usize>, Json)>> {
        self.at = self.text.len() - self.rest().trim_start().len();
        let rest = self.rest();
        // `N'…'`, `E'…'`, `X'…'`
        let kind = usize::from(rest.starts_with(['n', 'N', 'e', 'E', 'x', 'X']) && rest.get(1..2) == Some("'"));
        let constant = match rest.get(kind..)?.chars().next()? {
            quote @ ('\'' | '"') => {
                let inner = rest.get(kind + 1..)?;
                let end = end_of(inner, quote)?;
                let start = self.at;
                self.at += kind + 1 + end + 1;
                let doubled = [quote, quote].iter().collect::<String>();
                let value = inner.get(..end)?.replace(&doubled, quote.encode_utf8(&mut [0; 4]));
                Some((start..self.at, Json::from(value)))
            }
            _ => None,
        };
        let (start, mut depth) = (self.at, 0_usize);
        let rest = self.text.get(start..self.text.floor_char_boundary(start + LONGEST))?;
        let mut signs = rest.char_indices();
        let end = loop {
            match signs.next()? {
                (end, ',' | ')') if depth == 0 => break end,
                (_, '(') => depth += 1,
                (_, ')') => depth -= 1,
                // Several constants in one expression.
                (_, '\'') => drop(signs.find(|(_, sign)| *sign == '\'')?),
                _ => {}
            }
        };
        self.at = start + end;
        let plain = rest.get(..end)?.trim_end();
        let number = || Json::parse(plain.as_bytes()).ok().filter(|parsed| matches!(parsed.value, Json::Number(_)));
        Some(constant.or_else(|| number().map(|number| (start..start + plain.len(), number.value))))
    }
}

/// Where a quoted text ends: a doubled quote, or one behind a backslash, belongs to it.
fn end_of(text: &str, quote: char) -> Option<usize> {
    let mut signs = text.char_indices().peekable();
    while let Some((at, sign)) = signs.next() {
        if sign == '\\' {
            signs.next_if(|(_, next)| *next == quote || *next == '\\');
        } else if sign == quote && signs.next_if(|(_, next)| *next == quote).is_none() {
            return Some(at);
        }
    }
    None
}

impl Sanitizer {
    /// Treats the rows that a text inserts into tables.
    pub(super) fn inserted(
        &self,
        text: &mut String,
        at: &At<'_>,
        detect: bool,
        state: &mut State<'_, '_>,
    ) -> Result<Option<Outcome>> {
        if state.inner >= MAX_INNER {
            return Ok(None);
        }
        let (mut out, mut done) = (String::new(), 0);
        for Cell { column, place, value } in cells(text) {
            if value
                .as_str()
                .is_some_and(|text| text.is_empty() || text.starts_with(['?', ':', '@', '%']) || is_reference(text))
            {
                continue;
            }
            let mut member = Json::from(Object::from_iter([(column, value.clone())]));
            let outcome = state.inside(None, |state| self.descend(&mut member, at, None, detect, state));
            let treated = member.get(column).cloned().unwrap_or_default();
            if !matches!(outcome, Ok(Outcome::Stays)) {
                return outcome.map(Some);
            }
            if treated == value {
                continue;
            }
            out.push_str(text.get(done..place.start).unwrap_or_default());
            match &treated {
                Json::Null => out.push_str("NULL"),
                treated => {
                    let plain = treated.as_str().map_or_else(|| treated.to_canonical().to_string(), str::to_owned);
                    out.push('\'');
                    out.push_str(&plain.replace('\'', "''"));
                    out.push('\'');
                }
            }
            done = place.end;
        }
        if done > 0 {
            out.push_str(text.get(done..).unwrap_or_default());
            *text = out;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::cells;

    #[test]
    fn constants_are_read_with_their_columns() {
        let read = |text: &str| {
            let all = cells(text).into_iter();
            let each =
                |cell: super::Cell<'_>| format!("{}={}@{}", cell.column, cell.value.to_canonical(), &text[cell.place]);
            all.map(each).collect::<Vec<_>>().join(" ")
        };
        for (text, wanted) in [
            ("INSERT INTO t (a, \"b\") VALUES (1, 'x''y');", r#"a=1@1 b="x'y"@'x''y'"#),
            (
                "insert ignore into `s`.`t` (`a`,[b]) values (-1.5,N'x'),\n ( NULL , \"y\" )",
                r#"a=-1.5@-1.5 b="x"@N'x' b="y"@"y""#,
            ),
            ("INSERT INTO t (a,b,c) VALUES (now(), crypt('x', gen_salt('bf')), 'z'::text)", r#"c="z"@'z'"#),
            ("INSERT INTO t (a) VALUES (?), ($1), (:a)", ""),
            ("INSERT INTO t VALUES ('x')", ""),
            ("INSERT INTO t (a) VALUES ('x", ""),
            ("insert the key into the slot (a) carefully", ""),
        ] {
            assert_eq!(read(text), wanted, "{text}");
        }
        for hostile in
            ["insert into t(a)values(", "insert into t(a)values('", "replace into(", "insert into t(a)values(x'\\'"]
        {
            cells(&hostile.repeat(100_000));
        }
    }
}
