//! What is kept of a result: enough to know what was viewed, but not its contents.

use crate::json::{Json, Object};

/// What is kept of a result besides its shape.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResultPolicy {
    /// Names of members that identify a record and are kept with their values. A leading `*` matches any beginning.
    /// Default: `id`, `*_id`, `status`, `count`.
    pub identifying: Vec<String>,
    /// Keep complete results, sanitised, up to this many bytes of canonical JSON; a larger one is summarised and marked
    /// as cut. Default: none.
    pub keep_full: Option<usize>,
}

impl Default for ResultPolicy {
    fn default() -> ResultPolicy {
        let identifying = ["id", "*_id", "status", "count"].map(str::to_owned).to_vec();
        ResultPolicy { identifying, keep_full: None }
    }
}

/// The most names, and the most identifying values, in a summary; if there are more, it is marked as cut.
const MAX_NAMES: usize = 100;
/// A longer text is content, not an identifier.
const MAX_IDENTIFYING_BYTES: usize = 200;

/// The summary of a result.
///
/// As JSON, without empty members: `type` (of the value), `fields` (names of the returned members; for an array, of all
/// its elements), `keys` (identifying members with their values; below an array, a list of values), `count` (elements
/// of an array), `bytes` (of the complete result as canonical JSON), `cut` (true if a list here is incomplete),
/// `error_only` (true if a failed call's result holds nothing but the error), `digest` (`KEY-ID:HMAC-SHA-256` of the complete
/// result as canonical JSON before it was sanitised, but without what is sealed), `full` (the complete result, if configured).
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Summary {
    /// The JSON form.
    pub json: Object,
}

impl Summary {
    /// Summarises a sanitised result, or its viewed part. `full` is the complete sanitised result; `bytes` and `digest`
    /// are those of the complete result before it was sanitised; the digest leaves out what is sealed.
    pub(crate) fn of(
        result: &Json,
        full: Option<&Json>,
        bytes: usize,
        digest: Option<String>,
        policy: &ResultPolicy,
    ) -> Summary {
        let mut seen = Seen { policy, fields: Vec::new(), keys: Object::new(), values: 0, cut: false };
        let mut json = Object::new();
        match result {
            Json::Object(members) => seen.members(members, "", true),
            Json::Array(items) => {
                json.insert("count", items.len() as u64);
                seen.elements(items, "", true);
            }
            _ => {}
        }
        let type_name = result.type_name();
        json.insert("type", type_name.strip_prefix("an ").or(type_name.strip_prefix("a ")).unwrap_or(type_name));
        json.insert("bytes", bytes as u64);
        if let (Some(limit), Some(full)) = (policy.keep_full, full) {
            if full.to_canonical().as_str().len() <= limit {
                json.insert("full", full.clone());
            } else {
                seen.cut = true;
            }
        }
        if !seen.fields.is_empty() {
            json.insert("fields", seen.fields);
        }
        if !seen.keys.is_empty() {
            json.insert("keys", seen.keys);
        }
        if seen.cut {
            json.insert("cut", true);
        }
        if let Some(digest) = digest {
            json.insert("digest", digest);
        }
        Summary { json }
    }
}

struct Seen<'a> {
    policy: &'a ResultPolicy,
    fields: Vec<String>,
    keys: Object,
    values: usize,
    cut: bool,
}

impl Seen<'_> {
    /// Lists the top-level names, and finds identifying members there and one level below: a record usually comes bare,
    /// in a list, or in a list under one name.
    fn members(&mut self, members: &Object, prefix: &str, top: bool) {
        for (name, value) in members.iter() {
            if top && !self.fields.iter().any(|f| f == name) {
                if self.fields.len() < MAX_NAMES {
                    self.fields.push(name.to_owned());
                } else {
                    self.cut = true;
                }
            }
            let path = format!("{prefix}{name}");
            match value {
                Json::Object(inner) if top => self.members(inner, &format!("{path}."), false),
                Json::Array(items) if top => self.elements(items, &path, false),
                _ if self.identifies(name) => self.keep(path, value),
                _ => {}
            }
        }
    }

    fn elements(&mut self, items: &[Json], path: &str, top: bool) {
        for item in items {
            if let Json::Object(members) = item {
                self.members(members, &format!("{path}[]."), top);
            }
        }
    }

    fn identifies(&self, name: &str) -> bool {
        self.policy.identifying.iter().any(|pattern| match pattern.strip_prefix('*') {
            Some(end) => name.len() > end.len() && name.ends_with(end),
            None => name == pattern,
        })
    }

    fn keep(&mut self, path: String, value: &Json) {
        let fits = match value {
            Json::String(s) => s.len() <= MAX_IDENTIFYING_BYTES,
            Json::Bool(_) | Json::Number(_) => true,
            Json::Null => return,
            Json::Array(_) | Json::Object(_) => return,
        };
        if !fits || self.values >= MAX_NAMES {
            self.cut = true;
            return;
        }
        self.values += 1;
        if !path.contains("[]") {
            self.keys.insert(path, value.clone());
            return;
        }
        match self.keys.get_mut(&path) {
            Some(Json::Array(values)) if !values.contains(value) => values.push(value.clone()),
            Some(_) => {}
            None => {
                self.keys.insert(path, vec![value.clone()]);
            }
        }
    }
}
