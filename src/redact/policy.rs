//! The policy: the action for each field and for what each detector finds.
//!
//! A policy is a value. It is built from a preset and rules, and written as canonical JSON in which the preset's rules
//! are spelled out, so that it can be read years later; its digest is the SHA-256 of that text. Rules are tried in
//! order and the first match decides. A rule overrides the floor unless it would weaken it, and both override
//! detectors. Regular expressions are compiled when the policy is built, so every existing policy can be used.

use super::pattern::{self, FieldPattern};
use super::secret_keys::{self, Kind};
use super::treated::Action;
use crate::hash::Hash;
use crate::json::{Canonical, Json, Object};
use crate::{Error, Result};
use regex::Regex;
use std::collections::BTreeMap;
use std::fmt;

/// The kinds of values that detectors find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Detector {
    /// Private keys in PEM armour, to the end of the text if the armour is not closed.
    PrivateKey,
    /// JSON web tokens.
    Jwt,
    /// The password in a URL: `postgres://user:password@host`.
    ConnectionString,
    /// Keys and tokens with a prefix that their vendor documents.
    ApiKey,
    /// `Bearer …` and `Basic …`, as in headers.
    Bearer,
    /// E-mail addresses.
    Email,
    /// IBANs with the right length and check digits.
    Iban,
    /// Payment card numbers: an issuer's prefix and length, and a valid Luhn digit.
    Card,
    /// US social security and taxpayer numbers.
    Ssn,
    /// Personal numbers issued by other states and their health services: Aadhaar, CPF, BSN, PESEL, NIR, NHS, DNI, NIE,
    /// NINO.
    NationalId,
    /// Numbers of medical records and passports, where nearby words call them so.
    RecordNumber,
    /// IPv4 and IPv6 addresses.
    Ip,
    /// A date that the words before it call a date of birth.
    DateOfBirth,
    /// Phone numbers, international and national.
    Phone,
    /// A secret next to its name in a text: `password=…`, `"api_key": "…"`, `--token …`, `Cookie: …`.
    Credential,
}

impl Detector {
    /// Every detector. Where two find the same text, the earlier one wins.
    pub const ALL: [Detector; 15] = [
        Detector::PrivateKey,
        Detector::Jwt,
        Detector::ConnectionString,
        Detector::ApiKey,
        Detector::Bearer,
        Detector::Email,
        Detector::Iban,
        Detector::Card,
        Detector::Ssn,
        Detector::NationalId,
        Detector::RecordNumber,
        Detector::Ip,
        Detector::DateOfBirth,
        Detector::Phone,
        Detector::Credential,
    ];

    /// The detector's name in policies, placeholders and entries.
    pub fn name(self) -> &'static str {
        match self {
            Detector::PrivateKey => "private_key",
            Detector::Jwt => "jwt",
            Detector::ConnectionString => "connection_string",
            Detector::ApiKey => "api_key",
            Detector::Bearer => "bearer",
            Detector::Credential => "credential",
            Detector::Email => "email",
            Detector::Iban => "iban",
            Detector::Card => "card",
            Detector::Ssn => "ssn",
            Detector::NationalId => "national_id",
            Detector::RecordNumber => "record_number",
            Detector::Ip => "ip",
            Detector::DateOfBirth => "date_of_birth",
            Detector::Phone => "phone",
        }
    }

    /// The detector with that [`name`](Detector::name).
    pub fn from_name(name: &str) -> Option<Detector> {
        Detector::ALL.into_iter().find(|d| d.name() == name)
    }
}

impl fmt::Display for Detector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A field of the entry itself that can be written as a pseudonym.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IdentityKind {
    /// The patients of a call.
    Patient,
    /// The user on whose behalf the call was made.
    User,
    /// The conversation.
    Conversation,
}

impl IdentityKind {
    /// Every identity kind.
    pub const ALL: [IdentityKind; 3] = [IdentityKind::Patient, IdentityKind::User, IdentityKind::Conversation];

