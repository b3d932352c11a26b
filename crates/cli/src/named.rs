//! Names that are given on the command line: of people, patients, conversations, tools.

/// A name as it is given, which must say something: an empty one, such as that of a variable that is not set, is nobody's.
pub fn named(text: &str) -> Result<String, String> {
    match text.trim().is_empty() {
        true => Err("must not be empty; leave the flag out, or name somebody".to_owned()),
        false => Ok(text.to_owned()),
    }
}
