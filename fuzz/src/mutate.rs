//! Makes inputs from other inputs: the same seed gives the same inputs.

/// SplitMix64.
pub struct Random(u64);

impl Random {
    /// A generator that starts from `seed`.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

const BYTES: &[u8] =
    &[0, 1, 9, 10, 13, 0x20, 0x22, 0x2c, 0x30, 0x5b, 0x5c, 0x7b, 0x7d, 0x7f, 0x80, 0xc0, 0xfb, 0xfc, 0xfd, 0xff];
const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "1e400",
    "9007199254740991",
    "9007199254740992",
    "18446744073709551616",
    "0.1",
    "-1",
    "9223372036854775807",
];
/// The maximum size of an input.
const MAX_BYTES: usize = 64 << 10;

/// Makes an input that resembles one of `pool`.
pub fn mutate(random: &mut Random, pool: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let Some(mut input) = (!pool.is_empty()).then(|| pool[random.below(pool.len())].clone()) else {
        return (0..random.below(64)).map(|_| random.next() as u8).collect();
    };
    // Mostly a few changes, now and then many.
    let changes = if random.below(8) == 0 { 40 } else { 4 };
    for _ in 0..1 + random.below(changes) {
        let at = random.below(input.len() + 1);
        let to = at + random.below((input.len() - at).min(64) + 1);
        match random.below(11) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = BYTES[random.below(BYTES.len())],
            2 if at < input.len() => input[at] = random.next() as u8,
            3 => input.insert(at, BYTES[random.below(BYTES.len())]),
            4 => drop(input.drain(at..to)),
            5 => input.truncate(at),
            6 => {
                let piece = input[at..to].to_vec();
                let most = if random.below(10) == 0 { 200 } else { 3 };
                let times = 1 + random.below(most);
                let piece = piece.repeat(times.min(MAX_BYTES / piece.len().max(1)));
                drop(input.splice(at..at, piece));
            }
            7 => {
                let other = &pool[random.below(pool.len())];
                let from = random.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            8 | 9 if !words.is_empty() => {
                let word = words[random.below(words.len())].bytes();
                // A word is most likely to be understood where a member or an element begins.
                let begins = |i: &usize| matches!(input[*i], b'{' | b'[' | b',' | b'\n');
                let starts: Vec<usize> = (0..input.len()).filter(begins).collect();
                if !starts.is_empty() && random.below(4) != 0 {
                    let at = starts[random.below(starts.len())] + 1;
                    drop(input.splice(at..at, word));
                    continue;
                }
                drop(input.splice(at..if random.below(2) == 0 { at } else { to }, word));
            }
            _ => drop(input.splice(at..to, NUMBERS[random.below(NUMBERS.len())].bytes())),
        }
        input.truncate(MAX_BYTES);
    }
    input
}