    /// The name in policies, and the domain of its pseudonyms.
    pub fn name(self) -> &'static str {
        match self {
            IdentityKind::Patient => "patient",
            IdentityKind::User => "user",
            IdentityKind::Conversation => "conversation",
        }
    }

    /// The facet that entries are found by.
    pub(crate) fn field(self) -> attestlog_proof::entry::Facet {
        match self {
            IdentityKind::Patient => attestlog_proof::entry::Facet::Patient,
            IdentityKind::User => attestlog_proof::entry::Facet::User,
            IdentityKind::Conversation => attestlog_proof::entry::Facet::Conversation,
        }
    }

    /// The identity kind with that [`name`](IdentityKind::name).
    pub fn from_name(name: &str) -> Option<IdentityKind> {
        IdentityKind::ALL.into_iter().find(|f| f.name() == name)
    }
}

/// The starting point of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Preset {
    /// Only key names, and secrets next to their names in texts.
    Floor,
    /// The floor, and every detector except [`RecordNumber`](Detector::RecordNumber) masks what it finds; the client's
    /// address in the session's metadata is kept.
    #[default]
    Default,
    /// The default with all detectors, and the 18 identifiers of the HIPAA Safe Harbor rule as field names; patients
    /// are pseudonyms.
    Hipaa,
    /// The default, but card numbers keep their last four digits, and card data that may not be stored is masked.
    Pci,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Preset; 4] = [Preset::Floor, Preset::Default, Preset::Hipaa, Preset::Pci];

    /// The preset's name in policies.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Floor => "floor",
            Preset::Default => "default",
            Preset::Hipaa => "hipaa",
            Preset::Pci => "pci",
        }
    }

    /// The preset with that [`name`](Preset::name); `none` means the floor, which always applies.
    pub fn from_name(name: &str) -> Option<Preset> {
        let name = if name == "none" { "floor" } else { name };
        Preset::ALL.into_iter().find(|p| p.name() == name)
    }
}

/// One field rule.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rule {
    pub(crate) field: FieldPattern,
    pub(crate) action: Action,
    /// The domain of its pseudonyms, if it is not derived from the field's name.
    pub(crate) domain: Option<String>,
}

/// A detector that the policy defines.
#[derive(Debug, Clone)]
pub(crate) struct Custom {
    pub(crate) name: String,
    pub(crate) regex: Regex,
    pub(crate) action: Action,
}

impl PartialEq for Custom {
    fn eq(&self, other: &Custom) -> bool {
        self.name == other.name && self.regex.as_str() == other.regex.as_str() && self.action == other.action
    }
}

/// What happens to each value before anything is written.
///
/// ```
/// use attestlog::redact::{Action, Detector, Policy, Preset};
/// let policy = Policy::builder(Preset::Default)
///     .field("arguments.**.notes", Action::Mask)
///     .detector(Detector::Phone, Action::Partial)
///     .build()
///     .unwrap();
/// assert_eq!(Policy::from_canonical(policy.to_canonical().as_str()).unwrap().digest(), policy.digest());
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub(crate) preset: Preset,
    pub(crate) allow_secrets: bool,
    pub(crate) object_keys: bool,
    pub(crate) rules: Vec<Rule>,
    pub(crate) detectors: BTreeMap<Detector, Action>,
    pub(crate) customs: Vec<Custom>,
    pub(crate) facets: BTreeMap<IdentityKind, Action>,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy::preset(Preset::Default)
    }
}

impl Policy {
    /// A preset without changes.
    pub fn preset(preset: Preset) -> Policy {
        let mut policy = Policy {
            preset,
            allow_secrets: false,
            object_keys: preset != Preset::Floor,
            rules: Vec::new(),
            detectors: BTreeMap::new(),
            customs: Vec::new(),
            facets: BTreeMap::new(),
        };
        super::preset::fill(&mut policy);
        policy
    }

    /// A builder for a policy on top of a preset.
    pub fn builder(preset: Preset) -> PolicyBuilder {
        PolicyBuilder { preset, ..PolicyBuilder::default() }
    }

    /// Whether rules may keep values under the name of a secret.
    pub fn allows_secrets(&self) -> bool {
        self.allow_secrets
    }

