//! Who is who for the rules: somebody counts as one person, whether the log has the name in clear or as a pseudonym, and
//! under whichever key.
//!
//! Invariant R92: a policy that turns pseudonyms on or off, or a new pseudonym key, makes nobody two persons and nobody
//! somebody else: rules and emergency grants compare names in one form.

use super::evaluate::World;
use crate::Result;
use crate::policy::Policies;
use crate::redact::{IdentityKind, is_pseudonym};
use crate::store::Engine;
use attestlog_proof::entry::Facet;
use std::borrow::Cow;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

/// The most clear names whose form is kept.
const MOST: usize = 4096;

/// Who is who, by the policies and keys of now.
#[derive(Debug)]
pub(super) struct People {
    pub(super) hash: RandomState,
    policies: Arc<Policies>,
    /// The one form of clear names that were asked for.
    forms: RefCell<HashMap<(Facet, String), String>>,
    /// Of users, patients and conversations, those whom a policy kept in clear: the clear names in the log by their one form.
    clear: Vec<(Facet, OnceCell<HashMap<String, String>>)>,
}

impl People {
    pub(super) fn new(engine: &Engine) -> People {
        let mut people = People {
            hash: RandomState::new(),
            policies: engine.policies(),
            forms: RefCell::default(),
            clear: Vec::new(),
        };
        people.respell(engine);
        people
    }

    /// Called when names may be written otherwise from now on.
    pub(super) fn respell(&mut self, engine: &Engine) {
        self.policies = engine.policies();
        let kept = engine.chain_state().kept_clear.clone();
        self.clear = kept.into_iter().map(|kind| (kind.field(), OnceCell::new())).collect();
        self.forms.take();
    }

    /// The name in the form in which names are compared.
    pub(super) fn one_form<'a>(&self, field: Facet, name: &'a str) -> Cow<'a, str> {
        let Some(sanitizer) = &self.policies.sanitizer else { return Cow::Borrowed(name) };
        if is_pseudonym(name) || !is_of_person(field) {
            return sanitizer.one_form(name);
        }
        let asked = (field, name.to_owned());
        let mut forms = self.forms.borrow_mut();
        if let Some(form) = forms.get(&asked) {
            return Cow::Owned(form.clone());
        }
        if forms.len() >= MOST {
            forms.clear();
        }
        let form = sanitizer.person(field, name).into_owned();
        forms.insert(asked, form.clone());
        Cow::Owned(form)
    }

    pub(super) fn are_same(&self, field: Facet, a: &str, b: &str) -> bool {
        a == b || self.one_form(field, a) == self.one_form(field, b)
    }

    pub(super) fn key(&self, field: Facet, name: &str) -> u64 {
        self.hash.hash_one(self.one_form(field, name))
    }

    /// All forms in which the log may have a name of this person.
    pub(super) fn forms(&self, field: Facet, name: &str, world: &dyn World) -> Result<Vec<String>> {
        let Some(sanitizer) = &self.policies.sanitizer else { return Ok(vec![name.to_owned()]) };
        if !is_pseudonym(name) {
            return Ok(if is_of_person(field) { sanitizer.terms(field, name) } else { vec![name.to_owned()] });
        }
        let mut forms = sanitizer.forms(name);
        if let Some((_, clear)) = self.clear.iter().find(|(of, _)| *of == field) {
            let clear = match clear.get() {
                Some(clear) => clear,
                None => {
                    let mut names = HashMap::new();
                    world.each_name(field, &mut |name| {
                        if !is_pseudonym(name) {
                            names.insert(sanitizer.person(field, name).into_owned(), name.to_owned());
                        }
                    })?;
                    clear.get_or_init(|| names)
                }
            };
            forms.extend(clear.get(&*sanitizer.one_form(name)).cloned());
        }
        Ok(forms)
    }
}

fn is_of_person(field: Facet) -> bool {
    IdentityKind::ALL.iter().any(|kind| kind.field() == field)
}
