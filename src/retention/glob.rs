//! Patterns for tool names: `*` is any run of characters, `?` is any one character, everything else is literal.
//!
//! Tool names may be chosen by an attacker, so matching takes time linear in the name whatever the pattern: the pattern
//! is run as an automaton whose states are the bits of one integer.

use crate::redact::look;

/// The maximum number of characters in a pattern, not counting stars: state 0 and one state for each fit in 128 bits.
const MAX_CHARS: usize = 127;
const _: () = assert!(MAX_CHARS + 1 == u128::BITS as usize);

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob {
    /// Bit i: the state after i characters remains on any character, because a star follows.
    loops: u128,
    /// Bit i: the (i+1)th character is a `?`.
    any: u128,
    /// For each character in the pattern, its positions; sorted by character.
    at: Vec<(char, u128)>,
    /// The state in which the whole pattern has matched.
    accept: u128,
}

impl Glob {
    /// Compiles a pattern. The error says what is wrong with it.
    pub(crate) fn new(text: &str) -> Result<Glob, String> {
        let (mut loops, mut any, mut at) = (0u128, 0u128, Vec::<(char, u128)>::new());
        let mut place = 0usize;
        for c in text.chars() {
            if c == '*' {
                loops |= 1 << place;
                continue;
            }
            if place == MAX_CHARS {
                return Err(format!("a pattern has at most {MAX_CHARS} characters besides its stars"));
            }
            match c {
                '?' => any |= 1 << place,
                c => match at.binary_search_by_key(&c, |(c, _)| *c) {
                    Ok(i) => at[i].1 |= 1 << place,
                    Err(i) => at.insert(i, (c, 1 << place)),
                },
            }
            place += 1;
        }
        if text.is_empty() {
            return Err("a pattern must not be empty".to_owned());
        }
        Ok(Glob { loops, any, at, accept: 1 << place })
    }

    /// Whether the pattern matches all of `name`.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let mut states = 1u128;
        for c in name.chars() {
            states = self.step(states, c);
            if states == 0 {
                return false;
            }
        }
        states & self.accept != 0
    }

    fn step(&self, states: u128, c: char) -> u128 {
        let literal = self.at.binary_search_by_key(&c, |(c, _)| *c).map_or(0, |i| self.at[i].1);
        (states & (literal | self.any)) << 1 | states & self.loops
    }

    /// Whether every name that `other` matches certainly matches here. May return false for a pattern that is covered:
    /// a star in `other` must meet a star here, and a `?` must meet a `?` or a star, so `*?` is not recognized as
    /// covering `?*`.
    pub(super) fn covers(&self, other: &str) -> bool {
        let states = other.chars().fold(1u128, |states, c| match c {
            '*' => states & self.loops,
            '?' => (states & self.any) << 1 | states & self.loops,
            c => self.step(states, c),
        });
        states & self.accept != 0
    }
}

/// The normalized form in which tool names and their patterns are compared: words in lower case, joined by `_` where
/// the name had separators or a word began with a capital. Look-alike letters are replaced by the letters they are
/// taken for. Vendors spell one tool in many ways, and a call must not escape a rule by its spelling. Word boundaries
/// are kept, so that `get_*` does not match `getaway`.
pub(crate) fn tool_form(name: &str) -> String {
    let look = look(name);
    let mut form = String::with_capacity(look.len() + 8);
    let mut before = ' ';
    let mut letters = look.chars().peekable();
    while let Some(c) = letters.next() {
        let starts = c.is_uppercase()
            && (before.is_lowercase()
                || before.is_numeric()
                || before.is_uppercase() && letters.peek().is_some_and(|next| next.is_lowercase()));
        let parts = !c.is_alphanumeric() && !matches!(c, '*' | '?');
        if (starts || parts) && !form.ends_with('_') {
            form.push('_');
        }
        if !parts {
            form.extend(c.to_lowercase());
        }
        before = c;
    }
    form
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(pattern: &[char], name: &[char]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some(('*', rest)) => (0..=name.len()).any(|n| naive(rest, &name[n..])),
            Some((p, rest)) => name.split_first().is_some_and(|(c, tail)| (*p == '?' || p == c) && naive(rest, tail)),
        }
    }

    proptest! {
        #[test]
        fn matches_as_the_definition_does(pattern in "[ab*?é]{1,8}", name in "[abé]{0,10}") {
            let chars = |s: &str| s.chars().collect::<Vec<_>>();
            prop_assert_eq!(Glob::new(&pattern).unwrap().matches(&name), naive(&chars(&pattern), &chars(&name)));
        }

        #[test]
        fn what_covers_matches_all_that_is_covered(x in "[ab*?]{1,6}", y in "[ab*?]{1,6}", name in "[ab]{0,8}") {
            let (a, b) = (Glob::new(&x).unwrap(), Glob::new(&y).unwrap());
            prop_assert!(!a.covers(&y) || !b.matches(&name) || a.matches(&name));
            prop_assert!(a.covers(&x));
        }
    }

    #[test]
    fn a_tool_has_one_form_however_it_is_spelt() {
        for name in [
            "issue_refund",
            "issueRefund",
            "IssueRefund",
            "ISSUE_REFUND",
            "issue-refund",
            "issue.Refund",
            "issue  refund",
        ] {
            assert_eq!(tool_form(name), "issue_refund", "{name}");
        }
        for (name, form) in [
            ("getHTTPHeader2Value", "get_http_header2_value"),
            ("mcp__billing__issueRefund", "mcp_billing_issue_refund"),
            ("*Refund", "*refund"),
            ("get_*", "get_*"),
            ("getaway", "getaway"),
            ("", ""),
        ] {
            assert_eq!(tool_form(name), form);
            assert_eq!(tool_form(form), form);
        }
    }

    #[test]
    fn a_hostile_name_takes_one_pass() {
        let glob = Glob::new("*a*a*a*a*a*a*a*a*a*a*a*a*b").unwrap();
        assert!(!glob.matches(&"a".repeat(1 << 20)));
        assert!(Glob::new(&"a".repeat(MAX_CHARS)).unwrap().matches(&"a".repeat(MAX_CHARS)));
        assert!(Glob::new(&"a".repeat(MAX_CHARS + 1)).is_err());
    }
}
