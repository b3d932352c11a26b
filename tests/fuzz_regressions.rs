//! What fuzzing found, each with its story.

use attestlog::json::Path;

/// A path with NUL in a bare key was read, but what it was written as could not be read again: keys of parsed JSON never
/// hold NUL, and the quoted form that `Display` chose for it is JSON. Nothing can stand at such a path; it is refused.
#[test]
fn a_path_with_nul_is_refused() {
    assert!(Path::parse("a\0b").is_err());
    for text in ["a.b[2].c", "[\"a b.c\"][0]", "[\"\\u001f\"]"] {
        let path = Path::parse(text).unwrap();
        assert_eq!(Path::parse(&path.to_string()), Ok(path));
    }
}
