//! Arguments and results that are too large for an entry: what is kept of them.
//!
//! Invariant I10: what is shortened keeps its head, its length and a digest. The longest texts are shortened first, and only
//! until the value fits, so that padding pushes nothing else out. The digests here are SHA-256; the store puts keyed ones
//! in their place (`key_digests` in `store/prepare`), so that nobody who reads the log can try what a text may have been.

use attestlog::Hash;
use attestlog::json::{Json, Object, Path};

/// A value of at most so many bytes is kept whole.
pub(super) const LARGE: usize = 1 << 20;
/// Texts longer than this are shortened, the first number that is enough.
const LONG: [usize; 5] = [256 << 10, 64 << 10, 16 << 10, 4 << 10, 1 << 10];
/// How much of a text is kept.
const HEAD: usize = 1 << 10;
/// How much is kept of a value whose texts are not what makes it large.
const WHOLE_HEAD: usize = 64 << 10;
/// No more shortened texts are named one by one.
const MOST: usize = 100;

/// What is kept in the place of `value`, and what was shortened in it: where it stands, how long it is, its digest. The
/// first of these is the whole. `None` where it is small enough to stay as it is.
pub(super) fn shortened(value: &Json, root: &str) -> Option<(Json, Vec<Json>)> {
    let path = Path::root().key(root);
    // In a block: the text is as large as the value, and gone before anything else is made.
    let (first, start) = {
        let whole = value.to_canonical();
        let whole = whole.as_str();
        if whole.len() <= LARGE {
            return None;
        }
        (mark(&path, whole), head(whole, WHOLE_HEAD))
    };
    for limit in LONG {
        let (mut marks, mut room) = (vec![first.clone()], LARGE);
        if let Some(short) = shrunk(value, limit, &mut path.clone(), &mut marks, &mut room)
            && short.to_canonical().as_str().len() <= LARGE
        {
            return Some((short, marks));
        }
    }
    Some((Object::from_iter([("shortened", Json::from(start))]).into(), vec![first]))
}

fn mark(path: &Path, text: &str) -> Json {
    let place: String = path.to_string().chars().take(200).collect();
    let digest = Hash::of(text.as_bytes()).to_string();
    Object::from_iter([
        ("path", Json::from(place)),
        ("bytes", Json::from(text.len() as u64)),
        ("sha256", Json::from(digest)),
    ])
    .into()
}

/// The value with heads in the place of long texts; `None` as soon as it is sure to have more than `room` bytes, so that of a
/// large value no second one is made.
fn shrunk(value: &Json, limit: usize, path: &mut Path, marks: &mut Vec<Json>, room: &mut usize) -> Option<Json> {
    *room = room.checked_sub(1)?;
    Some(match value {
        Json::String(text) => {
            let kept = match text.len() > limit {
                true => {
                    if marks.len() < MOST {
                        marks.push(mark(path, text));
                    }
                    head(text, HEAD)
                }
                false => text.clone(),
            };
            *room = room.checked_sub(kept.len())?;
            kept.into()
        }
        Json::Array(items) => {
            let mut kept = Vec::new();
            for (i, item) in items.iter().enumerate() {
                path.push_index(i);
                kept.push(shrunk(item, limit, path, marks, room)?);
                path.pop();
            }
            kept.into()
        }
        Json::Object(members) => {
            let mut kept = Object::new();
            for (name, member) in members.iter() {
                *room = room.checked_sub(name.len())?;
                path.push_key(name);
                kept.insert(name.to_owned(), shrunk(member, limit, path, marks, room)?);
                path.pop();
            }
            kept.into()
        }
        other => other.clone(),
    })
}

/// The beginning of a text, and how much more there was. It is cut between words where it can be: half of a secret is not
/// seen as one.
fn head(text: &str, most: usize) -> String {
    let start = text.get(..text.floor_char_boundary(most)).unwrap_or_default();
    let words = start.rfind(char::is_whitespace).filter(|at| *at > start.len() / 2);
    let start = words.and_then(|at| start.get(..at)).unwrap_or(start);
    format!("{start} [{} bytes in all]", text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Json {
        Json::parse_within(text.as_bytes(), &attestlog::json::Limits::bytes(1 << 30)).unwrap().value
    }

    #[test]
    fn padding_pushes_nothing_out() {
        let sql = format!("DROP TABLE patients; -- {}", "x".repeat(5000));
        let padded = value(&format!(r#"{{"sql":"{sql}","padding":"{}"}}"#, "y ".repeat(1 << 20)));
        let (short, marks) = shortened(&padded, "arguments").unwrap();
        assert_eq!(short.get("sql").unwrap().as_str(), Some(&*sql));
        let padding = short.get("padding").unwrap().as_str().unwrap();
        assert!(padding.starts_with("y y") && padding.ends_with(" [2097152 bytes in all]") && padding.len() < 1100);
        let named: Vec<&str> = marks.iter().map(|m| m.get("path").unwrap().as_str().unwrap()).collect();
        assert_eq!(named, ["arguments", "arguments.padding"]);
        assert_eq!(
            marks[1].get("sha256").unwrap().as_str().unwrap(),
            Hash::of("y ".repeat(1 << 20).as_bytes()).to_string()
        );
        assert!(shortened(&value(r#"{"a":1}"#), "arguments").is_none());
    }

    #[test]
    fn many_small_values_leave_their_beginning() {
        let many = Json::Array(vec![Json::from("abcdefgh"); 200_000]);
        let (short, marks) = shortened(&many, "result").unwrap();
        assert!(short.get("shortened").unwrap().as_str().unwrap().starts_with(r#"["abcdefgh","#));
        assert_eq!(marks.len(), 1);
    }
}
