//! The sanitizer: applies a policy with its keys before anything is written.
//!
//! A value is walked once. For each member the first matching field rule decides, then the floor; then detectors scan
//! what is left: strings, the JSON inside strings, long numbers, and object keys. Values that are not treated are not
//! changed: a string that holds JSON is rewritten only if something in it was treated. If a detector fails, or a value
//! is nested too deep, the value is masked, never let through. Keys that identify somebody are replaced in the value
//! and in every path, while rules and the floor still see the original keys.

use super::beside::{Beside, Initials};
use super::context::{Context, Detect, Root, Secrets};
use super::detect::value::is_nothing;
use super::detect::{self, Mask, bit};
use super::embedded::Budget;
use super::key_names::{
    ROW_KEYS, announces, columns_of, in_head, is_one_of, key_lines, named_pair, program, rename, renames,
    secret_arguments,
};
use super::page;
use super::patient;
use super::pattern::Seg;
use super::policy::{Detector, IdentityKind, Policy, weakens};
use super::pseudonym::{PseudonymKey, domain_of};
use super::seal::seal;
use super::secret_keys::{self, Kind, Words};
use super::spans::{count, is_placeholder, is_scalar, partial, placeholder, scalar_text};
use super::treated::{Action, Treated};
use super::unsealed::SEALED;
use crate::hash::Hash;
use crate::json::{Json, Object, Path};
use crate::names::is_pseudonym;
use crate::{Error, ErrorKind, Result};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

/// The maximum nesting depth; deeper values are masked. The parser accepts 128 levels, and JSON inside JSON adds to
/// that.
const MAX_DEPTH: usize = 256;
/// How many levels of JSON strings within JSON strings are opened.
pub(super) const MAX_INNER: usize = 8;

/// A policy ready to be applied. It is immutable and shared between threads.
///
/// ```
/// use attestlog::json::Json;
/// use attestlog::redact::{Context, Policy, Root, Sanitizer, Secrets};
/// let sanitizer = Sanitizer::new(&Policy::default(), Secrets::default()).unwrap();
/// let mut arguments = Json::parse(br#"{"apiKey": "k-1", "note": "call jane@example.org", "n": 3}"#).unwrap().value;
/// let mut context = Context::new();
/// sanitizer.treat(Root::Arguments, &mut arguments, &mut context).unwrap();
/// assert_eq!(
///     arguments.to_canonical().as_str(),
///     r#"{"apiKey":"[REDACTED:secret]","n":3,"note":"call [REDACTED:email]"}"#
/// );
/// assert_eq!(context.treated()[1].path, "arguments.note");
/// ```
pub struct Sanitizer {
    pub(super) policy: Policy,
    digest: Hash,
    /// Rules by the one key that a path they match must end in, and a filter over these keys.
    by_key: HashMap<Vec<u8>, Vec<usize>>,
    pub(super) filter: u64,
    /// Rules that have to be tried for every value.
    loose: Vec<usize>,
    /// The name and action of each detector: built-in, the policy's, and the host's.
    pub(super) kinds: Vec<(String, Action)>,
    pub(super) wanted: Mask,
    pub(super) hosts: Vec<Arc<dyn Detect>>,
    pub(super) pseudonyms: Vec<PseudonymKey>,
}

impl fmt::Debug for Sanitizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sanitizer").field("policy", &self.policy).field("keys", &self.pseudonyms).finish()
    }
}

/// The outcome of visiting a value.
#[derive(PartialEq)]
pub(super) enum Outcome {
    Stays,
    Drop,
    /// It must be sealed but cannot be sealed here: the enclosing string is sealed instead.
    Seal {
        what: String,
        detector: String,
    },
}

/// The path from the root to a value, as a linked list on the stack.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    parent: Option<&'a At<'a>>,
    seg: Seg<'a>,
    /// What paths show in place of a key that names somebody. Rules see the key itself.
    shown: Option<&'a str>,
    root: Root,
}

