//! The short names in an entry: the people and ids it concerns, and the tool, server, model and agent involved.
//!
//! Entries are found by these names, so a policy either keeps them or writes pseudonyms, and an e-mail address may be
//! somebody's name here. But credentials, and numbers that are certainly those of a card, a bank account or a social
//! security card, are not accepted as names, and neither is a text that contains a hidden name. Such a name is written
//! as a pseudonym, as a whole, under every policy, and can be found by its clear form.
//!
//! Invariant Y6: every name that entries are found by is written in clear, or as the pseudonym of its normal form under
//! one of the store's keys, and [`Sanitizer::terms`] gives all of these forms: queries, statistics, alerts, grants,
//! holds and proofs use nothing else. A pseudonym in a query stands for itself. A pseudonym that is given as a name to
//! be recorded is not a name (R55): it is written as the pseudonym of the given text, so that nobody takes on somebody
//! else's identity by it. Only a store without keys masks such names; it then refuses a search for a name that would be
//! masked.

use super::context::{Context, Root};
use super::detect::{self, Hit, Mask, bit};
use super::key_names::stays_text;
use super::policy::{Detector, IdentityKind};
use super::pseudonym::PseudonymKey;
use super::sanitize::Sanitizer;
use super::spans::placeholder;
use super::treated::{Action, Treated};
use crate::Result;
use crate::names::{PREFIX, domain, is_pseudonym, normal_of};
use crate::spelling::{is_look_alike, normal};
use attestlog_proof::entry::Facet;
use std::borrow::Cow;

/// The detectors that run on names.
const IN_NAMES: Mask = {
    let looked_for = [
        Detector::PrivateKey,
        Detector::Jwt,
        Detector::ConnectionString,
        Detector::ApiKey,
        Detector::Bearer,
        Detector::Credential,
        Detector::Iban,
        Detector::Card,
        Detector::Ssn,
        Detector::NationalId,
    ];
    let (mut bits, mut i) = (0, 0);
    while i < looked_for.len() {
        bits |= bit(looked_for[i]);
        i += 1;
    }
    bits
};

/// The detector name that an entry records for a name that only looks like a plain one.
const LOOK_ALIKE: &str = "look_alike";

/// The detector name that an entry records for a name that was given in the form of a pseudonym.
const PSEUDONYM: &str = "pseudonym";

/// No hit of these detectors is shorter.
const SHORTEST: usize = 9;

impl Sanitizer {
    fn scan_name(&self, text: &str) -> Vec<Hit> {
        let mut hits = Vec::new();
        if text.len() >= SHORTEST {
            detect::scan(text, None, self.wanted & IN_NAMES, &mut hits);
        }
        hits
    }

    /// How a facet of the entry is written: in clear, or as a pseudonym under the newest key. Without a key, a name
    /// that must not be written is masked.
    pub fn facet(&self, facet: IdentityKind, clear: &str) -> String {
        let clear = &*normal(clear);
        let hidden = self.policy.facet(facet) == Action::Pseudonymise;
        match (hidden || self.is_no_name(clear), self.newest(facet.field(), clear)) {
            (true, Some(pseudonym)) => pseudonym,
            (true, None) => self.masked(clear),
            (false, _) => clear.to_owned(),
        }
    }

    /// The pseudonym of a facet's clear value under the newest key; `None` without a key.
    pub(crate) fn newest(&self, field: Facet, clear: &str) -> Option<String> {
        self.pseudonyms.first().map(|key| key.pseudonym(field.as_str(), clear))
    }

    /// Whether a person's name contains something that must not be written, whatever the policy for names. A text in
    /// the form of a pseudonym counts too: written unchanged, it would be somebody else's (R55).
    pub(crate) fn is_no_name(&self, text: &str) -> bool {
        is_pseudonym(text) || !self.scan_name(text).is_empty()
    }

    fn masked(&self, clear: &str) -> String {
        let spans = self.merge(&mut self.scan_name(clear));
        match spans.is_empty() {
            true => placeholder(None),
            false => self.apply(clear, &spans, |_| Action::Mask),
        }
    }

    /// For the record of treated values: what was found in a person's name that the policy would keep, and whether the
    /// name only looks like another.
    pub(crate) fn treated_facet(&self, facet: IdentityKind, path: &str, clear: &str) -> Vec<Treated> {
        let whole = |detector: &str, action| Treated {
            path: path.to_owned(),
            detector: detector.to_owned(),
            action,
            start: None,
            end: None,
        };
        let alike = is_look_alike(clear).then(|| whole(LOOK_ALIKE, Action::Keep));
        if is_pseudonym(&normal(clear)) {
            let action = if self.pseudonyms.is_empty() { Action::Mask } else { Action::Pseudonymise };
            return vec![whole(PSEUDONYM, action)];
        }
        if self.policy.facet(facet) == Action::Pseudonymise {
            return alike.into_iter().collect();
        }
        let action = if self.pseudonyms.is_empty() { Action::Mask } else { Action::Pseudonymise };
        let spans = self.merge(&mut self.scan_name(clear));
        spans.iter().map(|span| whole(self.name(span.kind), action)).chain(alike).collect()
    }

