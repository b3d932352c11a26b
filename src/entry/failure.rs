//! What counts as a failure of a tool's: one rule for what a proxy sees and what a file says.

/// Whether a text that a tool gave as its whole answer, and of which nothing else says how the call ended, is an error.
pub(crate) fn text_fails(text: &str) -> bool {
    text.starts_with("Error")
}
