//! The fields a rule names: a path from a root, or a key at any depth.
//!
//! A literal key in a pattern is compared without case and separators (`patient_id` matches `patientId`); a quoted one,
//! `["odd key"]`, exactly. Matching takes time proportional to path length times pattern length, because only the last
//! `**` is backtracked to.

use super::context::Root;
use super::secret_keys::Words;
use regex::Regex;

/// One step of the path from the root to a value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Seg<'a> {
    Key(&'a str),
    Index(usize),
}

#[derive(Debug, Clone)]
pub(crate) struct FieldPattern {
    text: String,
    form: Form,
}

#[derive(Debug, Clone)]
enum Form {
    Path { root: Option<Root>, steps: Vec<Step> },
    Key(Step),
}

#[derive(Debug, Clone)]
enum Step {
    /// `**`: any number of steps.
    Deep,
    /// `*` or `[*]`
    AnyKey,
    AnyIndex,
    Index(usize),
    /// Lower case, without separators.
    Key(String),
    Exact(String),
    /// The pieces between the stars, in lower case without separators.
    Glob(Vec<String>),
    Regex(Regex),
}

impl PartialEq for FieldPattern {
    fn eq(&self, other: &FieldPattern) -> bool {
        self.text == other.text
    }
}

impl FieldPattern {
    /// Parses `arguments.**.notes`, `result.items[*].name`, `*_note` or `/^mrn/`.
    pub(crate) fn parse(text: &str) -> Result<FieldPattern, String> {
        if let Some(source) = text.strip_prefix('/').and_then(|t| t.strip_suffix('/')) {
            let regex = compile(source)?;
            return Ok(FieldPattern { text: text.to_owned(), form: Form::Key(Step::Regex(regex)) });
        }
        let mut steps = Vec::new();
        let mut rest = text;
        let mut first = None;
        while !rest.is_empty() || first.is_none() {
            let step;
            (step, rest) = next_step(text, rest, first.is_none())?;
            match first {
                None => first = Some(step),
                Some(_) => steps.push(step),
            }
        }
        let Some(first) = first else { return Err("an empty pattern".to_owned()) };
        let name = text.split(['.', '[']).next().unwrap_or_default();
        let form = match (Root::from_name(name), first) {
            (Some(root), Step::Key(_)) => Form::Path { root: Some(root), steps },
            (_, Step::AnyKey) if !steps.is_empty() => Form::Path { root: None, steps },
            (_, Step::Deep) => {
                steps.insert(0, Step::Deep);
                Form::Path { root: None, steps }
            }
            (_, step) if steps.is_empty() => Form::Key(step),
            _ => {
                return Err(format!(
                    "{text:?} begins with {name:?}; a path begins with arguments, result, error, session_metadata, text, \
                     or * for any of them"
                ));
            }
        };
        Ok(FieldPattern { text: text.to_owned(), form })
    }

    /// The pattern as it was written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The one literal key, without case and separators, that a matching path must end in, if there is one. It is used
    /// to index rules.
    pub(crate) fn last_key(&self) -> Option<&str> {
        let last = match &self.form {
            Form::Path { steps, .. } => steps.last()?,
            Form::Key(step) => step,
        };
        match last {
            Step::Key(k) => Some(k),
            _ => None,
        }
    }

    /// The last key as it was written, if it is literal.
    pub(crate) fn literal_key(&self) -> Option<&str> {
        let last = match &self.form {
            Form::Path { steps, .. } => steps.last()?,
            Form::Key(step) => step,
        };
        match last {
            Step::Key(_) => self.text.rsplit('.').next(),
            Step::Exact(k) => Some(k),
            _ => None,
        }
    }

    /// Patterns for the same fields of a value that holds the roots somewhere, as a transcript's message does.
    pub(crate) fn anywhere(&self) -> Vec<FieldPattern> {
        let Form::Path { root, steps } = &self.form else { return vec![self.clone()] };
        let pattern = |form| FieldPattern { text: self.text.clone(), form };
        let named =
            |names: &[&str]| names.iter().map(|name| pattern(Form::Key(Step::Key((*name).to_owned())))).collect();
        match (root, steps.as_slice()) {
            (Some(Root::Arguments), []) => named(&["arguments", "args", "input"]),
            (Some(Root::Result | Root::Error), []) => named(&["result", "content", "output", "error"]),
            _ => {
                let steps = std::iter::once(Step::Deep).chain(steps.iter().cloned()).collect();
                vec![pattern(Form::Path { root: None, steps })]
            }
        }
    }

