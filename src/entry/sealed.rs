//! Which keys of sealed values an erasure destroyed.

use crate::json::Json;

/// The ids of the keys that an erasure says it destroyed.
pub(crate) fn destroyed(detail: &Json) -> impl Iterator<Item = String> + '_ {
    let ids = detail.get("key_ids").and_then(Json::as_array).unwrap_or_default();
    ids.iter().filter_map(Json::as_str).map(str::to_owned)
}
