//! What the member names of an object say: keys in which detectors find something, keys that identify people, and
//! members that name another member's value.

use super::beside::Initials;
use super::detect::{self, Hit, ordinary};
use super::sanitize::{At, Sanitizer, State, record};
use super::secret_keys::{self, Found, Kind};
use super::spans::placeholder;
use super::treated::Action;
use crate::json::{Json, Object};
use std::collections::{HashMap, HashSet};
use std::ops::Range;

impl Sanitizer {
    /// Renames keys in which detectors find something. This comes first, so that no path shows them.
    pub(super) fn object_keys(&self, object: &mut Object, at: &At<'_>, state: &mut State<'_, '_>) {
        let mut hits = Vec::new();
        if !object.iter().any(|(key, _)| self.scan(key, None, &mut hits).is_err() || !hits.is_empty()) {
            return;
        }
        let mut renamed = HashMap::new();
        let mut unique = Unique::among(object);
        for (key, _) in object.iter() {
            hits.clear();
            let failed = self.scan(key, None, &mut hits).err();
            if failed.is_none() && hits.is_empty() {
                continue;
            }
            let (text, found) = match failed {
                Some(name) => (placeholder(Some(&name)), vec![(name, Action::Mask)]),
                None => self.found_in_key(key, &mut hits),
            };
            let text = unique.of(text);
            for (name, action) in found {
                record(state, &at.key(&text, None), &name, action, None);
            }
            renamed.insert(key.to_owned(), text);
        }
        rename(object, &renamed);
    }

    fn found_in_key(&self, key: &str, hits: &mut [Hit]) -> (String, Vec<(String, Action)>) {
        let spans = self.merge(hits);
        let found = spans.iter().map(|s| (self.name(s.kind).to_owned(), stays_text(s.action))).collect();
        (self.apply(key, &spans, stays_text), found)
    }
}

/// The action where the result must stay text: a key can be neither sealed nor dropped.
pub(super) fn stays_text(action: Action) -> Action {
    match action {
        Action::Seal | Action::Drop => Action::Mask,
        other => other,
    }
}

/// Makes names unique within an object. Two e-mail addresses as keys give the same placeholder; remembering the last
/// number used keeps many of them linear.
struct Unique {
    taken: HashSet<String>,
    counts: HashMap<String, usize>,
}

impl Unique {
    fn among(object: &Object) -> Unique {
        Unique { taken: object.iter().map(|(key, _)| key.to_owned()).collect(), counts: HashMap::new() }
    }

    fn of(&mut self, text: String) -> String {
        let mut unique = text.clone();
        let n = self.counts.entry(text.clone()).or_insert(1);
        while !self.taken.insert(unique.clone()) {
            *n += 1;
            unique = format!("{text} ({n})");
        }
        unique
    }
}

/// The new names of keys that name somebody whom the policy hides. Members are treated first, under their old names: a
/// person called *password* must not take the floor away from a password.
pub(super) fn renames(object: &Object, at: &At<'_>, state: &mut State<'_, '_>) -> HashMap<String, String> {
    let mut renamed = HashMap::new();
    let Some(names) = state.context.names else { return renamed };
    let mut unique = None;
    for (key, _) in object.iter() {
        let Some((text, of)) = names(key) else { continue };
        let text = unique.get_or_insert_with(|| Unique::among(object)).of(text);
        record(state, &at.key(&text, None), of, Action::Pseudonymise, None);
        renamed.insert(key.to_owned(), text);
    }
    renamed
}

/// Renames members.
pub(super) fn rename(object: &mut Object, renamed: &HashMap<String, String>) {
    let old = std::mem::take(object);
    let mut members: Vec<(String, Json)> =
        old.into_iter().map(|(key, value)| (renamed.get(&key).cloned().unwrap_or(key), value)).collect();
    // In order, so that each insertion is at the end.
    members.sort_by(|a, b| a.0.encode_utf16().cmp(b.0.encode_utf16()));
    *object = members.into_iter().collect();
}

