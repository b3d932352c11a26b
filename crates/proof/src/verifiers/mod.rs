//! Two checkers of packages and evidence folders for people who do not have this program: one page for a browser and one Python
//! script. They are written from docs/proof-format.md and share nothing with the code of [`folders`](crate::folders), with which
//! tests compare them. They are the same in every folder, so that their SHA-256 can be published with a release.

/// `verify.html`: one page that loads nothing and sends nothing.
pub const PAGE: &str = include_str!("verify.html");

/// `verify.py`: needs Python 3 and its package `cryptography`.
pub const SCRIPT: &str = include_str!("verify.py");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Hash;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    /// The page's policy allows its one script and its one style sheet by their hashes, and no source of anything else. A change of
    /// either without its hash would leave a page that does nothing.
    #[test]
    fn the_page_may_run_its_own_script_and_reach_nothing() {
        let policy =
            PAGE.split("Content-Security-Policy\" content=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        let hash = |from: &str, to: &str| {
            let inner = PAGE.split(from).nth(1).and_then(|rest| rest.split(to).next()).unwrap();
            format!("'sha256-{}'", STANDARD.encode(Hash::of(inner.as_bytes()).as_bytes()))
        };
        let (script, style) = (hash("<script>", "</script>"), hash("<style>", "</style>"));
        let expected =
            format!("default-src 'none'; script-src {script}; style-src {style}; base-uri 'none'; form-action 'none'");
        assert_eq!(policy, expected);
        for reaching in
            ["http:", "https:", "src=", "href=", "fetch(", "XMLHttpRequest", "WebSocket", "innerHTML", "import("]
        {
            assert!(!PAGE.contains(reaching), "{reaching}");
        }
    }
}