    /// Whether any rule, detector or facet writes pseudonyms, so that a pseudonym key is needed.
    pub fn needs_pseudonym_key(&self) -> bool {
        self.actions().any(|a| a == Action::Pseudonymise)
    }

    /// Whether any rule or detector seals values, so that subject keys are needed.
    pub fn needs_subject_keys(&self) -> bool {
        self.actions().any(|a| a == Action::Seal)
    }

    /// The action for a facet: [`Pseudonymise`](Action::Pseudonymise) or [`Keep`](Action::Keep).
    pub fn facet(&self, facet: IdentityKind) -> Action {
        self.facets.get(&facet).copied().unwrap_or(Action::Keep)
    }

    /// The action for what a detector finds.
    pub fn detector(&self, detector: Detector) -> Action {
        self.detectors.get(&detector).copied().unwrap_or(Action::Keep)
    }

    fn actions(&self) -> impl Iterator<Item = Action> {
        let rules = self.rules.iter().map(|r| r.action);
        let customs = self.customs.iter().map(|c| c.action);
        rules.chain(customs).chain(self.detectors.values().copied()).chain(self.facets.values().copied())
    }

    /// The SHA-256 of the canonical form. The policy's own entry and each entry treated by it name this digest.
    pub fn digest(&self) -> Hash {
        Hash::of(self.to_canonical().as_str().as_bytes())
    }

    /// The canonical text, with the preset's rules spelled out.
    pub fn to_canonical(&self) -> Canonical {
        self.to_json().to_canonical()
    }

    /// The same as a JSON value.
    pub fn to_json(&self) -> Json {
        let rules = self.rules.iter().map(|r| {
            let mut o = Object::from_iter([("field", r.field.text()), ("action", r.action.name())]);
            if let Some(domain) = &r.domain {
                o.insert("as", domain.as_str());
            }
            Json::Object(o)
        });
        let customs = self.customs.iter().map(|c| {
            let pattern = ("pattern", c.regex.as_str());
            Json::Object(Object::from_iter([("name", c.name.as_str()), pattern, ("action", c.action.name())]))
        });
        Json::Object(Object::from_iter([
            ("version", Json::from(1u32)),
            ("preset", Json::from(self.preset.name())),
            ("allow_secrets", Json::from(self.allow_secrets)),
            ("object_keys", Json::from(self.object_keys)),
            ("fields", Json::Array(rules.collect())),
            ("patterns", Json::Array(customs.collect())),
            ("detectors", Json::Object(self.detectors.iter().map(|(d, a)| (d.name(), a.name())).collect())),
            ("facets", Json::Object(self.facets.iter().map(|(f, a)| (f.name(), a.name())).collect())),
        ]))
    }

    /// Parses the canonical text.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput): the text was not written by
    /// [`to_canonical`](Policy::to_canonical); [`NewerFormat`](crate::ErrorKind::NewerFormat): a newer version wrote
    /// it.
    pub fn from_canonical(text: &str) -> Result<Policy> {
        Policy::from_json(&Json::parse(text.as_bytes())?.value)
    }

