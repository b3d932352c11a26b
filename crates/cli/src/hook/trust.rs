//! What Codex says of its hooks: whether whoever runs it has trusted them.
//!
//! Codex runs only hooks that its user has trusted, and keeps a hash of each. `codex app-server` answers `hooks/list` with the hooks'
//! commands and whether it would run them. It is asked if the program is there, and no longer than [`PATIENCE`].

use attestlog::child;
use attestlog::json::Json;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// How long its answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most that is read of what it says.
const MOST: u64 = 16 << 20;

/// Whether Codex runs these commands in this project, and a remark about it; `None` if Codex is not there or says nothing of it.
pub fn of(project: &Path, commands: &[(String, String)]) -> (Option<bool>, String) {
    let only = "only Codex knows whether you have trusted these hooks: type /hooks in it";
    match asked(project) {
        Ok(listed) => {
            judged(&listed, commands).unwrap_or_else(|| (None, format!("`codex` does not list these hooks; {only}")))
        }
        Err(Some(why)) => (None, format!("`codex app-server` was asked, and {why}; {only}")),
        Err(None) => (None, only.to_owned()),
    }
}

/// Whether all of these commands are among the hooks that are run; `None` if one is not listed at all.
fn judged(listed: &[Hook], commands: &[(String, String)]) -> Option<(Option<bool>, String)> {
    let mut waiting = 0;
    for (event, command) in commands {
        let is_same = |hook: &&Hook| hook.command == *command && hook.event.eq_ignore_ascii_case(event);
        let mut same = listed.iter().filter(is_same).peekable();
        same.peek()?;
        waiting += usize::from(!same.all(|hook| hook.runs));
    }
    Some(match waiting {
        0 => (Some(true), "Codex says that these hooks are trusted".to_owned()),
        n => {
            let all = commands.len();
            (Some(false), format!("you have not trusted {n} of these {all} hooks: start `codex` and type /hooks"))
        }
    })
}

/// A hook, as Codex lists it.
#[derive(Debug, PartialEq)]
struct Hook {
    event: String,
    command: String,
    runs: bool,
}

/// The hooks that Codex lists; the error says why it did not, or nothing if there is no Codex.
fn asked(project: &Path) -> Result<Vec<Hook>, Option<String>> {
    let mut command = child::command("codex");
    command.arg("app-server").current_dir(project);
    let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut codex = Ended(match started {
        Ok(child) => child,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(None),
        Err(e) => return Err(Some(format!("could not be started: {e}"))),
    });
    let (Some(mut input), Some(output)) = (codex.0.stdin.take(), codex.0.stdout.take()) else { return Err(None) };
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let lines = BufReader::new(output.take(MOST)).split(b'\n').map_while(Result::ok);
        let answers = lines.filter_map(|line| Some(Json::parse(&line).ok()?.value));
        let mut ours = answers.filter(|answer| answer.get("id").and_then(Json::as_u64) == Some(1));
        // Nobody listens any more if it took too long.
        let _ = tell.send(ours.next());
    });
    let name = Json::from(project.to_string_lossy().as_ref()).to_canonical();
    let asked = format!(
        "{{\"id\":0,\"method\":\"initialize\",\"params\":{{\"clientInfo\":{{\"name\":\"attestlog\",\"version\":\"{}\"}}}}}}\n\
         {{\"method\":\"initialized\"}}\n{{\"id\":1,\"method\":\"hooks/list\",\"params\":{{\"cwds\":[{name}]}}}}\n",
        env!("CARGO_PKG_VERSION")
    );
    input.write_all(asked.as_bytes()).map_err(|e| Some(format!("did not listen: {e}")))?;
    match told.recv_timeout(PATIENCE) {
        Ok(Some(answer)) => match answer.get("result") {
            Some(result) => Ok(hooks(result)),
            None => Err(Some("does not know the question: it is another version".to_owned())),
        },
        Ok(None) | Err(RecvTimeoutError::Disconnected) => Err(Some("ended without an answer".to_owned())),
        Err(RecvTimeoutError::Timeout) => Err(Some("did not answer in time".to_owned())),
    }
}

/// The hooks in an answer, wherever they stand in it.
fn hooks(result: &Json) -> Vec<Hook> {
    let (mut all, mut left) = (Vec::new(), vec![result]);
    while let Some(value) = left.pop() {
        let text = |name: &str| value.get(name).and_then(Json::as_str);
        if let (Some(event), Some(command), Some(trust)) = (text("eventName"), text("command"), text("trustStatus")) {
            let is_on = value.get("enabled").and_then(Json::as_bool) != Some(false);
            let runs = is_on && matches!(trust, "trusted" | "managed");
            all.push(Hook { event: event.to_owned(), command: command.to_owned(), runs });
        }
        match value {
            Json::Array(items) => left.extend(items),
            Json::Object(members) => left.extend(members.iter().map(|(_, member)| member)),
            _ => {}
        }
    }
    all
}

/// A process that ends with this value.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
