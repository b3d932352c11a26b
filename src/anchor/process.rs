//! Runs another program: bytes in, bytes out, with limits on time and size.
//!
//! Invariants: no shell is involved. The caller never waits longer than the timeout, whatever the program or its
//! children do with the pipes. The program's output is drained, so that it cannot block on a full pipe, and kept only
//! up to a limit. A program that exceeds its time is killed; children that it left behind are not tracked.

use super::excerpt;
use crate::{Error, ErrorKind, Result};
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read, Write};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How much of the standard error output is kept for the message.
const MAX_STDERR_BYTES: usize = 4 << 10;

/// How long to wait for the end of the standard error output after a program failed.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A program with its arguments. Arguments may contain secrets, so `Debug` shows only their number.
#[derive(Clone)]
pub(crate) struct Program {
    pub(crate) program: OsString,
    pub(crate) args: Vec<OsString>,
    pub(crate) timeout: Duration,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} with {} arguments, {:?}", self.program, self.args.len(), self.timeout)
    }
}

impl Program {
    /// Its file name, for reports.
    pub(crate) fn name(&self) -> String {
        let path = std::path::Path::new(&self.program);
        path.file_name().unwrap_or(&self.program).to_string_lossy().into_owned()
    }

    /// Runs it with `input` on its standard input and discards its output.
    pub(crate) fn feed(&self, input: &[u8]) -> Result<()> {
        self.run(input, None).map(drop)
    }

    /// Runs it with `input` on its standard input and returns its output, at most `max` bytes.
    pub(crate) fn ask(&self, input: &[u8], max: usize) -> Result<Vec<u8>> {
        self.run(input, Some(max))
    }

    #[allow(clippy::disallowed_methods, reason = "waits for a program, which runs in real time")]
    fn run(&self, input: &[u8], max: Option<usize>) -> Result<Vec<u8>> {
        let fail = |what: String| Error::new(ErrorKind::Io, format!("{}: {what}", self.name()));
        let started = Instant::now();
        let mut child = crate::child::command(&self.program)
            .args(&self.args)
            .stdin(Stdio::piped())
            .stdout(if max.is_some() { Stdio::piped() } else { Stdio::null() })
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| fail(format!("it could not be started: {e}")).with_source(e))?;
        let pipes = Pipes::of(&mut child, input, max);
        let pipes = pipes
            .inspect_err(|_| end(&mut child))
            .map_err(|e| fail(format!("no thread could be started for it: {e}")))?;
        let (out, errors, written) = pipes;

        let Some(status) = wait(&mut child, started, self.timeout).map_err(|e| fail(e.to_string()))? else {
            end(&mut child);
            return Err(fail(format!("it had not ended after {:?}{}", self.timeout, errors.last_words())));
        };
        if !status.success() {
            return Err(fail(format!("{status}{}", errors.last_words())));
        }
        let left = || self.timeout.saturating_sub(started.elapsed());
        match written.recv_timeout(left().max(LAST_WORDS)) {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(fail("it succeeded, but did not read its input to the end".to_owned())),
            Err(_) => return Err(fail("it succeeded, but its input was not read to the end".to_owned())),
        }
        let (Some(out), Some(max)) = (out, max) else { return Ok(Vec::new()) };
        if out.done.recv_timeout(left().max(LAST_WORDS)).is_err() {
            return Err(fail("it ended, but something that it started keeps its output open".to_owned()));
        }
        let bytes = out.taken();
        if bytes.len() > max {
            return Err(fail(format!("it printed more than {max} bytes")));
        }
        Ok(bytes)
    }
}

/// The output, the standard error, and the result of writing the input.
type Three = (Option<Drain>, Drain, Receiver<io::Result<()>>);

struct Pipes;

impl Pipes {
    fn of(child: &mut Child, input: &[u8], max: Option<usize>) -> io::Result<Three> {
        let out = match (child.stdout.take(), max) {
            (Some(out), Some(max)) => Some(Drain::start(out, max)?),
            _ => None,
        };
        let errors = Drain::start(child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?, MAX_STDERR_BYTES)?;
        let mut stdin = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let (input, (told, written)) = (input.to_vec(), channel());
        // The send fails if the caller has timed out and no longer listens; the same holds for the drains.
        thread::Builder::new().spawn(move || drop(told.send(stdin.write_all(&input))))?;
        Ok((out, errors, written))
    }
}

/// Reads a pipe to its end, whether or not anybody waits. Keeps one byte more than the limit, to show that there was
/// more.
struct Drain {
    bytes: Arc<Mutex<Vec<u8>>>,
    done: Receiver<()>,
}

impl Drain {
    fn start(mut pipe: impl Read + Send + 'static, max: usize) -> io::Result<Drain> {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let (kept, (told, done)) = (Arc::clone(&bytes), channel());
        thread::Builder::new().spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                match pipe.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(n) => {
                        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                        let room = (max + 1).saturating_sub(kept.len());
                        kept.extend(buffer.iter().take(n.min(room)));
                    }
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
            let _ = told.send(());
        })?;
        Ok(Drain { bytes, done })
    }

    fn taken(&self) -> Vec<u8> {
        std::mem::take(&mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn last_words(&self) -> String {
        // Report what there is by now, whether or not the pipe was closed.
        let _ = self.done.recv_timeout(LAST_WORDS);
        let text = excerpt(&self.taken());
        if text.is_empty() { text } else { format!(": {text}") }
    }
}

/// Waits for the program to exit; `None` after the timeout. The standard library has no wait with a timeout, so this
/// polls, at first often, since most programs exit soon.
fn wait(child: &mut Child, started: Instant, timeout: Duration) -> io::Result<Option<ExitStatus>> {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let left = timeout.saturating_sub(started.elapsed());
        if left.is_zero() {
            return Ok(None);
        }
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Kills and reaps the program, so that no zombie is left. If killing fails, the program has already exited.
fn end(child: &mut Child) {
    drop(child.kill());
    drop(child.wait());
}
