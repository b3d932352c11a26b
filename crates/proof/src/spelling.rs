//! One spelling for every name that entries are found by, and detection of names that only look like another.
//!
//! Invariant Y5: a name is compared only in its normal form: without surrounding white space and without invisible
//! characters (zero-width, format, filler and blank characters, variation selectors). `"P-1 "` and `"P-1\u{200b}"` are `P-1`;
//! `P_1`, `p-1` and `P-1` are three names. Letters that Unicode can write in two ways (`é`, or `e` followed by a combining
//! accent) are not changed: such names are two, and whoever asks for one is told of the other. If a call's name was changed, its
//! entry says so: `restated` names the member, and `treated` the invisible characters that were dropped (`U+202E`).

pub use crate::accents::{composed, decomposed};
use std::borrow::Cow;

/// The normal form of a name: the form that is recorded, searched for, held, granted and proven.
pub fn normal(name: &str) -> Cow<'_, str> {
    let trimmed = name.trim();
    if trimmed.is_ascii() || !trimmed.contains(is_unseen) {
        return Cow::Borrowed(trimmed);
    }
    let seen: String = trimmed.chars().filter(|c| !is_unseen(*c)).collect();
    Cow::Owned(seen.trim().to_owned())
}

/// Whether a character takes no space or changes how others are laid out, so that it can make one id look like another.
pub fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
        || is_blank(c)
}

/// Characters that are drawn as nothing although Unicode calls them neither white space nor default ignorable: the blank
/// Braille cell, the object replacement character, the Khitan filler, blank hieroglyphs, the null notehead. The Hangul fillers
/// are ignorable.
fn is_blank(c: char) -> bool {
    matches!(c, '\u{2800}' | '\u{fffc}' | '\u{16fe4}' | '\u{13441}'..='\u{13442}' | '\u{1d159}')
}

/// Default-ignorable characters, characters that only control how others are displayed, and blank ones.
pub fn is_unseen(c: char) -> bool {
    // The line and paragraph separators are white space.
    is_invisible(c) && !matches!(c, '\u{2028}' | '\u{2029}')
        || matches!(c,
            '\u{fe00}'..='\u{fe0f}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}')
}

/// Pairs: a letter of another script, then the Latin letter that it is mistaken for. Only letters that deceive a casual
/// reader, not all that Unicode lists: digits and Latin letters that resemble each other (`O` and `0`) are not here,
/// because ids contain both.
const ALIKE: &str = "АAВBСCЕEНHІIЈJКKМMОOРPЅSТTХXУYҮYԌGԚQԜWӀIҺHаaеeоoрpсcуyхxѕsіiјjһhԁdԛqԝwүyӏlкkьb\
                     ΑAΒBΕEΖZΗHΙIΚKΜMΝNΟOΡPΤTΥYΧXϹCϺMαaοoρpνvιiκkυuχxγyϲcϳjɡgıiɑaՏSՍUօoսuզqհhոnցgոnԼL";

/// What a name looks like: letters of other scripts, wide and mathematical forms, dashes and spaces become their plain
/// counterparts, and combining accents are dropped. Only a machine can tell apart two names with the same look.
pub fn look(name: &str) -> String {
    let name = normal(name);
    if name.is_ascii() {
        return name.into_owned();
    }
    name.chars().filter(|c| !matches!(c, '\u{300}'..='\u{36f}')).map(plain).collect()
}

/// The look of a name without case, separators and accents, however they are written: what people who mistype a name still get right.
pub fn gist(name: &str) -> String {
    let look = look(name);
    let look = if look.is_ascii() { look } else { decomposed(&look) };
    look.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

pub fn plain(c: char) -> char {
    match c {
        _ if c.is_ascii() => c,
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
        // Latin letters in bold, italic, script and so on come in runs of 52, digits in runs of ten.
        '\u{1d400}'..='\u{1d6a3}' => {
            let at = ((c as u32 - 0x1d400) % 52) as u8;
            char::from(if at < 26 { b'A' + at } else { b'a' + at - 26 })
        }
        '\u{1d7ce}'..='\u{1d7ff}' => char::from(b'0' + ((c as u32 - 0x1d7ce) % 10) as u8),
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' => '-',
        '\u{2024}' | '\u{3002}' => '.',
        '\u{2044}' | '\u{2215}' => '/',
        '\u{a789}' | '\u{2236}' => ':',
        _ if c.is_whitespace() => ' ',
        _ => {
            let mut pairs = ALIKE.chars();
            while let (Some(alike), Some(latin)) = (pairs.next(), pairs.next()) {
                if alike == c {
                    return latin;
                }
            }
            c
        }
    }
}

/// Whether a name looks like another one: like a plain name, or because of letters of another script among Latin ones.
pub fn is_look_alike(name: &str) -> bool {
    if name.is_ascii() {
        return false;
    }
    let look = look(name);
    look != name && (look.is_ascii() || name.chars().any(|c| c.is_ascii_alphabetic()) && name.chars().any(is_taken_in))
}

/// Whether this is a letter of another script that is mistaken for a Latin one.
pub fn is_taken_in(c: char) -> bool {
    !c.is_ascii() && c.is_alphabetic() && plain(c).is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_sees_is_not_part_of_a_name() {
        for same in
            ["P-1", " P-1", "P-1 ", "P-1\n", "P-1\u{200b}", "\u{feff}P-1", "P\u{ad}-1\u{2060} ", "\u{a0}P-1\u{3000}"]
        {
            assert_eq!(normal(same), "P-1", "{same:?}");
        }
        for other in ["p-1", "P_1", "P 1", "P--1", "Р-1", "P\u{2010}1"] {
            assert_ne!(normal(other), "P-1");
        }
        assert_eq!(normal("\u{200b} \u{200b}"), "");
        for blank in "\u{2800}\u{3164}\u{115f}\u{1160}\u{ffa0}\u{fffc}\u{16fe4}\u{13441}\u{13442}\u{1d159}".chars() {
            assert_eq!(normal(&format!("P-{blank}1{blank}")), "P-1", "{blank:?}");
            assert!(is_invisible(blank), "{blank:?}");
        }
    }

    #[test]
    fn look_alikes_are_known_and_foreign_names_are_not_accused() {
        for (alike, plain) in [
            ("Р-1", "P-1"),
            ("dr_smіth", "dr_smith"),
            ("ΡΑΤ-7", "PAT-7"),
            ("Ｐ－１", "P-1"),
            ("P‐1", "P-1"),
            ("𝐏-𝟏", "P-1"),
            ("Jose\u{301}", "Jose"),
        ] {
            assert_eq!(look(alike), plain);
            assert!(is_look_alike(alike), "{alike}");
        }
        for own in ["José", "Müller", "Иванова", "Ιωάννης", "田中-7", "P-1", "Æsa"] {
            assert!(!is_look_alike(own), "{own}");
        }
        assert!(ALIKE.chars().count().is_multiple_of(2));
        let mut pairs = ALIKE.chars();
        while let (Some(alike), Some(latin)) = (pairs.next(), pairs.next()) {
            assert!(!alike.is_ascii() && latin.is_ascii_alphabetic(), "{alike} {latin}");
        }
    }
}
