//! `init`: makes a store.

use super::alerting;
use super::anchors;
use super::backup::not_made;
use super::beside;
use super::config;
use super::context::Context;
use super::exit::{End, Outcome};
use super::store::StoreArgs;
use super::told;
use attestlog::PolicySet;
use attestlog::alert::Receivers;
use clap::Args;
use std::io::{self, Write};
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

pub fn run(cx: &Context, args: &InitArgs) -> Outcome {
    let StoreArgs { store, key } = &args.store;
    let mut options = key.options(cx)?;
    let mut configured = Vec::new();
    let mut receivers = Receivers::default();
    if let Some(path) = &args.config {
        let text = config::text(cx, path)?;
        let policies = config::policies(&text, path)?;
        for (class, period) in PolicySet::default().retention.classes() {
            let own = policies.retention.classes().find(|(name, own)| *name == class && *own < period);
            if let Some((_, own)) = own {
                cx.complain(format!(
                    "warning: {}: class {class} is kept {own} only, and {period} where the file does not say so: make sure that no law \
                     demands more",
                    path.display()
                ));
            }
        }
        options = options.policies(policies);
        configured = anchors::read(&text, path)?;
        receivers = alerting::configured(&text, path)?;
        beside::check(&args.store, path, &configured, &receivers)?;
    }
    if let Some(name) = &args.origin {
        options = options.name(name);
    }
    let anchored = anchors::create(store, &configured)?;
    let made = anchors::add(options, store).and_then(|o| o.create(store).map_err(|e| not_made(&args.store, e)));
    let log = made.inspect_err(|_| anchored.take_back())?;
    let public = log.public_key()?.map(|key| key.to_string()).unwrap_or_default();
    let closed = log.close().map_err(|e| args.store.failed(e));
    if !receivers.0.is_empty() {
        alerting::configure(store, &receivers)?;
    }
    let done = format!("{} is made (`attestlog keys show` prints its public key)", store.display());
    told::told(told::line(&mut cx.out(), &public), closed, &done)?;
    if cx.is_watched() {
        let key = key.path(store);
        // Nothing depends on this hint, so a failure to print it is ignored.
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