pub(super) const NAME_KEYS: &[&str] = &[
    "name",
    "key",
    "field",
    "header",
    "param",
    "parameter",
    "attribute",
    "property",
    "label",
    "k",
    "variable",
    "var",
    "env",
    "option",
    "setting",
    "flag",
    "argument",
    "variable_name",
    "field_name",
    "fieldname",
    "column",
    "what",
    "slot",
    "cell",
    "title",
    "@name",
    "@key",
    "using",
    "id",
    "type",
];
/// How many of the names above, counted from the end, need a `value` beside them.
const VAGUE_NAMES: usize = 2;
/// Members that describe in words where a text is typed: a page element or its selector.
pub(super) const LABEL_KEYS: &[&str] = &[
    "element",
    "selector",
    "locator",
    "placeholder",
    "label",
    "target",
    "ref_label",
    "aria-label",
    "name",
    "prompt",
    "css",
    "xpath",
    "query",
    "sel",
    "input_label",
];
pub(super) const VALUE_KEYS: &[&str] = &[
    "value",
    "val",
    "v",
    "data",
    "content",
    "contents",
    "default",
    "text",
    "values",
    "plaintext",
    "input",
    "new_value",
    "newvalue",
    "old_value",
    "oldvalue",
    "secret_value",
    "secretstring",
    "#text",
    "@value",
];

pub(super) fn is_one_of(key: &str, names: &[&str]) -> bool {
    let first = |text: &str| text.as_bytes().first().map(u8::to_ascii_lowercase);
    names.iter().any(|n| n.len() == key.len() && first(n) == first(key) && n.eq_ignore_ascii_case(key))
}

/// The lengths of the names in the lists, by first letter. Most keys of most objects have another length.
pub(super) const fn lengths(lists: [&[&str]; 2]) -> [u32; 32] {
    let mut table = [0; 32];
    let mut list = 0;
    while list < 2 {
        let mut i = 0;
        while i < lists[list].len() {
            let name = lists[list][i].as_bytes();
            table[(name[0] & 31) as usize] |= 1 << name.len();
            i += 1;
        }
        list += 1;
    }
    table
}

static VALUES: [u32; 32] = lengths([VALUE_KEYS, CHANGED_KEYS]);

/// Whether a member of an object may hold the value that another member names.
pub(super) fn may_hold(key: &str) -> bool {
    may_be(key, &VALUES)
}

/// Whether a key has a length that occurs in a list of names.
pub(super) fn may_be(key: &str, lengths: &[u32; 32]) -> bool {
    let first = key.as_bytes().first().map_or(0, |b| usize::from(b & 31));
    key.len() < 32 && lengths[first] >> key.len() & 1 == 1
}

/// Members that hold the changed value in a change. They hold many other things too, so only values that look like
/// secrets count.
const CHANGED_KEYS: &[&str] = &[
    "to",
    "from",
    "set",
    "new",
    "old",
    "before",
    "after",
    "is",
    "was",
    "answer",
    "response",
    "entry",
    "formula",
    "keys",
    "send_keys",
    "sendkeys",
];

/// What an object says about its values.
pub(super) struct Pair {
    found: Found,
    /// A question or a prompt says so.
    asked: bool,
    /// The common beginning of a pair of keys: *setting* in `setting_name` and `setting_value`.
    of: Option<String>,
}

impl Pair {
    /// The kind of the value under this key, if the pair makes it a secret.
    pub(super) fn kind(&self, key: &str, value: &Json) -> Option<Kind> {
        let changed = || {
            let text = value.as_str().unwrap_or_default();
            let word = text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            self.found.sure && !text.contains(char::is_whitespace) && !(word && text.len() < 8)
        };
        let asked = || self.asked && is_one_of(key, &["answer", "response", "input", "value", "text", "reply"]);
        let belongs = || self.of.as_deref().is_some_and(|of| stem(key, VALUE_ENDINGS).is_some_and(|stem| stem == of));
        let fits = is_one_of(key, VALUE_KEYS) || asked() || belongs() || is_one_of(key, CHANGED_KEYS) && changed();
        (fits && secret_keys::tells(&self.found, value)).then_some(self.found.kind)
    }
}

