//! The log's own input format: one call per line.

use super::{ImportOptions, Imported, SAY_USER, file};
use crate::json::{Json, Limits, Object, Path};
use crate::{Error, Result, ToolCall};

pub(super) fn read(text: &[u8], options: &ImportOptions) -> Result<Imported> {
    let mut imported = Imported::default();
    let limits = Limits::bytes(options.max_bytes);
    for (number, line) in file::lines(text) {
        let place = format!("line {number}");
        let call = call(line, &limits, options).map_err(|e| e.at(&place))?;
        imported.push(call, place, options)?;
    }
    Ok(imported)
}

fn call(line: &[u8], limits: &Limits, options: &ImportOptions) -> Result<ToolCall> {
    let mut parsed = Json::parse_within(line, limits)?;
    if let Json::Object(members) = &mut parsed.value {
        let defaults =
            [("user_id", &options.user), ("model", &options.model), ("conversation_id", &options.conversation)];
        for (key, value) in defaults {
            if let (Some(value), true) = (value, is_absent(members, key)) {
                members.insert(key, value.as_str());
            }
        }
        if is_absent(members, "backfilled") {
            members.insert("backfilled", true);
        }
        if is_absent(members, "user_id") {
            return Err(Error::invalid(format!("user_id is missing: {SAY_USER}")));
        }
    }
    let mut call = ToolCall::from_json(parsed.value)?;
    call.restated = parsed.restated.iter().map(Path::to_string).collect();
    Ok(call)
}

/// `null` is how many writers say that a member is absent.
fn is_absent(members: &Object, key: &str) -> bool {
    members.get(key).is_none_or(|v| *v == Json::Null)
}
