//! `backup`, `restore`: a consistent copy of a store that is in use, and the way back.

use super::console;
use super::exit::{End, Failure, Outcome, complain};
use super::manage::{ActorArgs, changed, close};
use super::progress::{Progress, Unit};
use super::render::{Out, bytes, clean, count};
use super::store::{KeyArgs, StoreArgs};
use attestlog::json::{Json, Object};
use attestlog::{ErrorKind, Finding};
use clap::Args;
use std::error::Error as _;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Copy the store to another file while it is in use; recorded in the store
///
/// The key file is not in the copy: `attestlog keys backup` copies that, to another place.
#[derive(Debug, Args)]
pub struct BackupArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Where to; must not exist
    #[arg(value_name = "DEST")]
    dest: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn backup(args: &BackupArgs) -> Outcome {
    is_free(&args.dest)?;
    let log = args.store.open()?;
    let progress = Progress::new("copied", Unit::Rows);
    let made = changed(&args.store, log.backup_with(&args.dest, |done, total| progress.at(done, total)))?;
    drop(progress);
    close(&args.store, log)?;
    let mut out = Out::stdout();
    if args.json {
        let object = Object::from_iter([
            ("size", Json::from(made.size)),
            ("head", made.head.to_string().into()),
            ("bytes", made.bytes.into()),
            ("seq", made.receipt.seq.into()),
        ]);
        out.line(Json::from(object).to_canonical().as_str())?;
    } else {
        let (dest, entries) = (clean(&args.dest.display().to_string()), count(made.size));
        out.line(format!("{dest}: {entries} entries, {}; recorded as entry {}", bytes(made.bytes), made.receipt.seq))?;
        out.line("The keys are not in it: `attestlog keys backup` copies them, to another place.")?;
    }
    out.flush()?;
    Ok(End::Done)
}

/// Refuses to write where something is: bad input, as with every other command.
pub fn is_free(dest: &Path) -> Result<(), Failure> {
    match std::fs::symlink_metadata(console::path(dest)) {
        Ok(_) => {
            Err(Failure::Input(format!("{}: exists already, and is not replaced; choose another name", dest.display())))
        }
        Err(_) => Ok(()),
    }
}

/// Make a store out of a backup; recorded in it, with who did it and why
///
/// The store's key file belongs beside it before (`attestlog keys backup` made copies). Without it the store can be read and
/// verified, and the log says that the key was missing; nothing is signed or recorded until it is back.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The backup
    #[arg(value_name = "SRC")]
    src: PathBuf,
    /// The store to make; must not exist
    #[arg(value_name = "STORE")]
    store: PathBuf,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    actor: ActorArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn restore(args: &RestoreArgs) -> Outcome {
    let store = StoreArgs { store: args.store.clone(), key: args.key.clone() };
    std::fs::metadata(console::path(&args.src)).map_err(|e| Failure::file(&args.src, &e))?;
    let ActorArgs { actor, reason } = &args.actor;
    // Who has lost the keys as well still has to get at what was recorded.
    let options = store.key.options()?.unsigned(true);
    let restored = options.restore(&args.src, &args.store, actor, reason);
    let log = restored.map_err(|e| match e.source().is_some_and(|source| source.is::<Finding>()) {
        true => Failure::Found(e.to_string()),
        false => store.name(e.into()),
    })?;
    let size = log.size();
    let keyless = log.public_key().is_some() && log.checkpoint().is_err_and(|e| e.kind() == ErrorKind::Key);
    changed(&store, log.close())?;
    let mut out = Out::stdout();
    if keyless {
        complain(format!(
            "warning: {0}: its key file is missing, so this store can be read and nothing is signed or recorded, and what had been \
             signed beyond the backup is not known. If there is a copy of the key file, remove {0}, put the copy where the key file \
             belongs, and restore again: then the log says what was lost",
            clean(&args.store.display().to_string())
        ));
    }
    if args.json {
        out.line(Json::from(Object::from_iter([("size", size)])).to_canonical().as_str())?;
    } else {
        let dest = clean(&args.store.display().to_string());
        out.line(format!("{dest}: {} entries, the newest of which says that it was restored", count(size)))?;
    }
    out.flush()?;
    Ok(End::Done)
}
