//! What is kept of arguments and results that are too large for an entry.
//!
//! Invariant I10: a shortened value keeps its structure, so that the store treats each member under its own name. Short
//! members stay complete: room goes to the shortest first, so that padding displaces nothing else. Of every omitted
//! part the length and a digest are kept.
//!
//! Invariant R78: nothing is cut in two. Secrets that are told by their neighbours are masked before anything is left
//! out. A text that is JSON is shortened as the value it holds. Of another text what detectors find is masked, and then the
//! beginning kept up to a blank. If there is no such place, or the text only begins like JSON, no beginning is kept.
//!
//! The digests made here are SHA-256; the store replaces them by keyed digests (`key_digests` in `store/write/prepare`), so
//! that a reader of the log cannot guess a text and check the guess, or leaves them out if the policy seals anything.

use attestlog::Hash;
use attestlog::json::{Json, Limits, Object, Path};
use attestlog::redact::{Action, Context, Detector, Policy, PolicyBuilder, Preset, Root, Sanitizer, Secrets};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// A value of at most this many bytes is kept complete.
pub(crate) const LARGE: usize = 1 << 20;
/// How many bytes of a text are kept.
const HEAD: usize = 1 << 10;
/// How many bytes of a text are searched for what is masked in its beginning.
const WINDOW: usize = 16 << 10;
/// If each member would get less than this, some members are left out instead.
const LITTLE: usize = 64;
/// Of an object with at most this many members none is left out: one may say what another means.
const FEW: usize = 1_000;
/// The most shortened texts and lists that are listed one by one.
const MOST: usize = 100;
/// A longer text is not parsed as JSON.
const MOST_INNER: usize = 64 << 20;
/// How deeply texts inside texts are parsed.
const DEEPEST: usize = 8;

/// The shortened `value`, and a list of what was shortened: place, length and digest; the first item is the value as a
/// whole. `None` if the value is small enough to be kept.
pub(crate) fn shortened(value: &Json, root: &str) -> Option<(Json, Vec<Json>)> {
    shortened_to(value, root, LARGE)
}

/// Like [`shortened`], with `room` bytes for the value.
pub(crate) fn shortened_to(value: &Json, root: &str, room: usize) -> Option<(Json, Vec<Json>)> {
    let mut path = Path::root().key(root);
    // A block, so that the text, which is as large as the value, is freed before anything else is allocated.
    let first = {
        let whole = value.to_canonical();
        let whole = whole.as_str();
        if whole.len() <= room {
            return None;
        }
        mark(&path, whole, None)
    };
    let mut marks = vec![first];
    let Some(masked) = without_secrets(value) else {
        return Some((length(size(Masked::as_is(value), usize::MAX)).into(), marks));
    };
    let masked = Masked { value: &masked, given: value };
    let kept = Shortening { marks: &mut marks, texts: DEEPEST }.value(masked, room, &mut path);
    Some((kept, marks))
}

fn mark(path: &Path, text: &str, left_out: Option<usize>) -> Json {
    let place: String = path.to_string().chars().take(200).collect();
    let mut mark = Object::from_iter([
        ("path", Json::from(place)),
        ("bytes", Json::from(text.len() as u64)),
        ("sha256", Json::from(Hash::of(text.as_bytes()).to_string())),
    ]);
    if let Some(count) = left_out {
        mark.insert("left_out", count as u64);
    }
    mark.into()
}

/// A value without secrets, beside the value as it was given. Of a [long](is_long) text the first has only an outline, so
/// that nothing large is copied that is left out in the end.
#[derive(Clone, Copy)]
struct Masked<'a> {
    value: &'a Json,
    given: &'a Json,
}

impl<'a> Masked<'a> {
    fn as_is(value: &'a Json) -> Masked<'a> {
        Masked { value, given: value }
    }

    /// The value itself, whose long text is the given one if it is not masked as a whole. The items and members of a list
    /// or an object are those of the masked one.
    fn own(self) -> &'a Json {
        match (self.value, self.given) {
            (Json::String(masked), Json::String(text)) if is_long(text) && !is_placeholder(masked) => self.given,
            _ => self.value,
        }
    }

