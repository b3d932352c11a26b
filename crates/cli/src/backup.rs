//! `backup`, `restore`: a consistent copy of a store that is in use, and the way back.

use super::anchors;
use super::console;
use super::exit::{End, Failure, Outcome, complain};
use super::manage::{ActorArgs, changed, close, covers};
use super::progress::{Progress, Unit};
use super::render::{Out, bytes, clean, count};
use super::store::{KeyArgs, StoreArgs};
use attestlog::json::{Json, Object};
use attestlog::{AuditLog, ErrorKind, Finding, Restored};
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
    /// The store in whose place it goes, moved away before: what of its holds, policies and emergency grants the backup lacks is named
    #[arg(long, value_name = "FILE")]
    replaces: Option<PathBuf>,
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
    let mut options = store.key.options()?.unsigned(true);
    if let Some(replaced) = &args.replaces {
        options = options.replaces(console::path(replaced));
    }
    let restored = options.restore(&args.src, &args.store, actor, reason);
    let log = restored.map_err(|e| match e.source().is_some_and(|source| source.is::<Finding>()) {
        true => Failure::Found(e.to_string()),
        false => store.failed(e),
    })?;
    let size = log.size();
    let keyless = log.public_key().is_some() && log.checkpoint().is_err_and(|e| e.kind() == ErrorKind::Key);
    let restored = changed(&store, log.restored())?.pop();
    let mut lost = restored.as_ref().map(|restored| lost(&log, restored)).unwrap_or_default();
    let anchors = log.anchors();
    if !anchors.is_empty() && !anchors::are_configured(&args.store) {
        lost.push(format!(
            "warning: checkpoints of this log went to {}, and no {}.anchors is there: nothing goes there from now on. Copy the file from \
             beside the old store, or configure them again (`attestlog anchors set`)",
            anchors.iter().map(|anchor| anchor.name.as_str()).collect::<Vec<_>>().join(", "),
            args.store.display()
        ));
    }
    changed(&store, log.close())?;
    let mut out = Out::stdout();
    lost.into_iter().for_each(complain);
    if keyless {
        complain(format!(
            "warning: {0}: its key file is missing, so this store can be read and nothing is signed or recorded, and what had been \
             signed beyond the backup is not known. If there is a copy of the key file, remove {0}, put the copy where the key file \
             belongs, and restore again: then the log says what was lost",
            clean(&args.store.display().to_string())
        ));
    }
    if args.json {
        let restored = restored.map(|restored| restored.to_json()).into();
        let object = Object::from_iter([("size", Json::from(size)), ("restored", restored)]);
        out.line(Json::from(object).to_canonical().as_str())?;
    } else {
        let dest = clean(&args.store.display().to_string());
        out.line(format!("{dest}: {} entries, the newest of which says that it was restored", count(size)))?;
    }
    out.flush()?;
    Ok(End::Done)
}

/// What was in force and is not in the backup, a line each, and what to do.
fn lost(log: &AuditLog, restored: &Restored) -> Vec<String> {
    let Some(to_do) = restored.to_do() else { return Vec::new() };
    let mut lines = vec![format!("warning: {to_do}. Nothing is purged or erased until then")];
    for (id, hold) in &restored.lost.holds {
        lines.push(format!(
            "lost: hold {id} (case {}) by {}, on {}: {}",
            hold.case,
            hold.actor,
            covers(&hold.selector, &log.names_in(&hold.selector)),
            hold.reason
        ));
    }
    lines.extend(restored.lost.policies.iter().map(|seq| format!("lost: the policy of entry {seq}")));
    lines.extend(restored.lost.grants.iter().map(|seq| format!("lost: the emergency grant of entry {seq}")));
    lines
}
