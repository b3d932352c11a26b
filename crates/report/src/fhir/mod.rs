//! FHIR AuditEvent, R4 (and R4B, where it is the same) and R5: one resource per call, alone, in a Bundle of type
//! `collection`, or as NDJSON.
//!
//! Invariant F1: a FHIR server accepts every resource, whatever ids it contains: no empty strings or arrays, no control
//! characters, no literal reference that is not valid. Invariant F2: a resource claims an IHE BALP profile only if it
//! keeps all of its rules; a failed call claims none. Invariant F3: values of results and error messages are never
//! included; arguments are included only as the query of a search.
//!
//! `event` describes what happened, independent of the release (`codes` has the vocabulary); `r4` and `r5` render it.
//!
//! | in the log | in the resource |
//! | --- | --- |
//! | a call | one AuditEvent, also for a call recorded in two steps |
//! | a call that was begun and never ended | an AuditEvent without an outcome |
//! | emergency access opened, closed, reviewed | a security alert (DCM 110113), opened and closed with their subtypes |
//! | other system events | nothing: they are about the log, not about a patient's data |
//! | a call that concerns several patients | one AuditEvent that names all of them and claims no profile, because BALP requires one per patient; with [`FhirOptions::about`] one of them it becomes that patient's |

mod codes;
mod event;
mod r4;
mod r5;

use super::ToolKinds;
use super::access::{Context, Subject};
use super::pairing::{Pairing, Whole};
use attestlog::json::{Json, Object};
use attestlog::{Entry, Result};
use event::Event;
use std::io::Write;

/// Options for converting entries to AuditEvents.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FhirOptions {
    /// The kind of each tool: read, query, create, update or delete.
    pub tools: ToolKinds,
    /// The system of user ids: the URI of the identity provider.
    pub user_system: Option<String>,
    /// The system of patient ids. If set, a patient is named by an identifier in addition to the reference
    /// `Patient/ID`, which is written if the id can be part of a URL.
    pub patient_system: Option<String>,
    /// The resource type of users. Default: `Practitioner`, which in FHIR includes everybody who works in care, also
    /// clerks.
    pub user_type: Option<String>,
    /// The name of what recorded the events. Default: `attestlog`.
    pub observer: String,
    /// The location of the observer.
    pub site: Option<String>,
    /// The server for calls that name none.
    pub server: Option<String>,
    /// Marks every resource as test data (`HTEST`).
    pub test_data: bool,
    /// The subject of the events, and the names of identifying members.
    context: Context,
    /// Whether the events are an access report, whose Bundle states how reliable the log behind it is.
    report: bool,
}

impl Default for FhirOptions {
    fn default() -> FhirOptions {
        FhirOptions {
            tools: ToolKinds::default(),
            user_system: None,
            patient_system: None,
            user_type: Some("Practitioner".to_owned()),
            observer: "attestlog".to_owned(),
            site: None,
            server: None,
            test_data: false,
            context: Context::new(Subject::User(String::new())),
            report: false,
        }
    }
}

impl FhirOptions {
    /// Sets the options for an access report. In a report about a patient, other patients are not named: a call that
    /// concerns several patients shows only this one, and its search is left out, since it may name the others.
    pub fn about(mut self, context: &Context) -> FhirOptions {
        self.context = context.clone();
        self.report = true;
        self
    }

    /// The tags of a report's Bundle: whether the log was verified, and whether anything outside it confirms it.
    fn meta(&self) -> Option<Json> {
        if !self.report {
            return None;
        }
        let Context { integrity_verified, anchored, anchored_size, .. } = self.context;
        let integrity = match integrity_verified {
            true => ("verified", "The log was verified for this report and nothing was found wrong".to_owned()),
            false if self.context.is_settled() => {
                let (found, settled) = (self.context.findings_text(), self.context.settled_text());
                ("settled", format!("The log was verified for this report: {found}, all of them settled. {settled}"))
            }
            false if !self.context.findings.is_empty() => {
                let found = self.context.findings_and_settled();
                ("failed", format!("VERIFICATION FAILED: the log is not as it was recorded: {found}"))
            }
            false => ("not-verified", "No verification of the log stands behind this report".to_owned()),
        };
        let integrity = (integrity.0, self.context.with_restored(&integrity.1));
        let anchoring = match anchored_size {
            size if anchored && size > 0 => (
                "anchored",
                format!("Something kept elsewhere confirms the first {size} entries of the log, and none after"),
            ),
            _ => (
                "unanchored",
                match self.context.compared {
                    true => "UNANCHORED: what this report compared the log with confirms no part of it".to_owned(),
                    false => "UNANCHORED: this report compared the log with nothing that is kept outside it".to_owned(),
                },
            ),
        };
        let tags = [("integrity", integrity), ("anchoring", anchoring)].map(|(system, (code, display))| {
            let system = format!("urn:x-attestlog:{system}");
            let tag = [("system", system), ("code", code.to_owned()), ("display", display)];
            Json::from(tag.into_iter().collect::<Object>())
        });
        Some(Object::from_iter([("tag", Json::from(tags.to_vec()))]).into())
    }
}

