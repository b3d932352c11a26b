//! Words of messages.

/// So many of something: `1 entry`, `2 entries`.
///
/// ```
/// use attestlog_proof::text::counted;
/// assert_eq!((counted(1, "entry is", "entries are"), counted(0, "entry", "entries")), ("1 entry is".into(), "0 entries".into()));
/// ```
pub fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}
