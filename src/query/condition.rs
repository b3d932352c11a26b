//! What a query asks of entries that no index answers: the length of a call, its failure, a text in it. Each entry that the facets
//! leave is read.

use crate::json::Json;
use crate::{Entry, Error, Result};
use attestlog_proof::entry::Call;
use std::time::Duration;

/// The longest text that can be searched for, in bytes.
const LONGEST: usize = 4096;

/// Conditions that all must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Conditions {
    /// Alternatives.
    pub errors: Vec<String>,
    pub slower_than: Option<Duration>,
    pub containing: Option<String>,
}

impl Conditions {
    /// Whether there are any, so that entries must be read.
    pub(crate) fn any(&self) -> bool {
        *self != Conditions::default()
    }

    pub(crate) fn check(&self) -> Result<()> {
        match &self.containing {
            Some(text) if text.is_empty() => Err(Error::invalid("the text to search for must not be empty")),
            Some(text) if text.len() > LONGEST => {
                Err(Error::invalid(format!("the text to search for is longer than {LONGEST} bytes")))
            }
            _ => Ok(()),
        }
    }

    /// The same, made ready for many entries.
    pub(crate) fn prepared(&self) -> Prepared {
        let forms = |text: &String| {
            let quoted = Json::from(text.as_str()).to_canonical().as_str().to_ascii_lowercase();
            let within = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or_default();
            let mut forms = vec![text.to_ascii_lowercase(), within.to_owned()];
            forms.dedup();
            forms
        };
        Prepared {
            errors: self.errors.clone(),
            slower_than: self.slower_than.map(|least| least.as_secs_f64() * 1000.0),
            forms: self.containing.as_ref().map(forms).unwrap_or_default(),
        }
    }
}

/// [`Conditions`] made ready.
#[derive(Debug, Clone, Default)]
pub(crate) struct Prepared {
    errors: Vec<String>,
    /// In milliseconds.
    slower_than: Option<f64>,
    /// The text that is searched for as it was given, and as it stands in JSON; ASCII letters are small.
    forms: Vec<String>,
}

impl Prepared {
    /// Whether the entry is meant.
    pub(crate) fn fit(&self, entry: &Entry) -> bool {
        let call = entry.call();
        let failed_so = |call: &Call| call.failure().is_some_and(|how| self.errors.iter().any(|error| error == how));
        let slower = |least: f64| call.and_then(Call::duration_ms).is_some_and(|ms| ms > least);
        (self.errors.is_empty() || call.is_some_and(failed_so))
            && self.slower_than.is_none_or(slower)
            && (self.forms.is_empty() || self.contained(entry))
    }

    fn contained(&self, entry: &Entry) -> bool {
        let within = |text: &str| {
            let text = text.to_ascii_lowercase();
            self.forms.iter().any(|form| text.contains(form.as_str()))
        };
        let Some(call) = entry.call() else {
            return entry.own().is_some_and(|own| within(own.detail.as_str()));
        };
        let ended = call.completion.as_ref();
        let error = ended.and_then(|ended| ended.error.as_ref());
        let json = [
            call.arguments.as_ref(),
            ended.and_then(|ended| ended.result_summary.as_ref()),
            call.session_metadata.as_ref(),
        ];
        json.into_iter().flatten().any(|json| within(json.as_str()))
            || error.is_some_and(|error| within(&error.message) || error.kind.as_deref().is_some_and(within))
    }
}
