//! Alerts as they stand in the chain, and what was said to them.

use crate::json::{Json, Object};
use crate::rules::Severity;
use crate::store::Receipt;
use crate::text::check_text;
use crate::{AuditLog, Entry, Error, ErrorKind, Query, Result, Timestamp};
use attestlog_proof::entry::Kind;
use std::collections::BTreeMap;

/// An alert, as its entry says it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Alert {
    /// The seq of its entry; where it could not be recorded, how many entries the log had.
    pub seq: u64,
    /// Whether it is in the log. What a verification found may itself be the reason why nothing can be recorded any more: then
    /// receivers are told without an entry.
    pub recorded: bool,
    /// `RULE:SEQ`, the rule and the entry at which it fired: the same however often the alert is delivered. Where it could not
    /// be recorded, with the beginning of a digest of what was found behind it.
    pub id: String,
    /// The rule.
    pub rule: String,
    /// How bad it is.
    pub severity: Severity,
    /// When it was raised.
    pub raised_at: Timestamp,
    /// The entry at which it fired; the grant that was not reviewed; for tampering the size of the log that was verified.
    pub crossing: u64,
    /// All that its entry says.
    pub detail: Json,
}

/// Somebody acknowledged an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Acknowledgement {
    /// The seq of the entry.
    pub seq: u64,
    /// Who.
    pub actor: String,
    /// What it came to, in the host's own words.
    pub disposition: String,
    /// When.
    pub at: Timestamp,
}

/// An alert with what was said to it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AlertState {
    /// The alert.
    pub alert: Alert,
    /// What was said to it, in order; the last one counts.
    pub acknowledgements: Vec<Acknowledgement>,
}

impl AlertState {
    /// Whether nobody has said anything to it yet.
    pub fn is_open(&self) -> bool {
        self.acknowledgements.is_empty()
    }

    /// The alert's JSON with `acknowledged` (`seq`, `actor`, `disposition`, `at`), null while it is open.
    pub fn to_json(&self) -> Json {
        let mut out = match self.alert.to_json() {
            Json::Object(out) => out,
            _ => Object::new(),
        };
        let said = self.acknowledgements.last().map(|ack| {
            Object::from_iter([
                ("seq", Json::from(ack.seq)),
                ("actor", ack.actor.as_str().into()),
                ("disposition", ack.disposition.as_str().into()),
                ("at", ack.at.to_string().into()),
            ])
        });
        out.insert("acknowledged", said.map_or(Json::Null, Json::from));
        out.into()
    }
}

impl Alert {
    /// The alert of an entry, if it is one.
    pub fn of(entry: &Entry) -> Option<Alert> {
        let own = entry.own().filter(|own| own.kind == Kind::Alert)?;
        let detail = own.detail.to_json();
        let text = |key: &str| detail.get(key).and_then(Json::as_str);
        Some(Alert {
            seq: entry.seq,
            recorded: true,
            id: text("id")?.to_owned(),
            rule: text("rule")?.to_owned(),
            severity: Severity::from_name(text("severity")?)?,
            raised_at: entry.body.recorded_at,
            crossing: detail.get("crossing").and_then(Json::as_u64)?,
            detail,
        })
    }

    /// An alert that the log, of this size, could not take; the digest of what it is about tells it from others at that size.
    pub(super) fn without_entry(mut detail: Object, size: u64, at: Timestamp, digest: &str) -> Option<Alert> {
        let id = format!("{}:{digest}", detail.get("id").and_then(Json::as_str)?);
        detail.insert("id", id.as_str());
        let text = |key: &str| detail.get(key).and_then(Json::as_str);
        Some(Alert {
            seq: size,
            recorded: false,
            id,
            rule: text("rule")?.to_owned(),
            severity: Severity::from_name(text("severity")?)?,
            raised_at: at,
            crossing: size,
            detail: detail.into(),
        })
    }

    /// What is delivered: all that the entry says, its `seq`, and `raised_at`. Without an entry `seq` is null, and `recorded`
    /// false.
    pub fn to_json(&self) -> Json {
        let mut out = self.detail.as_object().cloned().unwrap_or_default();
        match self.recorded {
            true => out.insert("seq", self.seq),
            false => {
                out.insert("seq", Json::Null);
                out.insert("recorded", false)
            }
        };
        out.insert("raised_at", self.raised_at.to_string());
        out.into()
    }
}

impl AuditLog {
    /// Every alert with what was said to it, the oldest first.
    ///
    /// # Errors
    /// What the file says.
    pub fn alerts(&self) -> Result<Vec<AlertState>> {
        let mut states: BTreeMap<u64, AlertState> = BTreeMap::new();
        for entry in self.query(&Query::new().kind(Kind::Alert).kind(Kind::AlertAck))?.beside() {
            let entry = entry?;
            if let Some(alert) = Alert::of(&entry) {
                states.insert(entry.seq, AlertState { alert, acknowledgements: Vec::new() });
                continue;
            }
            let Some(detail) = entry.own().map(|own| own.detail.to_json()) else { continue };
            let text = |key: &str| detail.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
            let state = detail.get("alert").and_then(Json::as_u64).and_then(|seq| states.get_mut(&seq));
            if let Some(state) = state {
                state.acknowledgements.push(Acknowledgement {
                    seq: entry.seq,
                    actor: text("actor"),
                    disposition: text("disposition"),
                    at: entry.body.recorded_at,
                });
            }
        }
        Ok(states.into_values().collect())
    }

    /// Records that `actor` looked into the alert at `seq`, and what it came to.
    ///
    /// # Errors
    /// [`NoSuchEntry`](ErrorKind::NoSuchEntry): there is no alert at that seq;
    /// [`InvalidInput`](ErrorKind::InvalidInput): no actor or no disposition; as [`AuditLog::record`].
    pub fn ack_alert(&self, seq: u64, actor: &str, disposition: &str) -> Result<Receipt> {
        check_text("actor", actor)?;
        check_text("disposition", disposition)?;
        let engine = self.engine();
        let (actor, disposition) = (engine.person(actor)?, engine.clean(disposition)?);
        let entry = self.entry(seq)?;
        let alert = Alert::of(&entry).ok_or_else(|| {
            Error::new(ErrorKind::NoSuchEntry, format!("entry {seq} is a {}, no alert", entry.kind()))
        })?;
        let detail = Object::from_iter([
            ("actor", Json::from(actor)),
            ("alert", seq.into()),
            ("disposition", disposition.into()),
            ("id", alert.id.into()),
        ]);
        // It says nothing without the alert, so it lives as long.
        self.own_kept(Kind::AlertAck, |_, _, _| Ok((detail, entry.body.retention)))
    }
}
