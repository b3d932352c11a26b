//! Which patients a call concerns: they decide its class, and a proxied or imported call names them only inside its
//! arguments or results.

use super::glob::Glob;
use super::members::{Members, shown, text};
use crate::entry::CallLimits;
use crate::json::{Json, Object, Path};
use crate::redact::{Altered, gist, normal, patient_ids};
use crate::{Error, ErrorKind, Result};
use std::collections::BTreeSet;

/// Each path is walked for each call of its tools.
const MAX_PATHS: usize = 1000;

/// Where patients are found in the calls of which tools. `arguments.patient_id` is always looked at, however it is written
/// (`patientId`, `PATIENT_ID`, `patient-ids`, or `patient` with an object that has an `id`).
///
/// A path starts with `arguments` or `result`; `[*]` is every element of a list or every member of an object. A string,
/// a number (as its digits: 17 is the patient `17`), an object with one of these as its `id` or `value`, or a list of them
/// names patients; anything else at a path names nobody.
///
/// ```
/// use attestlog::{CallLimits, json::Json, retention::PatientPaths};
/// let paths = PatientPaths::new([("get_*", ["arguments.subject", "result.entries[*].patient.id"])])?;
/// let arguments = Json::parse(br#"{"subject": 17}"#)?.value;
/// let result = Json::parse(br#"{"entries": [{"patient": {"id": "P-2"}}, {"patient": {"id": "P-1"}}]}"#)?.value;
/// let found = paths.find("get_chart", Some(&arguments), Some(&result), &CallLimits::default())?;
/// assert_eq!(found, ["17", "P-1", "P-2"]);
/// # Ok::<(), attestlog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PatientPaths {
    rules: Vec<(Glob, Vec<Pattern>)>,
}

impl PatientPaths {
    /// Compiles pairs of a tool name (or pattern with `*` and `?`) and the paths of its calls.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] names the tool or path that cannot be read.
    pub fn new<T, P>(rules: impl IntoIterator<Item = (T, P)>) -> Result<PatientPaths>
    where
        T: AsRef<str>,
        P: IntoIterator,
        P::Item: AsRef<str>,
    {
        let mut out = PatientPaths::default();
        for (tool, paths) in rules {
            let mut compiled = Vec::new();
            for path in paths {
                compiled.push(Pattern::parse(path.as_ref()).map_err(Error::invalid)?);
            }
            let tool = tool.as_ref();
            let glob = Glob::new(tool).map_err(|e| Error::invalid(format!("tool {}: {e}", shown(tool))))?;
            out.rules.push((glob, compiled));
        }
        if out.rules.iter().map(|(_, paths)| paths.len().max(1)).sum::<usize>() > MAX_PATHS {
            return Err(Error::invalid(format!("more than {MAX_PATHS} paths to patients")));
        }
        Ok(out)
    }

    /// The patients that a call names, sorted, each once.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`]: more of them, or longer ones, than `limits` allows: none is left out without a word.
    pub fn find(
        &self,
        tool: &str,
        arguments: Option<&Json>,
        result: Option<&Json>,
        limits: &CallLimits,
    ) -> Result<Vec<String>> {
        self.find_noting(tool, arguments, result, limits, &mut Altered::default())
    }

    /// The same; `altered` is told which of their names were written otherwise.
    pub(crate) fn find_noting(
        &self,
        tool: &str,
        arguments: Option<&Json>,
        result: Option<&Json>,
        limits: &CallLimits,
        altered: &mut Altered,
    ) -> Result<Vec<String>> {
        let mut found = Found { ids: BTreeSet::new(), limits, altered };
        for (key, value) in arguments.and_then(Json::as_object).into_iter().flat_map(Object::iter) {
            found.member(key, value)?;
        }
        for (_, paths) in self.rules.iter().filter(|(glob, _)| glob.matches(tool)) {
            for path in paths {
                let root = match path.root {
                    Root::Arguments => arguments,
                    Root::Result => result,
                };
                if let Some(root) = root {
                    found.walk(root, &path.parts)?;
                }
            }
        }
        Ok(found.ids.into_iter().collect())
    }

    /// A list of `tool` and `paths`, as the entry of the policy holds it.
    pub fn to_json(&self) -> Json {
        let rule = |(glob, paths): &(Glob, Vec<Pattern>)| {
            let mut out = Object::new();
            out.insert("paths", paths.iter().map(|p| p.text.clone()).collect::<Vec<_>>());
            out.insert("tool", glob.as_str());
            Json::from(out)
        };
        Json::Array(self.rules.iter().map(rule).collect())
    }

