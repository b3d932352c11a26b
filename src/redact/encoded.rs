//! Texts that are nothing but base64: files and messages as interfaces hand them out. What is in them is as readable as
//! any other text, so detectors look at it too; where they find something the whole is masked.

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Shorter ones are words and ids.
const SHORTEST: usize = 16;
const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const PLAIN: GeneralPurpose = GeneralPurpose::new(&STANDARD, CONFIG);
const URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, CONFIG);

/// The text that a text of nothing but base64 stands for: in one line or in several, in a `data:` URL too.
pub(super) fn decoded(text: &str) -> Option<String> {
    let text = match text.strip_prefix("data:") {
        Some(rest) => rest.split_once(";base64,")?.1,
        None => text,
    };
    let text = text.trim_ascii();
    let fits = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'-' | b'_' | b'=' | b'\r' | b'\n');
    // Most texts have a space soon.
    if text.len() < SHORTEST || !text.bytes().take(64).all(|b| fits(&b)) || !text.bytes().all(|b| fits(&b)) {
        return None;
    }
    let engine = if text.contains(['-', '_']) { &URL } else { &PLAIN };
    let bytes = match text.contains(['\r', '\n']) {
        true => engine.decode(text.bytes().filter(|b| !b.is_ascii_whitespace()).collect::<Vec<u8>>()),
        false => engine.decode(text),
    };
    let plain = String::from_utf8(bytes.ok()?).ok()?;
    (!plain.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn texts_come_back_and_nothing_else() {
        for text in ["c3NuIDQ2MC04OS05ODQ3", "c3NuIDQ2MC04OS05\r\nODQ3", "data:text/plain;base64,c3NuIDQ2MC04OS05ODQ3"]
        {
            assert_eq!(decoded(text).as_deref(), Some("ssn 460-89-9847"), "{text}");
        }
        assert_eq!(decoded("w7zDvMO8w7zDvD8_").as_deref(), Some("üüüüü??"));
        for text in
            ["SupportDashboard", "550e8400-e29b-41d4-a716-446655440000", "a sentence of words", "c3Nu", "", "===="]
        {
            assert_eq!(decoded(text), None, "{text}");
        }
    }
}
