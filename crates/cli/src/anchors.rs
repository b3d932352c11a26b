//! `anchors`: where the checkpoints of a store go, and how that goes.
//!
//! Which anchors a store has is said in `STORE.anchors` beside it, in the form of `[[anchor]]` in a configuration file,
//! which `init` and `policy set` take it from. It is not in the store: a store that came from somebody else must not decide
//! which programs run here. For the same reason a file that others may write or own is refused (`beside`).

use super::console;
use super::exit::{End, Failure, Outcome, complain};
use super::line_reader::Source;
use super::manage::{changed, close};
use super::render::{Out, Style, clean, count, moment};
use super::store::StoreArgs;
use super::table::{Table, left, right};
use attestlog::anchor::{Anchor, AnchorConfig};
use attestlog::{AuditLog, ErrorKind, Options};
use clap::Subcommand;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Where checkpoints go, and how that goes
#[derive(Debug, Subcommand)]
pub enum AnchorsCommand {
    /// Say what each anchor has, and what is owed to it
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
    /// Sign a checkpoint, hand it to every anchor, and wait for them; exit code 1 where one failed
    Flush {
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Forget an anchor, with what is owed to it
    Forget {
        #[command(flatten)]
        store: StoreArgs,
        /// Its name, as `anchors show` has it
        name: String,
    },
    /// Print what witnesses and time-stamping authorities gave, as an anchor file to be kept elsewhere
    Records {
        #[command(flatten)]
        store: StoreArgs,
    },
}

/// How long a person waits for anchors.
const PATIENCE: Duration = Duration::from_secs(60);
/// Nobody writes a longer file.
const MAX_BYTES: u64 = 1 << 20;

pub fn run(command: &AnchorsCommand) -> Outcome {
    let mut out = Out::stdout();
    let mut end = End::Done;
    match command {
        AnchorsCommand::Show { store, json: true } => {
            let all = store.read()?.health().map_err(|e| store.failed(e))?.to_json();
            out.line(all.get("anchors").cloned().unwrap_or_default().to_canonical().as_str())?;
        }
        AnchorsCommand::Show { store, json: false } => {
            let log = store.read()?;
            show(&log, &mut out)?;
        }
        AnchorsCommand::Set { store, file, .. } => {
            let configured = match file {
                Some(file) => set_by(file)?,
                None => Vec::new(),
            };
            // Only beside a store that can be used.
            let log = store.read()?;
            replace(&store.store, &configured)?;
            console::beside_changed()?;
            drop(log);
            out.line(format!(
                "{} in {}",
                count(configured.len() as u64),
                clean(&beside(&store.store).display().to_string())
            ))?;
        }
        AnchorsCommand::Flush { store } => {
            let log = store.open()?;
            changed(store, log.checkpoint())?;
            if !hand_over(&log) {
                end = End::Found;
            }
            show(&log, &mut out)?;
            close(store, log)?;
        }
        AnchorsCommand::Forget { store, name } => {
            let log = store.open()?;
            let known = log.forget_anchor(name).map_err(|e| match e.kind() {
                ErrorKind::Conflict => Failure::Input(format!("{}: {e}", store.store.display())),
                _ => store.failed(e),
            })?;
            close(store, log)?;
            if known.is_none() {
                return Err(Failure::Input(format!("{}: no anchor {name:?}", store.store.display())));
            }
            out.line(format!("forgotten: {}", clean(name)))?;
        }
        AnchorsCommand::Records { store } => {
            for (_, record) in changed(store, store.read()?.attestations())? {
                write!(out, "{record}")?;
            }
        }
    }
    out.flush()?;
    Ok(end)
}

/// The anchors of a file that must name some: a file without any is a wrong or mistyped one, and would take all away.
fn set_by(file: &Path) -> Result<Vec<AnchorConfig>, Failure> {
    let text = super::config::text(file)?;
    // The whole of it, as `init` and `policy set` read it: a table whose name is misspelt is not passed over.
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

fn show(log: &AuditLog, out: &mut Out) -> io::Result<()> {
    let columns = [left("ANCHOR"), right("HAS"), left("SINCE"), right("OWED"), left("LAST ERROR")];
    let mut table = Table::new(out, &columns);
    for anchor in log.anchors() {
        let plain = |text: String| (text, Style::Plain);
        let success = anchor.status.last_success;
        let has = success.map_or("-".to_owned(), |s| count(s.size));
        let since = success.map_or("-".to_owned(), |s| moment(s.at));
        let owed = anchor.status.owed.map_or("-".to_owned(), count);
        let error = match (&anchor.status.last_failure, anchor.at_hand) {
            (Some(failure), _) => clean(&failure.message),
            (None, false) => "not configured any more".to_owned(),
            (None, true) => String::new(),
        };
        table.row(vec![(clean(&anchor.name), Style::Bold), plain(has), plain(since), plain(owed), plain(error)])?;
    }
    table.finish()
}

/// Hands over what is owed, waits, and complains about what failed; says whether nothing did.
pub fn hand_over(log: &AuditLog) -> bool {
    let all = log.anchors().is_empty() || log.flush_anchors(PATIENCE);
    for anchor in log.anchors().iter().filter(|anchor| anchor.at_hand) {
        if let Some(failure) = &anchor.status.last_failure {
            complain(format!("{}: {}; it stays owed and is tried again", anchor.name, failure.message));
        }
    }
    all
}

/// The anchors of a configuration file's text, with files under their whole paths.
pub fn read(text: &str, path: &Path) -> Result<Vec<AnchorConfig>, Failure> {
    let mut all = AnchorConfig::from_toml(text, &path.display().to_string())?;
    for anchor in &mut all {
        if let attestlog::anchor::Channel::File(file) = &mut anchor.channel {
            *file = std::path::absolute(console::path(file)).map_err(|e| Failure::file(&*file, &e))?;
            // Said now, and not by `health` when checkpoints have been owed for a day.
            if let Some(folder) = file.parent().filter(|folder| !folder.is_dir()) {
                let (anchor, folder) = (file.display(), folder.display());
                return Err(Failure::Input(format!(
                    "{}: the anchor {anchor}: there is no folder {folder}; make it first, or mount what it is on",
                    path.display()
                )));
            }
        }
    }
    Ok(all)
}

/// Where it is said which anchors a store has.
fn beside(store: &Path) -> PathBuf {
    let mut path = store.as_os_str().to_owned();
    path.push(".anchors");
    path.into()
}

/// Whether the store has a file that says where its checkpoints go.
pub fn are_configured(store: &Path) -> bool {
    fs::symlink_metadata(beside(store)).is_ok()
}

/// The same options with the anchors of the store.
pub fn add(options: Options, store: &Path) -> Result<Options, Failure> {
    Ok(options.anchors(of(store)?))
}

/// The anchors of a store; none where there is no such file.
pub fn of(store: &Path) -> Result<Vec<Arc<dyn Anchor>>, Failure> {
    let path = beside(store);
    let about = match fs::metadata(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        about => about.map_err(|e| Failure::Store(format!("{}: {e}", path.display())))?,
    };
    super::beside::trusted(&path, &about, store)?;
    let text = Source::open_whole(Some(&path))?.read_all(MAX_BYTES)?;
    let text = String::from_utf8(text).map_err(|_| Failure::Input(format!("{}: is not UTF-8", path.display())))?;
    let anchors = AnchorConfig::from_toml(&text, &path.display().to_string())?;
    let anchors = anchors.iter().map(AnchorConfig::build).collect::<attestlog::Result<Vec<_>>>();
    anchors.map_err(|e| Failure::from(e).at(path.display()))
}

/// A file that was made for a store that is not there yet.
pub struct Made(Option<PathBuf>);

impl Made {
    /// Takes it away again: there is no store.
    pub fn take_back(&self) {
        if let Some(path) = &self.0 {
            // Nobody is helped by an error about it.
            let _ = fs::remove_file(path);
        }
    }
}

/// Says for a new store which anchors it has. A file of that name must not exist.
pub fn create(store: &Path, anchors: &[AnchorConfig]) -> Result<Made, Failure> {
    let path = beside(store);
    if fs::symlink_metadata(&path).is_ok() {
        let message = "exists already; deleting a store and beginning again must not go unnoticed, so move it away or choose \
                       another name";
        return Err(Failure::Store(format!("{}: {message}", path.display())));
    }
    if anchors.is_empty() {
        return Ok(Made(None));
    }
    // Without a file where there is something already: making the store says that better.
    if fs::symlink_metadata(store).is_ok() {
        return Ok(Made(None));
    }
    write(&path, anchors)?;
    Ok(Made(Some(path)))
}

/// Says for a store that is there which anchors it has.
pub fn replace(store: &Path, anchors: &[AnchorConfig]) -> Result<(), Failure> {
    let path = beside(store);
    let mut fresh = path.clone().into_os_string();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    // What an interrupted try left.
    let _ = fs::remove_file(&fresh);
    write(&fresh, anchors)?;
    fs::rename(&fresh, &path).map_err(|e| Failure::file(&path, &e))
}

fn write(path: &Path, anchors: &[AnchorConfig]) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let text: Vec<String> = anchors.iter().map(ToString::to_string).collect();
    let written = options.open(path).and_then(|mut file: File| {
        file.write_all(text.join("\n").as_bytes())?;
        file.sync_all()
    });
    written.map_err(|e| Failure::file(path, &e))
}
