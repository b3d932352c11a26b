//! The log's own input format: one call per line.

use super::beginning::{Beginning, Beginnings};
use super::identity::Source;
use super::record;
use super::{ImportOptions, Imported, NotTaken, SAY_USER, Untaken, file};
use attestlog::json::{Json, Limits, Object};
use attestlog::{Error, ErrorKind, Result, ToolCall};

pub(super) fn read(text: &[u8], options: &ImportOptions) -> Result<Imported> {
    let mut imported = Imported::default();
    let limits = Limits::bytes(options.max_bytes);
    let mut first_error = None;
    // A hash of all lines so far: it stays the same when the file grows.
    let (mut so_far, beginnings) = (Beginning::default(), Beginnings::new(options)?);
    for (number, line) in file::lines(text) {
        let said = Json::parse_lenient(line, &limits).map_or(Json::Null, |parsed| parsed.value);
        so_far = beginnings.next(&so_far, &said, Some(line))?;
        let place = format!("line {number}");
        // What identifies a record is the file's, whatever the flags say.
        let conversation = said.get("conversation_id").and_then(Json::as_str).unwrap_or_default();
        let call = match call(line, &limits, options) {
            Ok(call) => call,
            Err(e) => {
                let why = e.to_string();
                first_error.get_or_insert(e.at(&place));
                imported.not_taken.push(NotTaken { place, kind: Untaken::Line, call_id: None, why });
                continue;
            }
        };
        // A record with neither an id nor a time is identified by everything that precedes it in its file.
        let source = match call.call_id.is_some() || call.timestamp.is_some() {
            true => Source { session: format!("records {conversation}"), ..Source::default() },
            false => so_far.source("records of"),
        };
        imported.push(call, place, source, options);
    }
    imported.of_lines = true;
    match first_error {
        // No line is a record, so this is another kind of file.
        Some(e) if imported.calls.is_empty() => Err(e),
        _ => Ok(imported),
    }
}

fn call(line: &[u8], limits: &Limits, options: &ImportOptions) -> Result<ToolCall> {
    let mut parsed = Json::parse_lenient(line, limits)?;
    if options.assume_utc {
        ToolCall::assume_utc(&mut parsed.value);
    }
    let mut replaced = Vec::new();
    if let Json::Object(members) = &mut parsed.value {
        // As in every format, a flag takes the place of what the file says.
        let said = [("user_id", &options.user), ("model", &options.model), ("conversation_id", &options.conversation)];
        for (key, value) in said {
            let Some(value) = value else { continue };
            if let Some(Json::String(said)) =
                members.insert(key, value.as_str()).filter(|said| said.as_str() != Some(value))
            {
                replaced.push((key, said));
            }
        }
        if is_absent(members, "backfilled") {
            members.insert("backfilled", true);
        }
        if is_absent(members, "user_id") {
            return Err(Error::new(ErrorKind::InvalidInput, format!("user_id is missing: {SAY_USER}")));
        }
    }
    let mut call = ToolCall::from_parsed(parsed)?;
    // What the file says is not lost: two records that differ in it are two calls. Conversations are not compared.
    let replaced: Object = replaced.into_iter().filter(|(key, _)| *key != "conversation_id").collect();
    if replaced.iter().next().is_some() {
        record::mark(&mut call, "replaced", replaced);
    }
    call.validate(&options.limits)?;
    Ok(call)
}

/// Many writers use `null` for an absent member.
fn is_absent(members: &Object, key: &str) -> bool {
    members.get(key).is_none_or(|v| *v == Json::Null)
}