pub(super) struct State<'c, 'k> {
    pub(super) context: &'c mut Context<'k>,
    depth: usize,
    pub(super) inner: usize,
    /// For the search of texts for JSON.
    pub(super) budget: Budget,
    /// Inside malformed JSON: the strings that may hold more than was searched around it. `None`: all.
    pub(super) fresh: Option<Rc<HashSet<String>>>,
    /// The value must stay text: it cannot become an object.
    plain_text: bool,
    /// The program that the next argument list belongs to.
    program: Option<String>,
    /// Which columns of the next table hold secrets, and how many array levels further in.
    columns: Option<(Vec<usize>, u8)>,
    /// The next step types into a password field.
    types: bool,
}

impl<'c, 'k> State<'c, 'k> {
    fn new(context: &'c mut Context<'k>, plain_text: bool) -> State<'c, 'k> {
        State {
            context,
            depth: 0,
            inner: 0,
            budget: Budget::new(),
            fresh: None,
            plain_text,
            program: None,
            columns: None,
            types: false,
        }
    }

    /// Treats what stands inside a text. `fresh`: see [`State::fresh`].
    pub(super) fn inside<T>(&mut self, fresh: Option<Rc<HashSet<String>>>, treat: impl FnOnce(&mut Self) -> T) -> T {
        let around = std::mem::replace(&mut self.fresh, fresh);
        self.inner += 1;
        let treated = treat(self);
        self.inner -= 1;
        self.fresh = around;
        treated
    }
}

/// The decision for a value as a whole.
pub(super) struct Verdict<'a> {
    action: Action,
    /// The name in the placeholder.
    what: Option<&'a str>,
    domain: &'a str,
    detector: &'a str,
}

impl Sanitizer {
    /// A sanitizer for this policy.
    ///
    /// # Errors
    /// [`Key`](crate::ErrorKind::Key): the policy writes pseudonyms and there is no key for them.
    pub fn new(policy: &Policy, secrets: Secrets) -> Result<Sanitizer> {
        if policy.needs_pseudonym_key() && secrets.pseudonyms.is_empty() {
            return Err(Error::new(ErrorKind::Key, "the policy writes pseudonyms; give the store a pseudonym key"));
        }
        let mut by_key: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
        let (mut filter, mut loose) = (0, Vec::new());
        for (i, rule) in policy.rules.iter().enumerate() {
            match rule.field.last_key() {
                Some(key) => {
                    filter |= filter_bit(key.as_bytes());
                    by_key.entry(key.as_bytes().to_vec()).or_default().push(i);
                }
                None => loose.push(i),
            }
        }
        let mut kinds: Vec<_> = Detector::ALL.map(|d| (d.name().to_owned(), policy.detector(d))).into();
        let wanted = Detector::ALL.into_iter().filter(|d| policy.detector(*d) != Action::Keep).map(bit).sum();
        kinds.extend(policy.customs.iter().map(|c| (c.name.clone(), c.action)));
        let digest = policy.digest();
        let oldest = secrets.pseudonyms.last().cloned();
        let later = |key: PseudonymKey| oldest.iter().fold(key, |key, oldest| key.following(oldest));
        let pseudonyms = secrets.pseudonyms.into_iter().map(later).collect();
        let policy = policy.clone();
        Ok(Sanitizer { policy, digest, by_key, filter, loose, kinds, wanted, hosts: Vec::new(), pseudonyms })
    }