    fn item(self, i: usize, item: &'a Json) -> Masked<'a> {
        Masked { value: item, given: self.given.as_array().and_then(|given| given.get(i)).unwrap_or(item) }
    }

    /// The items of a list, or the values of an object's members.
    fn inside(self) -> Vec<Masked<'a>> {
        match self.value {
            Json::Array(items) => items.iter().enumerate().map(|(i, item)| self.item(i, item)).collect(),
            Json::Object(members) => {
                // Masking neither renames nor removes a member.
                let mut given = self.given.as_object().into_iter().flat_map(Object::iter);
                let beside = |(name, value): (&str, &'a Json)| {
                    let given = given.next().filter(|(given, _)| *given == name);
                    Masked { value, given: given.map_or(value, |(_, given)| given) }
                };
                members.iter().map(beside).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The complete value without secrets.
    fn complete(self) -> Json {
        match self.value {
            Json::Array(_) => self.inside().into_iter().map(Masked::complete).collect::<Vec<_>>().into(),
            Json::Object(members) => {
                let values = self.inside().into_iter().map(Masked::complete);
                members.iter().map(|(name, _)| name.to_owned()).zip(values).collect::<Object>().into()
            }
            _ => {
                let mut own = self.own().clone();
                let long = own.as_str().is_some_and(is_long);
                let treats = |own| NEIGHBOURS.as_ref()?.treat(Root::Arguments, own, &mut Context::new()).ok();
                if long && treats(&mut own).is_none() {
                    own = length(size(self, usize::MAX)).into();
                }
                own
            }
        }
    }
}

/// Whether a text is so long that only an outline of it is copied before it is known what is kept.
fn is_long(text: &str) -> bool {
    text.len() > WINDOW
}

fn parsed(text: &str) -> Option<Json> {
    Json::parse_within(text.trim().as_bytes(), &Limits::bytes(MOST_INNER)).ok().map(|parsed| parsed.value)
}

fn looks_like_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '[', '"'])
}

fn is_placeholder(text: &str) -> bool {
    text.strip_prefix("[REDACTED")
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|kind| !kind.contains([' ', ']']))
}

/// The beginning of a text that is searched before it is cut.
fn window(text: &str) -> &str {
    text.get(..text.floor_char_boundary(WINDOW)).unwrap_or_default()
}

/// A copy with only the beginnings of long texts; of a text of JSON, the outline of the value that it holds.
fn outline(value: &Json) -> Json {
    outline_within(value, DEEPEST)
}

fn outline_within(value: &Json, texts: usize) -> Json {
    match value {
        Json::String(text) if is_long(text) => {
            let inner = (texts > 0 && looks_like_json(text)).then(|| parsed(text)).flatten();
            let inner = inner.map(|inner| outline_within(&inner, texts - 1).to_canonical().to_string());
            inner.unwrap_or_else(|| window(text).to_owned()).into()
        }
        Json::Array(items) => items.iter().map(|item| outline_within(item, texts)).collect::<Vec<_>>().into(),
        Json::Object(members) => {
            let outlined = |(name, value): (&str, &Json)| (name.to_owned(), outline_within(value, texts));
            members.iter().map(outlined).collect::<Object>().into()
        }
        other => other.clone(),
    }
}

/// The size of a value as canonical JSON, or slightly more; `room + 1` once it is certain to exceed `room`.
fn size(value: Masked<'_>, room: usize) -> usize {
    let mut left = Some(room);
    spend(value, &mut left);
    left.map_or(room + 1, |left| room - left)
}

