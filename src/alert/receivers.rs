//! The configuration of alert receivers: the `[[receivers]]` tables of a TOML file. Every error names file, line and
//! column.
//!
//! ```toml
//! [[receivers]]
//! to = "stdout"                    # or "stderr": alerts as JSON Lines
//!
//! [[receivers]]
//! file = "/var/log/alerts.jsonl"   # appended to
//!
//! [[receivers]]
//! name = "pager"                   # how far a receiver was told is kept under its name; each has one if left out
//! command = ["/usr/local/bin/page", "--urgent"]
//! timeout = "30s"
//!
//! [[receivers]]
//! webhook = "https://siem.example.com/alerts"
//! secret_file = "/etc/attestlog/webhook.secret"   # its first line signs what is posted
//! timeout = "10s"
//! ```
//!
//! Receivers are not policies and are not in the chain: stores are data that people give to each other, and opening one
//! must not run a program that somebody wrote into it. The program keeps them in `STORE.receivers` beside the store.

use super::deliver::{CommandReceiver, Deliver, JsonLines};
use super::engine::AlertEngine;
use super::lag::STDOUT;
use super::listing::Alert;
use crate::files::{Writes, open_to_append};
use crate::json::Json;
use crate::rules::parse_duration;
use crate::toml_reader::{At, Command, Document, Spot, Word};
use crate::{Error, Result};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, Unexpected};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

/// Where a receiver's alerts go.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum To {
    /// JSON Lines on standard output.
    Stdout,
    /// JSON Lines on standard error.
    Stderr,
    /// JSON Lines appended to a file.
    File(PathBuf),
    /// A program and its arguments; each alert is a line on its standard input.
    Command(Vec<String>),
    /// A web address, and the file whose first line is the secret that signs what is posted there.
    Webhook(String, PathBuf),
}

/// One receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receiver {
    /// Its configured name, if it has one.
    pub name: Option<String>,
    /// Where its alerts go.
    pub to: To,
    /// How long a delivery may take; `None` means 10 seconds.
    pub timeout: Option<Duration>,
}

/// The receivers of a configuration, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receivers(pub Vec<Receiver>);

/// More are not useful, and each has a thread.
const MAX_RECEIVERS: usize = 16;
const TIMEOUT: Duration = Duration::from_secs(10);
/// A larger file was not meant to hold a secret.
#[cfg(feature = "witness")]
const MAX_SECRET: u64 = 64 << 10;

impl Receivers {
    /// Reads the `[[receivers]]` tables of a configuration file; `file` is its name in errors. Other tables are
    /// ignored.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) with file, line and column.
    ///
    /// ```
    /// use attestlog::alert::Receivers;
    /// let receivers = Receivers::from_toml("[[receivers]]\nto = 'stderr'\n", "store.toml")?;
    /// assert_eq!(receivers.0.len(), 1);
    /// let error = Receivers::from_toml("[[receivers]]\nto = 'moon'\n", "store.toml").unwrap_err();
    /// assert!(error.to_string().starts_with("store.toml:2:6: "), "{error}");
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn from_toml(text: &str, file: &str) -> Result<Receivers> {
        Receivers::read(&Document::parse(text, file)?)
    }

    pub(crate) fn read(document: &Document<'_>) -> Result<Receivers> {
        let Some(At { value: tables, spot }) = document.section::<At<Vec<At<Section>>>>("receivers")? else {
            return Ok(Receivers::default());
        };
        if tables.len() > MAX_RECEIVERS {
            return Err(document.error(&spot, format!("there are at most {MAX_RECEIVERS} receivers")));
        }
        tables.into_iter().map(|table| table.receiver(document)).collect::<Result<_>>().map(Receivers)
    }

    /// Writes the text that [`Receivers::from_toml`] reads.
    pub fn to_toml(&self) -> String {
        // JSON strings are TOML basic strings, except for one character.
        let quoted = |text: &str| Json::from(text).to_canonical().as_str().replace('\u{7f}', "\\u007f");
        let mut out = String::new();
        for receiver in &self.0 {
            out.push_str("[[receivers]]\n");
            let mut member = |name: &str, value: &str| {
                let _ = writeln!(out, "{name} = {value}");
            };
            if let Some(name) = &receiver.name {
                member("name", &quoted(name));
            }
            match &receiver.to {
                To::Stdout => member("to", "\"stdout\""),
                To::Stderr => member("to", "\"stderr\""),
                To::File(path) => member("file", &quoted(&path.to_string_lossy())),
                To::Command(words) => {
                    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
                    member("command", &format!("[{}]", words.join(", ")));
                }
                To::Webhook(url, secret) => {
                    member("webhook", &quoted(url));
                    member("secret_file", &quoted(&secret.to_string_lossy()));
                }
            }
            if let Some(timeout) = receiver.timeout {
                member("timeout", &quoted(&format!("{}s", timeout.as_secs())));
            }
        }
        out
    }
}

