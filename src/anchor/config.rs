//! The configuration of anchors: the `[[anchor]]` tables of a TOML file. Every error names file, line and column.
//!
//! ```toml
//! [[anchor]]
//! file = "/mnt/elsewhere/checkpoints.jsonl"
//!
//! [[anchor]]
//! command = ["/usr/local/bin/mail-checkpoint", "audit@example.com"]
//! name = "mail"                    # in reports, where two use one program
//! timeout = 30                     # seconds; 20 where it is left out
//!
//! [[anchor]]
//! witness = "http://witness.example.com/prefix"
//! key = "witness.example.com+37cb3e9b+BA…"
//!
//! [[anchor]]
//! timestamp = "http://tsa.example.com/"
//!
//! [[anchor]]
//! timestamp_command = ["curl", "-sf", "--data-binary", "@-", "-H", "Content-Type: application/timestamp-query", "https://…"]
//! tells_time = true                # entries may expire by its times
//! ```
//!
//! The process that opens the store configures the anchors, never the store itself: a file that came from somebody else
//! must not decide which programs run here.

use super::{Anchor, CommandAnchor, FileAnchor, TimestampAnchor};
use crate::json::Json;
use crate::note::VerifierKey;
use crate::toml_reader::{At, Command, Document, Word};
use crate::{Error, Result};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, Unexpected};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The default timeout of an anchor.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The longest timeout, in seconds.
const MAX_TIMEOUT: u64 = 3600;

/// One anchor as it is configured. Prints as its `[[anchor]]` table.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AnchorConfig {
    /// Where checkpoints go.
    pub channel: Channel,
    /// Its name in reports, if it is not the default one.
    pub name: Option<String>,
    /// The timeout for one checkpoint.
    pub timeout: Duration,
}

/// Where checkpoints go.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Channel {
    /// Appended to this file.
    File(PathBuf),
    /// To the standard input of this program.
    Command(Vec<String>),
    /// To the witness at this submission prefix, whose key is this.
    Witness(String, Box<VerifierKey>),
    /// To the time-stamping authority at this URL; the flag says whether entries may expire by its times.
    TimeStamp(String, bool),
    /// To a time-stamping authority through this program; the flag says whether entries may expire by its times.
    TimeStampCommand(Vec<String>, bool),
}

impl fmt::Debug for AnchorConfig {
    /// Leaves out the arguments, which may contain secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnchorConfig").field("kind", &self.channel.member()).field("name", &self.name).finish()
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.member())
    }
}

impl Channel {
    fn member(&self) -> &'static str {
        match self {
            Channel::File(_) => "file",
            Channel::Command(_) => "command",
            Channel::Witness(..) => "witness",
            Channel::TimeStamp(..) => "timestamp",
            Channel::TimeStampCommand(..) => "timestamp_command",
        }
    }
}

impl AnchorConfig {
    /// Reads the anchors of a configuration file; `file` is its name in errors. Other tables are ignored.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) with file, line and column.
    ///
    /// ```
    /// use attestlog::anchor::AnchorConfig;
    /// let anchors = AnchorConfig::from_toml("[[anchor]]\nfile = '/mnt/elsewhere/kept'\n", "store.toml")?;
    /// assert_eq!(anchors[0].to_string(), "[[anchor]]\nfile = \"/mnt/elsewhere/kept\"\n");
    /// let error = AnchorConfig::from_toml("[[anchor]]\nfil = 'x'\n", "store.toml").unwrap_err();
    /// assert!(error.to_string().starts_with("store.toml:2:1: "), "{error}");
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn from_toml(text: &str, file: &str) -> Result<Vec<AnchorConfig>> {
        AnchorConfig::read(&Document::parse(text, file)?)
    }

    pub(crate) fn read(document: &Document<'_>) -> Result<Vec<AnchorConfig>> {
        let tables = document.section::<Vec<At<Section>>>("anchor")?.unwrap_or_default();
        let mut all: Vec<AnchorConfig> = Vec::new();
        for table in tables {
            let spot = table.spot.clone();
            all.push(table.anchor(document)?);
            check_names(&all).map_err(|e| document.place(&spot, e))?;
        }
        Ok(all)
    }

    /// Builds the anchor.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if that is impossible, for example because this build does not
    /// support the URL.
    pub fn build(&self) -> Result<Arc<dyn Anchor>> {
        let named = |anchor: TimestampAnchor, tells: bool| {
            let anchor = if tells { anchor.telling_time() } else { anchor };
            match &self.name {
                Some(name) => anchor.named(name),
                None => anchor,
            }
        };
        let split = |command: &[String]| -> Result<(String, Vec<String>)> {
            let (program, args) =
                command.split_first().ok_or_else(|| Error::invalid("the command names no program"))?;
            Ok((program.clone(), args.to_vec()))
        };
        Ok(match &self.channel {
            Channel::File(path) => Arc::new(FileAnchor::new(path)),
            Channel::Command(command) => {
                let (program, args) = split(command)?;
                let anchor = CommandAnchor::new(program, args, self.timeout);
                Arc::new(match &self.name {
                    Some(name) => anchor.named(name),
                    None => anchor,
                })
            }
            Channel::TimeStampCommand(command, tells) => {
                let (program, args) = split(command)?;
                Arc::new(named(TimestampAnchor::program(program, args, self.timeout), *tells))
            }
            #[cfg(feature = "witness")]
            Channel::Witness(url, key) => Arc::new(super::WitnessAnchor::new(url, (**key).clone(), self.timeout)?),
            #[cfg(feature = "witness")]
            Channel::TimeStamp(url, tells) => Arc::new(named(TimestampAnchor::http(url, self.timeout)?, *tells)),
            #[cfg(not(feature = "witness"))]
            Channel::Witness(..) | Channel::TimeStamp(..) => {
                return Err(Error::invalid("this build cannot ask over HTTP: build it with the feature `witness`"));
            }
        })
    }
}