fn spend(value: Masked<'_>, left: &mut Option<usize>) {
    let Some(room) = *left else { return };
    let own = match value.own() {
        Json::Null | Json::Bool(_) => 5,
        number @ Json::Number(_) => {
            number.as_i64().map_or(25, |n| n.unsigned_abs().checked_ilog10().unwrap_or(0) as usize + 2)
        }
        Json::String(text) => written(text, room),
        Json::Array(_) | Json::Object(_) => 2,
    };
    *left = room.checked_sub(own);
    let mut given = value.given.as_object().into_iter().flat_map(Object::iter);
    match value.value {
        Json::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                *left = left.and_then(|left| left.checked_sub(1));
                spend(value.item(i, item), left);
                if left.is_none() {
                    return;
                }
            }
        }
        Json::Object(members) => {
            for (name, member) in members.iter() {
                *left = left.and_then(|left| left.checked_sub(2 + written(name, left)));
                let given = given.next().map_or(member, |(_, given)| given);
                spend(Masked { value: member, given }, left);
                if left.is_none() {
                    return;
                }
            }
        }
        _ => {}
    }
}

/// The length of a text in JSON, as long as it does not exceed `room`.
fn written(text: &str, room: usize) -> usize {
    if text.len() > room {
        return room + 1;
    }
    let more = |b: u8| match b {
        b'"' | b'\\' => 1,
        0..0x20 => 5,
        _ => 0,
    };
    text.len() + 2 + text.bytes().map(more).sum::<usize>()
}

/// The most that each item may have if the short items are served first and all together have `room`.
fn share(sizes: &[usize], room: usize) -> usize {
    let mut sorted = sizes.to_vec();
    sorted.sort_unstable();
    let mut left = room;
    for (i, size) in sorted.iter().enumerate() {
        let share = left / (sorted.len() - i);
        if *size > share {
            return share;
        }
        left -= size;
    }
    room
}

struct Shortening<'a> {
    marks: &'a mut Vec<Json>,
    /// How many more levels of texts inside texts may be parsed.
    texts: usize,
}