    /// Adds a detector of the host, whose hits are masked. It is not part of the policy or its digest.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput): the name is taken or not a valid name.
    pub fn with_detector(mut self, name: &str, detector: Arc<dyn Detect>) -> Result<Sanitizer> {
        super::policy::check_name(name)?;
        if self.kinds.iter().any(|(n, _)| n == name) {
            return Err(Error::invalid(format!("there are two detectors called {name:?}")));
        }
        self.kinds.push((name.to_owned(), Action::Mask));
        self.hosts.push(detector);
        Ok(self)
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The policy's digest.
    pub fn digest(&self) -> Hash {
        self.digest
    }

    /// Treats one part of an entry in place and adds what was treated to `context`.
    ///
    /// # Errors
    /// The error of the source of subject keys or of randomness. The value may then be treated in part and must not be
    /// written.
    pub fn treat(&self, root: Root, value: &mut Json, context: &mut Context<'_>) -> Result<()> {
        let at = At::of(root);
        let mut state = State::new(context, false);
        if self.visit(value, &at, None, None, None, true, &mut state)? == Outcome::Drop {
            *value = Json::Null;
        }
        Ok(())
    }

    /// Treats a text that must stay text: values that the policy would seal are masked.
    ///
    /// # Errors
    /// As [`treat`](Sanitizer::treat).
    pub fn treat_text(&self, root: Root, text: &mut String, context: &mut Context<'_>) -> Result<()> {
        self.text_at(&At::of(root), None, text, context)
    }

    /// The same for a text that is a member of a root, under the given key.
    pub(super) fn treat_member(
        &self,
        root: Root,
        key: &str,
        text: &mut String,
        context: &mut Context<'_>,
    ) -> Result<()> {
        self.text_at(&At::of(root).key(key, None), Some(&Words::of(key)), text, context)
    }

    fn text_at(&self, at: &At<'_>, words: Option<&Words>, text: &mut String, context: &mut Context<'_>) -> Result<()> {
        let mut state = State::new(context, true);
        let mut value = Json::String(std::mem::take(text));
        let before = state.context.treated.len();
        let outcome = self.visit(&mut value, at, words, None, None, true, &mut state)?;
        *text = match (outcome, value) {
            (Outcome::Stays, Json::String(s)) => s,
            (Outcome::Drop, _) => String::new(),
            (Outcome::Seal { what, detector }, _) => {
                state.context.treated.truncate(before);
                record(&mut state, at, &detector, Action::Mask, None);
                placeholder(Some(&what))
            }
            _ => placeholder(None),
        };
        Ok(())
    }

    /// Decides on one value: the first matching rule, else the floor, else its contents.
    #[allow(clippy::too_many_arguments)]
    fn visit(
        &self,
        value: &mut Json,
        at: &At<'_>,
        words: Option<&Words>,
        kind: Option<Kind>,
        key: Option<&str>,
        detect: bool,
        state: &mut State<'_, '_>,
    ) -> Result<Outcome> {
        let floor = |k: Kind| Verdict { action: Action::Mask, what: Some(k.name()), domain: k.name(), detector: "key" };
        let own_domain;
        let verdict = match (self.rule_for(at, words), kind) {
            (Some(rule), Some(k)) if weakens(rule.action, k) && !self.policy.allow_secrets => floor(k),
            (Some(rule), _) if rule.action == Action::Keep => return self.descend(value, at, key, false, state),
            (Some(rule), k) => {
                own_domain = match (&rule.domain, k) {
                    (Some(domain), _) => domain.clone(),
                    (None, Some(k)) => k.name().to_owned(),
                    (None, None) => domain_of(key.unwrap_or(at.root.name())),
                };
                let what = k.map(Kind::name);
                Verdict { action: rule.action, what, domain: &own_domain, detector: "rule" }
            }
            (None, Some(k)) => floor(k),
            (None, None) => return self.descend(value, at, key, detect, state),
        };
        self.replace(value, at, &verdict, state)
    }

    pub(super) fn rule_for(&self, at: &At<'_>, words: Option<&Words>) -> Option<&super::policy::Rule> {
        let named = words.map(Words::joined).filter(|k| self.filter & filter_bit(k) != 0);
        let named = named.and_then(|k| self.by_key.get(k)).map(Vec::as_slice).unwrap_or_default();
        if named.is_empty() && self.loose.is_empty() {
            return None;
        }
        let path = at.segs();
        // What an error says about a record is treated like the record in a result.
        let also = Some(Root::Result).filter(|_| at.root == Root::Error && !path.is_empty());
        let fits = |i: &&usize| {
            let matches = |root| self.policy.rules.get(**i).is_some_and(|r| r.field.matches(root, &path));
            matches(at.root) || also.is_some_and(matches)
        };
        // Both lists are in policy order.
        let first = named.iter().find(fits).into_iter().chain(self.loose.iter().find(fits)).min()?;
        self.policy.rules.get(*first)
    }

    /// Treats a value as a whole.
    pub(super) fn replace(
        &self,
        value: &mut Json,
        at: &At<'_>,
        v: &Verdict<'_>,
        state: &mut State<'_, '_>,
    ) -> Result<Outcome> {
        if *value == Json::Null && v.action != Action::Drop || value.as_str().is_some_and(is_placeholder) {
            return Ok(Outcome::Stays);
        }
        let mut done = v.action;
        match v.action {
            Action::Keep => return Ok(Outcome::Stays),
            Action::Drop => {
                record(state, at, v.detector, done, None);
                return Ok(Outcome::Drop);
            }
            Action::Seal if state.inner > 0 || state.plain_text => {
                let what = v.what.unwrap_or(v.detector).to_owned();
                return Ok(Outcome::Seal { what, detector: v.detector.to_owned() });
            }
            Action::Seal => return self.seal(value, at, v, state),
            Action::Partial => match scalar_text(value).and_then(|t| partial(&t)) {
                Some(text) => *value = Json::String(text),
                None => {
                    done = Action::Mask;
                    *value = Json::String(placeholder(v.what));
                }
            },
            Action::Pseudonymise => self.pseudonymise(value, v),
            Action::Mask => *value = Json::String(placeholder(v.what)),
        }
        record(state, at, v.detector, done, None);
        Ok(Outcome::Stays)
    }

    fn pseudonymise(&self, value: &mut Json, v: &Verdict<'_>) {
        match (value, self.pseudonyms.first()) {
            (Json::Array(items), Some(_)) => items.iter_mut().for_each(|item| self.pseudonymise(item, v)),
            (Json::Null, _) => {}
            (Json::String(s), _) if is_pseudonym(s) => {}
            (value, Some(key)) => {
                // A patient object gets the pseudonym of the patient's id, the same as in the entry's names.
                let id = if v.domain == IdentityKind::Patient.name() { patient::only_id(value) } else { None };
                let text = id.or_else(|| scalar_text(value));
                let text = text.unwrap_or_else(|| value.to_canonical().as_str().to_owned());
                *value = Json::String(if is_pseudonym(&text) { text } else { key.pseudonym(v.domain, &text) });
            }
            (value, None) => *value = Json::String(placeholder(v.what)),
        }
    }

    fn seal(&self, value: &mut Json, at: &At<'_>, v: &Verdict<'_>, state: &mut State<'_, '_>) -> Result<Outcome> {
        match &mut state.context.seals {
            Some(seals) => {
                let (key_id, key) = seals.keys.key_for(seals.subject)?;
                *value = seal(&key, &key_id, &at.path(), value, seals.random)?;
                record(state, at, v.detector, Action::Seal, None);
            }
            None => {
                let sealed = state.context.tries_out.then(|| SEALED.to_owned());
                record(state, at, v.detector, if sealed.is_some() { Action::Seal } else { Action::Mask }, None);
                *value = Json::String(sealed.unwrap_or_else(|| placeholder(v.what)));
            }
        }
        Ok(Outcome::Stays)
    }

    /// Treats the contents of a value that is kept as a whole.
    pub(super) fn descend(
        &self,
        value: &mut Json,
        at: &At<'_>,
        key: Option<&str>,
        detect: bool,
        state: &mut State<'_, '_>,
    ) -> Result<Outcome> {
        if state.depth >= MAX_DEPTH {
            return self.replace(value, at, &mask("depth", "depth"), state);
        }
        state.depth += 1;
        let outcome = match value {
            Json::Null | Json::Bool(_) => Ok(Outcome::Stays),
            Json::Number(_) if !detect => Ok(Outcome::Stays),
            Json::Number(n) => match n.as_i64().filter(|n| n.unsigned_abs() >= 1_000_000) {
                Some(n) => self.number(n, value, at, key, state),
                None => Ok(Outcome::Stays),
            },
            Json::String(_) => self.string(value, at, key, detect, state),
            Json::Array(items) => self.array(items, at, key, detect, state),
            Json::Object(object) => self.object(object, at, key, detect, state),
        };
        state.depth -= 1;
        outcome
    }

    fn array(
        &self,
        items: &mut [Json],
        at: &At<'_>,
        key: Option<&str>,
        detect: bool,
        state: &mut State<'_, '_>,
    ) -> Result<Outcome> {
        let in_array = matches!(at.seg, Seg::Index(_));
        let arguments = secret_arguments(items, state.program.take().as_deref());
        let lines = key_lines(items).filter(|_| self.wanted & bit(Detector::PrivateKey) != 0).unwrap_or(0..0);
        let given = state.columns.take();
        let head = given.is_none();
        let columns = given.or_else(|| in_head(items).map(|columns| (columns, 1)));
        let mut announced = None;
        let typed = page::typed_into(items);
        for i in 0..items.len() {
            let next = announces(items, i, in_array);
            let Some(item) = items.get_mut(i) else { break };
            let told = std::mem::replace(&mut announced, next).filter(|found| secret_keys::tells(found, item));
            let kind = told.map(|found| found.kind);
            let in_column =
                || matches!((&columns, &*item), (Some((c, 0)), Json::String(s)) if c.contains(&i) && !is_nothing(s));
            let kind =
                kind.or_else(|| (lines.contains(&i) || arguments.contains(&i) || in_column()).then_some(Kind::Secret));
            state.columns = columns
                .as_ref()
                .filter(|(_, deep)| *deep > 0 && !(head && i == 0))
                .map(|(c, deep)| (c.clone(), deep - 1));
            state.types = typed.contains(&i);
            let at = at.index(i);
            match self.visit(item, &at, None, kind, key, detect, state)? {
                Outcome::Stays => {}
                Outcome::Drop => *item = Json::Null,
                seal => return Ok(seal),
            }
        }
        Ok(Outcome::Stays)
    }

    fn object(
        &self,
        object: &mut Object,
        at: &At<'_>,
        parent: Option<&str>,
        detect: bool,
        state: &mut State<'_, '_>,
    ) -> Result<Outcome> {
        if detect && self.policy.object_keys {
            self.object_keys(object, at, state);
        }
        let types = std::mem::take(&mut state.types);
        let renamed = renames(object, at, state);
        let named = named_pair(object);
        let initials = Initials::of(object);
        let beside = Beside::of(object, initials);
        let program = program(object, initials);
        // A token of a text that a model or a parser split.
        let analysed = initials.any("t")
            && object.get("token").is_some()
            && ["logprob", "lemma", "pos", "index", "offset", "start"].iter().any(|key| object.get(key).is_some());
        let columns = columns_of(object, initials);
        let questions = parent.is_some_and(|p| {
            let words = Words::of(p);
            words.joined().starts_with(b"securityquestion") || words.joined().starts_with(b"secretquestion")
        });
        let mut result = Ok(Outcome::Stays);
        object.retain(|key, value| {
            if !matches!(result, Ok(Outcome::Stays)) {
                return true;
            }
            // A key with look-alike letters or invisible characters is read as it is meant.
            let veiled = |b: u8| b >= 0x80 || matches!(b, b'%' | b'\\' | b'&');
            let plain = if key.bytes().any(veiled) { detect::plain(key) } else { None };
            let name = plain.as_deref().unwrap_or(key);
            let ruled = self.filter != 0
                && self.filter & filter_bit(&secret_keys::last_two(name, |_| false).unwrap_or_default()) != 0;
            let secret = secret_keys::may_be_secret(name);
            let words = (ruled || secret).then(|| Words::of(name));
            // A placeholder such as `[REDACTED:email]` as a key is a renamed key and says nothing about its value.
            let found = key.starts_with('[') && is_placeholder(key.split_once(" (").map_or(key, |(k, _)| k));
            let known = words.as_ref().filter(|_| secret && !found);
            let mut kind = known.and_then(|w| secret_keys::kind_of_member(parent, w, value));
            if analysed && key == "token" && value.as_str().is_some_and(|s| s.bytes().all(|b| b.is_ascii_lowercase())) {
                kind = None;
            }
            if kind.is_none() {
                kind = named.as_ref().and_then(|named| named.kind(key, value));
            }
            if kind.is_none() && questions && key.eq_ignore_ascii_case("answer") && value.as_str().is_some() {
                kind = Some(Kind::Secret);
            }
            state.columns = columns.as_ref().filter(|_| is_one_of(key, ROW_KEYS)).map(|columns| (columns.clone(), 1));
            kind =
                beside.kind(key, value, kind).or_else(|| (types && page::is_typed(key, value)).then_some(Kind::Secret));
            state.types = types && page::is_inside(key, value);
            state.program = program
                .as_ref()
                .filter(|_| is_one_of(key, &["args", "argv", "arguments", "params", "parameters"]))
                .cloned();
            let at = at.key(key, renamed.get(key).map(String::as_str));
            // The parent key says what an `id` belongs to: `{"order": {"id": …}}`.
            let of = parent.filter(|_| !ruled && key.eq_ignore_ascii_case("id") && is_scalar(value));
            let named = of.map(|of| [of, "_id"].concat()).or_else(|| beside.label_of(key));
            match self.visit(value, &at, words.as_ref(), kind, Some(named.as_deref().unwrap_or(key)), detect, state) {
                Ok(Outcome::Stays) => true,
                Ok(Outcome::Drop) => false,
                other => {
                    result = other;
                    true
                }
            }
        });
        if !renamed.is_empty() {
            rename(object, &renamed);
        }
        result
    }

    fn number(
        &self,
        n: i64,
        value: &mut Json,
        at: &At<'_>,
        key: Option<&str>,
        state: &mut State<'_, '_>,
    ) -> Result<Outcome> {
        let mut hits = Vec::new();
        let digits = n.unsigned_abs().to_string();
        let failed = self.scan(&digits, key, &mut hits).err();
        let name = match (failed, self.merge(&mut hits).first()) {
            (Some(name), _) => return self.replace(value, at, &mask(&name, &name), state),
            (None, Some(span)) => (self.name(span.kind), span.action),
            (None, None) => return Ok(Outcome::Stays),
        };
        let verdict = Verdict { action: name.1, what: Some(name.0), domain: name.0, detector: name.0 };
        self.replace(value, at, &verdict, state)
    }

    pub(super) fn string(
        &self,
        value: &mut Json,
        at: &At<'_>,
        key: Option<&str>,
        detect: bool,
        state: &mut State<'_, '_>,
    ) -> Result<Outcome> {
        let Json::String(text) = value else { return Ok(Outcome::Stays) };
        if state.inner == 0 {
            state.budget.grant(text);
        }
        let before = state.context.treated.len();
        let mut outcome = self.inner_json(text, at, key, detect, state)?;
        if outcome.is_none() {
            outcome = self.embedded(text, at, key, detect, state)?;
        }
        if outcome.is_none() {
            outcome = self.inserted(text, at, detect, state)?;
        }
        if outcome.is_none() && detect {
            outcome = self.text(text, at, key, state)?;
            if outcome.is_none() && state.context.treated.len() == before {
                outcome = self.encoded(text, at, key, state)?;
            }
        }
        match outcome {
            Some(Outcome::Seal { what, detector }) => {
                // Anything else found in the string is sealed with it.
                state.context.treated.truncate(before);
                let verdict = Verdict { action: Action::Seal, what: Some(&what), domain: &what, detector: &detector };
                self.replace(value, at, &verdict, state)
            }
            _ => Ok(Outcome::Stays),
        }
    }

    /// Treats what detectors find in a text.
    fn text(
        &self,
        text: &mut String,
        at: &At<'_>,
        key: Option<&str>,
        state: &mut State<'_, '_>,
    ) -> Result<Option<Outcome>> {
        let mut hits = Vec::new();
        if let Err(name) = self.scan(text, key, &mut hits) {
            *text = placeholder(Some(&name));
            record(state, at, &name, Action::Mask, None);
            return Ok(None);
        }
        if hits.is_empty() {
            return Ok(None);
        }
        let spans = self.merge(&mut hits);
        if let Some(span) = spans.iter().find(|s| s.action == Action::Seal) {
            let what = self.name(span.kind).to_owned();
            return Ok(Some(Outcome::Seal { detector: what.clone(), what }));
        }
        let (mut bytes, mut chars) = (0, 0);
        for span in &spans {
            let start = chars + count(text, bytes..span.start);
            chars = start + count(text, span.start..span.end);
            bytes = span.end;
            let shown = self.shown_action(text, span);
            record(state, at, self.name(span.kind), shown, Some(start..chars));
        }
        *text = self.apply(text, &spans, |a| a);
        Ok(None)
    }
}

pub(super) fn mask<'a>(what: &'a str, detector: &'a str) -> Verdict<'a> {
    Verdict { action: Action::Mask, what: Some(what), domain: what, detector }
}

impl<'a> At<'a> {
    pub(super) fn of(root: Root) -> At<'a> {
        At { parent: None, seg: Seg::Key(root.name()), shown: None, root }
    }

