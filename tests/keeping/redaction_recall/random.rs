//! Values generated from a pattern and a seed, the same in every run, including numbers with check digits.

/// Patterns with a name.
const NUMBERS: &[&str] = &[
    "word",
    "visa",
    "visa4",
    "mastercard",
    "aadhaar",
    "aadhaar4",
    "cpf",
    "bsn",
    "pesel",
    "nhs",
    "dni",
    "nie",
    "nir",
    "nino",
    "mnemonic12",
    "mnemonic24",
    "wif",
    "xprv",
];

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn of(&mut self, set: &str, len: usize) -> String {
        let set: Vec<char> = set.chars().collect();
        (0..len).map(|_| set[self.below(set.len())]).collect()
    }

    pub fn word(&mut self) -> &'static str {
        let words: Vec<&str> = WORDS.split(' ').collect();
        words[self.below(words.len())]
    }

    fn digits(&mut self, len: usize) -> Vec<u32> {
        (0..len).map(|_| self.below(10) as u32).collect()
    }

    /// Fills in a pattern: `{A20}` twenty letters and digits, `{h}` hexadecimal, `{U}` capitals and digits, `{d}`
    /// digits, `{n}` digits without a leading zero, `{b}` base64, `{u}` base64 for URLs, `{l}` lower-case letters,
    /// `{P12}` a password, `{word}`, and the names of numbers with check digits.
    pub fn fill(&mut self, pattern: &str) -> String {
        const LOWER: &str = "abcdefghijklmnopqrstuvwxyz";
        const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
        const DIGIT: &str = "0123456789";
        let alnum = [LOWER, UPPER, DIGIT].concat();
        let (mut out, mut rest) = (String::new(), pattern);
        while let Some((before, after)) = rest.split_once('{') {
            out.push_str(before);
            // A brace that opens no pattern is literal.
            let name = after.split_once('}').map_or("", |(name, _)| name);
            let length = name.get(1..).and_then(|n| n.parse::<usize>().ok());
            if length.is_none() && !NUMBERS.contains(&name) || name.len() < 2 {
                out.push('{');
                rest = after;
                continue;
            }
            rest = &after[name.len() + 1..];
            let (letter, len) = (&name[..1], length.ok_or(()));
            out.push_str(&match (letter, len) {
                ("A", Ok(n)) => self.of(&alnum, n),
                ("h", Ok(n)) => self.of("0123456789abcdef", n),
                ("U", Ok(n)) => self.of(&[UPPER, DIGIT].concat(), n),
                ("V", Ok(n)) => self.of(UPPER, n),
                ("d", Ok(n)) => self.of(DIGIT, n),
                ("n", Ok(n)) => self.of("123456789", 1) + &self.of(DIGIT, n - 1),
                ("b", Ok(n)) => self.of(&[&alnum, "+/"].concat(), n),
                ("u", Ok(n)) => self.of(&[&alnum, "-_"].concat(), n),
                ("l", Ok(n)) => self.of(LOWER, n),
                ("P", Ok(n)) => {
                    self.of(LOWER, 2)
                        + &self.of(UPPER, 1)
                        + &self.of(&alnum, n - 5)
                        + &self.of("!@#%^*+", 1)
                        + &self.of(DIGIT, 1)
                }
                _ => self.number(name),
            });
        }
        out + rest
    }

    fn number(&mut self, name: &str) -> String {
        let text = |digits: &[u32]| digits.iter().map(u32::to_string).collect::<String>();
        match name {
            "word" => self.word().to_owned(),
            "visa" | "mastercard" => {
                let mut d = self.digits(15);
                (d[0], d[1]) = if name == "visa" { (4, d[1]) } else { (5, 1 + d[1] % 5) };
                d.push(luhn(&d));
                text(&d)
            }
            "wif" => {
                let mut key: Vec<u8> = std::iter::once(0x80).chain((0..32).map(|_| self.below(256) as u8)).collect();
                key.push(1);
                base58_checked(key)
            }
            "xprv" => {
                let head = [0x04, 0x88, 0xad, 0xe4];
                base58_checked(head.into_iter().chain((0..74).map(|_| self.below(256) as u8)).collect())
            }
            "visa4" => {
                let card = self.number("visa");
                [&card[..4], &card[4..8], &card[8..12], &card[12..]].join(" ")
            }
            "aadhaar" => {
                let mut d = self.digits(11);
                d[0] = 2 + d[0] % 8;
                d.push(verhoeff(&d));
                text(&d)
            }
            "aadhaar4" => {
                let n = self.number("aadhaar");
                [&n[..4], &n[4..8], &n[8..]].join(" ")
            }
            "cpf" => {
                let mut d = self.digits(9);
                for n in [9, 10] {
                    let sum: u32 = d.iter().zip((2..=n as u32 + 1).rev()).map(|(d, w)| d * w).sum();
                    d.push(sum * 10 % 11 % 10);
                }
                let n = text(&d);
                format!("{}.{}.{}-{}", &n[..3], &n[3..6], &n[6..9], &n[9..])
            }
            "bsn" => loop {
                let d = self.digits(8);
                let rest = d.iter().zip((2..=9).rev()).map(|(d, w)| d * w).sum::<u32>() % 11;
                if rest < 10 && d[0] > 0 {
                    break text(&d) + &rest.to_string();
                }
            },
            "pesel" => {
                let mut d = self.digits(10);
                (d[2], d[3], d[4], d[5]) = (0, 1 + d[3] % 9, d[4] % 3, 1 + d[5] % 8);
                let sum: u32 = d.iter().zip([1, 3, 7, 9, 1, 3, 7, 9, 1, 3]).map(|(d, w)| d * w).sum();
                d.push((10 - sum % 10) % 10);
                text(&d)
            }
            "nhs" => loop {
                let mut d = self.digits(9);
                d[0] = 4 + d[0] % 4;
                let rest = 11 - d.iter().zip((2..=10).rev()).map(|(d, w)| d * w).sum::<u32>() % 11;
                if rest != 10 {
                    break text(&d) + &(rest % 11).to_string();
                }
            },
            "dni" => {
                let n = 10_000_000 + self.next() % 89_999_999;
                format!("{n:08}{}", char::from(b"TRWAGMYFPDXBNJZSQVHLCKE"[(n % 23) as usize]))
            }
            "nie" => {
                let n = self.next() % 9_999_999;
                format!("X{n:07}{}", char::from(b"TRWAGMYFPDXBNJZSQVHLCKE"[(n % 23) as usize]))
            }
            "nir" => {
                let n = format!(
                    "{}{:02}{:02}{:02}{:03}{:03}",
                    1 + self.below(2),
                    self.below(99),
                    1 + self.below(12),
                    1 + self.below(95),
                    1 + self.below(900),
                    1 + self.below(900)
                );
                format!("{n}{:02}", 97 - n.parse::<u64>().unwrap() % 97)
            }
            "nino" => format!(
                "{}{}{}",
                ["AB", "CE", "JK", "SX", "WL", "PN"][self.below(6)],
                self.of("0123456789", 6),
                self.of("ABCD", 1)
            ),
            "mnemonic12" => (0..12).map(|_| self.seed_word()).collect::<Vec<_>>().join(" "),
            "mnemonic24" => (0..24).map(|_| self.seed_word()).collect::<Vec<_>>().join(" "),
            other => panic!("no pattern {other:?}"),
        }
    }

    fn seed_word(&mut self) -> &'static str {
        let words: Vec<&str> = SEED_WORDS.split_ascii_whitespace().collect();
        words[self.below(words.len())]
    }
}