    /// Parses the JSON value.
    ///
    /// # Errors
    /// As [`from_canonical`](Policy::from_canonical).
    pub fn from_json(value: &Json) -> Result<Policy> {
        let bad = |what: &str| Error::invalid(format!("the policy's {what} cannot be read"));
        let version = value.get("version").and_then(Json::as_u64).ok_or_else(|| bad("version"))?;
        if version != 1 {
            let kind = crate::ErrorKind::NewerFormat;
            return Err(Error::new(kind, format!("the policy has version {version}; upgrade the program to read it")));
        }
        let text = |v: &Json, key: &str| v.get(key).and_then(Json::as_str).map(str::to_owned);
        let flag = |key: &str| value.get(key).and_then(Json::as_bool).ok_or_else(|| bad(key));
        let action = |name: Option<&str>, what: &str| name.and_then(Action::from_name).ok_or_else(|| bad(what));
        let list = |key: &str| value.get(key).and_then(Json::as_array).ok_or_else(|| bad(key));
        let map = |key: &str| value.get(key).and_then(Json::as_object).ok_or_else(|| bad(key));
        let preset = text(value, "preset").and_then(|p| Preset::from_name(&p)).ok_or_else(|| bad("preset"))?;
        let mut builder = Policy::builder(preset).allow_secrets(flag("allow_secrets")?);
        builder = builder.object_keys(flag("object_keys")?);
        for rule in list("fields")? {
            let field = text(rule, "field").ok_or_else(|| bad("fields"))?;
            let action = action(text(rule, "action").as_deref(), "fields")?;
            builder = builder.rule(&field, action, text(rule, "as"));
        }
        for custom in list("patterns")? {
            let (name, pattern) = (text(custom, "name"), text(custom, "pattern"));
            let (Some(name), Some(pattern)) = (name, pattern) else { return Err(bad("patterns")) };
            builder = builder.pattern(&name, &pattern, action(text(custom, "action").as_deref(), "patterns")?);
        }
        // The canonical form includes the preset's rules, so the preset itself adds nothing here.
        builder.plain = true;
        for (name, what) in map("detectors")?.iter() {
            let detector = Detector::from_name(name).ok_or_else(|| bad("detectors"))?;
            builder = builder.detector(detector, action(what.as_str(), "detectors")?);
        }
        for (name, what) in map("facets")?.iter() {
            let facet = IdentityKind::from_name(name).ok_or_else(|| bad("facets"))?;
            builder = builder.facet(facet, action(what.as_str(), "facets")?);
        }
        builder.build()
    }
}

/// Builds a [`Policy`]; errors are reported by [`build`](PolicyBuilder::build).
#[derive(Debug, Clone, Default)]
pub struct PolicyBuilder {
    preset: Preset,
    own: Vec<(String, Action, Option<String>)>,
    patterns: Vec<(String, String, Action)>,
    detectors: Vec<(Detector, Action)>,
    facets: Vec<(IdentityKind, Action)>,
    allow_secrets: bool,
    object_keys: Option<bool>,
    /// Whether the preset's own rules are left out.
    plain: bool,
}

impl PolicyBuilder {
    /// Sets the action for a field: a path from a root (`arguments.**.notes`, `result.items[*].name`, `*.x` for any
    /// root) or a key at any depth (`patient_id`, `*_note`, `/regex/`). Literal keys are compared without case and
    /// separators. The first matching rule decides; the preset's rules come last.
    pub fn field(self, pattern: &str, action: Action) -> PolicyBuilder {
        self.rule(pattern, action, None)
    }

    /// Pseudonymises a field in the given domain: equal values in one domain are the same person.
    pub fn field_as(self, pattern: &str, domain: &str) -> PolicyBuilder {
        self.rule(pattern, Action::Pseudonymise, Some(domain.to_owned()))
    }

    pub(crate) fn rule(mut self, pattern: &str, action: Action, domain: Option<String>) -> PolicyBuilder {
        self.own.push((pattern.to_owned(), action, domain));
        self
    }

    /// Sets the action for what a detector finds.
    pub fn detector(mut self, detector: Detector, action: Action) -> PolicyBuilder {
        self.detectors.push((detector, action));
        self
    }

    /// Adds a detector of the policy's own: a regular expression, and the action for its matches.
    pub fn pattern(mut self, name: &str, regex: &str, action: Action) -> PolicyBuilder {
        self.patterns.push((name.to_owned(), regex.to_owned(), action));
        self
    }

    /// Sets whether a facet is written as a pseudonym ([`Pseudonymise`](Action::Pseudonymise)) or in clear
    /// ([`Keep`](Action::Keep)).
    pub fn facet(mut self, facet: IdentityKind, action: Action) -> PolicyBuilder {
        self.facets.push((facet, action));
        self
    }

    /// Lets rules keep values under the name of a secret. It is part of the policy, so the chain shows it.
    pub fn allow_secrets(mut self, allow: bool) -> PolicyBuilder {
        self.allow_secrets = allow;
        self
    }

    /// Sets whether detectors scan object keys too.
    pub fn object_keys(mut self, treat: bool) -> PolicyBuilder {
        self.object_keys = Some(treat);
        self
    }

