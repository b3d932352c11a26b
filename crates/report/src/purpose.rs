//! Maps the purposes that hosts state to HL7's codes: the `PurposeOfUse` part of the code system v3-ActReason.

/// The URI of the code system.
pub(super) const SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";

/// A reason for using health data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reason {
    pub(super) code: &'static str,
    pub(super) display: &'static str,
    /// Whether it is treatment, payment or health care operations, which an accounting of disclosures leaves out (45
    /// CFR 164.528(a)(1)(i)).
    pub(super) routine: bool,
}

/// The code, its display, whether it is routine, and its other names.
const REASONS: &[(&str, &str, bool, &[&str])] = &[
    ("TREAT", "treatment", true, &["care", "direct_care", "clinical"]),
    ("ETREAT", "Emergency Treatment", true, &["emergency", "emergency_treatment"]),
    ("BTG", "break the glass", true, &["break_glass", "breakglass", "break_the_glass"]),
    ("COC", "coordination of care", true, &["care_coordination", "coordination_of_care"]),
    ("HPAYMT", "healthcare payment", true, &["payment", "billing", "healthcare_payment"]),
    ("HOPERAT", "healthcare operations", true, &["operations", "healthcare_operations", "operation"]),
    ("HQUALIMP", "health quality improvement", true, &["quality_improvement"]),
    ("PATADMIN", "patient administration", true, &["patient_administration"]),
    ("HSYSADMIN", "health system administration", true, &["system_administration"]),
    ("TRAIN", "training", true, &[]),
    ("HRESCH", "healthcare research", false, &["research", "healthcare_research"]),
    ("CLINTRCH", "clinical trial research", false, &["clinical_trial_research"]),
    ("PUBHLTH", "public health", false, &["public_health"]),
    ("HLEGAL", "legal", false, &["legal"]),
    ("HMARKT", "healthcare marketing", false, &["marketing"]),
    ("PATRQT", "patient requested", false, &["patient_request", "patient_requested"]),
    ("FAMRQT", "family requested", false, &["family_request", "family_requested"]),
    ("HTEST", "test health data", false, &["test"]),
];

/// The reason with this code or name, ignoring case, blanks and hyphens. `None` for a host's own code.
pub(super) fn reason(purpose: &str) -> Option<Reason> {
    // No name is this long, while an id may have 64 KiB.
    if purpose.len() > 64 {
        return None;
    }
    let name = purpose.trim().to_ascii_lowercase().replace([' ', '-'], "_");
    REASONS
        .iter()
        .find(|(code, display, _, names)| {
            code.eq_ignore_ascii_case(&name)
                || display.to_ascii_lowercase().replace(' ', "_") == name
                || names.contains(&name.as_str())
        })
        .map(|&(code, display, routine, _)| Reason { code, display, routine })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_codes_are_found() {
        for (given, code) in [
            ("treatment", "TREAT"),
            ("Payment", "HPAYMT"),
            ("healthcare operations", "HOPERAT"),
            ("hresch", "HRESCH"),
            ("break-glass", "BTG"),
            ("emergency", "ETREAT"),
        ] {
            assert_eq!(reason(given).map(|r| r.code), Some(code), "{given}");
        }
        assert_eq!(reason("curiosity"), None);
        assert_eq!(reason(""), None);
    }
}
