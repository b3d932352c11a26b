//! The contents of the presets.

use super::pattern::FieldPattern;
use super::policy::{Detector, IdentityKind, Policy, Preset, Rule};
use super::treated::Action;

/// Fields that the default preset keeps: auditors need the client's address. Under `hipaa` and `pci` it is hidden like any other.
const KEPT: &[&str] = &["session_metadata.client_ip"];

/// The identifiers of 45 CFR 164.514(b)(2)(i) as field names. E-mail addresses, social security numbers and dates of
/// birth are covered by the floor. The rule allows state and country, so they are kept.
const SAFE_HARBOR: &[&str] = &[
    // (A) names
    "name first_name last_name middle_name full_name given_name family_name maiden_name surname nickname display_name \
     patient_name member_name subscriber_name guarantor_name contact_name emergency_contact next_of_kin mother_name \
     mothers_maiden_name father_name guardian_name spouse_name relative_name employer employer_name",
    // (B) geography below the state
    "address address1 address2 address_line address_line1 address_line2 street street1 street2 street_address \
     street_name house_number home_address mailing_address billing_address shipping_address residence city town county \
     district precinct parish neighborhood zip zip_code postal_code postcode latitude longitude lat lng geo geocode \
     geolocation coordinates birthplace place_of_birth",
    // (C) dates except the year, and ages, because ages over 89 identify
    "admission_date admit_date admitted_at admitted_on discharge_date discharged_at discharged_on date_of_admission \
     date_of_discharge date_of_death death_date deceased_date deceased_at dod date_of_service service_date visit_date \
     encounter_date procedure_date surgery_date appointment_date diagnosis_date onset_date age",
    // (D), (E) telephone and fax
    "phone phone_number phones telephone telephone_number tel mobile mobile_number mobile_phone cell cell_phone \
     cellphone home_phone work_phone daytime_phone contact_number contact_phone msisdn fax fax_number",
    // (I) health plan, (J) accounts
    "health_plan_number health_plan_id health_plan_beneficiary_number beneficiary_number beneficiary_id insurance_id \
     insurance_number insurance_member_id member_id member_number subscriber_id subscriber_number policy_number \
     group_number medicare_number medicare_id medicaid_number medicaid_id account_number bank_account \
     bank_account_number routing_number iban",
    // (K) certificates and licences, (L) vehicles, (M) devices
    "license_number licence_number license_no drivers_license driver_license drivers_license_number \
     driver_license_number certificate_number passport_number passport national_id vin vehicle_id \
     vehicle_identification_number license_plate plate_number device_id device_identifier device_serial \
     device_serial_number serial_number udi imei mac_address",
    // (N) web addresses, (O) network addresses
    "url urls website web_site homepage home_page profile_url web_address ip ip_address ip_addr ip_addresses client_ip \
     client_ip_address client_address remote_ip remote_addr remote_address source_ip src_ip x_forwarded_for x_real_ip",
    // (P) biometrics, (Q) images
    "biometric biometrics biometric_id fingerprint fingerprints voiceprint voice_print retina_scan iris_scan face_id \
     face_print photo photo_url photograph picture portrait avatar face_image full_face_photo",
];

/// (H) and (R): numbers that identify one person. Pseudonyms hide the number but still tell people apart.
const PATIENT_IDS: &[&str] = &["patient_id", "patient_ids", "patient_number", "patient"];
const RECORD_NUMBERS: &[&str] =
    &["mrn", "medical_record_number", "medical_record_id", "medical_record_no", "chart_number", "nhs_number"];

/// PCI DSS 3.3: not stored after authorisation, not even encrypted. 3.4: at most the last four digits are shown.
const PCI_MASKED: &[&str] = &[
    "cvv",
    "cvv2",
    "cvc",
    "cvc2",
    "cid",
    "card_verification_value",
    "card_security_code",
    "security_code",
    "pin",
    "pin_block",
    "track1",
    "track2",
    "track_data",
    "track1_data",
    "track2_data",
    "magstripe",
    "magnetic_stripe",
    "cardholder",
    "cardholder_name",
    "card_holder",
    "name_on_card",
    "expiry",
    "expiry_date",
    "expiration_date",
    "exp_date",
    "exp_month",
    "exp_year",
    "card_expiry",
];
const PCI_PARTIAL: &[&str] =
    &["pan", "card_number", "credit_card", "credit_card_number", "debit_card_number", "primary_account_number"];

/// Adds the preset's rules to an empty policy.
pub(super) fn fill(policy: &mut Policy) {
    policy.detectors.extend(Detector::ALL.map(|d| {
        let on = match d {
            Detector::Credential => true,
            Detector::RecordNumber => policy.preset == Preset::Hipaa,
            _ => policy.preset != Preset::Floor,
        };
        (d, if on { Action::Mask } else { Action::Keep })
    }));
    if policy.preset == Preset::Floor {
        return;
    }
    match policy.preset {
        Preset::Floor => {}
        Preset::Default => add(policy, KEPT, Action::Keep, None),
        Preset::Hipaa => {
            policy.facets.insert(IdentityKind::Patient, Action::Pseudonymise);
            add(policy, PATIENT_IDS, Action::Pseudonymise, Some(IdentityKind::Patient.name()));
            add(policy, RECORD_NUMBERS, Action::Pseudonymise, Some("record_number"));
            for names in SAFE_HARBOR {
                let names: Vec<_> = names.split_ascii_whitespace().collect();
                add(policy, &names, Action::Mask, None);
            }
        }
        Preset::Pci => {
            policy.detectors.insert(Detector::Card, Action::Partial);
            add(policy, PCI_MASKED, Action::Mask, None);
            add(policy, PCI_PARTIAL, Action::Partial, None);
        }
    }
}

fn add(policy: &mut Policy, fields: &[&str], action: Action, domain: Option<&str>) {
    // The names are constants of this file, and a test parses each of them.
    let rules = fields.iter().filter_map(|f| FieldPattern::parse(f).ok());
    policy.rules.extend(rules.map(|field| Rule { field, action, domain: domain.map(str::to_owned) }));
}
