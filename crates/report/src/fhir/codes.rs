//! The codes and primitive types of FHIR: turns any text into a value that a FHIR server accepts.

use crate::{purpose, text};
use attestlog::json::{Json, Object};
use attestlog::{Hash, Timestamp};
use std::net::IpAddr;

pub(super) const DCM: &str = "http://dicom.nema.org/resources/ontology/DCM";
pub(super) const EVENT_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-event-type";
pub(super) const RESTFUL: &str = "http://hl7.org/fhir/restful-interaction";
pub(super) const PARTICIPATION: &str = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType";
pub(super) const ENTITY_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-entity-type";
pub(super) const BALP_ENTITY_TYPE: &str = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType";
pub(super) const OBJECT_ROLE: &str = "http://terminology.hl7.org/CodeSystem/object-role";
pub(super) const SOURCE_TYPE: &str = "http://terminology.hl7.org/CodeSystem/security-source-type";
pub(super) const SEVERITY: &str = "http://hl7.org/fhir/issue-severity";
pub(super) const ON_BEHALF_OF: &str = "http://hl7.org/fhir/StructureDefinition/auditevent-OnBehalfOf";

/// A code from one of the systems above. If the code is empty, only the display is used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Coding {
    pub(super) system: &'static str,
    pub(super) code: &'static str,
    pub(super) display: &'static str,
}

impl Coding {
    pub(super) const fn new(system: &'static str, code: &'static str, display: &'static str) -> Coding {
        Coding { system, code, display }
    }

    pub(super) fn json(self) -> Json {
        let mut o = Object::new();
        if !self.code.is_empty() {
            o.insert("system", self.system);
            o.insert("code", self.code);
        }
        o.insert("display", self.display);
        o.into()
    }

    pub(super) fn concept(self) -> Json {
        object([("coding", vec![self.json()].into())])
    }
}

/// A purpose as a CodeableConcept: with HL7's code if there is one, else as text.
pub(super) fn purpose_concept(given: &str) -> Json {
    match purpose::reason(given) {
        Some(reason) => Coding::new(purpose::SYSTEM, reason.code, reason.display).concept(),
        None => object([("text", string(given))]),
    }
}

/// An object of these members without those that are null: FHIR has no null.
pub(super) fn object<const N: usize>(members: [(&str, Json); N]) -> Json {
    Object::from_iter(members.into_iter().filter(|(_, value)| *value != Json::Null)).into()
}

/// A list, or null if it is empty: FHIR has no empty arrays.
pub(super) fn list(items: Vec<Json>) -> Json {
    if items.is_empty() { Json::Null } else { Json::Array(items) }
}

/// A FHIR `string`: not blank, and without control characters other than tab, CR and LF.
pub(super) fn string(value: &str) -> Json {
    if value.trim().is_empty() {
        return Json::String(format!("{value:?}"));
    }
    let allowed = |c: char| !c.is_control() || matches!(c, '\t' | '\r' | '\n');
    if value.chars().all(allowed) {
        return Json::from(value);
    }
    let shown = value.chars().map(|c| if allowed(c) { c.to_string() } else { text::visible(&c.to_string()) });
    Json::String(shown.collect())
}

/// Whether this is a FHIR `id`, which can be part of a URL.
pub(super) fn is_id(value: &str) -> bool {
    (1..=64).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
        // These would change the path of the URL.
        && !matches!(value, "." | "..")
}

/// A FHIR `uri`: characters that are not allowed in one are percent-encoded.
pub(super) fn uri(value: &str) -> String {
    percent(value, |b| {
        b.is_ascii_graphic() && !matches!(b, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
    })
}

fn percent(value: &str, keep: impl Fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(value.len());
    for b in value.bytes() {
        if keep(b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

/// A FHIR `instant` in milliseconds; many servers would drop further digits.
pub(super) fn instant(t: Timestamp) -> String {
    t.to_datetime().format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// An Identifier.
pub(super) fn identifier(system: Option<&str>, value: &str) -> Json {
    object([("system", system.map(uri).into()), ("value", string(value))])
}

/// The network address of an event's agent.
#[derive(Debug, Clone)]
pub(super) struct Network {
    pub(super) address: String,
    /// The code for network-type: 1 a machine's name, 2 an IP address, 5 a URI.
    pub(super) kind: &'static str,
}

impl Network {
    /// The address contained in a name. An agent may have none, because it is a process on the same machine, while a
    /// profile requires one: then it is a URN that gives the role.
    pub(super) fn of(role: &str, name: Option<&str>) -> Network {
        let Some(name) = name.filter(|n| !n.trim().is_empty()) else {
            return Network { address: format!("urn:x-attestlog:{role}"), kind: "5" };
        };
        if let Ok(ip) = name.parse::<IpAddr>() {
            return Network { address: ip.to_string(), kind: "2" };
        }
        if name.len() <= 1_000 && (name.starts_with("https://") || name.starts_with("http://")) {
            return Network { address: uri(name), kind: "5" };
        }
        let is_host = name.len() <= 253 && name.contains('.') && !name.starts_with(['.', '-']) && !name.ends_with('.');
        if is_host && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.') && !name.contains("..")
        {
            return Network { address: name.to_owned(), kind: "1" };
        }
        let unreserved = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        let tail = match name.len() {
            0..=200 => percent(name, unreserved),
            _ => Hash::leaf(name.as_bytes()).to_string(),
        };
        Network { address: format!("urn:x-attestlog:{role}:{tail}"), kind: "5" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_what_fhir_takes() {
        assert_eq!(string("a\u{7}b\nc"), Json::from("a\\u{7}b\nc"));
        assert_eq!(string(" "), Json::from("\" \""));
        assert!(is_id("P-1.2") && !is_id("") && !is_id("a b") && !is_id("..") && !is_id(&"x".repeat(65)));
        assert_eq!(uri("https://a b/<>"), "https://a%20b/%3C%3E");
    }

    #[test]
    fn everybody_has_an_address() {
        for (name, address, kind) in [
            (Some("10.0.0.7"), "10.0.0.7", "2"),
            (Some("::1"), "::1", "2"),
            (Some("https://ehr/x y"), "https://ehr/x%20y", "5"),
            (Some("ehr.example.org"), "ehr.example.org", "1"),
            (Some("ehr tools"), "urn:x-attestlog:server:ehr%20tools", "5"),
            (Some(" "), "urn:x-attestlog:server", "5"),
            (None, "urn:x-attestlog:server", "5"),
        ] {
            let network = Network::of("server", name);
            assert_eq!((network.address.as_str(), network.kind), (address, kind));
        }
        assert!(Network::of("server", Some(&"é".repeat(5_000))).address.len() < 100);
    }
}