    /// Treats the name of a tool, a server, a model, an agent or a call. If entries are found by it and it contains
    /// something that must not be written, the whole name becomes a pseudonym.
    pub(crate) fn treat_name(&self, field: Option<Facet>, path: &str, text: &mut String, context: &mut Context<'_>) {
        if let Some(field) = field.filter(|_| is_pseudonym(&normal(text))) {
            let action = if self.pseudonyms.is_empty() { Action::Mask } else { Action::Pseudonymise };
            let (path, detector) = (path.to_owned(), PSEUDONYM.to_owned());
            context.treated.push(Treated { path, detector, action, start: None, end: None });
            *text = self.newest(field, text).unwrap_or_else(|| placeholder(None));
            return;
        }
        if field == Some(Facet::Tool) && is_look_alike(text) {
            let (path, detector) = (path.to_owned(), LOOK_ALIKE.to_owned());
            context.treated.push(Treated { path, detector, action: Action::Keep, start: None, end: None });
        }
        let mut hits = self.scan_name(text);
        if hits.is_empty() {
            return;
        }
        let spans = self.merge(&mut hits);
        let pseudonym = field.and_then(|field| self.newest(field, text));
        let treated = spans.iter().map(|span| Treated {
            path: path.to_owned(),
            detector: self.name(span.kind).to_owned(),
            action: match pseudonym {
                Some(_) => Action::Pseudonymise,
                None => stays_text(self.shown_action(text, span)),
            },
            start: None,
            end: None,
        });
        context.treated.extend(treated);
        *text = pseudonym.unwrap_or_else(|| self.apply(text, &spans, stays_text));
    }

    /// Treats a short text about the call that entries are found by: its purpose, a resource. If any of it would be treated
    /// under the facet's name in `text`, the whole becomes a pseudonym; without keys it is treated like any text. What was
    /// treated is recorded at `path`.
    ///
    /// # Errors
    /// As [`treat`](Sanitizer::treat).
    pub(crate) fn treat_said(
        &self,
        field: Facet,
        path: &str,
        text: &mut String,
        context: &mut Context<'_>,
    ) -> Result<()> {
        if is_pseudonym(&normal(text)) {
            self.treat_name(Some(field), path, text, context);
            return Ok(());
        }
        let (clear, before) = (text.clone(), context.treated.len());
        self.treat_member(Root::Text, field.as_str(), text, context)?;
        let pseudonym = self.newest(field, &clear).filter(|_| *text != clear);
        for treated in context.treated.iter_mut().skip(before) {
            treated.path = path.to_owned();
            if pseudonym.is_some() {
                (treated.action, treated.start, treated.end) = (Action::Pseudonymise, None, None);
            }
        }
        *text = pseudonym.unwrap_or(std::mem::take(text));
        Ok(())
    }

    /// The ids of all live pseudonym keys, newest first.
    pub(crate) fn pseudonym_keys(&self) -> impl Iterator<Item = &str> {
        self.pseudonyms.iter().map(PseudonymKey::id)
    }

    /// The pseudonyms of a facet's clear value under all live keys, newest first, whatever the current policy.
    pub(crate) fn pseudonyms_of(&self, field: Facet, clear: &str) -> Vec<String> {
        self.pseudonyms.iter().map(|key| key.pseudonym(field.as_str(), clear)).collect()
    }

    /// The pseudonyms, under all live keys, of the person whose pseudonym this is, newest first; only itself if it is not
    /// one under a live key.
    pub(crate) fn forms(&self, written: &str) -> Vec<String> {
        match self.pseudonyms.iter().find_map(|key| key.person(written)) {
            Some(person) => self.pseudonyms.iter().map(|key| key.of_person(person)).collect(),
            None => vec![written.to_owned()],
        }
    }

    /// The name itself, or the pseudonym of the same person under the oldest key: one form whatever key was in use.
    pub(crate) fn one_form<'a>(&self, written: &'a str) -> Cow<'a, str> {
        let later = self.pseudonyms.split_last().filter(|(_, later)| !later.is_empty() && written.starts_with(PREFIX));
        let found = later.and_then(|(oldest, later)| {
            later.iter().find_map(|key| key.person(written)).map(|person| oldest.of_person(person))
        });
        found.map_or(Cow::Borrowed(written), Cow::Owned)
    }

    /// One form of a person's name, however the log has it: the pseudonym under the oldest live key; without a key the name
    /// itself.
    pub(crate) fn person<'a>(&self, field: Facet, written: &'a str) -> Cow<'a, str> {
        match self.pseudonyms.last() {
            Some(oldest) if !is_pseudonym(written) => Cow::Owned(oldest.pseudonym(field.as_str(), written)),
            _ => self.one_form(written),
        }
    }

    /// All forms in which a facet's clear value may have been written under any policy: its normal form, and the
    /// pseudonym of that under every live key, newest first. A pseudonym stands for itself.
    pub(crate) fn terms(&self, field: Facet, clear: &str) -> Vec<String> {
        let clear = normal_of(field, clear);
        let pseudonyms = match domain(field) {
            Some(_) if !is_pseudonym(&clear) => self.pseudonyms_of(field, &clear),
            _ => Vec::new(),
        };
        std::iter::once(clear.into_owned()).chain(pseudonyms).collect()
    }

    /// All forms in which the clear name of a patient, a user or a conversation may occur in a log: in clear, and as a
    /// pseudonym under every live key, newest first. A pseudonym stands for itself.
    pub fn lookup(&self, facet: IdentityKind, clear: &str) -> Vec<String> {
        self.terms(facet.field(), clear)
    }

    /// Whether a facet's value would have been masked when it was recorded, so that nobody can tell whether it was
    /// recorded. This happens only without a pseudonym key.
    pub(crate) fn would_mask(&self, field: Facet, clear: &str) -> bool {
        if !self.pseudonyms.is_empty() || domain(field).is_none() {
            return false;
        }
        match field {
            // A pseudonym stands for itself, and a name given by a caller is never written in this form.
            _ if is_pseudonym(&normal(clear)) => false,
            Facet::Purpose | Facet::Resource => {
                let mut said = clear.to_owned();
                self.treat_said(field, field.as_str(), &mut said, &mut Context::new()).is_err() || said != clear
            }
            _ => self.is_no_name(clear),
        }
    }
}
