//! `backup`, `restore`: a consistent copy of a store that is in use, and restoring from it.

use super::anchors;
use super::context::Context;
use super::exit::{End, Failure, Outcome};
use super::manage::{ActorArgs, changed, close, covers};
use super::progress::Unit;
use super::render::{bytes, clean, count, counted};
use super::store::{KeyArgs, StoreArgs};
use super::told;
use attestlog::Justification;
use attestlog::json::{Json, Object};
use attestlog::verify::{Finding, Restored, Standing};
use attestlog::{AuditLog, Error, ErrorKind};
use clap::Args;
use std::error::Error as _;
use std::path::{Path, PathBuf};

/// Copy the store to another file while it is in use; recorded in the store
///
/// The key file is not in the copy: `attestlog keys backup` copies that, to another place.
#[derive(Debug, Args)]
pub struct BackupArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The copy; must not exist
    #[arg(value_name = "DEST")]
    dest: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn backup(cx: &Context, args: &BackupArgs) -> Outcome {
    is_free(&args.dest)?;
    let log = args.store.open_after_finding(cx, None)?;
    let known = log.verifications().known().unwrap_or_default();
    known.unread.iter().for_each(|unread| cx.complain(format!("warning: {unread}")));
    if let Some(found) = known.found {
        cx.complain(format!(
            "warning: a verification at {} found {} wrong with this log, which nobody has settled, and the copy has it too: keep an \
             older backup until that is cleared up (`attestlog verify` says what and where)",
            found.at.floor_to_second(),
            counted(found.findings, "thing", "things")
        ));
    }
    let progress = cx.progress("copied", Unit::Rows);
    let made = changed(&args.store, log.backup_with(&args.dest, |done, total| progress.at(done, total)))?;
    drop(progress);
    let (dest, entries) = (clean(&args.dest.display().to_string()), count(made.size));
    let done = format!("{dest}: {entries} entries, {}; recorded as entry {}", bytes(made.bytes), made.receipt.seq);
    let shown = match args.json {
        true => made.to_json().to_canonical().as_str().to_owned(),
        false => format!("{done}\nThe keys are not in it: `attestlog keys backup` copies them, to another place."),
    };
    let shown = told::line(&mut cx.out(), shown);
    told::told(shown, close(&args.store, log), &done).map(|()| End::Done)
}

/// Refuses to write to a path that is in use: bad input, as in every other command.
pub fn is_free(dest: &Path) -> Result<(), Failure> {
    match std::fs::symlink_metadata(dest) {
        Ok(_) => {
            Err(Failure::Input(format!("{}: exists already, and is not replaced; choose another name", dest.display())))
        }
        Err(_) => Ok(()),
    }
}

/// The failure for an error of making a store. What exists already is bad input, as with every other command.
pub fn not_made(store: &StoreArgs, e: Error) -> Failure {
    match e.kind() {
        ErrorKind::AlreadyExists => store.name(&e, Failure::Input(e.to_string())),
        _ => store.failed(e),
    }
}

/// Make a store from a backup; the store records who did it and why
///
/// Put the store's key file beside it first (`attestlog keys backup` makes copies). Without it the store can be read and
/// verified, and the log says that the key was missing; nothing is signed or recorded until it is back.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The backup
    #[arg(value_name = "SRC")]
    src: PathBuf,
    /// The store to make; must not exist
    #[arg(value_name = "STORE")]
    store: PathBuf,
    /// The store that it replaces, moved away before: names the holds, policies and emergency grants of that store which
    /// the backup lacks
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

