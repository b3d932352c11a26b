//! Alerts as they are in the chain, and their acknowledgements.

use crate::json::{Json, Object};
use crate::rules::Severity;
use crate::store::OpenStore;
use crate::store::Receipt;
use crate::text::{Justification, check_text};
use crate::{Entry, Error, ErrorKind, Query, Result, Timestamp};
use attestlog_proof::entry::Kind;
use attestlog_proof::json::form::Form;
use std::collections::BTreeMap;

/// An alert as its entry states it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Alert {
    /// The seq of its entry; if it could not be recorded, the number of entries in the log.
    pub seq: u64,
    /// Whether it is in the log. What a verification found may itself be the reason why nothing can be recorded any
    /// more; then receivers are notified without an entry.
    pub recorded: bool,
    /// `RULE:SEQ`, the rule and the entry at which it fired: the same in every delivery. If the alert could not be
    /// recorded, followed by the beginning of a digest of what was found.
    pub id: String,
    /// The rule.
    pub rule: String,
    /// How bad it is.
    pub severity: Severity,
    /// When it was raised.
    pub raised_at: Timestamp,
    /// The entry at which it fired; or the grant that was not reviewed; or, for tampering, the size of the log that was
    /// verified.
    pub crossing: u64,
    /// The content of its entry.
    pub detail: Json,
}

/// The acknowledgement of an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Acknowledgement {
    /// The seq of the entry.
    pub seq: u64,
    /// Who.
    pub actor: String,
    /// The result of looking into it, in the host's own words.
    pub disposition: String,
    /// When.
    pub at: Timestamp,
}

/// An alert with its acknowledgements.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AlertState {
    /// The alert.
    pub alert: Alert,
    /// Its acknowledgements, in order; the last one counts.
    pub acknowledgements: Vec<Acknowledgement>,
}

impl AlertState {
    /// Whether nobody has acknowledged it yet.
    pub fn is_open(&self) -> bool {
        self.acknowledgements.is_empty()
    }

    /// The alert's JSON with `acknowledgements`, a list of `{"seq","actor","disposition","at"}`, and `acknowledged`, the last of
    /// them, null while it is open.
    pub fn to_json(&self) -> Json {
        let mut out = match self.alert.to_json() {
            Json::Object(out) => out,
            _ => Object::new(),
        };
        out.insert("acknowledged", self.acknowledgements.last().map(Form::form));
        out.insert("acknowledgements", self.acknowledgements.form());
        out.into()
    }
}

impl AlertState {
    fn from_json(value: &Json) -> Result<AlertState> {
        let mut members = Object::read(value)?;
        let acknowledgements = members.remove("acknowledgements").unwrap_or_default();
        members.remove("acknowledged");
        Ok(AlertState { alert: Alert::from_json(&members.into())?, acknowledgements: Vec::read(&acknowledgements)? })
    }
}

attestlog_proof::json_form!(members Acknowledgement { seq, actor, disposition, at });
attestlog_proof::json_form!(methods Alert, AlertState);

impl Alert {
    /// The alert in an entry, if the entry is one.
    pub fn of(entry: &Entry) -> Option<Alert> {
        let own = entry.own().filter(|own| own.kind == Kind::Alert)?;
        let detail = own.detail.to_json();
        let text = |key: &str| detail.get(key).and_then(Json::as_str);
        Some(Alert {
            seq: entry.seq,
            recorded: true,
            id: text("id")?.to_owned(),
            rule: text("rule")?.to_owned(),
            severity: text("severity")?.parse().ok()?,
            raised_at: entry.body.recorded_at,
            crossing: detail.get("crossing").and_then(Json::as_u64)?,
            detail,
        })
    }

    /// An alert that the log, of this size, could not record. The digest distinguishes it from others at that size.
    pub(super) fn without_entry(mut detail: Object, size: u64, at: Timestamp, digest: &str) -> Option<Alert> {
        let id = format!("{}:{digest}", detail.get("id").and_then(Json::as_str)?);
        detail.insert("id", id.as_str());
        let text = |key: &str| detail.get(key).and_then(Json::as_str);
        Some(Alert {
            seq: size,
            recorded: false,
            id,
            rule: text("rule")?.to_owned(),
            severity: text("severity")?.parse().ok()?,
            raised_at: at,
            crossing: size,
            detail: detail.into(),
        })
    }

    /// The JSON that is delivered: the content of the entry, its `seq`, and `raised_at`. Without an entry, `seq` is
    /// null and `recorded` is false.
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

    fn from_json(value: &Json) -> Result<Alert> {
        let mut detail = Object::read(value)?;
        let seq = detail.remove("seq").and_then(|seq| seq.as_u64());
        let recorded = detail.remove("recorded").is_none();
        let raised_at = detail.remove("raised_at").unwrap_or_default();
        let text =
            |key: &str| detail.get(key).map(String::read).ok_or_else(|| Error::invalid(format!("{key} is missing")));
        let crossing = detail.get("crossing").and_then(Json::as_u64);
        let crossing = crossing.ok_or_else(|| Error::invalid("crossing: must be an integer"))?;
        let seq = if recorded { seq } else { Some(crossing) };
        Ok(Alert {
            seq: seq.ok_or_else(|| Error::invalid("seq: must be an integer"))?,
            recorded,
            id: text("id")??,
            rule: text("rule")??,
            severity: text("severity")??.parse()?,
            raised_at: <Timestamp as Form>::read(&raised_at).map_err(|e| e.in_member("raised_at"))?,
            crossing,
            detail: detail.into(),
        })
    }
}

impl OpenStore {
    /// Every alert with what was said to it, the oldest first.
    pub(crate) fn alerts(&self) -> Result<Vec<AlertState>> {
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

    /// Records that `actor` looked into the alert at `seq`, and what it came to; `more` are further members of the entry.
    pub(crate) fn ack_alert(&self, seq: u64, by: Justification<'_>, more: Object) -> Result<Receipt> {
        let Justification { actor, reason: disposition } = by;
        check_text("actor", actor)?;
        check_text("disposition", disposition)?;
        let engine = self.engine();
        let (actor, disposition) = (engine.person(actor)?, engine.clean(disposition)?);
        let entry = self.entry(seq)?;
        let alert = Alert::of(&entry).ok_or_else(|| {
            Error::new(ErrorKind::NoSuchEntry, format!("entry {seq} is a {}, not an alert", entry.kind()))
        })?;
        let detail = Object::from_iter([
            ("actor", Json::from(actor)),
            ("alert", seq.into()),
            ("disposition", disposition.into()),
            ("id", alert.id.into()),
        ]);
        let detail: Object = detail.into_iter().chain(more).collect();
        // It means nothing without the alert, so it is kept as long.
        self.own_kept(Kind::AlertAck, |_, _, _| Ok((detail, entry.body.retention)))
    }
}
