//! The configuration file of `init` and `policy set`.

use super::context::Context;
use super::exit::Failure;
use attestlog::PolicySet;
use attestlog::alert::Receivers;
use std::path::Path;

/// The longest configuration file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// The text of a configuration file; `-` is standard input.
pub fn text(cx: &Context, path: &Path) -> Result<String, Failure> {
    let bytes = cx.source_whole(path)?.read_all(MAX_BYTES)?;
    String::from_utf8(bytes).map_err(|_| Failure::Input(format!("{}: is not UTF-8", path.display())))
}

/// The policies in the text of a configuration file.
pub fn policies(text: &str, path: &Path) -> Result<PolicySet, Failure> {
    Ok(PolicySet::from_toml(text, &path.display().to_string())?)
}

/// The receivers of alerts in the text of a configuration file.
pub fn receivers(text: &str, path: &Path) -> Result<Receivers, Failure> {
    Ok(Receivers::from_toml(text, &path.display().to_string())?)
}
