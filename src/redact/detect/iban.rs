//! IBANs: the length for the country, and the check digits of ISO 13616.

/// The length of each country's IBAN, from the SWIFT registry.
const LENGTHS: &[(&[u8; 2], usize)] = &[
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HN", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
    (b"YE", 30),
];

/// The end of the IBAN that begins at `start`, if there is one. Its groups may be separated by one or two spaces, or
/// by a hyphen, dot, slash or underscore, because the check digits confirm it.
pub(super) fn at(bytes: &[u8], start: usize) -> Option<usize> {
    let country = [bytes.get(start)?.to_ascii_uppercase(), bytes.get(start + 1)?.to_ascii_uppercase()];
    let length = LENGTHS.iter().find(|(c, _)| **c == country)?.1;
    let mut text = [0u8; 34];
    let (mut len, mut i) = (0, start);
    while len < length {
        let b = *bytes.get(i)?;
        if b.is_ascii_alphanumeric() {
            *text.get_mut(len)? = b.to_ascii_uppercase();
            len += 1;
        } else {
            let next = bytes.get(i + 1).copied();
            let second = next == Some(b' ') && b == b' ' && bytes.get(i + 2).is_some_and(u8::is_ascii_alphanumeric);
            let one = matches!(b, b' ' | b'-' | b'.' | b'/' | b'_') && next.is_some_and(|b| b.is_ascii_alphanumeric());
            if len < 2 || !(one || second) {
                return None;
            }
            i += usize::from(second);
        }
        i += 1;
    }
    let ends = bytes.get(i).is_none_or(|b| !b.is_ascii_alphanumeric());
    (ends && check(text.get(..length)?)).then_some(i)
}

/// The end of a text that looks like an IBAN: two letters, two digits, and 11 to 30 more characters, together or in
/// groups of four. It is reported if words call it an IBAN, despite a typing error or an unknown country.
pub(super) fn like(bytes: &[u8], start: usize) -> Option<usize> {
    if !bytes.get(start + 2..start + 4)?.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let (mut len, mut i, mut end) = (4, start + 4, start + 4);
    let mut digits = 0;
    while len <= 34 {
        match bytes.get(i) {
            Some(b) if b.is_ascii_alphanumeric() => {
                digits += usize::from(b.is_ascii_digit());
                len += 1;
                i += 1;
                end = i;
            }
            // The next four characters of a following word contain no digit.
            Some(b' ' | b'-')
                if len % 4 == 0 && bytes.get(i + 1..).unwrap_or_default().iter().take(4).any(u8::is_ascii_digit)
                    || len == 4 && bytes.get(i + 1).is_some_and(u8::is_ascii_alphabetic) =>
            {
                i += 1;
            }
            _ => break,
        }
    }
    ((15..=34).contains(&len) && digits >= 6).then_some(end)
}

/// The first four characters go to the end, letters become numbers from 10, and the whole is 1 modulo 97.
fn check(iban: &[u8]) -> bool {
    let (first, rest) = iban.split_at(4);
    let remainder = rest.iter().chain(first).fold(0u32, |r, &b| match b {
        b'0'..=b'9' => (r * 10 + u32::from(b - b'0')) % 97,
        _ => (r * 100 + u32::from(b.wrapping_sub(b'A')) + 10) % 97,
    });
    remainder == 1
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_called_an_iban() {
        for iban in ["GB82WEST12345698765433", "TH70 8303 8836 8500", "DE89-3704-0044-0532-0130-01"] {
            assert_eq!(super::like(iban.as_bytes(), 0), Some(iban.len()), "{iban}");
        }
        assert_eq!(super::like(b"DE89 3704 0044 0532 0130 01 today", 0), Some(27));
        assert_eq!(super::like(b"DE89 is too short", 0), None);
    }

    #[test]
    fn lengths_and_check_digits() {
        for iban in
            ["GB82WEST12345698765432", "gb82 west 1234 5698 7654 32", "DE89 3704 0044 0532 0130 00", "NO9386011117947"]
        {
            assert_eq!(super::at(iban.as_bytes(), 0), Some(iban.len()), "{iban}");
        }
        for other in ["GB82WEST12345698765433", "GB82WEST123456987654321", "ZZ89370400440532013000", "GB82", "GB", ""] {
            assert_eq!(super::at(other.as_bytes(), 0), None, "{other}");
        }
    }
}