impl AlertEngine {
    /// Delivers to all of them. If standard output is taken, by a protocol for example, its alerts go to standard error
    /// instead. A receiver that cannot be opened is tried again at the next delivery, and delays no other. While the engine runs,
    /// [`Alerts::deliver_to`](crate::groups::Alerts::deliver_to) replaces these receivers.
    pub fn deliver_to_all(mut self, receivers: &Receivers, stdout_is_taken: bool) -> AlertEngine {
        self.stdout_is_taken = stdout_is_taken;
        receivers.open(stdout_is_taken).into_iter().fold(self, |engine, receiver| engine.add(receiver, true))
    }
}

impl Receivers {
    /// Opens the receivers. If standard output is taken, by a protocol for example, its alerts go to standard error
    /// instead. A receiver that cannot be opened is tried again at the next delivery.
    pub fn open(&self, stdout_is_taken: bool) -> Vec<Box<dyn Deliver>> {
        let one = |receiver: &Receiver| -> Box<dyn Deliver> {
            Box::new(Opening {
                name: receiver.name(stdout_is_taken),
                to: receiver.clone(),
                stdout_is_taken,
                open: None,
            })
        };
        self.0.iter().map(one).collect()
    }
}

impl Receiver {
    /// Its configured name, or its default one, which depends on whether standard output is taken by something else.
    pub fn name(&self, stdout_is_taken: bool) -> String {
        self.name.clone().unwrap_or_else(|| match &self.to {
            To::Stdout if !stdout_is_taken => STDOUT.to_owned(),
            To::Stdout | To::Stderr => "standard error".to_owned(),
            To::File(path) => format!("file {}", path.display()),
            To::Command(words) => CommandReceiver::new(words.first().map_or("", String::as_str), [""; 0]).name(),
            To::Webhook(url, _) => webhook_name(url),
        })
    }

    /// Checks whether it can be notified as things are: whether the folder of its file, its program, and its secret
    /// exist, and the secret is long enough.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) or [`NotFound`](crate::ErrorKind::NotFound), saying what to do.
    pub fn check(&self) -> Result<()> {
        match &self.to {
            To::Stdout | To::Stderr => Ok(()),
            To::File(path) => match path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
                Some(folder) => Err(Error::invalid(format!(
                    "the receiver {}: there is no folder {}; create it first, or mount the file system that it is on",
                    path.display(),
                    folder.display()
                ))),
                None => Ok(()),
            },
            // A program without a folder is looked up when it is run.
            To::Command(words) => match words.first().filter(|program| program.contains('/')) {
                Some(program) if !std::path::Path::new(program).is_file() => {
                    Err(Error::invalid(format!("the receiver {program}: there is no such program")))
                }
                _ => Ok(()),
            },
            To::Webhook(url, path) => {
                webhook(url, path, TIMEOUT).map(drop).map_err(|e| e.at(format!("the receiver {}", self.name(false))))
            }
        }
    }

    /// Opens the receiver.
    fn open(&self, stdout_is_taken: bool) -> Result<Box<dyn Deliver>> {
        let timeout = self.timeout.unwrap_or(TIMEOUT);
        let lines = |out: Box<dyn std::io::Write + Send>| -> Box<dyn Deliver> {
            Box::new(JsonLines::new(self.name(stdout_is_taken), out))
        };
        Ok(match &self.to {
            To::Stdout if !stdout_is_taken => lines(Box::new(std::io::stdout())),
            To::Stdout | To::Stderr => lines(Box::new(std::io::stderr())),
            To::File(path) => {
                let (file, _) = open_to_append(path, Writes::Alerts).map_err(|e| e.in_file(path))?;
                lines(Box::new(file))
            }
            To::Command(words) => {
                let (program, args) = words.split_first().ok_or_else(|| Error::invalid("a command has a program"))?;
                Box::new(CommandReceiver::new(program, args).timeout(timeout))
            }
            To::Webhook(url, path) => webhook(url, path, timeout)?,
        })
    }
}

