//! `init`: makes a store.

use super::exit::{End, Outcome};
use super::render::Out;
use super::store::StoreArgs;
use attestlog::Options;
use clap::Args;
use std::io::Write;

/// Make a store and its key, and print the public key
#[derive(Debug, Args)]
pub struct InitArgs {
    #[command(flatten)]
    store: StoreArgs,
}

pub fn run(args: &InitArgs) -> Outcome {
    let log = Options::new().create(&args.store.store).map_err(|e| args.store.name(e.into()))?;
    log.close()?;
    let mut out = Out::stdout();
    out.line(format!("made {}", args.store.store.display()))?;
    out.flush()?;
    Ok(End::Done)
}