    pub(crate) fn matches(&self, root: Root, path: &[Seg<'_>]) -> bool {
        match &self.form {
            Form::Key(step) => path.last().is_some_and(|seg| matches!(seg, Seg::Key(_)) && step.fits(seg)),
            Form::Path { root: only, steps } => only.is_none_or(|r| r == root) && glob(steps, path),
        }
    }
}

impl Step {
    fn fits(&self, seg: &Seg<'_>) -> bool {
        match (self, seg) {
            (Step::AnyKey, Seg::Key(_)) | (Step::AnyIndex, Seg::Index(_)) => true,
            (Step::Index(n), Seg::Index(i)) => n == i,
            (Step::Key(k), Seg::Key(key)) => Words::of(key).joined() == k.as_bytes(),
            (Step::Exact(k), Seg::Key(key)) => k == key,
            (Step::Regex(r), Seg::Key(key)) => r.is_match(key),
            (Step::Glob(pieces), Seg::Key(key)) => glob_key(pieces, Words::of(key).joined()),
            _ => false,
        }
    }
}

/// The usual wildcard matching: on a mismatch the last `**` takes one more step.
fn glob(steps: &[Step], path: &[Seg<'_>]) -> bool {
    let (mut s, mut p) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    loop {
        match (steps.get(s), path.get(p)) {
            (Some(Step::Deep), _) => {
                back = Some((s + 1, p));
                s += 1;
            }
            (Some(step), Some(seg)) if step.fits(seg) => {
                s += 1;
                p += 1;
            }
            (None, None) => return true,
            _ => match back {
                Some((after, at)) if at < path.len() => {
                    back = Some((after, at + 1));
                    (s, p) = (after, at + 1);
                }
                _ => return false,
            },
        }
    }
}

fn glob_key(pieces: &[String], key: &[u8]) -> bool {
    let (Some((first, rest)), Some(last)) = (pieces.split_first(), pieces.last()) else { return false };
    let Some(mut key) = key.strip_prefix(first.as_bytes()) else { return false };
    let Some((_, middle)) = rest.split_last() else { return key.is_empty() };
    for piece in middle {
        let piece = piece.as_bytes();
        if piece.is_empty() {
            continue;
        }
        match key.windows(piece.len()).position(|w| w == piece) {
            Some(at) => key = key.get(at + piece.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    key.ends_with(last.as_bytes())
}

fn next_step<'a>(text: &str, rest: &'a str, first: bool) -> Result<(Step, &'a str), String> {
    let at = text.len() - rest.len() + 1;
    let bad = || {
        format!("{text:?} is not a pattern like arguments.**.notes, result.items[*].name or *_note (character {at})")
    };
    if let Some(inner) = rest.strip_prefix("[\"") {
        let end = inner.find("\"]").ok_or_else(bad)?;
        return Ok((Step::Exact(inner[..end].to_owned()), &inner[end + 2..]));
    }
    if let Some(inner) = rest.strip_prefix('[') {
        let end = inner.find(']').ok_or_else(bad)?;
        let step = match &inner[..end] {
            "*" => Step::AnyIndex,
            n => Step::Index(n.parse().map_err(|_| bad())?),
        };
        return Ok((step, &inner[end + 1..]));
    }
    let name = if first { rest } else { rest.strip_prefix('.').ok_or_else(bad)? };
    let end = name.find(['.', '[']).unwrap_or(name.len());
    let (word, rest) = name.split_at(end);
    let step = match word {
        "" => return Err(bad()),
        "**" => Step::Deep,
        "*" => Step::AnyKey,
        _ if word.contains('*') => Step::Glob(word.split('*').map(plain).collect()),
        _ => Step::Key(plain(word)),
    };
    if matches!(&step, Step::Key(k) if k.is_empty()) {
        return Err(bad());
    }
    Ok((step, rest))
}

/// A key without case and separators.
pub(crate) fn plain(key: &str) -> String {
    String::from_utf8_lossy(Words::of(key).joined()).into_owned()
}

/// Compiles a regular expression with size limits, because it runs over input from agents.
pub(crate) fn compile(source: &str) -> Result<Regex, String> {
    regex::RegexBuilder::new(source).size_limit(1 << 20).dfa_size_limit(1 << 20).build().map_err(|e| {
        // A message of several lines draws where the fault is; its last line says what it is.
        let message = e.to_string();
        let what = message.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("the pattern {source:?} does not compile: {what}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, root: &str, path: &[Seg<'_>]) -> bool {
        FieldPattern::parse(pattern).unwrap().matches(Root::from_name(root).unwrap(), path)
    }

    /// `a.b.3.c` below a root; a step of digits only is an index.
    fn at(pattern: &str, path: &str) -> bool {
        let mut words = path.split('/');
        let root = words.next().unwrap();
        let path: Vec<_> = words.map(|w| w.parse().map_or(Seg::Key(w), Seg::Index)).collect();
        matches(pattern, root, &path)
    }

    #[test]
    fn paths_and_keys() {
        for (pattern, path) in [
            ("arguments.notes", "arguments/notes"),
            ("arguments.patient_id", "arguments/patientId"),
            ("arguments.**.notes", "arguments/notes"),
            ("arguments.**.notes", "arguments/a/b/3/notes"),
            ("arguments.**.a.**.b", "arguments/a/x/a/y/b"),
            ("result.items[*].name", "result/items/7/name"),
            ("result.items[7].name", "result/items/7/name"),
            ("*.notes", "result/notes"),
            ("**.notes", "error/a/0/notes"),
            ("arguments", "arguments"),
            ("arguments.**", "arguments/x/y"),
            ("notes", "result/a/Notes"),
            ("*_note", "result/a/privateNote"),
            ("note*", "arguments/notes"),
            ("/^X-/", "arguments/X-Foo"),
            ("arguments[\"odd.key\"]", "arguments/odd.key"),
        ] {
            assert!(at(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("arguments.notes", "result/notes"),
            ("arguments.notes", "arguments/a/notes"),
            ("arguments.*.notes", "arguments/notes"),
            ("arguments.*.notes", "arguments/0/notes"),
            ("result.items[*].name", "result/items/name"),
            ("result.items[1].name", "result/items/2/name"),
            ("arguments.**.a.**.b", "arguments/a/x/a/y/c"),
            ("notes", "arguments/notes/a"),
            ("*_note", "arguments/notes"),
            ("arguments", "arguments/x"),
        ] {
            assert!(!at(pattern, path), "{pattern} {path}");
        }
    }

    #[test]
    fn what_is_no_pattern() {
        for pattern in
            ["", ".", "arguments.", "argumnets.x", "arguments[", "arguments[x]", "/(/", "a..b", "arguments.a b["]
        {
            assert!(FieldPattern::parse(pattern).is_err(), "{pattern}");
        }
    }
}
