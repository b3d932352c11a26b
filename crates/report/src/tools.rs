//! What a tool does to data. FHIR and OCSF require this of every event, and only the tool's name tells.

/// What a tool does to data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ToolKind {
    /// Reads a record that the call names.
    Read,
    /// Searches for records.
    Query,
    /// Creates a record.
    Create,
    /// Changes a record.
    Update,
    /// Deletes a record.
    Delete,
    /// Does anything else.
    Execute,
}

/// The kind of each tool: as configured, or guessed from its name.
///
/// A pattern is a tool's name, or part of one with a `*` at one end or both. An exact name takes precedence over a
/// pattern, and a longer pattern over a shorter one.
///
/// ```
/// use attestlog_report::{ToolKind, ToolKinds};
/// let mut kinds = ToolKinds::default();
/// kinds.set("ehr_*", ToolKind::Query);
/// kinds.set("ehr_note", ToolKind::Create);
/// assert_eq!(kinds.of("ehr_note"), ToolKind::Create);
/// assert_eq!(kinds.of("ehr_chart"), ToolKind::Query);
/// assert_eq!(kinds.of("getPatient"), ToolKind::Read); // a guess
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolKinds {
    patterns: Vec<(String, ToolKind)>,
}

impl ToolKinds {
    /// Sets the kind of the tools with this name or matching this pattern. A later call for the same pattern replaces
    /// the earlier one.
    pub fn set(&mut self, pattern: impl Into<String>, kind: ToolKind) {
        let pattern = pattern.into();
        self.patterns.retain(|(p, _)| *p != pattern);
        self.patterns.push((pattern, kind));
        // Exact names first, then the longest pattern; sorting is stable.
        self.patterns.sort_by_key(|(p, _)| (p.contains('*'), std::cmp::Reverse(p.len())));
    }

    /// The kind of this tool.
    pub fn of(&self, tool: &str) -> ToolKind {
        let known = self.patterns.iter().find(|(pattern, _)| matches(pattern, tool));
        known.map_or_else(|| guess(tool), |(_, kind)| *kind)
    }
}

fn matches(pattern: &str, tool: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(_), Some(_)) if pattern.len() < 2 => true,
        (Some(end), Some(_)) => tool.contains(end.strip_suffix('*').unwrap_or(end)),
        (Some(end), None) => tool.ends_with(end),
        (None, Some(start)) => tool.starts_with(start),
        (None, None) => tool == pattern,
    }
}

/// The verbs of each kind. If a name holds several verbs joined by "and", the kind listed first counts: an event that
/// may have deleted something must not appear as a read.
const VERBS: &[(ToolKind, &[&str])] = &[
    (ToolKind::Delete, &["delete", "remove", "destroy", "erase", "purge", "drop", "discard", "unlink", "clear"]),
    (
        ToolKind::Update,
        &[
            "update",
            "edit",
            "modify",
            "set",
            "change",
            "patch",
            "put",
            "write",
            "save",
            "replace",
            "append",
            "amend",
            "cancel",
            "approve",
            "sign",
            "assign",
            "move",
            "rename",
            "merge",
            "correct",
            "refill",
            "discontinue",
        ],
    ),
    (
        ToolKind::Create,
        &[
            "create",
            "add",
            "new",
            "insert",
            "make",
            "register",
            "order",
            "prescribe",
            "book",
            "schedule",
            "admit",
            "post",
        ],
    ),
    (ToolKind::Query, &["search", "find", "query", "list", "filter", "count", "match", "browse", "enumerate"]),
    (
        ToolKind::Read,
        &["read", "get", "fetch", "view", "show", "retrieve", "load", "open", "lookup", "describe", "display", "check"],
    ),
];

fn guess(tool: &str) -> ToolKind {
    let words = words(tool);
    let kind_of = |word: &String| VERBS.iter().position(|(_, verbs)| verbs.contains(&word.as_str()));
    let mut found = words.iter().filter_map(kind_of);
    let several = words.iter().any(|w| matches!(w.as_str(), "and" | "or" | "then"));
    let at = if several { found.min() } else { found.next() };
    at.and_then(|at| VERBS.get(at)).map_or(ToolKind::Execute, |(kind, _)| *kind)
}

/// The words of `get_patientChart`, in lower case. Only the beginning of an overlong name is read.
fn words(tool: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut lower_before = false;
    for c in tool.chars().take(256) {
        let boundary = !c.is_alphanumeric() || (c.is_uppercase() && lower_before);
        if boundary {
            words.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
        lower_before = c.is_lowercase();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_guessed() {
        for (name, kind) in [
            ("get_patient_chart", ToolKind::Read),
            ("read-labs", ToolKind::Read),
            ("patient.lookup", ToolKind::Read),
            ("searchMedications", ToolKind::Query),
            ("list_appointments", ToolKind::Query),
            ("update_allergies", ToolKind::Update),
            ("get_update_status", ToolKind::Read),
            ("delete_search_index", ToolKind::Delete),
            ("find_and_replace", ToolKind::Update),
            ("read_and_delete", ToolKind::Delete),
            ("create_order", ToolKind::Create),
            ("transcribe", ToolKind::Execute),
            ("", ToolKind::Execute),
            ("<script>", ToolKind::Execute),
        ] {
            assert_eq!(ToolKinds::default().of(name), kind, "{name}");
        }
    }

    #[test]
    fn configuration_goes_before_guesses() {
        let mut kinds = ToolKinds::default();
        kinds.set("*", ToolKind::Execute);
        kinds.set("get_*", ToolKind::Delete);
        kinds.set("*chart*", ToolKind::Update);
        kinds.set("get_it", ToolKind::Read);
        kinds.set("get_it", ToolKind::Create);
        for (name, kind) in [
            ("get_it", ToolKind::Create),
            ("get_that", ToolKind::Delete),
            ("a_chart_b", ToolKind::Update),
            ("read_all", ToolKind::Execute),
        ] {
            assert_eq!(kinds.of(name), kind, "{name}");
        }
    }
}