const NAME_ENDINGS: &[&str] = &["name", "key", "field"];
const VALUE_ENDINGS: &[&str] = &["value", "val"];

/// What precedes one of these endings in a key, without case and separators: *setting* in `settingName`.
fn stem(key: &str, endings: &[&str]) -> Option<String> {
    let ends = |ending: &&&str| {
        key.len() > ending.len()
            && key.len() < 40
            && key.as_bytes()[key.len() - ending.len()..].eq_ignore_ascii_case(ending.as_bytes())
    };
    let ending = endings.iter().find(ends)?;
    let stem = key.get(..key.len() - ending.len())?;
    Some(stem.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect())
}

/// Finds the member that names the object's value: `{"name": "password", "value": …}`,
/// `{"element": "Password input", "text": …}`, `{"setting_name": "password", "setting_value": …}`,
/// `{"op": "add", "path": "/password", "value": …}`, `{"question": "Mother's maiden name?", "answer": …}`.
pub(super) fn named_pair(object: &Object) -> Option<Pair> {
    if object.len() < 2 {
        return None;
    }
    let (mut value, mut vague, mut ending) = (false, false, false);
    for (key, _) in object.iter() {
        value |= may_hold(key) && (is_one_of(key, VALUE_KEYS) || is_one_of(key, CHANGED_KEYS));
        vague |= is_one_of(key, &["value", "val", "keys", "send_keys", "sendkeys"]);
        ending |= matches!(key.as_bytes(), [.., b'u' | b'U', b'e' | b'E'] | [.., b'a' | b'A', b'l' | b'L']);
    }
    if !value && !ending {
        return None;
    }
    // `id` and `type` count only beside a `value`: in `{"type": "token", "text": "the"}` the text is a word.
    let known = if vague { NAME_KEYS } else { NAME_KEYS.get(..NAME_KEYS.len() - VAGUE_NAMES).unwrap_or_default() };
    let texts = |keys: &'static [&str]| {
        object.iter().filter(|(key, _)| is_one_of(key, keys)).filter_map(|(_, value)| value.as_str())
    };
    // A file called `password.rs` holds no password.
    let named = texts(known).filter(|name| name.len() <= 64 && !is_file(name)).find_map(secret_keys::named);
    let pair = |found| Pair { found, asked: false, of: None };
    if let Some(found) =
        named.or_else(|| patched(object)).or_else(|| texts(LABEL_KEYS).filter(|name| !is_file(name)).find_map(labelled))
    {
        return Some(pair(found));
    }
    let asks = texts(&["question", "prompt", "securityQuestion", "security_question", "secret_question"]);
    if let Some(found) = asks.filter(|text| text.len() <= 160).find_map(asked) {
        return Some(Pair { asked: true, ..pair(found) });
    }
    let of = |(key, value): (&str, &Json)| {
        let of = stem(key, NAME_ENDINGS)?;
        let found = secret_keys::named(value.as_str().filter(|name| name.len() <= 64)?)?;
        Some(Pair { of: Some(of), ..pair(found) })
    };
    object.iter().filter(|_| ending).find_map(of)
}

/// The last name of the path in a JSON Patch: `{"op": "replace", "path": "/users/3/password", "value": …}`.
fn patched(object: &Object) -> Option<Found> {
    let op = object.get("op")?.as_str()?;
    let path = object.get("path")?.as_str().filter(|path| path.len() <= 256)?;
    let mut names = path.rsplit(['/', '.']).filter(|name| !name.bytes().all(|b| b.is_ascii_digit() || b == b'-'));
    matches!(op, "add" | "replace" | "test" | "set" | "update").then(|| secret_keys::named(names.next()?))?
}

