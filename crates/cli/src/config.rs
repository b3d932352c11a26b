//! The configuration file of `init` and `policy set`.

use super::exit::Failure;
use super::lines::Source;
use attestlog::PolicySet;
use attestlog::alert::Receivers;
use std::path::Path;

/// Nobody writes a longer one.
const MAX_BYTES: u64 = 1 << 20;

/// The text of a configuration file; `-` is standard input.
pub fn text(path: &Path) -> Result<String, Failure> {
    let bytes = Source::open_whole(Some(path))?.read_all(MAX_BYTES)?;
    String::from_utf8(bytes).map_err(|_| Failure::Input(format!("{}: is not UTF-8", path.display())))
}

/// The policies that the text of a configuration file describes.
pub fn policies(text: &str, path: &Path) -> Result<PolicySet, Failure> {
    Ok(PolicySet::from_toml(text, &path.display().to_string())?)
}

/// The receivers of alerts that it names.
pub fn receivers(text: &str, path: &Path) -> Result<Receivers, Failure> {
    Ok(Receivers::from_toml(text, &path.display().to_string())?)
}
