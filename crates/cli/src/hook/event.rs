//! One event of a coding agent, on standard input.
//!
//! Invariant R105: a tool runs only after its call is in the log. If that fails, whatever the cause, this program ends with 2 and says
//! why on standard error, which is the one answer that every agent takes for a no; it does so before the agent gives up waiting for
//! it, because agents take silence for a yes. An event before which nothing can be stopped ends with 1 then: 2 would keep an agent
//! from ending.

use super::through;
use crate::context::Context;
use crate::exit::{End, Failure, Outcome};
use crate::named::{account, named, time};
use crate::store::StoreArgs;
use attestlog::host::{Clock, SystemClock};
use attestlog::note::VerifierKey;
use attestlog_capture::hook::{self, Agent, Identity, MAX_EVENT, Moment};
use clap::Args;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[derive(Debug, Args)]
pub struct EventArgs {
    #[command(flatten)]
    pub store: StoreArgs,
    /// The user [default: ATTESTLOG_USER, else the name of the operating system's account]
    #[arg(long, value_name = "ID", value_parser = named)]
    pub user: Option<String>,
    /// The user's role
    #[arg(long, value_name = "ROLE", value_parser = named)]
    pub role: Option<String>,
    /// The model that decides on the calls [default: what the event says]
    #[arg(long, value_name = "NAME", value_parser = named)]
    pub model: Option<String>,
    /// The purpose for which data is accessed
    #[arg(long, value_name = "PURPOSE", value_parser = named)]
    pub purpose: Option<String>,
    /// The conversation [default: the agent's session]
    #[arg(long, value_name = "ID", value_parser = named)]
    pub conversation: Option<String>,
    /// The agent's version, for the log
    #[arg(long, value_name = "VERSION", value_parser = named)]
    pub agent_version: Option<String>,
    /// The event's name, for agents that do not pass it
    #[arg(long, value_name = "NAME", value_parser = named)]
    pub event: Option<String>,
    /// Let tools run whose calls cannot be recorded
    #[arg(long)]
    pub fail_open: bool,
    /// How long recording may take: less than the agent waits for its hook, since agents go on when a hook takes too long
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = time)]
    pub deadline: Duration,
    /// How long the process stays that is started to keep the store open, if opening it takes long
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = time)]
    pub idle: Duration,
    /// The log's public key, or a file with it, for a recorder that does not have the key file: nothing is sent to a
    /// process that does not prove that it has the secret half
    #[arg(long, value_name = "KEY", value_parser = crate::verify_args::log_key, help_heading = "Keys")]
    pub public_key: Option<VerifierKey>,
}

impl EventArgs {
    fn identity(&self) -> Identity {
        let env = std::env::var("ATTESTLOG_USER").ok().filter(|user| !user.trim().is_empty());
        let mut identity = Identity::default();
        identity.user = self.user.clone().or(env).or_else(account).unwrap_or_else(|| "unknown".to_owned());
        identity.role = self.role.clone();
        identity.model = self.model.clone();
        identity.purpose = self.purpose.clone();
        identity.conversation = self.conversation.clone();
        identity.version = self.agent_version.clone();
        identity.event = self.event.clone();
        identity
    }
}

pub fn run(cx: &Context, agent: Agent, args: &EventArgs) -> Outcome {
    let refusal = Refusal { cx: cx.clone(), store: args.store.store.display().to_string(), open: args.fail_open };
    let identity = args.identity();
    let configured = hook::moment(&[], &identity);
    let aside = Arc::new(AtomicBool::new(configured == Moment::Aside));
    watch(refusal.clone(), aside.clone(), args.deadline);
    let bytes = match read(args) {
        Ok(bytes) => bytes,
        Err(failure) => return refusal.answer(configured, &failure),
    };
    let event = match hook::read(agent, &bytes, &identity, SystemClock::default().now()) {
        Ok(event) => event,
        Err(e) => return refusal.answer(hook::moment(&bytes, &identity), &Failure::from(e)),
    };
    drop(bytes);
    aside.store(event.moment == Moment::Aside, Ordering::SeqCst);
    if event.steps.is_empty() {
        return Ok(End::Done);
    }
    let moment = event.moment;
    match through::record(cx, args, event) {
        Ok(()) => Ok(End::Done),
        Err(failure) => refusal.answer(moment, &failure),
    }
}

/// Reads the event. What is longer than an event can be is not read to its end.
fn read(args: &EventArgs) -> Result<Vec<u8>, Failure> {
    if args.store.key.takes_standard_input() {
        return Err(Failure::Input("--passphrase-file -: the event comes on standard input; name a file".to_owned()));
    }
    let mut bytes = Vec::new();
    let most = MAX_EVENT as u64 + 1;
    std::io::stdin().lock().take(most).read_to_end(&mut bytes).map_err(|e| Failure::file("standard input", &e))?;
    Ok(bytes)
}

/// How a failure to record is answered.
#[derive(Clone)]
struct Refusal {
    cx: Context,
    store: String,
    open: bool,
}

impl Refusal {
    fn answer(&self, moment: Moment, failure: &Failure) -> Outcome {
        let why = failure.message().unwrap_or("nobody reads the answer");
        Ok(End::Code(self.code(moment, why)))
    }

    /// Says what is wrong and what to do, and returns the exit code.
    fn code(&self, moment: Moment, why: &str) -> u8 {
        // The engine's words, if it could not read the file again after it had failed to write it.
        let is_unknown = why.contains("it is not known whether");
        let (what, code) = match (moment, self.open) {
            (Moment::Before, false) if is_unknown => {
                ("this tool call may not be in the audit log, so the tool must not run", 2)
            }
            (Moment::After, false) if is_unknown => ("how this tool call ended may not be in the audit log", 2),
            (Moment::Before, false) => ("this tool call is not in the audit log, so the tool must not run", 2),
            (Moment::After, false) => ("how this tool call ended is not in the audit log", 2),
            (Moment::Aside, false) => ("this event is not in the audit log", 1),
            (_, true) => ("--fail-open: not in the audit log, and LET THROUGH", 0),
        };
        self.cx.complain(format!(
            "{what}: {why}. Nothing that you do in this session changes that: tell the person who runs this agent to put the audit \
             store {} right (`attestlog health` says what is wrong with it)",
            self.store
        ));
        code
    }
}

/// Ends this process with a refusal when the deadline is over.
fn watch(refusal: Refusal, aside: Arc<AtomicBool>, deadline: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(deadline);
        let moment = if aside.load(Ordering::SeqCst) { Moment::Aside } else { Moment::Before };
        let code = refusal.code(moment, &format!("it could not be recorded within {} seconds", deadline.as_secs_f64()));
        // The main thread waits for something that does not come.
        std::process::exit(i32::from(code));
    });
}