impl Shortening<'_> {
    fn mark(&mut self, path: &Path, text: &str, left_out: Option<usize>) {
        if self.marks.len() < MOST {
            self.marks.push(mark(path, text, left_out));
        }
    }

    /// The value in at most `room` bytes, or slightly more if there is too little room.
    fn value(&mut self, value: Masked<'_>, room: usize, path: &mut Path) -> Json {
        if size(value, room) <= room {
            return value.complete();
        }
        match value.own() {
            Json::String(text) => self.text(text, value.value.as_str().unwrap_or(text), room, path).into(),
            Json::Array(_) => self.list(value, room, path),
            Json::Object(members) => self.object(members, value, room, path),
            other => other.clone(),
        }
    }

    /// The replacement of a value for which there is no room.
    fn nothing_of(&mut self, value: Masked<'_>, path: &Path) -> Json {
        let text = value.complete().to_canonical();
        self.mark(path, text.as_str(), None);
        length(text.as_str().len()).into()
    }

    /// The text in `room` bytes; `masked` is its outline without secrets, or the text itself.
    fn text(&mut self, text: &str, masked: &str, room: usize, path: &mut Path) -> String {
        self.mark(path, text, None);
        let trimmed = text.trim();
        if !looks_like_json(trimmed) {
            return head(text, HEAD.min(room.saturating_sub(LITTLE)));
        }
        // Members of JSON inside a text are treated under their own names; in a cut text they would have none.
        let inner = || Some((parsed(trimmed)?, parsed(masked)?));
        let Some((given, masked)) = (self.texts > 0 && room > HEAD).then(inner).flatten() else {
            return length(text.len());
        };
        self.texts -= 1;
        // Every quotation mark in it is written with a backslash, so plan with a third of the room.
        let kept = self.value(Masked { value: &masked, given: &given }, room / 3, path);
        self.texts += 1;
        kept.to_canonical().as_str().to_owned()
    }

    fn list(&mut self, list: Masked<'_>, room: usize, path: &mut Path) -> Json {
        let items = list.inside();
        let sizes: Vec<usize> = items.iter().map(|item| size(*item, room) + 1).collect();
        let each = share(&sizes, room.saturating_sub(2));
        if each < LITTLE {
            return self.list_in_part(list, &items, &sizes, room, path);
        }
        // A little of every item would be useless: keep the first items complete, and only the lengths of the others.
        let little = |size: usize| if size <= each { size } else { LITTLE };
        let mut spare = room.saturating_sub(sizes.iter().map(|size| little(*size)).sum::<usize>() + 2);
        let mut kept = Vec::new();
        for (i, (item, size)) in items.iter().zip(&sizes).enumerate() {
            let room = match spare.checked_sub(size - little(*size)) {
                _ if each >= HEAD => each,
                Some(less) => {
                    spare = less;
                    *size
                }
                None => LITTLE,
            };
            path.push_index(i);
            kept.push(self.value(*item, room - 1, path));
            path.pop();
        }
        kept.into()
    }

    /// The beginning of a list, the number of items left out, and those items at its end that can be understood alone:
    /// a text or number may be the value of the item before it (`"--password"`), or a line of a key.
    fn list_in_part(
        &mut self,
        list: Masked<'_>,
        items: &[Masked<'_>],
        sizes: &[usize],
        room: usize,
        path: &mut Path,
    ) -> Json {
        if room < 2 * LITTLE {
            return self.nothing_of(list, path);
        }
        let cost = |i: usize| sizes.get(i).copied().unwrap_or_default().min(HEAD + LITTLE);
        let (mut first, mut left) = (0, (room - LITTLE) / 4 * 3);
        while first < items.len() && cost(first) <= left {
            left -= cost(first);
            first += 1;
        }
        let (mut last, mut left) = (items.len(), (room - LITTLE) / 4);
        let whole = |i: usize| matches!(items.get(i).map(|item| item.value), Some(Json::Array(_) | Json::Object(_)));
        while last > first + 1 && whole(last - 1) && cost(last - 1) <= left {
            last -= 1;
            left -= cost(last);
        }
        let out = items.get(first..last).unwrap_or_default();
        let mut text = String::from("[");
        for (i, item) in out.iter().enumerate() {
            text.push_str(if i > 0 { "," } else { "" });
            text.push_str(item.complete().to_canonical().as_str());
        }
        text.push(']');
        self.mark(path, &text, Some(out.len()));
        drop(text);
        let mut kept = Vec::new();
        for (i, item) in items.iter().enumerate().filter(|(i, _)| !(first..last).contains(i)) {
            if i == last {
                kept.push(left_out(out.len()));
            }
            path.push_index(i);
            kept.push(self.value(*item, cost(i).saturating_sub(1), path));
            path.pop();
        }
        if last == items.len() {
            kept.push(left_out(out.len()));
        }
        kept.into()
    }

    fn object(&mut self, members: &Object, whole: Masked<'_>, room: usize, path: &mut Path) -> Json {
        let name_of = |name: &str| written(name, room) + 2;
        let values = whole.inside();
        let named = || members.iter().map(|(name, _)| name).zip(&values);
        let sizes: Vec<usize> = named().map(|(name, value)| name_of(name) + size(*value, room)).collect();
        let each = share(&sizes, room.saturating_sub(2));
        let all = each >= LITTLE;
        let out = match all {
            // Names are not shortened.
            true => {
                let fits = |name: &str, size: usize| size <= each || name_of(name) + LITTLE / 2 <= each;
                let sized = named().zip(&sizes).enumerate();
                sized.filter(|(_, ((name, _), size))| !fits(name, **size)).map(|(i, _)| i).collect()
            }
            false if members.len() <= FEW => return self.nothing_of(whole, path),
            false => left_out_of(members, &sizes, room),
        };
        if !out.is_empty() {
            let gone = named().enumerate().filter(|(i, _)| out.contains(i));
            let gone: Object = gone.map(|(_, (name, value))| (name.to_owned(), value.complete())).collect();
            self.mark(path, Json::from(gone).to_canonical().as_str(), Some(out.len()));
        }
        let mut kept = Object::new();
        for (_, (name, value)) in named().enumerate().filter(|(i, _)| !out.contains(i)) {
            let room = if all { each.saturating_sub(name_of(name)) } else { HEAD + LITTLE };
            path.push_key(name);
            kept.insert(name.to_owned(), self.value(*value, room, path));
            path.pop();
        }
        kept.into()
    }
}

