//! OTLP in protobuf: requests to export traces or logs, turned into the form that OTLP has in JSON.
//!
//! Only the messages of these requests are known, so this reader needs no schema and no generated code. Every length is checked
//! against what is left, nesting is bounded, and a field that is not known is passed over, as protobuf wants it.

use attestlog::json::{Json, Number, Object};

/// Values nested deeper are no attribute that anybody wrote.
const DEEPEST: usize = 100;

/// A request in the JSON form, if these bytes are one: traces or logs; or several, each after its length in four bytes, as the
/// collector's file exporter writes them.
pub(super) fn read(bytes: &[u8]) -> Option<Json> {
    if bytes.is_empty() {
        return None;
    }
    let mut whole = Request::default();
    if whole.read(bytes).is_some() {
        return whole.json();
    }
    let (mut several, mut rest) = (Request::default(), bytes);
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        several.read(after.get(..length)?)?;
        rest = after.get(length..)?;
    }
    several.json()
}

/// Whether a request has a span or a record. A text may happen to be fields of a message, but of none that has.
pub(super) fn has_records(request: &Json) -> bool {
    fn list<'a>(of: &'a Json, key: &str) -> &'a [Json] {
        of.get(key).and_then(Json::as_array).unwrap_or_default()
    }
    let has = |resources: &str, scopes: &str, records: &str| {
        let mut scopes = list(request, resources).iter().flat_map(|of| list(of, scopes));
        scopes.any(|of| !list(of, records).is_empty())
    };
    has("resourceSpans", "scopeSpans", "spans") || has("resourceLogs", "scopeLogs", "logRecords")
}

#[derive(Default)]
struct Request {
    spans: Vec<Json>,
    logs: Vec<Json>,
}

impl Request {
    fn read(&mut self, bytes: &[u8]) -> Option<()> {
        for field in Fields(bytes) {
            let (number, value) = field?;
            if number == 1 {
                let resource = value.bytes()?;
                match is_of_logs(resource)? {
                    true => self.logs.push(of_resource(resource, "scopeLogs", "logRecords", log_record)?),
                    false => self.spans.push(of_resource(resource, "scopeSpans", "spans", span)?),
                }
            }
        }
        Some(())
    }

    fn json(self) -> Option<Json> {
        if self.spans.is_empty() && self.logs.is_empty() {
            return None;
        }
        let all = [("resourceSpans", self.spans), ("resourceLogs", self.logs)];
        Some(Json::from(
            all.into_iter()
                .filter(|(_, of)| !of.is_empty())
                .map(|(key, of)| (key, Json::Array(of)))
                .collect::<Object>(),
        ))
    }
}

/// The value of a field as it stands on the wire.
#[derive(Clone, Copy)]
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Wire<'a> {
    fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Wire::Bytes(bytes) => Some(bytes),
            Wire::Number(_) => None,
        }
    }

    fn number(self) -> Option<u64> {
        match self {
            Wire::Number(number) => Some(number),
            Wire::Bytes(_) => None,
        }
    }

    fn text(self) -> Option<Json> {
        Some(Json::from(String::from_utf8_lossy(self.bytes()?).into_owned()))
    }

    /// An id, in hexadecimal.
    fn id(self) -> Option<Json> {
        Some(Json::from(self.bytes()?.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
    }
}

/// The fields of a message; `None` once it is not one.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, Wire<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Wire<'a>)> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Wire::Number(self.varint()?),
            1 => Wire::Number(u64::from_le_bytes(self.fixed::<8>()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Wire::Bytes(bytes)
            }
            5 => Wire::Number(u64::from(u32::from_le_bytes(self.fixed::<4>()?))),
            _ => return None,
        };
        (key >> 3 > 0).then_some((key >> 3, value))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*bytes)
    }
}

/// Whether what a resource has are logs: their first field is a time, that of a span its trace's id.
fn is_of_logs(resource: &[u8]) -> Option<bool> {
    for field in Fields(resource) {
        let (2, Wire::Bytes(scope)) = field? else { continue };
        for field in Fields(scope) {
            let (2, Wire::Bytes(record)) = field? else { continue };
            for field in Fields(record) {
                match field? {
                    (1 | 11, Wire::Number(_)) => return Some(true),
                    (1, Wire::Bytes(_)) => return Some(false),
                    _ => {}
                }
            }
        }
    }
    Some(false)
}

type Record = fn(&[u8]) -> Option<Json>;

fn of_resource(bytes: &[u8], scopes: &str, records: &str, record: Record) -> Option<Json> {
    let (mut resource, mut all) = (Object::new(), Vec::new());
    for field in Fields(bytes) {
        match field? {
            (1, value) => {
                resource.insert("attributes", Json::Array(attributes(value.bytes()?, 1)?));
            }
            (2 | 1000, value) => {
                let mut of_scope = Vec::new();
                for field in Fields(value.bytes()?) {
                    if let (2, value) = field? {
                        of_scope.push(record(value.bytes()?)?);
                    }
                }
                all.push(Json::from(Object::from_iter([(records, Json::Array(of_scope))])));
            }
            _ => {}
        }
    }
    Some(Json::from(Object::from_iter([("resource", Json::from(resource)), (scopes, Json::Array(all))])))
}