    /// Builds the policy.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput): a pattern does not compile, a detector's name is taken or not
    /// valid, a facet's action is neither pseudonymise nor keep, or a rule weakens the floor without
    /// [`allow_secrets`](PolicyBuilder::allow_secrets).
    pub fn build(self) -> Result<Policy> {
        let mut policy = Policy::preset(self.preset);
        let preset_rules = std::mem::take(&mut policy.rules);
        if self.plain {
            policy.detectors.clear();
            policy.facets.clear();
        }
        policy.allow_secrets = self.allow_secrets;
        policy.object_keys = self.object_keys.unwrap_or(policy.object_keys);
        for (field, action, domain) in self.own {
            policy.rules.push(rule(&field, action, domain, self.allow_secrets)?);
        }
        if !self.plain {
            policy.rules.extend(preset_rules);
        }
        for (detector, action) in self.detectors {
            check_detector(detector, action, self.allow_secrets)?;
            policy.detectors.insert(detector, action);
        }
        for (name, source, action) in self.patterns {
            check_name(&name)?;
            if Detector::from_name(&name).is_some() || policy.customs.iter().any(|c| c.name == name) {
                return Err(Error::invalid(format!("there are two detectors called {name:?}")));
            }
            let regex = pattern::compile(&source).map_err(Error::invalid)?;
            policy.customs.push(Custom { name, regex, action });
        }
        for (facet, action) in self.facets {
            check_facet(facet, action)?;
            policy.facets.insert(facet, action);
        }
        Ok(policy)
    }
}

/// Builds a rule, if its pattern is valid and it does not weaken the floor.
pub(crate) fn rule(field: &str, action: Action, domain: Option<String>, allow_secrets: bool) -> Result<Rule> {
    let field = FieldPattern::parse(field).map_err(Error::invalid)?;
    let kind = field.literal_key().and_then(secret_keys::kind_of_key);
    if kind.is_some_and(|k| weakens(action, k)) && !allow_secrets {
        let text = field.text();
        return Err(Error::invalid(format!(
            "{text:?} = {:?} would let a secret through; choose mask, drop, pseudonymise or seal, or set allow_secrets = true",
            action.name()
        )));
    }
    if let Some(domain) = &domain {
        check_name(domain)?;
        if action != Action::Pseudonymise {
            return Err(Error::invalid(format!("{:?}: `as` goes with pseudonymise only", field.text())));
        }
    }
    Ok(Rule { field, action, domain })
}

/// Whether an action shows what the floor hides. The last four digits of a card identify it to its owner; the last four
/// characters of a password are half of it.
pub(crate) fn weakens(action: Action, kind: Kind) -> bool {
    match action {
        Action::Keep => true,
        Action::Partial => kind == Kind::Secret,
        Action::Drop | Action::Mask | Action::Pseudonymise | Action::Seal => false,
    }
}

pub(crate) fn check_detector(detector: Detector, action: Action, allow_secrets: bool) -> Result<()> {
    if detector == Detector::Credential && weakens(action, Kind::Secret) && !allow_secrets {
        return Err(Error::invalid(format!(
            "credential = {:?} would let secrets through that stand beside their names; set allow_secrets = true to mean it",
            action.name()
        )));
    }
    Ok(())
}

pub(crate) fn check_facet(facet: IdentityKind, action: Action) -> Result<()> {
    match action {
        Action::Pseudonymise | Action::Keep => Ok(()),
        _ => Err(Error::invalid(format!(
            "{} = {:?}: a facet can be pseudonymise or keep, else nobody finds the entry again",
            facet.name(),
            action.name()
        ))),
    }
}

/// Names appear in placeholders, pseudonym domains and entries: lower-case letters, digits and `_`.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    match name {
        "key" | "rule" | "" => Err(Error::invalid(format!("{name:?} is not a name for a detector"))),
        _ if !plain || name.len() > 64 => {
            Err(Error::invalid(format!("{name:?}: a name has lower-case letters, digits and _, at most 64")))
        }
        _ => Ok(()),
    }
}
