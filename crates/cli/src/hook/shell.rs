//! Commands for a shell that an agent runs.

use attestlog_capture::hook::Agent;

/// A word as a shell takes it, whatever it contains.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The words that were [`quoted`] and joined with blanks; `None` if the text did not come about so.
pub fn words(text: &str) -> Option<Vec<String>> {
    let (mut all, mut inside, mut chars) = (vec![String::new()], false, text.chars());
    while let Some(c) = chars.next() {
        match c {
            '\'' => inside = !inside,
            ' ' if !inside => all.push(String::new()),
            '\\' if !inside => all.last_mut()?.push(chars.next()?),
            c => all.last_mut()?.push(c),
        }
    }
    let again = all.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    (again == text).then_some(all)
}

/// The command so that an agent also stops if the command cannot be run: agents take that for a yes, and silence too.
pub fn wrapped(command: &str, agent: Agent) -> String {
    let says = format!("attestlog: this call of {} was not recorded, so the tool must not run", agent.as_str());
    format!("{command} || {{ echo {} >&2; exit 2; }}", quoted(&says))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with a quote in its name ended the word, and what followed was run.
    #[test]
    fn a_shell_reads_back_each_word() {
        for word in ["/a/b", "", "a b", "it's", "$(x)`y`", "a\nb", "'; rm -rf /; '", "é", "-n", "!*?[~#&|<>\\\""] {
            let ran = attestlog::child::command("sh")
                .arg("-c")
                .arg(format!("printf '%s' {}", quoted(word)))
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(ran.stdout).unwrap(), word, "{}", quoted(word));
            assert_eq!(words(&format!("x {}", quoted(word))), Some(vec!["x".to_owned(), word.to_owned()]));
        }
        for other in ["a  b", "'a'", "a\"b\"", "'a", "a;b", "a\\"] {
            assert_eq!(words(other), None, "{other}");
        }
    }

    #[test]
    fn a_command_that_is_not_there_ends_with_2_and_says_why() {
        let command = wrapped("/nowhere/attestlog hook codex s", Agent::Codex);
        let ran = attestlog::child::command("sh").arg("-c").arg(command).output().unwrap();
        assert_eq!(ran.status.code(), Some(2));
        assert!(String::from_utf8(ran.stderr).unwrap().contains("was not recorded"));
    }
}
