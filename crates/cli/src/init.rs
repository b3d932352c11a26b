//! `init`: makes a store.

use super::alerting;
use super::anchors;
use super::config;
use super::exit::{End, Outcome};
use super::render::Out;
use super::store::StoreArgs;
use attestlog::alert::Receivers;
use clap::Args;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

/// Make a store and its key, and print the public key
#[derive(Debug, Args)]
pub struct InitArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// TOML file with the policies: [retention], [[patients]], [redaction], [results], [[alerts]]; with [[anchor]], where
    /// checkpoints go, which is kept in STORE.anchors; with [[receivers]] of alerts, which are kept in STORE.receivers
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Name under which the log signs, such as example.com/ward-3
    #[arg(long, value_name = "NAME")]
    origin: Option<String>,
}

pub fn run(args: &InitArgs) -> Outcome {
    let StoreArgs { store, key } = &args.store;
    let mut options = key.options()?;
    let mut configured = Vec::new();
    let mut receivers = Receivers::default();
    if let Some(path) = &args.config {
        let text = config::text(path)?;
        options = options.policies(config::policies(&text, path)?);
        configured = anchors::read(&text, path)?;
        receivers = alerting::configured(&text, path)?;
    }
    if let Some(name) = &args.origin {
        options = options.name(name);
    }
    let anchored = anchors::create(store, &configured)?;
    let made = anchors::add(options, store).and_then(|o| o.create(store).map_err(|e| args.store.failed(e)));
    let log = made.inspect_err(|_| anchored.take_back())?;
    let public = log.public_key().map(|key| key.to_string()).unwrap_or_default();
    log.close().map_err(|e| args.store.failed(e))?;
    if !receivers.0.is_empty() {
        alerting::configure(store, &receivers)?;
    }
    let mut out = Out::stdout();
    out.line(public)?;
    out.flush()?;
    if io::stderr().is_terminal() {
        let key = key.path(store);
        // Nothing depends on this hint.
        let _ = writeln!(
            io::stderr(),
            "made {} and {}\nThe line above is the public key: whoever is to check this log should have it from you, not \
             from the store.\nKeep a copy of the key file elsewhere (`attestlog keys backup`): without it nothing can be \
             signed.",
            store.display(),
            key.display()
        );
    }
    Ok(End::Done)
}
