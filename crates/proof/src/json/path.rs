//! The place of a value inside another: `arguments.items[2]["odd key"]`.

use super::Json;
use std::fmt;

/// A place inside a JSON value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Path(Vec<Step>);

/// One step into a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// A member of an object.
    Key(String),
    /// An element of an array.
    Index(usize),
}

impl Path {
    /// The empty path: the value itself.
    pub fn root() -> Path {
        Path::default()
    }

    /// The member `key` of the value at this path.
    pub fn key(&self, key: &str) -> Path {
        let mut steps = self.0.clone();
        steps.push(Step::Key(key.to_owned()));
        Path(steps)
    }

    /// The element `index` of the value at this path.
    pub fn index(&self, index: usize) -> Path {
        let mut steps = self.0.clone();
        steps.push(Step::Index(index));
        Path(steps)
    }

    /// This place seen from `outer`: `a.b` inside `arguments` is `arguments.a.b`.
    pub fn inside(&self, outer: &Path) -> Path {
        Path(outer.0.iter().chain(&self.0).cloned().collect())
    }

    /// The steps, outermost first.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Descends to the member `key`.
    pub fn push_key(&mut self, key: &str) {
        self.0.push(Step::Key(key.to_owned()));
    }

    /// Descends to the element `index`.
    pub fn push_index(&mut self, index: usize) {
        self.0.push(Step::Index(index));
    }

    /// Goes back up one step.
    pub fn pop(&mut self) {
        self.0.pop();
    }

    /// The value at this path inside `value`.
    pub fn find<'a>(&self, value: &'a Json) -> Option<&'a Json> {
        self.0.iter().try_fold(value, |at, step| match (step, at) {
            (Step::Key(k), Json::Object(o)) => o.get(k),
            (Step::Index(i), Json::Array(a)) => a.get(*i),
            _ => None,
        })
    }

    /// Reads what [`Display`](fmt::Display) writes.
    ///
    /// # Errors
    /// A message that names the character where the text stops being a path.
    pub fn parse(text: &str) -> Result<Path, String> {
        let bad = |at: usize| format!("{text:?} is not a path like arguments.items[2].name (character {})", at + 1);
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let at = text.len() - rest.len();
            if let Some(inner) = rest.strip_prefix("[\"") {
                let end = closing_quote(inner).ok_or_else(|| bad(at))?;
                let quoted = &rest[1..end + 3];
                let key = Json::parse(quoted.as_bytes()).map_err(|_| bad(at))?.value;
                steps.push(Step::Key(key.as_str().unwrap_or_default().to_owned()));
                rest = inner[end + 1..].strip_prefix(']').ok_or_else(|| bad(at))?;
            } else if let Some(inner) = rest.strip_prefix('[') {
                let end = inner.find(']').ok_or_else(|| bad(at))?;
                steps.push(Step::Index(inner[..end].parse().map_err(|_| bad(at))?));
                rest = &inner[end + 1..];
            } else {
                let name = if steps.is_empty() { rest } else { rest.strip_prefix('.').ok_or_else(|| bad(at))? };
                let end = name.find(['.', '[']).unwrap_or(name.len());
                // Parsed keys never contain NUL, so no path leads to one that does.
                if end == 0 || name[..end].contains('\0') {
                    return Err(bad(at));
                }
                steps.push(Step::Key(name[..end].to_owned()));
                rest = &name[end..];
            }
        }
        Ok(Path(steps))
    }
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|b| {
        let closes = b == b'"' && !escaped;
        escaped = b == b'\\' && !escaped;
        closes
    })
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(n) => write!(f, "[{n}]")?,
                Step::Key(k) if is_plain(k) => write!(f, "{}{k}", if i > 0 { "." } else { "" })?,
                Step::Key(k) => write!(f, "[{}]", Json::from(k.as_str()).to_canonical())?,
            }
        }
        Ok(())
    }
}

fn is_plain(key: &str) -> bool {
    !key.is_empty() && !key.contains(['.', '[', ']', '"', '\\']) && !key.chars().any(char::is_control)
}
