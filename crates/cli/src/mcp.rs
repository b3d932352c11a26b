//! `mcp`: sits between a Model Context Protocol host and a server, and records every tool call.
//!
//! Bytes, signals, exit code and standard error are the server's: the server process writes directly to this process's
//! standard error, signals are passed on, and this process ends as the server did.

use super::context::Context;
use super::exit::{End, Failure, Outcome};
use super::starter;
use super::store::{Alerts, StoreArgs};
use attestlog::host::{Random, SystemClock, SystemRandom};
use attestlog::note::VerifierKey;
use attestlog::retention::PatientPaths;
use attestlog_capture::mcp::{Frames, Identity, Observer, Settings, Verdict};
use clap::Args;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// How many bytes are read at a time.
const READ: usize = 256 << 10;
/// How often the server and the host are checked.
const PAUSE: Duration = Duration::from_millis(20);
/// How long to wait, after the server has ended, for output from processes that it left running.
const LEFT_BEHIND: Duration = Duration::from_secs(2);

/// Record the tool calls of a Model Context Protocol server: a stdio proxy in front of it
///
/// In a host's configuration, put the server's command after `--`. Nothing changes for host and server; a call that cannot
/// be recorded fails.
#[derive(Debug, Args)]
pub struct McpArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The user [default: what the host says in `_meta`, else ATTESTLOG_USER, else the login name]
    #[arg(long, value_name = "ID", value_parser = super::named::named)]
    user: Option<String>,
    /// The user's role
    #[arg(long, value_name = "ROLE", value_parser = super::named::named)]
    role: Option<String>,
    /// The model that decides on the calls
    #[arg(long, value_name = "NAME", value_parser = super::named::named)]
    model: Option<String>,
    /// The purpose for which data is accessed
    #[arg(long, value_name = "PURPOSE", value_parser = super::named::named)]
    purpose: Option<String>,
    /// The conversation [default: what the host says in `_meta`, else ATTESTLOG_CONVERSATION, else one per start]
    #[arg(long, value_name = "ID", value_parser = super::named::named)]
    conversation: Option<String>,
    /// The agent in which the model runs [default: what the client calls itself]
    #[arg(long, value_name = "ID", value_parser = super::named::named)]
    agent: Option<String>,
    /// The server's name in the log [default: what it calls itself]
    #[arg(long, value_name = "NAME", value_parser = super::named::named)]
    server: Option<String>,
    /// Where calls name patients: arguments.patient.id, result.structuredContent.patients[*].id
    #[arg(long, value_name = "PATH")]
    patient_path: Vec<String>,
    /// A tool that changes nothing: its calls are recorded once, before the reply is passed on. `*` at the end matches any
    /// rest
    #[arg(long, value_name = "TOOL", value_parser = super::named::named)]
    read_only: Vec<String>,
    /// Record a call as timed out after this time without a reply: seconds, or a time such as 10m
    #[arg(long, value_name = "TIME", value_parser = super::named::time)]
    timeout: Option<Duration>,
    /// How long the server may run on after the host has closed its input and has gone or no longer listens, before it is
    /// told to end; after the same time again it is killed
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = super::named::time)]
    grace: Duration,
    /// Let calls through that cannot be recorded
    #[arg(long)]
    fail_open: bool,
    /// Record even if the store's key file is missing; the log says so, and what is recorded is not signed
    #[arg(long)]
    unsigned: bool,
    /// The log's public key, or a file with it, for a recorder that does not have the key file: nothing is sent to a
    /// process that does not prove that it has the secret half
    #[arg(long, value_name = "KEY", value_parser = super::verify_args::log_key, help_heading = "Keys")]
    public_key: Option<VerifierKey>,
    /// The server's command
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl McpArgs {
    fn settings(&self, cx: &Context) -> Result<Settings, Failure> {
        let env = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let mut number = [0; 8];
        SystemRandom.fill(&mut number);
        let mut identity = Identity::default();
        identity.user = self.user.clone();
        identity.conversation = self.conversation.clone();
        let login =
            || env("USER").or_else(|| env("LOGNAME")).or_else(|| env("USERNAME")).or_else(super::named::account);
        let said = self.user.clone().or_else(|| env("ATTESTLOG_USER")).or_else(login);
        identity.default_user = said.unwrap_or_else(|| {
            cx.complain("nothing says who calls: calls without a user in `_meta` are recorded for `unknown`; name one with --user");
            "unknown".to_owned()
        });
        let fresh = || format!("mcp-{:016x}", u64::from_be_bytes(number));
        identity.default_conversation = env("ATTESTLOG_CONVERSATION").unwrap_or_else(fresh);
        identity.role = self.role.clone();
        identity.model = self.model.clone();
        identity.purpose = self.purpose.clone();
        identity.agent = self.agent.clone();
        identity.server = self.server.clone();
        let program = self.command.first().map(Path::new).and_then(Path::file_name);
        identity.default_server =
            program.map_or_else(|| "server".to_owned(), |name| name.to_string_lossy().into_owned());
        let mut settings = Settings::default();
        settings.identity = identity;
        settings.read_only = self.read_only.clone();
        if !self.patient_path.is_empty() {
            let paths = PatientPaths::new([("*", self.patient_path.clone())]);
            settings.patients = paths.map_err(|e| Failure::from(e).at("--patient-path"))?;
        }
        if self.timeout == Some(Duration::ZERO) {
            return Err(Failure::Input(
                "--timeout 0: every call would be recorded as timed out; give some time".to_owned(),
            ));
        }
        if let Some(tool) = self.read_only.iter().find(|tool| tool.trim_end_matches('*').contains('*')) {
            return Err(Failure::Input(format!(
                "--read-only {tool:?}: `*` stands for the rest of a name, so only at its end"
            )));
        }
        settings.timeout = self.timeout;
        settings.fail_open = self.fail_open;
        Ok(settings)
    }
}