    pub(super) fn key(&'a self, key: &'a str, shown: Option<&'a str>) -> At<'a> {
        At { parent: Some(self), seg: Seg::Key(key), shown, root: self.root }
    }

    pub(super) fn index(&'a self, i: usize) -> At<'a> {
        At { parent: Some(self), seg: Seg::Index(i), shown: None, root: self.root }
    }

    /// The path below the root.
    fn segs(&self) -> Vec<Seg<'_>> {
        let mut segs = Vec::new();
        let mut at = self;
        while let Some(parent) = at.parent {
            segs.push(at.seg);
            at = parent;
        }
        segs.reverse();
        segs
    }

    fn path(&self) -> Path {
        let Some(parent) = self.parent else { return Path::root().key(self.root.name()) };
        let mut path = parent.path();
        match self.seg {
            Seg::Key(key) => path.push_key(self.shown.unwrap_or(key)),
            Seg::Index(i) => path.push_index(i),
        }
        path
    }
}

pub(super) fn record(
    state: &mut State<'_, '_>,
    at: &At<'_>,
    detector: &str,
    action: Action,
    chars: Option<Range<usize>>,
) {
    state.context.treated.push(Treated {
        path: at.path().to_string(),
        detector: detector.to_owned(),
        action,
        start: chars.as_ref().map(|c| c.start),
        end: chars.map(|c| c.end),
    });
}

/// One bit for the last two letters of a key.
pub(super) fn filter_bit(key: &[u8]) -> u64 {
    match key {
        [.., a, b] if *b != 0 => 1 << ((a ^ b.rotate_left(3)) & 63),
        _ => 1,
    }
}