/// The attributes in the fields of this number.
fn attributes(bytes: &[u8], number: u64) -> Option<Vec<Json>> {
    let mut all = Vec::new();
    for field in Fields(bytes) {
        let (of, value) = field?;
        if of == number {
            all.push(key_value(value.bytes()?, 0)?);
        }
    }
    Some(all)
}

fn nanos(value: Wire<'_>) -> Option<Json> {
    Some(Json::from(value.number()?.to_string()))
}

fn span(bytes: &[u8]) -> Option<Json> {
    let (mut span, mut given, mut events) = (Object::new(), Vec::new(), Vec::new());
    for field in Fields(bytes) {
        let (number, value) = field?;
        match number {
            1 => _ = span.insert("traceId", value.id()?),
            2 => _ = span.insert("spanId", value.id()?),
            4 => _ = span.insert("parentSpanId", value.id()?),
            5 => _ = span.insert("name", value.text()?),
            7 => _ = span.insert("startTimeUnixNano", nanos(value)?),
            8 => _ = span.insert("endTimeUnixNano", nanos(value)?),
            9 => given.push(key_value(value.bytes()?, 0)?),
            11 => events.push(event(value.bytes()?)?),
            15 => _ = span.insert("status", status(value.bytes()?)?),
            _ => {}
        }
    }
    span.insert("attributes", Json::Array(given));
    span.insert("events", Json::Array(events));
    Some(Json::from(span))
}

fn event(bytes: &[u8]) -> Option<Json> {
    let mut event = Object::new();
    for field in Fields(bytes) {
        match field? {
            (1, value) => _ = event.insert("timeUnixNano", nanos(value)?),
            (2, value) => _ = event.insert("name", value.text()?),
            _ => {}
        }
    }
    event.insert("attributes", Json::Array(attributes(bytes, 3)?));
    Some(Json::from(event))
}

fn status(bytes: &[u8]) -> Option<Json> {
    let mut status = Object::new();
    for field in Fields(bytes) {
        match field? {
            (2, value) => _ = status.insert("message", value.text()?),
            (3, value) => _ = status.insert("code", value.number()?),
            _ => {}
        }
    }
    Some(Json::from(status))
}

fn log_record(bytes: &[u8]) -> Option<Json> {
    let (mut record, mut given) = (Object::new(), Vec::new());
    for field in Fields(bytes) {
        let (number, value) = field?;
        match number {
            1 => _ = record.insert("timeUnixNano", nanos(value)?),
            11 => _ = record.insert("observedTimeUnixNano", nanos(value)?),
            5 => _ = record.insert("body", any_value(value.bytes()?, 0)?),
            6 => given.push(key_value(value.bytes()?, 0)?),
            9 => _ = record.insert("traceId", value.id()?),
            10 => _ = record.insert("spanId", value.id()?),
            12 => _ = record.insert("eventName", value.text()?),
            _ => {}
        }
    }
    record.insert("attributes", Json::Array(given));
    Some(Json::from(record))
}

fn key_value(bytes: &[u8], depth: usize) -> Option<Json> {
    let mut pair = Object::new();
    for field in Fields(bytes) {
        match field? {
            (1, value) => _ = pair.insert("key", value.text()?),
            (2, value) => _ = pair.insert("value", any_value(value.bytes()?, depth)?),
            _ => {}
        }
    }
    Some(Json::from(pair))
}

fn any_value(bytes: &[u8], depth: usize) -> Option<Json> {
    let depth = Some(depth + 1).filter(|depth| *depth < DEEPEST)?;
    let list = |bytes: &[u8], one: fn(&[u8], usize) -> Option<Json>| -> Option<Json> {
        let mut values = Vec::new();
        for field in Fields(bytes) {
            if let (1, value) = field? {
                values.push(one(value.bytes()?, depth)?);
            }
        }
        Some(Json::from(Object::from_iter([("values", Json::Array(values))])))
    };
    // Of several members of a choice the last one counts.
    let mut found = Object::new();
    for field in Fields(bytes) {
        let (key, value) = match field? {
            (1, value) => ("stringValue", value.text()?),
            (2, value) => ("boolValue", Json::from(value.number()? != 0)),
            (3, value) => ("intValue", Json::from(value.number()?.cast_signed().to_string())),
            (4, value) => ("doubleValue", double(f64::from_bits(value.number()?))),
            (5, value) => ("arrayValue", list(value.bytes()?, any_value)?),
            (6, value) => ("kvlistValue", list(value.bytes()?, key_value)?),
            (7, value) => ("bytesValue", value.id()?),
            _ => continue,
        };
        found = Object::from_iter([(key, value)]);
    }
    Some(Json::from(found))
}

/// A number, or its name if JSON has none for it.
fn double(number: f64) -> Json {
    Number::from_f64(number).map_or_else(|| Json::from(number.to_string()), Json::Number)
}