pub fn run(cx: &Context, args: &McpArgs) -> Outcome {
    if args.fail_open {
        cx.complain("--fail-open: calls that cannot be recorded are LET THROUGH");
    }
    starter::check(&args.command)?;
    let settings = args.settings(cx)?;
    let grace = args.grace;
    let (timeout, options) = (settings.timeout, args.store.key.options(cx)?.unsigned(args.unsigned));
    // The anchors are used, as they are then, when this process becomes the owner; if they must not be used, it does not
    // start at all.
    super::anchors::of(&args.store.store)?;
    // Standard output belongs to the protocol.
    let mut sharing = args.store.sharing(cx, Alerts::Raised { taken: true });
    sharing.public_key = args.public_key.clone();
    let store = args.store.store.clone();
    let reach = move || {
        let log = options.clone().open_with(&store, sharing.clone())?;
        if log.is_owner()
            && let Err(e) = log.check_recording()
        {
            log.close()?;
            return Err(e);
        }
        log.stand_by();
        Ok(log)
    };
    let told = cx.clone();
    let say = move |message: &str| told.complain(message);
    let observer = Observer::new(settings, Arc::new(SystemClock::default()), reach, say);
    let observer = Arc::new(observer.map_err(|e| args.store.name(&e, Failure::Store(e.to_string())))?);

    let signals = signals()?;
    let host = starter::parent();
    // Started on this thread, which lives as long as the process does: the server ends with it.
    let mut child = starter::start(&args.command, |command| command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
    let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(Failure::Store("the server's pipes are missing".to_owned()));
    };
    pass_signals_on(signals, child.id(), observer.clone());
    let watching = observer.clone();
    let (closed, when_closed) = channel();
    std::thread::spawn(move || {
        to_server(&watching, input);
        let _ = closed.send(());
    });
    let (ended, when_ended) = channel();
    let watching = observer.clone();
    std::thread::spawn(move || {
        to_host(&watching, output);
        let _ = ended.send(());
    });
    if timeout.is_some() {
        let watching = observer.clone();
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_millis(100));
                watching.expire();
            }
        });
    }
    let status = wait(cx, &mut child, &when_closed, host, grace);
    let status = status.map_err(|e| Failure::Store(format!("the server's process: {e}")))?;
    // Processes that the server left running may keep the pipe open; the host would have seen the server end.
    let _ = when_ended.recv_timeout(LEFT_BEHIND);
    observer.close(&format!("the server ended ({status}) before it replied"));
    end_like(status)
}

/// Waits for the server's end. Ends a server that keeps running after its input is closed and the host has gone or no
/// longer listens.
fn wait(
    cx: &Context,
    child: &mut Child,
    closed: &Receiver<()>,
    host: Option<u32>,
    grace: Duration,
) -> io::Result<ExitStatus> {
    let mut alone = Duration::ZERO;
    let (mut input_closed, mut told) = (false, false);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        match closed.recv_timeout(PAUSE) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) => input_closed = true,
            Err(RecvTimeoutError::Disconnected) => {
                input_closed = true;
                std::thread::sleep(PAUSE);
            }
        }
        let gone = host.is_some() && starter::parent() != host;
        if !input_closed || !(gone || cx.nobody_listens()) {
            continue;
        }
        alone += PAUSE;
        if alone >= grace.saturating_mul(2) {
            child.kill()?;
        } else if alone >= grace && !told {
            told = true;
            starter::tell_to_end(child);
        }
    }
}

/// Copies from the host to the server, until either ends.
fn to_server(observer: &Observer, mut server: ChildStdin) {
    let mut host = io::stdin().lock();
    let mut frames = Frames::default();
    let mut buffer = vec![0; READ];
    loop {
        let (whole, ended) = read(&mut host, &mut frames, &mut buffer);
        if !whole.is_empty() {
            let verdicts = observer.from_host(&whole);
            let forwarded = whole.into_iter().zip(verdicts).filter_map(|(frame, verdict)| match verdict {
                Verdict::Forward => Some(frame),
                Verdict::Answer(bytes) => {
                    say(&bytes);
                    None
                }
            });
            if write(&mut server, forwarded).is_err() {
                return;
            }
        }
        if ended {
            observer.host_gone();
            return;
        }
    }
}