/// Which members of a very large object are left out: first those whose type and length most others share, so that a
/// few of another kind are not lost among them. Of equal members the first are kept.
fn left_out_of(members: &Object, sizes: &[usize], room: usize) -> BTreeSet<usize> {
    let mut kinds: BTreeMap<(&str, usize, usize), Vec<usize>> = BTreeMap::new();
    for (i, ((name, value), size)) in members.iter().zip(sizes).enumerate() {
        kinds.entry((value.type_name(), name.len(), *size)).or_default().push(i);
    }
    let mut kinds: Vec<Vec<usize>> = kinds.into_values().collect();
    kinds.sort_by_key(Vec::len);
    let mut left = room;
    let mut out = BTreeSet::new();
    let names: Vec<usize> = members.iter().map(|(name, _)| name.len()).collect();
    for i in kinds.into_iter().flatten() {
        let size = sizes.get(i).copied().unwrap_or_default();
        // A name cannot be shortened.
        let name = names.get(i).copied().unwrap_or_default();
        let cost = size.min(2 * HEAD + name * 6);
        match left.checked_sub(cost) {
            Some(less) => left = less,
            None => drop(out.insert(i)),
        }
    }
    out
}

fn left_out(count: usize) -> Json {
    Object::from_iter([("left_out", count as u64)]).into()
}

fn length(bytes: usize) -> String {
    format!("[{bytes} bytes in all]")
}

/// Masks every secret that is told by what stands around it: its name, the step or the argument before it, the head of
/// its column. The detectors of texts are left to the store.
static NEIGHBOURS: LazyLock<Option<Sanitizer>> = LazyLock::new(|| {
    let off = |policy: PolicyBuilder, detector| match detector {
        Detector::PrivateKey => policy.detector(detector, Action::Mask),
        detector => policy.detector(detector, Action::Keep),
    };
    let policy = Detector::ALL.into_iter().fold(Policy::builder(Preset::Floor).allow_secrets(true), off);
    Sanitizer::new(&policy.object_keys(false).build().ok()?, Secrets::default()).ok()
});

/// The outline of a value without secrets that could not be told any more once their neighbours are left out; `None` if it
/// cannot be treated.
fn without_secrets(value: &Json) -> Option<Json> {
    let mut masked = outline(value);
    NEIGHBOURS.as_ref()?.treat(Root::Arguments, &mut masked, &mut Context::new()).ok()?;
    Some(masked)
}

/// Masks everything in a text that any policy might have to hide.
static FINDS: LazyLock<Option<Sanitizer>> = LazyLock::new(|| {
    let all = Detector::ALL.into_iter().fold(Policy::builder(Preset::Default), |p, d| p.detector(d, Action::Mask));
    Sanitizer::new(&all.build().ok()?, Secrets::default()).ok()
});

/// The text without anything that is found in it; `None` if that cannot be determined.
fn masked(text: &str) -> Option<String> {
    let (mut value, mut context) = (Json::from(text), Context::new());
    FINDS.as_ref()?.treat(Root::Text, &mut value, &mut context).ok()?;
    value.as_str().map(str::to_owned)
}