/// Refuses anchors of which two have one name: what is owed is kept by name, so only one of them would get anything.
///
/// # Errors
/// [`InvalidInput`](crate::ErrorKind::InvalidInput), with the name.
///
/// ```
/// use attestlog::anchor::{AnchorConfig, Channel, check_names};
/// let mut anchors = AnchorConfig::from_toml("[[anchor]]\nfile = '/mnt/a'\n[[anchor]]\nfile = '/mnt/b'\n", "store.toml")?;
/// check_names(&anchors)?;
/// anchors[1].channel = Channel::File("/mnt/a".into());
/// assert!(check_names(&anchors).is_err());
/// # Ok::<(), attestlog::Error>(())
/// ```
pub fn check_names(anchors: &[AnchorConfig]) -> Result<()> {
    let built = anchors.iter().map(AnchorConfig::build).collect::<Result<Vec<_>>>()?;
    super::check_anchors(&built)
}

impl fmt::Display for AnchorConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A JSON string is also a TOML string if it has no control characters, which reading refuses.
        let string = |text: &str| Json::from(text).to_canonical().to_string();
        let strings = |texts: &[String]| Json::from(texts.to_vec()).to_canonical().to_string();
        f.write_str("[[anchor]]\n")?;
        match &self.channel {
            Channel::File(path) => writeln!(f, "file = {}", string(&path.to_string_lossy()))?,
            Channel::Command(command) => writeln!(f, "command = {}", strings(command))?,
            Channel::Witness(url, key) => {
                writeln!(f, "witness = {}\nkey = {}", string(url), string(&key.to_string()))?;
            }
            Channel::TimeStamp(url, _) => writeln!(f, "timestamp = {}", string(url))?,
            Channel::TimeStampCommand(command, _) => writeln!(f, "timestamp_command = {}", strings(command))?,
        }
        if let Channel::TimeStamp(_, true) | Channel::TimeStampCommand(_, true) = self.channel {
            f.write_str("tells_time = true\n")?;
        }
        if let Some(name) = &self.name {
            writeln!(f, "name = {}", string(name))?;
        }
        match self.timeout == TIMEOUT {
            true => Ok(()),
            false => writeln!(f, "timeout = {}", self.timeout.as_secs()),
        }
    }
}

/// An `[[anchor]]` table as written in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    file: Option<Word<false>>,
    command: Option<Command<false>>,
    witness: Option<At<Word<false>>>,
    key: Option<At<Word<false>>>,
    timestamp: Option<Word<false>>,
    timestamp_command: Option<Command<false>>,
    tells_time: Option<At<bool>>,
    name: Option<At<Word<false>>>,
    timeout: Option<Timeout>,
}

struct Timeout(Duration);

impl<'de> Deserialize<'de> for Timeout {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Timeout, D::Error> {
        let seconds = u64::deserialize(from)?;
        match (1..=MAX_TIMEOUT).contains(&seconds) {
            true => Ok(Timeout(Duration::from_secs(seconds))),
            false => {
                let wanted = format!("a number of seconds from 1 to {MAX_TIMEOUT}");
                Err(D::Error::invalid_value(Unexpected::Unsigned(seconds), &wanted.as_str()))
            }
        }
    }
}

impl At<Section> {
    fn anchor(self, document: &Document<'_>) -> Result<AnchorConfig> {
        let Section { file, command, witness, key, timestamp, timestamp_command, tells_time, name, timeout } =
            self.value;
        let tells = tells_time.as_ref().is_some_and(|tells| tells.value);
        let mut channels: Vec<Channel> = Vec::new();
        channels.extend(file.map(|path| Channel::File(path.0.into())));
        channels.extend(command.map(|command| Channel::Command(command.0)));
        match (witness, key) {
            (Some(url), Some(key)) => {
                let parsed = key.value.0.parse();
                let parsed = parsed.map_err(|e| document.error(&key.spot, format_args!("key: {e}")))?;
                channels.push(Channel::Witness(url.value.0, Box::new(parsed)));
            }
            (Some(url), None) => return Err(document.error(&url.spot, "a witness needs its key")),
            (None, Some(key)) => return Err(document.error(&key.spot, "only a witness has a key")),
            (None, None) => {}
        }
        channels.extend(timestamp.map(|url| Channel::TimeStamp(url.0, tells)));
        channels.extend(timestamp_command.map(|command| Channel::TimeStampCommand(command.0, tells)));
        let one = "an anchor has one of file, command, witness, timestamp, timestamp_command";
        let channel = channels.pop().filter(|_| channels.is_empty()).ok_or_else(|| document.error(&self.spot, one))?;
        let timed = matches!(channel, Channel::TimeStamp(..) | Channel::TimeStampCommand(..));
        if let Some(tells) = tells_time.filter(|_| !timed) {
            let message = "only time-stamps have tells_time; a witness's times always count";
            return Err(document.error(&tells.spot, message));
        }
        if let Some(name) = name.as_ref().filter(|_| matches!(channel, Channel::File(_) | Channel::Witness(..))) {
            return Err(document.error(&name.spot, "a file is named by its path and a witness by its key"));
        }
        let name = name.map(|name| name.value.0);
        let config = AnchorConfig { channel, name, timeout: timeout.map_or(TIMEOUT, |timeout| timeout.0) };
        config.build().map(|_| config).map_err(|e| document.place(&self.spot, e))
    }
}