/// Copies from the server to the host, until either ends.
fn to_host(observer: &Observer, mut server: ChildStdout) {
    let mut frames = Frames::default();
    let mut buffer = vec![0; READ];
    loop {
        let (whole, ended) = read(&mut server, &mut frames, &mut buffer);
        if !whole.is_empty() {
            let verdicts = observer.from_server(&whole);
            let passed_on = whole.into_iter().zip(verdicts).map(|(frame, verdict)| match verdict {
                Verdict::Forward => frame,
                Verdict::Answer(bytes) => bytes,
            });
            if write(&mut io::stdout().lock(), passed_on).is_err() {
                // The server sees a closed pipe, as it would without this proxy.
                return;
            }
        }
        if ended {
            observer.server_silent();
            end_output();
            return;
        }
    }
}

/// The frames that the next bytes complete, and whether they are the last: then what is left of a frame is one.
fn read(from: &mut impl Read, frames: &mut Frames, buffer: &mut [u8]) -> (Vec<Vec<u8>>, bool) {
    let read = loop {
        match from.read(buffer) {
            Ok(n) => break n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break 0,
        }
    };
    let mut whole = frames.push(buffer.get(..read).unwrap_or_default());
    if read == 0 {
        whole.extend(frames.finish());
    }
    (whole, read == 0)
}

/// Closes standard output: the host sees the end of the server's output as it would without this proxy.
fn end_output() {
    #[cfg(unix)]
    if let Ok(nothing) = std::fs::OpenOptions::new().write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdout(nothing);
    }
}

/// Writes frames: small ones at once, and no large one is held twice in memory.
fn write(to: &mut impl Write, frames: impl Iterator<Item = Vec<u8>>) -> io::Result<()> {
    let mut together = Vec::new();
    for frame in frames {
        if frame.len() > READ {
            to.write_all(&std::mem::take(&mut together))?;
            to.write_all(&frame)?;
        } else {
            together.extend(frame);
        }
    }
    to.write_all(&together)?;
    to.flush()
}

/// Writes an answer from this process to the host as a whole frame, between those of the server.
fn say(bytes: &[u8]) {
    let mut host = io::stdout().lock();
    let _ = host.write_all(bytes).and_then(|()| host.flush());
}

#[cfg(unix)]
fn signals() -> Result<signal_hook::iterator::Signals, Failure> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
    let signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2]);
    signals.map_err(|e| Failure::Store(format!("signals: {e}")))
}

#[cfg(unix)]
fn pass_signals_on(mut signals: signal_hook::iterator::Signals, server: u32, observer: Arc<Observer>) {
    use nix::sys::signal::{Signal, kill};
    use signal_hook::consts::{SIGINT, SIGQUIT, SIGUSR1, SIGUSR2};
    std::thread::spawn(move || {
        for number in signals.forever() {
            if ![SIGUSR1, SIGUSR2].contains(&number) {
                observer.told_to_end(Signal::try_from(number).map_or("a signal", Signal::as_str));
            }
            let own = [SIGINT, SIGQUIT].contains(&number) && in_foreground();
            if let (false, Ok(signal), Ok(server)) = (own, Signal::try_from(number), i32::try_from(server)) {
                // The server may have ended just now.
                let _ = kill(nix::unistd::Pid::from_raw(server), signal);
            }
        }
    });
}

/// Whether a terminal's keys send their signals to this process: then they send them to the server too, which is in the
/// same process group, whatever its standard streams are connected to.
#[cfg(unix)]
fn in_foreground() -> bool {
    let terminal = std::fs::File::open("/dev/tty");
    terminal.is_ok_and(|tty| nix::unistd::tcgetpgrp(tty) == Ok(nix::unistd::getpgrp()))
}

/// Ends this process as the server ended.
#[cfg(unix)]
fn end_like(status: ExitStatus) -> Outcome {
    use std::os::unix::process::ExitStatusExt;
    if let Some(signal) = status.signal() {
        let _ = signal_hook::low_level::emulate_default_handler(signal);
        if let Ok(deadly) = nix::sys::signal::Signal::try_from(signal) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), deadly);
        }
        return Ok(End::Code(128u8.wrapping_add(signal as u8)));
    }
    Ok(End::Code(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

#[cfg(not(unix))]
fn signals() -> Result<(), Failure> {
    Ok(())
}

#[cfg(not(unix))]
fn pass_signals_on((): (), _: u32, _: Arc<Observer>) {}

#[cfg(not(unix))]
fn end_like(status: ExitStatus) -> Outcome {
    Ok(End::Code(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}
