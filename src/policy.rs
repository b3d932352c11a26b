//! What the store was told to do with what it records: how long to keep it, what to hide, what of results to keep.

use crate::entry::{ResultPolicy, Retention};
use crate::json::Json;
use crate::redact::Sanitizer;
use crate::{Result, Timestamp};

/// The policies in force.
#[derive(Debug)]
pub(crate) struct Policies {
    pub retention: RetentionPolicy,
    pub patients: PatientPaths,
    pub sanitizer: Sanitizer,
    pub results: ResultPolicy,
}

// TEMPORARY until the retention module lands.
#[derive(Debug, Clone, Default)]
pub(crate) struct RetentionPolicy;
impl RetentionPolicy {
    pub fn assign(
        &self,
        tool: &str,
        patient: bool,
        _class: Option<&str>,
        _until: Option<Timestamp>,
        base: Timestamp,
    ) -> Result<Retention> {
        let (class, months) = match tool {
            "charge_payment" | "issue_refund" | "apply_credit" if !patient => ("financial", 84),
            "access_patient_record" | "update_treatment" => ("healthcare", 72),
            _ if patient => ("healthcare", 72),
            _ => ("general", 12),
        };
        Ok(Retention { class: class.into(), until: base.plus_months(months).ceil_to_second() })
    }
}
#[derive(Debug, Clone, Default)]
pub(crate) struct PatientPaths;
impl PatientPaths {
    pub fn find(&self, _tool: &str, arguments: Option<&Json>, _result: Option<&Json>) -> Vec<String> {
        match arguments.and_then(|a| a.get("patient_id")) {
            Some(Json::String(s)) => vec![s.clone()],
            _ => vec![],
        }
    }
}
