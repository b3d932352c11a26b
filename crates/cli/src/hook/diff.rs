//! Shows what changes in a file, as the lines that go and come.

use std::path::Path;

/// How many lines around a change are shown.
const AROUND: usize = 3;

/// The hooks that go and come. What else is in the file is not shown: settings hold secrets, and may stand on one line.
pub fn hooks(path: &Path, from: (Option<&str>, Vec<String>), to: (Option<&str>, Vec<String>)) -> Vec<String> {
    let mut out = head(path, from.0.is_some(), to.0.is_some());
    out.extend(from.1.iter().map(|line| format!("-{line}")));
    out.extend(to.1.iter().map(|line| format!("+{line}")));
    out
}

fn head(path: &Path, was_there: bool, is_there: bool) -> Vec<String> {
    let name = |there: bool| if there { path.display().to_string() } else { "/dev/null".to_owned() };
    vec![format!("--- {}", name(was_there)), format!("+++ {}", name(is_there))]
}

/// The change from one text to another. `None`: there is no such file.
pub fn lines(path: &Path, from: Option<&str>, to: Option<&str>) -> Vec<String> {
    let mut out = head(path, from.is_some(), to.is_some());
    let (old, new): (Vec<&str>, Vec<&str>) = (split(from), split(to));
    let same = |(a, b): &(&&str, &&str)| a == b;
    let before = old.iter().zip(&new).take_while(same).count();
    let left = old.len().min(new.len()) - before;
    let after = old.iter().rev().zip(new.iter().rev()).take_while(same).take(left).count();
    let shown = before.saturating_sub(AROUND);
    out.push(format!(
        "@@ -{},{} +{},{} @@",
        shown + 1,
        old.len() - after - shown,
        shown + 1,
        new.len() - after - shown
    ));
    let mut add = |mark: char, lines: &[&str]| out.extend(lines.iter().map(|line| format!("{mark}{line}")));
    add(' ', old.get(shown..before).unwrap_or_default());
    add('-', old.get(before..old.len() - after).unwrap_or_default());
    add('+', new.get(before..new.len() - after).unwrap_or_default());
    let end = old.len() - after;
    add(' ', old.get(end..(end + AROUND).min(old.len())).unwrap_or_default());
    out
}

fn split(text: Option<&str>) -> Vec<&str> {
    text.map(|text| text.lines().collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_that_change_are_shown_with_what_is_around_them() {
        let path = Path::new("f");
        let shown = lines(path, Some("1\n2\n3\n4\n5\n6\n7\n8\n"), Some("1\n2\n3\n4\nnew\n5\n6\n7\n8\n"));
        assert_eq!(shown[2..], ["@@ -2,3 +2,4 @@", " 2", " 3", " 4", "+new", " 5", " 6", " 7"]);
        assert_eq!(lines(path, None, Some("a\n")), ["--- /dev/null", "+++ f", "@@ -1,0 +1,1 @@", "+a"]);
        assert_eq!(lines(path, Some("a\n"), None)[1..], ["+++ /dev/null", "@@ -1,1 +1,0 @@", "-a"]);
    }
}
