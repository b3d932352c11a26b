//! `redact`: tries a redaction policy out, without a store.

use super::config;
use super::exit::{End, Failure, Outcome};
use super::line_reader::Source;
use super::render::Out;
use attestlog::json::{Json, JsonError};
use attestlog::redact::{Policy, PseudonymKey, Sanitizer, Secrets, dry_run, explain};
use clap::Args;
use std::io::Write;
use std::path::PathBuf;

/// Try a redaction policy out: JSON values in, one per line, the treated values out
///
/// Pseudonyms are made with a key of this command's own: they are the same each time, and those of no store.
#[derive(Debug, Args)]
pub struct RedactArgs {
    /// TOML file with a [redaction] table; the default policy if absent
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Say what was treated, where, and why
    #[arg(long)]
    explain: bool,
    /// JSON Lines; standard input if absent or `-`
    file: Option<PathBuf>,
}

pub fn run(args: &RedactArgs) -> Outcome {
    let policy = match &args.config {
        Some(path) => Policy::from_toml(&config::text(path)?, &path.display().to_string())?,
        None => Policy::default(),
    };
    let key = PseudonymKey::new(*b"a key to try policies out, only!");
    let sanitizer = Sanitizer::new(&policy, Secrets { pseudonyms: vec![key] })?;
    let source = Source::open(args.file.as_deref())?;
    let name = source.name.clone();
    let lines = source.lines(true, |line: &[u8]| Json::parse(line));
    let lines = lines.map_err(|e| Failure::Store(format!("the reading thread: {e}")))?;
    let mut out = Out::stdout();
    for part in lines {
        for line in part.map_err(|e| Failure::file(&name, &e))? {
            let place = format!("{name}: line {}", line.number);
            let parsed = line.value.map_err(|e| Failure::Input(format!("{place}: {e}")))?;
            let value = parsed.map_err(|e: JsonError| Failure::Input(format!("{place}: {e}")))?.value;
            let treated = match args.explain {
                true => explain(&sanitizer, value),
                false => dry_run(&sanitizer, value).map(|(output, _)| output),
            };
            out.line(treated.map_err(|e| Failure::from(e).at(place))?.to_canonical().as_str())?;
        }
        // What was read is answered before more is waited for.
        out.flush()?;
    }
    Ok(End::Done)
}
