//! Which patients a call concerns: they decide its class, and a proxied or imported call names them only inside its
//! arguments or results.

use super::glob::{Glob, tool_form};
use crate::entry::CallLimits;
use crate::hash::Hash;
use crate::json::{self, Json, Object, Path};
use crate::redact::{Altered, each_id, each_member, gist, is_called, names_patient, normal, understood};
use crate::{Error, ErrorKind, Result};
use attestlog_proof::members::{Members, shown, text};
use std::collections::BTreeSet;

/// Each path is walked for each call of its tools.
const MAX_PATHS: usize = 1000;

/// JSON in a text is looked into, and text in that, so often.
const MAX_INNER: usize = 8;

/// Where patients are found in the calls of which tools. `patient_id` in the arguments is always looked at, at any depth and however it is written
/// (`patientId`, `PATIENT_ID`, `patient-ids`, `patient`, `patient_number`), also where the arguments are a list, or JSON in a text.
///
/// A path starts with `arguments` or `result`; `[*]` is every element of a list or every member of an object. Keys and names of
/// tools are compared without case, whatever separates their words; a key of a path is looked for in each element of a list, and
/// in the JSON of a text. A string, a number (as its digits: 17 is the patient `17`), an object with these as its `id`, `value` or
/// `patient_id`, a list of them, or JSON of these in a text names patients; anything else at a path names nobody.
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
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq)]
struct Rule {
    tool: Glob,
    /// The same, for names in the form in which they are compared: a tool server may not care.
    folded: Glob,
    paths: Vec<Pattern>,
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
            let name = tool.as_ref();
            let glob = |text: &str| Glob::new(text).map_err(|e| Error::invalid(format!("tool {}: {e}", shown(name))));
            out.rules.push(Rule { tool: glob(name)?, folded: glob(&tool_form(name))?, paths: compiled });
        }
        if out.rules.iter().map(|rule| rule.paths.len().max(1)).sum::<usize>() > MAX_PATHS {
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

    /// The same without a limit to their number, and how many ids were too long to be one: each of these stands there by its
    /// length and its SHA-256.
    pub fn find_all(&self, tool: &str, arguments: Option<&Json>, result: Option<&Json>) -> (BTreeSet<String>, usize) {
        self.find_unlimited(tool, arguments, result, true)
    }

    /// The same of the paths alone, whatever members are called.
    pub fn find_at_paths(&self, tool: &str, arguments: Option<&Json>, result: Option<&Json>) -> BTreeSet<String> {
        self.find_unlimited(tool, arguments, result, false).0
    }

    fn find_unlimited(
        &self,
        tool: &str,
        arguments: Option<&Json>,
        result: Option<&Json>,
        by_name: bool,
    ) -> (BTreeSet<String>, usize) {
        let limits = CallLimits { patients: usize::MAX, ..CallLimits::default() };
        let mut altered = Altered::default();
        let mut found = Found { ids: BTreeSet::new(), limits: &limits, altered: &mut altered, too_long: Some(0) };
        // With no limit to their number there is nothing that it could fail by.
        let named = arguments.filter(|_| by_name);
        drop(named.map_or(Ok(()), |arguments| found.named(arguments)));
        drop(self.find_in(tool, arguments, result, &mut found));
        (found.ids, found.too_long.unwrap_or_default())
    }

    /// The same as [`find`](PatientPaths::find); `altered` is told which of their names were written otherwise.
    pub(crate) fn find_noting(
        &self,
        tool: &str,
        arguments: Option<&Json>,
        result: Option<&Json>,
        limits: &CallLimits,
        altered: &mut Altered,
    ) -> Result<Vec<String>> {
        let mut found = Found { ids: BTreeSet::new(), limits, altered, too_long: None };
        arguments.map_or(Ok(()), |arguments| found.named(arguments))?;
        self.find_in(tool, arguments, result, &mut found)?;
        Ok(found.ids.into_iter().collect())
    }

    fn find_in(
        &self,
        tool: &str,
        arguments: Option<&Json>,
        result: Option<&Json>,
        found: &mut Found<'_>,
    ) -> Result<()> {
        let name = if self.rules.is_empty() { String::new() } else { tool_form(tool) };
        for rule in self.rules.iter().filter(|rule| rule.tool.matches(tool) || rule.folded.matches(&name)) {
            for path in &rule.paths {
                let root = match path.root {
                    Root::Arguments => arguments,
                    Root::Result => result,
                };
                if let Some(root) = root {
                    found.walk(root, &path.steps, MAX_INNER)?;
                }
            }
        }
        Ok(())
    }

    /// A list of `tool` and `paths`, as the entry of the policy holds it.
    pub fn to_json(&self) -> Json {
        let rule = |rule: &Rule| {
            let mut out = Object::new();
            out.insert("paths", rule.paths.iter().map(|p| p.text.clone()).collect::<Vec<_>>());
            out.insert("tool", rule.tool.as_str());
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
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    /// As it is written, and without case and separators.
    Key(String, String),
    Index(usize),
    /// `[*]`
    Any,
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
        let mut steps = Vec::new();
        loop {
            let end = wildcard(rest).unwrap_or(rest.len());
            let part = rest.get(..end).unwrap_or_default();
            let inner = match part.strip_prefix('.') {
                Some(named) if !named.is_empty() && !named.starts_with('[') => named,
                None if part.is_empty() || part.starts_with('[') => part,
                _ => return Err(bad("write it like result.entries[*].patient.id")),
            };
            steps.extend(Path::parse(inner).map_err(|e| bad(&e))?.steps().iter().map(|step| match step {
                json::Step::Key(key) => Step::Key(key.clone(), gist(key)),
                json::Step::Index(i) => Step::Index(*i),
            }));
            match rest.get(end + 3..) {
                Some(after) => {
                    steps.push(Step::Any);
                    rest = after;
                }
                None => return Ok(Pattern { text: text.to_owned(), root, steps }),
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
    /// How many ids were too long, where that is no error.
    too_long: Option<usize>,
}

impl Found<'_> {
    /// Takes in what members of the arguments are called patients.
    fn named(&mut self, arguments: &Json) -> Result<()> {
        each_member(arguments, &mut |key, value| match names_patient(key) {
            true => self.take(value),
            false => Ok(()),
        })
    }

    /// Visits each value below `at` at most once, so a path takes time linear in the value.
    fn walk(&mut self, at: &Json, steps: &[Step], texts: usize) -> Result<()> {
        let Some((step, rest)) = steps.split_first() else {
            return self.take(at);
        };
        match (step, at) {
            (_, Json::String(text)) => match texts.checked_sub(1).and_then(|left| Some((understood(text)?, left))) {
                Some((held, left)) => self.walk(&held, steps, left),
                None => Ok(()),
            },
            (Step::Key(key, plain), Json::Object(members)) => members
                .iter()
                .filter(|(name, _)| name == key || is_called(name, plain))
                .try_for_each(|(_, member)| self.walk(member, rest, texts)),
            (Step::Key(..), Json::Array(items)) => items.iter().try_for_each(|item| self.walk(item, steps, texts)),
            (Step::Index(i), Json::Array(items)) => items.get(*i).map_or(Ok(()), |item| self.walk(item, rest, texts)),
            (Step::Any, Json::Array(items)) => items.iter().try_for_each(|item| self.walk(item, rest, texts)),
            (Step::Any, Json::Object(members)) => {
                members.iter().try_for_each(|(_, member)| self.walk(member, rest, texts))
            }
            _ => Ok(()),
        }
    }

    fn take(&mut self, value: &Json) -> Result<()> {
        each_id(value, &mut |id| {
            self.altered.note(id);
            self.add(normal(id).into_owned())
        })
    }

    fn add(&mut self, id: String) -> Result<()> {
        if id.is_empty() {
            return Ok(());
        }
        if let (Some(count), true) = (&mut self.too_long, id.len() > self.limits.id_bytes) {
            *count += 1;
            self.ids.insert(format!("[{} bytes, SHA-256 {}]", id.len(), Hash::of(id.as_bytes())));
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