/// A FHIR release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FhirRelease {
    /// 4.0.1; the output is also valid for 4.3.0 (R4B).
    R4,
    /// 5.0.0.
    R5,
}

/// How several resources are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FhirForm {
    /// One Bundle of type `collection`.
    Bundle,
    /// One resource per line.
    Ndjson,
}

/// The AuditEvent (R4) of one entry; `None` for system events other than emergency access.
///
/// The begin entry of a call gives an event without an outcome; [`FhirWriter`] joins it with the end.
pub fn audit_event_r4(entry: &Entry, options: &FhirOptions) -> Option<Json> {
    Some(r4::render(&Event::of(&Whole::of(entry.clone()), options)?, options))
}

/// The AuditEvent (R5) of one entry; see [`audit_event_r4`].
pub fn audit_event_r5(entry: &Entry, options: &FhirOptions) -> Option<Json> {
    Some(r5::render(&Event::of(&Whole::of(entry.clone()), options)?, options))
}

/// Writes the AuditEvents of entries, given in order of seq.
///
/// The entries of a call are joined: the first step is held back until the second arrives. Calls that never ended, and those
/// to which an answer might have come late, are written last.
///
/// ```
/// use attestlog_report::fhir::{FhirForm, FhirOptions, FhirRelease, FhirWriter};
/// let mut fhir = FhirWriter::new(Vec::new(), FhirRelease::R4, FhirForm::Bundle, FhirOptions::default());
/// // for entry in … { fhir.write(&entry)?; }
/// let text = fhir.finish()?;
/// assert_eq!(text, br#"{"resourceType":"Bundle","type":"collection"}"#);
/// # Ok::<(), attestlog::Error>(())
/// ```
#[derive(Debug)]
pub struct FhirWriter<W: Write> {
    out: W,
    release: FhirRelease,
    form: FhirForm,
    options: FhirOptions,
    pairing: Pairing,
    written: u64,
}

impl<W: Write> FhirWriter<W> {
    /// Creates a writer to `out`.
    pub fn new(out: W, release: FhirRelease, form: FhirForm, options: FhirOptions) -> FhirWriter<W> {
        FhirWriter { out, release, form, options, pairing: Pairing::default(), written: 0 }
    }

    /// Adds the next entry.
    ///
    /// # Errors
    /// [`Io`](attestlog::ErrorKind::Io) or [`DiskFull`](attestlog::ErrorKind::DiskFull) if the output fails.
    pub fn write(&mut self, entry: &Entry) -> Result<()> {
        match self.pairing.next(entry) {
            Some(whole) => self.event(&whole),
            None => Ok(()),
        }
    }

    /// Writes the remaining events and returns the output.
    ///
    /// # Errors
    /// [`Io`](attestlog::ErrorKind::Io) or [`DiskFull`](attestlog::ErrorKind::DiskFull) if the output fails.
    pub fn finish(mut self) -> Result<W> {
        for whole in std::mem::take(&mut self.pairing).rest() {
            self.event(&whole)?;
        }
        if self.form == FhirForm::Bundle {
            // FHIR forbids an empty array, so an empty Bundle has no `entry`.
            self.out.write_all(if self.written > 0 { b"]," } else { b"{" })?;
            if let Some(meta) = self.options.meta() {
                write!(self.out, r#""meta":{},"#, meta.to_canonical())?;
            }
            self.out.write_all(br#""resourceType":"Bundle","type":"collection"}"#)?;
        }
        self.out.flush()?;
        Ok(self.out)
    }

    fn event(&mut self, whole: &Whole) -> Result<()> {
        let Some(event) = Event::of(whole, &self.options) else { return Ok(()) };
        let resource = match self.release {
            FhirRelease::R4 => r4::render(&event, &self.options),
            FhirRelease::R5 => r5::render(&event, &self.options),
        };
        match self.form {
            FhirForm::Ndjson => writeln!(self.out, "{}", resource.to_canonical())?,
            FhirForm::Bundle => {
                self.out.write_all(if self.written == 0 { br#"{"entry":["# } else { b"," })?;
                write!(self.out, r#"{{"fullUrl":"urn:uuid:{}","resource":{}}}"#, event.uuid, resource.to_canonical())?;
            }
        }
        self.written += 1;
        Ok(())
    }
}
