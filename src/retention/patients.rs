//! Which patients a call concerns. They decide its class, and a proxied or imported call names them only in its
//! arguments or result.
//!
//! Invariant R5: paths that succeed others find patients wherever those did.

use super::NamePattern;
use super::glob::tool_form;
use crate::entry::CallLimits;
use crate::hash::Hash;
use crate::json::{self, Json, Object, Path};
use crate::redact::{
    Altered, Budget, Embedded, each_id, each_member, gist, is_called, names_patient, normal, understood,
};
use crate::{Error, ErrorKind, Result};
use attestlog_proof::members::{Members, shown, text};
use std::cell::OnceCell;
use std::collections::BTreeSet;

/// Each path is walked for each call of its tools.
const MAX_PATHS: usize = 1000;

/// How many levels of JSON in texts are opened.
const MAX_INNER: usize = 8;

/// Where to find patients in the calls of certain tools. `patient_id` in the arguments is always read, at any depth and
/// in any spelling (`patientId`, `PATIENT_ID`, `patient-ids`, `patient`, `patient_number`), even if the arguments are
/// an array, or JSON in a text.
///
/// A path starts with `arguments` or `result`; `[*]` is every element of an array or every member of an object. Keys
/// and tool names are compared without case and separators between words; a key in a path is looked up in each element
/// of an array, and in the JSON of a text, also where other words stand around it. The JSON in the texts of a Model
/// Context Protocol result is looked at as its `structuredContent` too. These values name patients: a string, a number (as its
/// digits: 17 is the patient `17`), an object with one of these as its `id`, `value` or `patient_id`, an array of them, or JSON
/// of these in a text. Any other value at a path names nobody.
///
/// ```
/// use attestlog::{json::Json, retention::PatientPaths};
/// use attestlog::entry::CallLimits;
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
    /// As it was given.
    tool: String,
    tools: NamePattern,
    paths: Vec<Pattern>,
}