fn luhn(digits: &[u32]) -> u32 {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, d)| if i % 2 == 0 { d * 2 - if *d > 4 { 9 } else { 0 } } else { *d })
        .sum();
    (10 - sum % 10) % 10
}

/// The check digit by the usual tables of Verhoeff's scheme.
fn verhoeff(digits: &[u32]) -> u32 {
    const D: [&[u8; 10]; 10] = [
        b"0123456789",
        b"1234067895",
        b"2340178956",
        b"3401289567",
        b"4012395678",
        b"5987604321",
        b"6598710432",
        b"7659821043",
        b"8765932104",
        b"9876543210",
    ];
    const P: [&[u8; 10]; 8] = [
        b"0123456789",
        b"1576283094",
        b"5803796142",
        b"8916043527",
        b"9453126870",
        b"4286573901",
        b"2793806415",
        b"7046913258",
    ];
    const INVERSE: &[u8; 10] = b"0432156789";
    let at = |row: &[u8; 10], i: u32| u32::from(row[i as usize] - b'0');
    let sum = digits.iter().rev().enumerate().fold(0, |c, (i, d)| at(D[c as usize], at(P[(i + 1) % 8], *d)));
    at(INVERSE, sum)
}

const WORDS: &str = "blue harbor invoice window garden paper summer station bridge yellow market copper planet silver \
 forest engine ticket camera winter puzzle rocket valley orange meadow signal anchor basket candle dragon ember falcon";

const SEED_WORDS: &str = "abandon ability able about above absent absorb abstract absurd abuse access accident acid acoustic \
 acquire across act action actor zebra zone zoo zero youth young yellow year wrong wrist write wrestle wreck worth world worry \
 work wool wood wonder woman wolf wisdom wire winter wing wine window toward tower town toy track trade traffic train transfer \
 trap trash travel tray treat tree trend trial tribe trick trigger trim trip trophy trouble truck true truly trumpet trust";

/// Base58 followed by the first bytes of a double SHA-256, as wallets write their keys.
fn base58_checked(mut bytes: Vec<u8>) -> String {
    use sha2::{Digest, Sha256};
    const LETTERS: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let check = Sha256::digest(Sha256::digest(&bytes));
    bytes.extend_from_slice(&check[..4]);
    let mut digits: Vec<u32> = Vec::new();
    for byte in bytes {
        let mut carry = u32::from(byte);
        for digit in &mut digits {
            carry += *digit << 8;
            (*digit, carry) = (carry % 58, carry / 58);
        }
        while carry > 0 {
            digits.push(carry % 58);
            carry /= 58;
        }
    }
    digits.iter().rev().map(|d| char::from(LETTERS[*d as usize])).collect()
}