#[cfg(feature = "witness")]
fn webhook_name(url: &str) -> String {
    let endpoint = crate::anchor::http::Endpoint::new(url, TIMEOUT);
    format!("webhook {}", endpoint.as_ref().map_or(url, |endpoint| endpoint.host()))
}

#[cfg(not(feature = "witness"))]
fn webhook_name(url: &str) -> String {
    format!("webhook {url}")
}

#[cfg(feature = "witness")]
fn webhook(url: &str, path: &std::path::Path, timeout: Duration) -> Result<Box<dyn Deliver>> {
    let secret = crate::files::read_small(path, MAX_SECRET).map_err(|e| e.in_file(path))?;
    let missing = || Error::new(crate::ErrorKind::NotFound, "there is no such file").in_file(path);
    let secret = zeroize::Zeroizing::new(secret.ok_or_else(missing)?);
    let line = secret.split(|b| matches!(b, b'\n' | b'\r')).next().unwrap_or_default();
    Ok(Box::new(super::Webhook::new(url, line, timeout).map_err(|e| e.in_file(path))?))
}

#[cfg(not(feature = "witness"))]
fn webhook(_: &str, _: &std::path::Path, _: Duration) -> Result<Box<dyn Deliver>> {
    Err(Error::invalid("webhooks need the feature `witness`"))
}

/// A named receiver that is opened at the first delivery. Failing to open it is a failure of this receiver alone, and
/// is tried again.
struct Opening {
    name: String,
    to: Receiver,
    stdout_is_taken: bool,
    open: Option<Box<dyn Deliver>>,
}

impl Deliver for Opening {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn deliver(&mut self, alert: &Alert) -> Result<()> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.to.open(self.stdout_is_taken)?,
        };
        open.deliver(alert)?;
        self.open = Some(open);
        Ok(())
    }
}

/// A `[[receivers]]` table as written in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    name: Option<Word<true>>,
    to: Option<At<Stream>>,
    file: Option<At<Word<true>>>,
    command: Option<At<Command<true>>>,
    webhook: Option<At<Word<true>>>,
    secret_file: Option<At<Word<true>>>,
    timeout: Option<Timeout>,
}

#[derive(Clone, Copy)]
enum Stream {
    Stdout,
    Stderr,
}

impl<'de> Deserialize<'de> for Stream {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Stream, D::Error> {
        match &*String::deserialize(from)? {
            "stdout" => Ok(Stream::Stdout),
            "stderr" => Ok(Stream::Stderr),
            other => Err(D::Error::invalid_value(Unexpected::Str(other), &"\"stdout\" or \"stderr\"")),
        }
    }
}

struct Timeout(Duration);

impl<'de> Deserialize<'de> for Timeout {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Timeout, D::Error> {
        let text = String::deserialize(from)?;
        let length = parse_duration(&text).ok().filter(|t| (1..=600).contains(&t.as_secs()));
        length.map(Timeout).ok_or_else(|| D::Error::invalid_value(Unexpected::Str(&text), &"a time from 1s to 10m"))
    }
}

impl At<Section> {
    fn receiver(self, document: &Document<'_>) -> Result<Receiver> {
        let Section { name, to, file, command, webhook, secret_file, timeout } = self.value;
        let stream = to.map(|At { value, spot }| {
            let to = match value {
                Stream::Stdout => To::Stdout,
                Stream::Stderr => To::Stderr,
            };
            (to, spot)
        });
        let web = webhook.is_some();
        let secret = secret_file.as_ref().map(|secret| PathBuf::from(&secret.value.0)).unwrap_or_default();
        let mut all: Vec<(To, Spot)> = stream.into_iter().collect();
        all.extend(file.map(|file| (To::File(file.value.0.into()), file.spot)));
        all.extend(command.map(|command| (To::Command(command.value.0), command.spot)));
        all.extend(webhook.map(|url| (To::Webhook(url.value.0, secret), url.spot)));
        all.sort_by_key(|(_, spot)| spot.offset);
        let one = "a receiver has one of to, file, command, webhook";
        if let Some((_, second)) = all.get(1) {
            return Err(document.error(&second.at_key(), one));
        }
        match secret_file {
            Some(secret) if !web => return Err(document.error(&secret.spot.at_key(), "secret_file is for a webhook")),
            None if web => return Err(document.error(&self.spot, "a webhook needs a secret_file")),
            _ => {}
        }
        let (to, _) = all.pop().ok_or_else(|| document.error(&self.spot, one))?;
        Ok(Receiver { name: name.map(|name| name.0), to, timeout: timeout.map(|timeout| timeout.0) })
    }
}
