//! Words of others in messages.

use attestlog::redact::{self, Policy, Root, Sanitizer, Secrets};

/// What is quoted from a file or an event has not been through the store's policy. It goes through the default policy, so that no secret
/// ends up in the log of a terminal or a service.
pub(crate) struct Quoted(Option<Sanitizer>);

impl Quoted {
    pub(crate) fn new() -> Quoted {
        Quoted(Sanitizer::new(&Policy::default(), Secrets::default()).ok())
    }

    pub(crate) fn hide(&self, text: &mut String) {
        let treat = |sanitizer: &Sanitizer| sanitizer.treat_text(Root::Text, text, &mut redact::Context::new()).is_ok();
        if !self.0.as_ref().is_some_and(treat) {
            "cannot be shown".clone_into(text);
        }
    }
}