    /// Reads what [`PatientPaths::to_json`] writes.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] names the member that is missing, unknown or wrong.
    pub fn from_json(value: &Json) -> Result<PatientPaths> {
        let list = value.as_array().ok_or_else(|| Error::invalid("must be a list"))?;
        let mut rules = Vec::with_capacity(list.len());
        for rule in list {
            let mut members = Members::of(rule)?;
            rules.push((members.text("tool")?, members.list("paths", text)?));
            members.end()?;
        }
        PatientPaths::new(rules)
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Pattern {
    text: String,
    root: Root,
    /// What stands before, between and after the wildcards.
    parts: Vec<Path>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Root {
    Arguments,
    Result,
}

impl Pattern {
    fn parse(text: &str) -> Result<Pattern, String> {
        let bad = |why: &str| format!("{}: {why}", shown(text));
        let (root, mut rest) = if let Some(rest) = text.strip_prefix("arguments") {
            (Root::Arguments, rest)
        } else if let Some(rest) = text.strip_prefix("result") {
            (Root::Result, rest)
        } else {
            return Err(bad("a path to patients starts with arguments or result"));
        };
        if text.len() > 1024 {
            return Err(bad("longer than 1024 bytes"));
        }
        let mut parts = Vec::new();
        loop {
            let end = wildcard(rest).unwrap_or(rest.len());
            let part = rest.get(..end).unwrap_or_default();
            let inner = match part.strip_prefix('.') {
                Some(named) if !named.is_empty() && !named.starts_with('[') => named,
                None if part.is_empty() || part.starts_with('[') => part,
                _ => return Err(bad("write it like result.entries[*].patient.id")),
            };
            parts.push(Path::parse(inner).map_err(|e| bad(&e))?);
            match rest.get(end + 3..) {
                Some(after) => rest = after,
                None => return Ok(Pattern { text: text.to_owned(), root, parts }),
            }
        }
    }
}

/// Where the first `[*]` starts that is not inside a quoted key.
fn wildcard(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (i, b) in text.bytes().enumerate() {
        if !quoted && text.as_bytes()[i..].starts_with(b"[*]") {
            return Some(i);
        }
        quoted ^= b == b'"' && !escaped;
        escaped = quoted && b == b'\\' && !escaped;
    }
    None
}

struct Found<'a> {
    ids: BTreeSet<String>,
    limits: &'a CallLimits,
    altered: &'a mut Altered,
}

impl Found<'_> {
    /// Visits each value below `at` at most once, so a path takes time linear in the value.
    fn walk(&mut self, at: &Json, parts: &[Path]) -> Result<()> {
        let Some((part, rest)) = parts.split_first() else {
            return self.take(at);
        };
        match (part.find(at), rest.is_empty()) {
            (None, _) => Ok(()),
            (Some(value), true) => self.take(value),
            (Some(Json::Array(items)), false) => items.iter().try_for_each(|item| self.walk(item, rest)),
            (Some(Json::Object(members)), false) => members.iter().try_for_each(|(_, member)| self.walk(member, rest)),
            (Some(_), false) => Ok(()),
        }
    }

    /// Takes a member of the arguments if its name says that it is a patient.
    fn member(&mut self, key: &str, value: &Json) -> Result<()> {
        match &*gist(key) {
            "patientid" | "patientids" => self.take(value),
            "patient" | "patients" => match value {
                Json::Array(items) => items.iter().try_for_each(|item| self.identified(item)),
                one => self.identified(one),
            },
            _ => Ok(()),
        }
    }

    fn take(&mut self, value: &Json) -> Result<()> {
        match value {
            Json::Array(items) => items.iter().filter(|i| i.as_array().is_none()).try_for_each(|item| self.take(item)),
            Json::Object(_) => self.identified(value),
            one => self.one(one),
        }
    }

    /// Takes an object's id.
    fn identified(&mut self, value: &Json) -> Result<()> {
        patient_ids(value).try_for_each(|id| self.one(id))
    }

    fn one(&mut self, value: &Json) -> Result<()> {
        match value {
            Json::String(id) => {
                self.altered.note(id);
                self.add(normal(id).into_owned())
            }
            Json::Number(_) => self.add(value.to_canonical().as_str().to_owned()),
            _ => Ok(()),
        }
    }

    fn add(&mut self, id: String) -> Result<()> {
        if id.is_empty() {
            return Ok(());
        }
        if id.len() > self.limits.id_bytes {
            let message =
                format!("a patient's id of {} bytes, more than the limit of {}", id.len(), self.limits.id_bytes);
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        self.ids.insert(id);
        if self.ids.len() > self.limits.patients {
            let message = format!("more than {} patients in one call", self.limits.patients);
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        Ok(())
    }
}
