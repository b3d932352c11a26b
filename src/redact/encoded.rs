//! Texts that consist only of base64 or hexadecimal digits: files, messages and columns as APIs return them. Anybody can
//! decode them, so detectors scan the decoded text too; if they find something, the whole text is masked.

use super::sanitize::{At, MAX_INNER, Outcome, Sanitizer, State, record};
use super::spans::placeholder;
use super::treated::Action;
use crate::Result;
use crate::json::Json;
use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Shorter texts are taken for words and ids.
const SHORTEST: usize = 16;
const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const PLAIN: GeneralPurpose = GeneralPurpose::new(&STANDARD, CONFIG);
const URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, CONFIG);

/// Decodes a text that consists only of base64, on one line or several or in a `data:` URL, or only of hexadecimal digits,
/// behind `0x` or `\\x` or nothing. `None` if that is no text.
pub(crate) fn decoded(text: &str) -> Option<String> {
    let text = match text.strip_prefix("data:") {
        Some(rest) => rest.split_once(";base64,")?.1,
        None => text,
    };
    let text = text.trim_ascii();
    let text = text.strip_prefix('\\').filter(|rest| rest.starts_with('x')).unwrap_or(text);
    let fits = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'-' | b'_' | b'=' | b'\r' | b'\n');
    // Most texts that are not base64 have a space early.
    if text.len() < SHORTEST || !text.bytes().take(64).all(|b| fits(&b)) || !text.bytes().all(|b| fits(&b)) {
        return None;
    }
    if let Some(plain) = of_hex(text) {
        return Some(plain);
    }
    let engine = if text.contains(['-', '_']) { &URL } else { &PLAIN };
    let bytes = match text.contains(['\r', '\n']) {
        true => engine.decode(text.bytes().filter(|b| !b.is_ascii_whitespace()).collect::<Vec<u8>>()),
        false => engine.decode(text),
    };
    readable(bytes.ok()?)
}

fn readable(bytes: Vec<u8>) -> Option<String> {
    let plain = String::from_utf8(bytes).ok()?;
    (!plain.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))).then_some(plain)
}

fn of_hex(text: &str) -> Option<String> {
    let digits = text.strip_prefix("0x").or(text.strip_prefix('x')).unwrap_or(text).as_bytes();
    let value = |digit: &u8| char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(value(high)? << 4 | value(low)?),
        _ => None,
    };
    readable(digits.chunks(2).map(byte).collect::<Option<Vec<u8>>>()?)
}

impl Sanitizer {
    /// Masks a base64 text in which a detector finds something, or seals it if the policy would seal the match.
    pub(super) fn encoded(
        &self,
        text: &mut String,
        at: &At<'_>,
        key: Option<&str>,
        state: &mut State<'_, '_>,
    ) -> Result<Option<Outcome>> {
        if state.inner >= MAX_INNER {
            return Ok(None);
        }
        let Some(mut plain) = decoded(text).map(Json::String) else { return Ok(None) };
        let before = state.context.treated.len();
        let outcome = state.inside(None, |state| self.string(&mut plain, at, key, true, state));
        if let Outcome::Seal { what, detector } = outcome? {
            return Ok(Some(Outcome::Seal { what, detector }));
        }
        let Some(found) = state.context.treated.get(before).map(|t| t.detector.clone()) else { return Ok(None) };
        state.context.treated.truncate(before);
        *text = placeholder((!matches!(found.as_str(), "key" | "rule")).then_some(&found));
        record(state, at, &found, Action::Mask, None);
        Ok(None)
    }
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
        for text in
            ["73736e203436302d38392d39383437", "0x73736E203436302D38392D39383437", "\\x73736e203436302d38392d39383437"]
        {
            assert_eq!(decoded(text).as_deref(), Some("ssn 460-89-9847"), "{text}");
        }
        assert_eq!(decoded("f2cd1be069039a9dd9e94e4580d1bdc90220c8e8"), None);
        assert_eq!(decoded("w7zDvMO8w7zDvD8_").as_deref(), Some("üüüüü??"));
        for text in
            ["SupportDashboard", "550e8400-e29b-41d4-a716-446655440000", "a sentence of words", "c3Nu", "", "===="]
        {
            assert_eq!(decoded(text), None, "{text}");
        }
    }
}
