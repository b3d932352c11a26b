//! Anchors as people write them: the `[[anchor]]` tables of a TOML file. Every fault is told with file, line and column.
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
//! Anchors are said by whoever opens the store, never by the store: a file that came from somebody else must not decide
//! which programs run here.

use super::{Anchor, CommandAnchor, FileAnchor, TimestampAnchor};
use crate::json::Json;
use crate::note::VerifierKey;
use crate::{Error, Result};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// How long an anchor is given where nobody says.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The longest that one may be given, in seconds.
const MAX_TIMEOUT: u64 = 3600;

/// One anchor as it is configured. Prints as its `[[anchor]]` table.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AnchorConfig {
    /// Where checkpoints go.
    pub channel: Channel,
    /// What it is called in reports; its own name where none is said.
    pub name: Option<String>,
    /// How long it is given for one checkpoint.
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
    /// To the time-stamping authority at this URL; whether entries may expire by its times.
    TimeStamp(String, bool),
    /// To a time-stamping authority through this program; whether entries may expire by its times.
    TimeStampCommand(Vec<String>, bool),
}

impl fmt::Debug for AnchorConfig {
    /// Without arguments, in which secrets may stand.
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
    /// The anchors of a configuration file; `file` is its name in errors. Other tables are left to their own readers.
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
        let source = Source { text, file };
        let document =
            DeTable::parse(text).map_err(|e| source.error(e.span().map_or(0, |s| s.start), e.message().to_owned()))?;
        let Some(list) = document.get_ref().get("anchor") else { return Ok(Vec::new()) };
        let tables = list.get_ref().as_array();
        let tables = tables.ok_or_else(|| source.at(list, "anchor is a list of tables: write [[anchor]]"))?;
        tables.iter().map(|table| source.anchor(table)).collect()
    }

    /// The anchor.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) where it cannot be: a URL that this build cannot ask, say.
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

impl fmt::Display for AnchorConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A JSON text is one of TOML, too, for strings without control characters, which reading refuses.
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

type Value<'a> = Spanned<DeValue<'a>>;

struct Source<'t> {
    text: &'t str,
    file: &'t str,
}

impl Source<'_> {
    fn anchor(&self, table: &Value<'_>) -> Result<AnchorConfig> {
        let DeValue::Table(members) = table.get_ref() else { return Err(self.at(table, "an anchor is a table")) };
        let get = |name: &str| members.iter().find(|(key, _)| key.get_ref() == name).map(|(_, value)| value);
        for (key, _) in members {
            const MEMBERS: [&str; 9] = [
                "file",
                "command",
                "witness",
                "key",
                "timestamp",
                "timestamp_command",
                "tells_time",
                "name",
                "timeout",
            ];
            if !MEMBERS.contains(&key.get_ref().as_ref()) {
                let message = format!("unknown key {:?}; an anchor has {}", key.get_ref(), MEMBERS.join(", "));
                return Err(self.error(key.span().start, message));
            }
        }
        let tells = match get("tells_time").map(|value| (value, value.get_ref())) {
            None => false,
            Some((_, DeValue::Boolean(tells))) => *tells,
            Some((value, _)) => return Err(self.at(value, "tells_time is true or false")),
        };
        let mut channels = Vec::new();
        if let Some(value) = get("file") {
            channels.push(Channel::File(self.string(value)?.into()));
        }
        if let Some(value) = get("command") {
            channels.push(Channel::Command(self.command(value)?));
        }
        if let Some(value) = get("witness") {
            let key = get("key").ok_or_else(|| self.at(value, "a witness needs its key"))?;
            let parsed = self.string(key)?.parse().map_err(|e| self.at(key, &format!("key: {e}")))?;
            channels.push(Channel::Witness(self.string(value)?, Box::new(parsed)));
        } else if let Some(key) = get("key") {
            return Err(self.at(key, "only a witness has a key"));
        }
        if let Some(value) = get("timestamp") {
            channels.push(Channel::TimeStamp(self.string(value)?, tells));
        }
        if let Some(value) = get("timestamp_command") {
            channels.push(Channel::TimeStampCommand(self.command(value)?, tells));
        }
        let one = "an anchor has one of file, command, witness, timestamp, timestamp_command";
        let channel = channels.pop().filter(|_| channels.is_empty()).ok_or_else(|| self.at(table, one))?;
        let timed = matches!(channel, Channel::TimeStamp(..) | Channel::TimeStampCommand(..));
        if let Some(value) = get("tells_time").filter(|_| !timed) {
            return Err(self.at(value, "only time-stamps have tells_time; a witness's times always count"));
        }
        let name = get("name").map(|value| self.string(value)).transpose()?;
        if let Some(value) = get("name").filter(|_| matches!(channel, Channel::File(_) | Channel::Witness(..))) {
            return Err(self.at(value, "a file is named by its path and a witness by its key"));
        }
        let timeout = match get("timeout").map(|value| (value, value.get_ref())) {
            None => TIMEOUT,
            Some((value, DeValue::Integer(n))) => {
                let seconds = u64::from_str_radix(n.as_str(), n.radix()).ok();
                let seconds = seconds.filter(|seconds| (1..=MAX_TIMEOUT).contains(seconds));
                let wrong = || self.at(value, &format!("timeout is a number of seconds from 1 to {MAX_TIMEOUT}"));
                Duration::from_secs(seconds.ok_or_else(wrong)?)
            }
            Some((value, _)) => return Err(self.at(value, "timeout is a number of seconds")),
        };
        let config = AnchorConfig { channel, name, timeout };
        config.build().map(|_| config).map_err(|e| self.at(table, &e.to_string()))
    }

    fn command(&self, value: &Value<'_>) -> Result<Vec<String>> {
        let DeValue::Array(words) = value.get_ref() else {
            return Err(self.at(value, "a command is a list: the program and each of its arguments"));
        };
        match words.is_empty() {
            true => Err(self.at(value, "the command names no program")),
            false => words.iter().map(|word| self.string(word)).collect(),
        }
    }

    fn string(&self, value: &Value<'_>) -> Result<String> {
        match value.get_ref() {
            DeValue::String(text) if text.is_empty() => Err(self.at(value, "must not be empty")),
            DeValue::String(text) if text.chars().any(char::is_control) => {
                Err(self.at(value, "has a control character"))
            }
            DeValue::String(text) => Ok(text.to_string()),
            _ => Err(self.at(value, "must be a string")),
        }
    }

    fn at(&self, value: &Value<'_>, message: &str) -> Error {
        self.error(value.span().start, message.to_owned())
    }

    /// An error at a byte of the text: lines and columns from 1, columns in characters.
    fn error(&self, at: usize, message: String) -> Error {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.bytes().filter(|&b| b == b'\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Error::invalid(message).at(format!("{}:{line}:{column}", self.file))
    }
}