fn is_file(name: &str) -> bool {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    name.contains('.')
        && [
            "rs", "py", "ts", "tsx", "js", "jsx", "go", "java", "kt", "rb", "php", "cs", "c", "h", "cpp", "md", "txt",
            "html", "css", "vue", "svelte", "json", "yaml", "yml", "swift", "sql",
        ]
        .contains(&ending)
}

/// What a question asks for: a secret by its name, or something only its owner knows.
fn asked(question: &str) -> Option<Found> {
    let lower = question.to_ascii_lowercase();
    let own = PERSONAL.iter().any(|words| lower.contains(words));
    if own {
        return secret_keys::named("securityanswer");
    }
    let enter = ["enter", "what is", "what's", "type", "give", "provide", ":"].iter().any(|w| lower.contains(w));
    labelled(question).or_else(|| secret_keys::named(question.trim_end_matches([':', ' ', '?']))).filter(|_| enter)
}

/// The topics of security questions.
const PERSONAL: &[&str] = &[
    "maiden name",
    "first pet",
    "first car",
    "first school",
    "elementary school",
    "primary school",
    "favorite teacher",
    "favourite teacher",
    "childhood",
    "street you grew up",
    "street did you grow up",
    "were you born",
    "parents meet",
    "parents met",
    "best man",
    "first job",
    "first concert",
    "oldest sibling",
    "name of your pet",
    "memorable",
];

/// The indexes of columns that hold secrets, by the header row: `{"columns": ["name", "password"], "rows": [[…]]}`.
pub(super) fn secret_columns(names: &[Json]) -> Vec<usize> {
    const MOST: usize = 64;
    let plain = |name: &str| name.len() <= 64 && !name.bytes().any(|b| b"!@#$%^&*=+".contains(&b));
    if !(2..=MOST).contains(&names.len()) || !names.iter().all(|n| n.as_str().is_some_and(plain)) {
        return Vec::new();
    }
    let named =
        |name: &Json| name.as_str().and_then(secret_keys::named).is_some_and(|f| f.kind == Kind::Secret && f.sure);
    names.iter().enumerate().filter(|(_, name)| named(name)).map(|(i, _)| i).collect()
}

/// The same for an object with one member for the column names and one for the rows.
pub(super) fn columns_of(object: &Object, initials: Initials) -> Option<Vec<usize>> {
    if !initials.any("chf") {
        return None;
    }
    let (_, names) = object
        .iter()
        .find(|(key, _)| is_one_of(key, &["columns", "headers", "header", "fields", "column_names", "columnNames"]))?;
    let Json::Array(names) = names else { return None };
    Some(secret_columns(names)).filter(|columns| !columns.is_empty())
}

/// The same for a list of rows whose first row names the columns.
pub(super) fn in_head(rows: &[Json]) -> Option<Vec<usize>> {
    let [Json::Array(head), Json::Array(first), ..] = rows else { return None };
    // A list of pairs has names in its first column.
    let columns = secret_columns(head);
    (head.len() == first.len() && !columns.is_empty() && columns.first() != Some(&0)).then_some(columns)
}

pub(super) const ROW_KEYS: &[&str] = &["rows", "data", "values", "records", "body", "items"];