/// The beginning of a text up to a blank, and its full length. What is found in the text is masked before it is cut: half
/// of a secret would not be recognised as one, nor the last row of a table that ends in its middle.
fn head(text: &str, most: usize) -> String {
    let start = masked(window(text)).and_then(|plain| {
        let part = plain.get(..plain.floor_char_boundary(most))?;
        Some(part.get(..part.rfind(char::is_whitespace)?)?.to_owned())
    });
    match start.filter(|start| !start.is_empty()) {
        Some(start) => format!("{start} {}", length(text.len())),
        None => length(text.len()),
    }
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

    /// Such values became one text, cut from the JSON: no rule for members applied inside it, and what followed the
    /// padding was lost.
    #[test]
    fn many_small_values_leave_the_structure() {
        let zeros = ["0"; 600_000].join(",");
        let padded = value(&format!(
            r#"{{"a":[{zeros},{{"sum":9}},"--pin",1234],"b":[{zeros},{{"sum":9}}],"command":"rm -rf /home"}}"#
        ));
        let (short, marks) = shortened(&padded, "arguments").unwrap();
        assert_eq!(short.get("command").unwrap().as_str(), Some("rm -rf /home"));
        let (a, b) = (short.get("a").unwrap().as_array().unwrap(), short.get("b").unwrap().as_array().unwrap());
        assert!(a[..1000].iter().all(|zero| zero.as_i64() == Some(0)));
        assert!(a.last().unwrap().get("left_out").is_some(), "what the one before it may say is left out");
        assert_eq!(b.last().unwrap().get("sum").unwrap().as_i64(), Some(9));
        let left_out = marks[1].get("left_out").unwrap().as_i64().unwrap() as usize;
        assert_eq!(left_out + a.len() - 1, 600_003);
        assert!(short.to_canonical().as_str().len() <= LARGE);
    }

    #[test]
    fn of_many_records_the_first_stay_whole() {
        let row = format!(r#"{{"id":"P-1","note":"{}"}}"#, "n".repeat(200));
        let rows = value(&format!(r#"[{}"short"]"#, format!("{row},").repeat(6_000)));
        let short = shortened(&rows, "result").unwrap().0;
        let items = short.as_array().unwrap();
        let whole = items.iter().filter(|item| item.to_canonical().as_str() == row).count();
        assert!(items.len() == 6_001 && (2_500..6_000).contains(&whole), "{whole}");
        assert_eq!(items.last().unwrap().as_str(), Some("short"));
    }

    #[test]
    fn members_of_another_kind_do_not_drown_among_many() {
        let many: String = (0..150_000).map(|i| format!(r#""k{i:06}":1,"#)).collect();
        let (short, marks) = shortened(&value(&format!(r#"{{{many}"zz":5,"to":"mallory"}}"#)), "arguments").unwrap();
        assert_eq!((short.get("zz").unwrap().as_i64(), short.get("to").unwrap().as_str()), (Some(5), Some("mallory")));
        assert!(marks[1].get("left_out").unwrap().as_i64().unwrap() > 10_000);
        assert!(short.to_canonical().as_str().len() <= LARGE);
        // A long name is kept complete or left out; a member that says what another means is kept or left out with it.
        let long = value(&format!(r#"{{"{}":1,"name":"colour","value":"x"}}"#, "n".repeat(2 << 20)));
        let short = shortened(&long, "arguments").unwrap().0;
        assert_eq!(short.to_canonical().as_str(), r#"{"name":"colour","value":"x"}"#);
    }

    #[test]
    fn a_text_of_json_is_shortened_as_what_it_holds() {
        let inner = format!(r#"{{"password":"x","z":"{}"}}"#, "lorem ".repeat(400_000));
        let whole = Json::from(Object::from_iter([("j", Json::from(inner.clone()))]));
        let kept = shortened(&whole, "arguments").unwrap().0;
        let kept = value(kept.get("j").unwrap().as_str().unwrap());
        assert_eq!(kept.get("password").unwrap().as_str(), Some("[REDACTED:secret]"));
        assert!(kept.get("z").unwrap().as_str().unwrap().ends_with(" [2400000 bytes in all]"));
        // A text that only begins like JSON has no beginning that can be kept.
        let whole = Json::from(Object::from_iter([("j", Json::from(&inner[..inner.len() - 1]))]));
        let kept = shortened(&whole, "arguments").unwrap().0;
        assert_eq!(kept.get("j").unwrap().as_str(), Some(&*length(inner.len() - 1)));
    }

    /// The first digits of a card number used to stay when the cut went through it, and so did the lines of a key.
    #[test]
    fn nothing_that_is_found_is_cut_through() {
        let pad = "lorem ipsum ".repeat(200_000);
        let key =
            format!("-----BEGIN RSA PRIVATE KEY-----\nMIIEowIB\n{}\n-----END RSA PRIVATE KEY-----", "Qk3Z".repeat(500));
        for (before, inside) in [
            ("x ".repeat(505), "4111 1111 1111 1111".to_owned()),
            ("y ".repeat(502), "jane.doe.smith@example-hospital.com".to_owned()),
            ("y ".repeat(470), key),
        ] {
            let text = format!("{before}{inside} {pad}");
            let short = head(&text, HEAD);
            let start = &inside[..4];
            assert!(!short.contains(start) && short.starts_with(&before[..900]), "{short}");
        }
        // Without a blank, nothing shows what a part of the text belongs to.
        assert_eq!(head(&"QUtJQUlP".repeat(1000), HEAD), "[8000 bytes in all]");
    }

    /// Of a table only the beginning was kept, and the note of its length made the last password in it another text; of
    /// the steps that fill in a page the one that names the password's field was left out, and the password stayed; so did
    /// one whose name stands beside it among a dozen members.
    #[test]
    fn what_its_neighbours_tell_is_hidden_before_they_are_left_out() {
        let table = (0..60_000).map(|i| format!("http://a/,bob,Hunter2zz{i:05}A!\n")).collect::<String>();
        let page = |i| format!(r##"{{"using":"css selector","value":"#password"}},{{"text":"Hunter2zz{i:05}A!"}}"##);
        let page = (0..32_000).map(page).collect::<Vec<_>>().join(",");
        let many = (0..60_000).map(|i| format!(r#""k{i}":"some more text","#)).collect::<String>();
        for text in [
            format!(r#"{{"t":{}}}"#, Json::from(format!("url,username,password\n{table}")).to_canonical()),
            format!(r#"{{"steps":[{page}]}}"#),
            format!(r#"{{{many}"variable":"password","value":"Hunter2zz00000A!"}}"#),
        ] {
            let short = shortened(&value(&text), "arguments").unwrap().0;
            let short = short.to_canonical();
            assert!(!short.as_str().contains("Hunter2"), "{}", &text[..60]);
            assert!(short.as_str().contains("[REDACTED:"), "{}", &text[..60]);
        }
    }

    /// Only the beginning of a long text was copied to mask secrets: one that is kept must be complete all the same, without
    /// what is found behind that beginning.
    #[test]
    fn long_texts_that_are_kept_are_complete_and_masked() {
        let words = "lorem ipsum ".repeat(4_000);
        let key = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----", "QkNE".repeat(400));
        let text = |text: &str| Json::from(text).to_canonical().to_string();
        let whole = value(&format!(
            r#"{{"password":{},"note":{},"list":[{}],"z":"{}"}}"#,
            text(&words),
            text(&format!("{words}{key} end")),
            text(&words),
            "y ".repeat(1 << 20)
        ));
        let short = shortened(&whole, "arguments").unwrap().0;
        assert_eq!(short.get("password").unwrap().as_str(), Some("[REDACTED:secret]"));
        let note = short.get("note").unwrap().as_str().unwrap();
        assert!(note.starts_with(&words) && note.ends_with(" end") && !note.contains("QkNE"), "{}", note.len());
        assert_eq!(short.get("list").unwrap().as_array().unwrap()[0].as_str(), Some(&*words));
    }

    #[test]
    fn whatever_it_is_it_fits_in_bounded_time() {
        let deep = format!("{}{}{}", r#"{"a":[1,"#.repeat(60), "[0,0]", "]}".repeat(60));
        for text in [
            format!("[{}]", [deep.as_str(); 3000].join(",")),
            format!("[{}]", ["[[]]"; 400_000].join(",")),
            format!(
                "{{{}}}",
                (0..3000).map(|i| format!(r#""{i}{}":[[1]]"#, "n".repeat(1000))).collect::<Vec<_>>().join(",")
            ),
            format!("[{}]", vec![format!(r#""{}""#, "\\u0001".repeat(3000)); 100].join(",")),
            format!(
                "[{}]",
                vec![r#"{"name":"password","value":"abcdefgh","more":"abcdefghijklmnopqrstuvwxyz"}"#; 20_000].join(",")
            ),
        ] {
            let short = shortened(&value(&text), "result").unwrap().0;
            assert!(short.to_canonical().as_str().len() <= LARGE + (LARGE >> 3), "{}", &text[..50]);
        }
    }
}
