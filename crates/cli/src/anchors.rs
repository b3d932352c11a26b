//! `anchors`: where the checkpoints of a store go, and the state of each anchor.
//!
//! The anchors of a store are configured in `STORE.anchors` beside it, in the form of `[[anchor]]` tables in a
//! configuration file, from which `init` and `policy set` take them. They are not in the store: a store that came from
//! somebody else must not decide which programs run here. For the same reason a file that others may write or own is
//! refused (`beside`).

use super::context::Context;
use super::exit::{End, Failure, Outcome};
use super::line_reader::Source;
use super::manage::{changed, close};
use super::render::{Out, Style, clean, count, moment};
use super::store::StoreArgs;
use super::table::{Table, left, right};
use attestlog::anchor::{Anchor, AnchorConfig, Channel, check_names};
use attestlog::files::{self, COMPANION_LINE, Writes};
use attestlog::{AuditLog, ErrorKind, Options};
use clap::Subcommand;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Configure where checkpoints go, and show the state of each anchor
#[derive(Debug, Subcommand)]
pub enum AnchorsCommand {
    /// Show what each anchor has, and what it is owed
    Show {
        #[command(flatten)]
        store: StoreArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Use the [[anchor]] tables of a TOML file from now on, in place of those that the store has
    Set {
        #[command(flatten)]
        store: StoreArgs,
        /// The file; `-` is standard input
        #[arg(required_unless_present = "none", conflicts_with = "none")]
        file: Option<PathBuf>,
        /// Have no anchors from now on
        #[arg(long)]
        none: bool,
    },
    /// Sign a checkpoint, send it to every anchor that does not have it, and wait for them; exit code 1 if one failed
    Flush {
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Forget an anchor, with what it is owed
    Forget {
        #[command(flatten)]
        store: StoreArgs,
        /// Its name, as `anchors show` prints it
        name: String,
    },
    /// Print the answers of witnesses and time-stamping authorities, as an anchor file to be kept elsewhere
    Records {
        #[command(flatten)]
        store: StoreArgs,
    },
}

/// How long `flush` waits for anchors.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest file that is read.
const MAX_BYTES: u64 = 1 << 20;

pub fn run(cx: &Context, command: &AnchorsCommand) -> Outcome {
    let mut out = cx.out();
    let mut end = End::Done;
    match command {
        AnchorsCommand::Show { store, json: true } => {
            let all = store.read(cx)?.health().map_err(|e| store.failed(e))?.to_json();
            out.line(all.get("anchors").cloned().unwrap_or_default().to_canonical().as_str())?;
        }
        AnchorsCommand::Show { store, json: false } => {
            let log = store.read(cx)?;
            show(&log, &store.store, &mut out)?;
        }
        AnchorsCommand::Set { store, file, .. } => {
            let configured = match file {
                Some(file) => set_by(cx, file)?,
                None => Vec::new(),
            };
            if let Some(file) = file {
                super::beside::check(
                    store,
                    file,
                    &configured,
                    &super::alerting::receivers(&store.store).unwrap_or_default(),
                )?;
            }
            // Only beside a store that can be used.
            let log = store.open_without_anchors(cx)?;
            replace(&store.store, &configured)?;
            super::beside::changed(cx, &log, &store.store, true)?;
            drop(log);
            out.line(format!(
                "{} in {}",
                count(configured.len() as u64),
                clean(&beside(&store.store).display().to_string())
            ))?;
        }
        AnchorsCommand::Flush { store } => {
            let log = store.open(cx)?;
            changed(store, log.checkpoint())?;
            let all = changed(store, log.anchors().list())?;
            let mut used = all.iter().filter(|anchor| anchor.at_hand).peekable();
            if used.peek().is_some() && used.all(|anchor| anchor.status.owed.is_none()) {
                cx.complain(
                    "every anchor has the newest checkpoint already, so nothing was sent: nothing was recorded since",
                );
            }
            if !hand_over(cx, &log)? {
                end = End::Found;
            }
            show(&log, &store.store, &mut out)?;
            close(store, log)?;
        }
        AnchorsCommand::Forget { store, name } => {
            let log = store.open(cx)?;
            let known = log.anchors().forget(name).map_err(|e| match e.kind() {
                ErrorKind::Conflict => Failure::Input(format!("{}: {e}", store.store.display())),
                _ => store.failed(e),
            })?;
            close(store, log)?;
            if known.is_none() {
                let known = store.read(cx)?.anchors().list()?;
                let known = known.iter().map(|anchor| format!("{:?}", anchor.name)).collect::<Vec<_>>().join(", ");
                let known = if known.is_empty() { "none".to_owned() } else { known };
                return Err(Failure::Input(format!(
                    "{}: no anchor {name:?}; there are {known}",
                    store.store.display()
                )));
            }
            out.line(format!("forgotten: {}", clean(name)))?;
        }
        AnchorsCommand::Records { store } => {
            for (_, record) in changed(store, store.read(cx)?.anchors().attestations())? {
                write!(out, "{record}")?;
            }
        }
    }
    out.flush()?;
    Ok(end)
}

/// The anchors of a file that must name at least one: a file without any is a wrong or mistyped one, and would remove all.
fn set_by(cx: &Context, file: &Path) -> Result<Vec<AnchorConfig>, Failure> {
    let text = super::config::text(cx, file)?;
    // Read whole, like `init` and `policy set` do, so that a table whose name is misspelt is not skipped.
    super::config::policies(&text, file)?;
    super::config::receivers(&text, file)?;
    let configured = read(&text, file)?;
    if configured.is_empty() {
        let message =
            "there is no [[anchor]] in it, so nothing was changed; to have no anchors from now on, say --none";
        return Err(Failure::Input(format!("{}: {message}", file.display())));
    }
    Ok(configured)
}

fn show(log: &AuditLog, store: &Path, out: &mut Out) -> Result<(), Failure> {
    let is_unread = of(store).is_err();
    let columns = [left("ANCHOR"), right("HAS"), left("SINCE"), right("OWED"), left("LAST ERROR")];
    let mut table = Table::new(out, &columns);
    for anchor in log.anchors().list()? {
        let plain = |text: String| (text, Style::Plain);
        let success = anchor.status.last_success;
        let has = success.map_or("-".to_owned(), |s| count(s.size));
        let since = success.map_or("-".to_owned(), |s| moment(s.at));
        let owed = anchor.status.owed.map_or("-".to_owned(), count);
        let error = match (&anchor.status.last_failure, anchor.at_hand) {
            (Some(failure), false) if !is_unread => {
                format!("not configured any more; it failed last with: {}", clean(&failure.message))
            }
            (Some(failure), _) => clean(&failure.message),
            (None, false) if is_unread => format!("not used, because {} is not", beside(store).display()),
            (None, false) => "not configured any more".to_owned(),
            (None, true) => String::new(),
        };
        table.row(vec![(clean(&anchor.name), Style::Bold), plain(has), plain(since), plain(owed), plain(error)])?;
    }
    Ok(table.finish()?)
}

/// Sends what is owed, waits, and reports what failed; returns whether nothing did.
pub fn hand_over(cx: &Context, log: &AuditLog) -> Result<bool, Failure> {
    let all = log.anchors().list()?.is_empty() || log.anchors().flush(PATIENCE)?;
    for anchor in log.anchors().list()?.iter().filter(|anchor| anchor.at_hand) {
        if let Some(failure) = &anchor.status.last_failure {
            cx.complain(format!("{}: {}; it stays owed and is tried again", anchor.name, failure.message));
        }
    }
    Ok(all)
}

/// The anchors in the text of a configuration file, with absolute paths for files.
pub fn read(text: &str, path: &Path) -> Result<Vec<AnchorConfig>, Failure> {
    let mut all = AnchorConfig::from_toml(text, &path.display().to_string())?;
    for anchor in &mut all {
        if let Channel::File(file) = &mut anchor.channel {
            *file = std::path::absolute(&*file).map_err(|e| Failure::file(&*file, &e))?;
            // Reported now, rather than by `health` when checkpoints have been owed for a day.
            if let Some(folder) = file.parent().filter(|folder| !folder.is_dir()) {
                let (anchor, folder) = (file.display(), folder.display());
                return Err(Failure::Input(format!(
                    "{}: the anchor {anchor}: there is no folder {folder}; make it first, or mount what it is on",
                    path.display()
                )));
            }
        }
        let (Channel::Command(words) | Channel::TimeStampCommand(words, _)) = &anchor.channel else { continue };
        // A program without a folder is looked up when it is run.
        if let Some(program) = words.first().filter(|program| program.contains('/') && !Path::new(program).is_file()) {
            let message = format!("{}: the anchor {program}: there is no such program", path.display());
            return Err(Failure::Input(message));
        }
    }
    // Files are compared by their whole paths only now.
    check_names(&all).map_err(|e| Failure::Input(format!("{}: {e}", path.display())))?;
    Ok(all)
}

/// The path of the file that names a store's anchors.
fn beside(store: &Path) -> PathBuf {
    files::beside(store, "anchors")
}

/// Whether the store has a file that says where its checkpoints go.
pub fn are_configured(store: &Path) -> bool {
    fs::symlink_metadata(beside(store)).is_ok()
}

/// The options with the anchors of the store added.
pub fn add(options: Options, store: &Path) -> Result<Options, Failure> {
    Ok(options.anchors(of(store)?))
}

/// The anchors of a store; none if there is no such file.
pub fn of(store: &Path) -> Result<Vec<Arc<dyn Anchor>>, Failure> {
    let anchors = configured(store)?.iter().map(AnchorConfig::build).collect::<attestlog::Result<Vec<_>>>();
    anchors.map_err(|e| Failure::Store(format!("{}: {e}", beside(store).display())))
}

/// The same, as they are configured. Whatever is wrong with the file, the store cannot be used as it is.
pub fn configured(store: &Path) -> Result<Vec<AnchorConfig>, Failure> {
    read_configured(store).map_err(|failure| match failure {
        Failure::Input(message) => Failure::Store(message),
        other => other,
    })
}

fn read_configured(store: &Path) -> Result<Vec<AnchorConfig>, Failure> {
    let path = beside(store);
    let about = match fs::metadata(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        about => about.map_err(|e| Failure::Store(format!("{}: {e}", path.display())))?,
    };
    super::beside::trusted(&path, &about, store)?;
    let text = Source::whole_file(&path)?.read_all(MAX_BYTES)?;
    let text = String::from_utf8(text).map_err(|_| Failure::Input(format!("{}: is not UTF-8", path.display())))?;
    Ok(AnchorConfig::from_toml(&text, &path.display().to_string())?)
}

/// An anchors file that was made for a store that does not exist yet.
pub struct Made(Option<PathBuf>);

impl Made {
    /// Removes it again, because the store was not made.
    pub fn take_back(&self) {
        if let Some(path) = &self.0 {
            // Reporting an error here would help nobody.
            let _ = fs::remove_file(path);
        }
    }
}

/// Configures the anchors of a new store. A file of that name must not exist.
pub fn create(store: &Path, anchors: &[AnchorConfig]) -> Result<Made, Failure> {
    // If something is at the store's path already, no file is written: creating the store gives the better error.
    if fs::symlink_metadata(store).is_ok() {
        return Ok(Made(None));
    }
    let path = beside(store);
    if fs::symlink_metadata(&path).is_ok() {
        let message = "exists already; deleting a store and beginning again must not go unnoticed, so move it away or choose \
                       another name";
        return Err(Failure::Input(format!("{}: {message}", path.display())));
    }
    if anchors.is_empty() {
        return Ok(Made(None));
    }
    write(&path, anchors)?;
    Ok(Made(Some(path)))
}

/// Configures the anchors of an existing store.
pub fn replace(store: &Path, anchors: &[AnchorConfig]) -> Result<(), Failure> {
    let path = beside(store);
    let fresh = files::beside(&path, "new");
    // Left by an interrupted attempt.
    let _ = fs::remove_file(&fresh);
    write(&fresh, anchors)?;
    Ok(files::put_in_place(&fresh, &path, Writes::Companion)?)
}

fn write(path: &Path, anchors: &[AnchorConfig]) -> Result<(), Failure> {
    let tables: Vec<String> = anchors.iter().map(ToString::to_string).collect();
    let text = [COMPANION_LINE, &tables.join("\n")].concat();
    let mut file = files::create(path, Writes::Companion)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|e| Failure::file(path, &e))
}