pub fn restore(cx: &Context, args: &RestoreArgs) -> Outcome {
    let store = StoreArgs { store: args.store.clone(), key: args.key.clone() };
    std::fs::metadata(&args.src).map_err(|e| Failure::file(&args.src, &e))?;
    let ActorArgs { actor, reason } = &args.actor;
    // Somebody who has also lost the keys must still be able to read what was recorded.
    let mut options = store.key.options(cx)?.unsigned(true);
    if let Some(replaced) = &args.replaces {
        std::fs::metadata(replaced).map_err(|e| Failure::file(replaced, &e))?;
        options = options.replaces(replaced);
    }
    let restored = options.restore(&args.src, &args.store, Justification { actor, reason });
    let log = restored.map_err(|e| match e.source().is_some_and(|source| source.is::<Finding>()) {
        true => Failure::Found(e.to_string()),
        false if e.kind() == ErrorKind::Damaged => Failure::Found(format!(
            "{}: this copy cannot be read, so nothing was restored: restore another backup ({})",
            args.src.display(),
            e.to_string()
                .rsplit_once(&format!("{}: ", args.store.display()))
                .map_or_else(|| e.to_string(), |(_, why)| why.trim_end_matches("; restore a backup").to_owned())
        )),
        false => not_made(&store, e),
    })?;
    let size = log.size()?;
    let keyless = log.public_key()?.is_some() && log.checkpoint().is_err_and(|e| e.kind() == ErrorKind::Key);
    let restored = changed(&store, log.retention().restored())?.pop();
    let mut lost = restored.as_ref().map_or(Ok(Vec::new()), |restored| lost(&log, restored))?;
    let open = restored.as_ref().filter(|restored| restored.to_do().is_some() && nothing(&restored.lost));
    if let Some(replaced) = args.replaces.as_ref().filter(|_| open.is_some()) {
        lost.push(format!(
            "{} had no hold, policy or emergency grant in force that the backup lacks; what was released, closed or replaced since the \
             backup is in force again",
            replaced.display()
        ));
    }
    let anchors = log.anchors().list()?;
    if !anchors.is_empty() && !anchors::are_configured(&args.store) {
        lost.push(format!(
            "warning: checkpoints of this log went to {}, and no {}.anchors is there: nothing goes there from now on. Copy the file from \
             beside the old store, or configure them again (`attestlog anchors set`)",
            anchors.iter().map(|anchor| anchor.name.as_str()).collect::<Vec<_>>().join(", "),
            args.store.display()
        ));
    }
    // Not known without the keys, or if they had signed another history.
    let gone = match restored.as_ref().map(|restored| (restored.signed, restored.size)) {
        Some((Some((signed, _)), size)) => signed.checked_sub(size).filter(|gone| *gone > 0),
        Some((None, _)) if !keyless => Some(0),
        _ => None,
    };
    let closed = changed(&store, log.close());
    lost.into_iter().for_each(|line| cx.complain(line));
    if keyless {
        cx.complain(format!(
            "warning: {0}: its key file is missing, so this store can be read and nothing is signed or recorded, and what had been \
             signed beyond the backup is not known. If there is a copy of the key file, remove {0}, put the copy where the key file \
             belongs, and restore again: then the log says what was lost",
            clean(&args.store.display().to_string())
        ));
    }
    // What is lost comes first in the summary: it is what the operator has to act upon.
    let said = restored.as_ref().map(|restored| format!(", {}", clean(&restored.to_string())));
    let dest = clean(&args.store.display().to_string());
    let done = format!("{dest}: {} entries{}", count(size), said.unwrap_or_default());
    let shown = match args.json {
        true => {
            let restored = restored.map(|restored| restored.to_json()).into();
            let object =
                Object::from_iter([("size", Json::from(size)), ("entries_lost", gone.into()), ("restored", restored)]);
            told::line(&mut cx.out(), Json::from(object).to_canonical().as_str())
        }
        false => told::line(&mut cx.out(), &done),
    };
    told::told(shown, closed, &done).map(|()| End::Done)
}

fn nothing(lost: &Standing) -> bool {
    lost.holds.is_empty() && lost.policies.is_empty() && lost.grants.is_empty()
}

/// What was in force and is not in the backup, one line each, and what to do.
fn lost(log: &AuditLog, restored: &Restored) -> Result<Vec<String>, Failure> {
    let Some(to_do) = restored.to_do() else { return Ok(Vec::new()) };
    let mut lines = vec![format!("warning: {to_do}. Nothing is purged or erased until then")];
    for (id, hold) in &restored.lost.holds {
        lines.push(format!(
            "lost: hold {id} (case {}) by {}, on {}: {}",
            hold.case,
            hold.actor,
            covers(&hold.selector, &log.retention().names_in(&hold.selector)?),
            hold.reason
        ));
    }
    lines.extend(restored.lost.policies.iter().map(|seq| format!("lost: the policy of entry {seq}")));
    lines.extend(restored.lost.grants.iter().map(|seq| format!("lost: the emergency grant of entry {seq}")));
    Ok(lines)
}