/// The secret that a label says is typed there.
pub(super) fn labelled(label: &str) -> Option<Found> {
    const LONGEST: usize = 160;
    const OTHER: [&str; 20] = [
        "forgot",
        "forgotten",
        "reset",
        "show",
        "hide",
        "strength",
        "manager",
        "search",
        "link",
        "button",
        "checkbox",
        "toggle",
        "hint",
        "help",
        "visibility",
        "eye",
        "generator",
        "policy",
        "username",
        "email",
    ];
    if label.len() > LONGEST || !label.contains([' ', '#', '.', '[', '=', '-', '_', '/']) {
        return None;
    }
    let words = || label.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty());
    if words().any(|w| OTHER.iter().any(|o| o.eq_ignore_ascii_case(w))) {
        return None;
    }
    let one = words().find_map(|w| {
        secret_keys::named(w).filter(|f| {
            f.kind == Kind::Secret && (f.sure || matches!(f.name, "otp" | "totp"))
                || matches!(f.name, "cvv" | "cvc")
                || matches!(f.name, "pass" | "pw") && label.contains(['#', '.', '[', '='])
        })
    });
    let pairs = || {
        words()
            .zip(words().skip(1))
            .find_map(|(a, b)| secret_keys::named(&[a, " ", b].concat()).filter(|found| found.sure))
    };
    // `One-time code`
    let whole = || secret_keys::named(label).filter(|found| found.kind == Kind::Secret && found.sure);
    one.or_else(pairs).or_else(whole)
}

/// What an array element says about the next one: `["--password", …]`, `["authorization", …]` in a list of pairs, and
/// headers as a flat list of names and values.
pub(super) fn announces(items: &[Json], i: usize, in_array: bool) -> Option<Found> {
    let name = items.get(i)?.as_str().filter(|n| n.len() <= 64)?;
    let constant = || name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    let pair = items.len() == 2 && i == 0 && (in_array || constant() || lone_pair(name, items));
    let header = i.is_multiple_of(2)
        && items.len().is_multiple_of(2)
        && (name.contains('-') || ["authorization", "cookie"].iter().any(|n| n.eq_ignore_ascii_case(name)));
    let flag = name.strip_prefix("--").filter(|n| n.starts_with(char::is_alphanumeric) && !n.contains('='));
    // `["--no-password", …]`, `["--token", "--profile", …]`
    let flag = flag.filter(|flag| !ordinary::denies(flag));
    let next = items.get(i + 1).and_then(Json::as_str).unwrap_or_default();
    if name.starts_with("--")
        && next.starts_with("--")
        && next.get(2..).is_some_and(|n| n.starts_with(|c: char| c.is_ascii_lowercase()))
    {
        return None;
    }
    // `config set api_key …`
    let set = || {
        let verb = i.checked_sub(1).and_then(|i| items.get(i)).and_then(Json::as_str);
        let found =
            verb.filter(|verb| matches!(*verb, "set" | "put" | "add" | "write")).and_then(|_| secret_keys::named(name));
        found.filter(|found| found.sure && items.len() <= 8)
    };
    if let Some(found) = set() {
        return Some(found);
    }
    match (flag, pair || header) {
        (Some(flag), _) => secret_keys::named(flag),
        (None, true) => secret_keys::named(name),
        (None, false) => None,
    }
}

/// `["password", "…"]` on its own, outside a list of pairs: counts only if the second element looks like a secret and
/// not like a rule or a field name.
fn lone_pair(name: &str, items: &[Json]) -> bool {
    let value = items.get(1).and_then(Json::as_str).unwrap_or_default();
    let random = detect::value::looks_random(value) && !value.contains([':', '|', ' ', '(']);
    random && secret_keys::named(name).is_some_and(|found| found.sure && !found.loose)
}

/// The lines of a private key in a list, one line per element.
pub(super) fn key_lines(items: &[Json]) -> Option<Range<usize>> {
    let line = |item: &Json, mark: &str| item.as_str().is_some_and(|l| l.contains(mark) && l.len() < 200);
    let first = items.iter().position(|i| line(i, "-----BEGIN ") && line(i, "PRIVATE KEY"))?;
    let end = items.get(first..)?.iter().position(|i| line(i, "-----END ")).map_or(items.len(), |n| first + n + 1);
    Some(first..end)
}