impl PatientPaths {
    /// Compiles pairs of a tool name (or a pattern with `*` and `?`) and the paths for its calls.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`]: a tool or path cannot be parsed (the message names it), or there are more than
    /// 1,000 paths.
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
            let wrong = |why: &str| Error::invalid(format!("tool {}: {why}", shown(name)));
            if name.is_empty() {
                return Err(wrong("a name or pattern must not be empty"));
            }
            let tools = NamePattern::of_tool(name).map_err(|e| wrong(&e))?;
            out.rules.push(Rule { tool: name.to_owned(), tools, paths: compiled });
        }
        if out.rules.iter().map(|rule| rule.paths.len().max(1)).sum::<usize>() > MAX_PATHS {
            return Err(Error::invalid(format!("more than {MAX_PATHS} paths to patients")));
        }
        Ok(out)
    }

    /// The patients that a call names, sorted, each once.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`]: there are more of them, or longer ones, than `limits` allows. None is dropped silently.
    pub fn find(
        &self,
        tool: &str,
        arguments: Option<&Json>,
        result: Option<&Json>,
        limits: &CallLimits,
    ) -> Result<Vec<String>> {
        self.find_noting(tool, arguments, result, limits, &mut Altered::default())
    }

    /// The same without a limit on their number, and the count of ids that were too long. Each of these is represented
    /// by its length and its SHA-256.
    pub fn find_all(&self, tool: &str, arguments: Option<&Json>, result: Option<&Json>) -> (BTreeSet<String>, usize) {
        self.find_unlimited(tool, arguments, result, true)
    }

    /// The same for the paths alone, ignoring member names.
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
        let mut found = Found {
            ids: BTreeSet::new(),
            limits: &limits,
            altered: &mut altered,
            too_long: Some(0),
            budget: Budget::new(),
        };
        // Without a limit on their number, nothing can fail.
        let named = arguments.filter(|_| by_name);
        drop(named.map_or(Ok(()), |arguments| found.named(arguments)));
        drop(self.find_in(tool, arguments, result, &mut found));
        (found.ids, found.too_long.unwrap_or_default())
    }

    /// Checks that these paths may replace `old`: each path of `old` must be here for all tools for which it was there. Otherwise
    /// calls about a patient would be kept for a shorter time, and reports about the patient would leave them out.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] names the tool and the path that would be missing.
    pub fn check_successor(&self, old: &PatientPaths) -> Result<()> {
        for was in &old.rules {
            let names = tool_form(&was.tool);
            let covers = |rule: &&Rule| rule.tools.covers(&names);
            let missing = |path: &&Pattern| {
                !self.rules.iter().filter(covers).any(|rule| rule.paths.iter().any(|is| is.is_same(path)))
            };
            if let Some(path) = was.paths.iter().find(missing) {
                let (tool, path) = (shown(was.tool.as_str()), shown(&path.text));
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!(
                        "patients of tool {tool} were found at {path}, which is missing, so calls about a patient would be kept for a \
                         shorter time and reports would leave them out; a later policy can lengthen retention, never shorten it"
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Like [`find`](PatientPaths::find); notes in `altered` which names were changed to their normal form.
    pub(crate) fn find_noting(
        &self,
        tool: &str,
        arguments: Option<&Json>,
        result: Option<&Json>,
        limits: &CallLimits,
        altered: &mut Altered,
    ) -> Result<Vec<String>> {
        let mut found = Found { ids: BTreeSet::new(), limits, altered, too_long: None, budget: Budget::new() };
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
        // What a result says as JSON in its texts counts as its structured content.
        let said = OnceCell::new();
        for rule in self.rules.iter().filter(|rule| rule.tools.matches(&name)) {
            for path in &rule.paths {
                let root = match path.root {
                    Root::Arguments => arguments,
                    Root::Result => result,
                };
                let Some(root) = root else { continue };
                found.walk(root, &path.steps, MAX_INNER)?;
                if let Some(steps) = path.in_structured() {
                    let said = said.get_or_init(|| said_as_json(root));
                    said.iter().try_for_each(|held| found.walk(held, steps, MAX_INNER - 1))?;
                }
            }
        }
        Ok(())
    }

    /// A list of `tool` and `paths`, as in the policy's entry.
    pub fn to_json(&self) -> Json {
        let rule = |rule: &Rule| {
            let mut out = Object::new();
            out.insert("paths", rule.paths.iter().map(|p| p.text.clone()).collect::<Vec<_>>());
            out.insert("tool", rule.tool.clone());
            Json::from(out)
        };
        Json::Array(self.rules.iter().map(rule).collect())
    }

    /// Parses the output of [`PatientPaths::to_json`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] names the member that is missing, unknown or invalid.
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
    /// The rest of a path that begins with `result.structuredContent`.
    fn in_structured(&self) -> Option<&[Step]> {
        match self.steps.split_first()? {
            (Step::Key(_, plain), rest) if self.root == Root::Result && plain == "structuredcontent" => Some(rest),
            _ => None,
        }
    }

    /// Whether it leads to the same values, however it is written.
    fn is_same(&self, other: &Pattern) -> bool {
        (self.root, &self.steps) == (other.root, &other.steps)
    }

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
            if unquoted(inner).contains('*') {
                return Err(bad(
                    "* has no meaning here: write [*] for every element of a list or member of an object, and a key that has a * as \
                     [\"a*\"]",
                ));
            }
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

/// The JSON in the texts of a result: in the result itself if it is a text, else in each part of it.
fn said_as_json(result: &Json) -> Vec<Json> {
    let parts = ["content", "contents"].iter().find_map(|name| result.get(name)?.as_array()).unwrap_or_default();
    let of_part = |part: &'_ Json| {
        let text = part.get("text").or_else(|| part.get("resource")?.get("text"));
        text.and_then(Json::as_str).map(str::to_owned)
    };
    let texts = result.as_str().map(str::to_owned).into_iter().chain(parts.iter().filter_map(of_part));
    let mut budget = Budget::new();
    let held = |text: String| {
        budget.grant(&text);
        held(&text, &mut budget)
    };
    texts.flat_map(held).collect()
}

/// The JSON in a text, as far as it can be read: the whole, or the parts among other words.
fn held(text: &str, budget: &mut Budget) -> Vec<Json> {
    match understood(text) {
        Some(whole) => vec![whole],
        None => Embedded::of(text, budget).into_values().collect(),
    }
}

/// The text without its quoted keys.
fn unquoted(text: &str) -> String {
    let (mut quoted, mut escaped) = (false, false);
    let outside = text.chars().filter(|&c| {
        quoted ^= c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
        !quoted
    });
    outside.collect()
}

/// The position of the first `[*]` that is not inside a quoted key.
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
    /// The count of ids that were too long, if that is not an error.
    too_long: Option<usize>,
    /// For the search of texts for JSON.
    budget: Budget,
}

impl Found<'_> {
    /// Adds the patients in members of the arguments that have a patient's name.
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
            (_, Json::String(text)) => match texts.checked_sub(1) {
                Some(left) => {
                    if texts == MAX_INNER {
                        self.budget.grant(text);
                    }
                    held(text, &mut self.budget).iter().try_for_each(|held| self.walk(held, steps, left))
                }
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