/// The program that the argument list beside it belongs to.
pub(super) fn program(object: &Object, initials: Initials) -> Option<String> {
    if !initials.any("cpeb") {
        return None;
    }
    let named = object.iter().find(|(key, value)| {
        is_one_of(key, &["command", "cmd", "program", "executable", "bin"])
            && value.as_str().is_some_and(|v| v.len() <= 200)
    });
    named.and_then(|(_, value)| value.as_str()).map(str::to_owned)
}

/// The indexes of arguments that are secrets because of the arguments before them: `["curl", "-u", "user:…"]`.
pub(super) fn secret_arguments(items: &[Json], program: Option<&str>) -> Vec<usize> {
    const MOST: usize = 512;
    const LONGEST: usize = 16 << 10;
    let texts = || items.iter().filter_map(Json::as_str);
    let size: usize = texts().map(|t| t.len() + 1).sum();
    let flags = texts().any(|t| t.starts_with('-') && t.len() > 1 || t.starts_with('/') || t == "password");
    if !flags || items.len() > MOST || size > LONGEST || texts().count() != items.len() {
        return Vec::new();
    }
    let mut line = program.unwrap_or_default().to_owned();
    let mut places = Vec::new();
    for text in texts() {
        line.push(' ');
        places.push(line.len());
        // Each argument becomes one word, whatever is in it.
        line.extend(text.chars().map(|c| {
            if c.is_ascii_whitespace() || matches!(c, '"' | '\'' | ',' | ';' | '|' | '&') { '\u{1}' } else { c }
        }));
    }
    let mut found: Vec<usize> = Vec::new();
    for (start, _) in detect::secrets_in_command(&line) {
        let i = places.partition_point(|place| *place <= start).saturating_sub(1);
        let whole = places.get(i) == Some(&start);
        let joined = items.get(i).and_then(Json::as_str).is_some_and(|t| t.starts_with('-') && !t.starts_with("--"));
        let flagged = joined
            || i.checked_sub(1)
                .and_then(|i| items.get(i))
                .and_then(Json::as_str)
                .is_some_and(|t| t.starts_with('-') && t.len() <= 12);
        if i < items.len() && (whole || flagged) && !is_script(items, i) {
            found.push(i);
        }
    }
    found.extend(lone_password(items, program));
    found
}

/// Whether an argument is a script for a shell or another program. Secrets in it are found by scanning its own text.
fn is_script(items: &[Json], i: usize) -> bool {
    const RUN: [&str; 16] = [
        "-c",
        "-lc",
        "-ec",
        "-ic",
        "-lic",
        "-xc",
        "-euc",
        "-exc",
        "-cl",
        "-command",
        "--command",
        "-e",
        "--eval",
        "--execute",
        "/c",
        "-r",
    ];
    let text = |i: usize| items.get(i).and_then(Json::as_str).unwrap_or_default();
    let run = i.checked_sub(1).is_some_and(|i| RUN.iter().any(|r| r.eq_ignore_ascii_case(text(i))));
    run && text(i).contains(char::is_whitespace)
}

/// `["-u", "root", "-p", …]` where no program is named, or the program also takes a user.
fn lone_password(items: &[Json], program: Option<&str>) -> Option<usize> {
    let at = |flags: &[&str]| items.iter().position(|i| i.as_str().is_some_and(|t| flags.contains(&t)));
    let p = at(&["-p", "-P"])?;
    let value = items.get(p + 1)?.as_str()?;
    let user = at(&["-u", "-U", "--user", "--username", "-l"]).is_some();
    let alone = program.is_none() && items.first().and_then(Json::as_str).is_some_and(|t| t.starts_with('-'));
    let word = value.len() >= 6
        && value.bytes().any(|b| b.is_ascii_alphabetic())
        && (value.bytes().any(|b| b.is_ascii_digit() || b"!@#$%^&*".contains(&b))
            || value.len() >= 10 && value.bytes().skip(1).filter(u8::is_ascii_uppercase).count() > 1)
        && !value.contains(['/', ':', '.', ' ', '=', '-', '_']);
    ((user || alone) && word).then_some(p + 1)
}
