//! `redact`: tries out a redaction policy, without a store.

use super::config;
use super::context::Context;
use super::exit::{End, Failure, Outcome};
use attestlog::host::SeededRandom;
use attestlog::json::{Json, JsonError, Object};
use attestlog::redact::{PseudonymKey, Sanitizer, Secrets, Treated, dry_run, sealed_subject};
use attestlog::{AuditLog, Options, PolicySet, ToolCall};
use clap::Args;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

/// Try out a policy: JSON values in, one per line, the treated values out
///
/// A call (an object that `record` takes) is recorded in a store in memory, and comes out as that store has it, without what
/// only belongs to an entry; so [[patients]] and names that repeat are treated too. Any other value is treated by the
/// [redaction] table alone. Pseudonyms are made with this command's own keys: they are the same each time, and belong to no
/// store.
#[derive(Debug, Args)]
pub struct RedactArgs {
    /// TOML file, as for `init --config`; the default policy if absent
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Say what was treated, where, and why
    #[arg(long)]
    explain: bool,
    /// JSON Lines; standard input if absent or `-`
    file: Option<PathBuf>,
}

pub fn run(cx: &Context, args: &RedactArgs) -> Outcome {
    let policies = match &args.config {
        Some(path) => config::policies(&config::text(cx, path)?, path)?,
        None => PolicySet::default(),
    };
    let mut trial = Trial::new(policies)?;
    let source = cx.source(args.file.as_deref())?;
    let name = source.name.clone();
    let lines = source.lines(true, |line: &[u8]| Json::parse(line));
    let lines = lines.map_err(|e| Failure::Store(format!("the reading thread: {e}")))?;
    let mut out = cx.out();
    for part in lines {
        for line in part.map_err(|e| Failure::file(&name, &e))? {
            let place = format!("{name}: line {}", line.number);
            let parsed = line.value.map_err(|e| Failure::Input(format!("{place}: {e}")))?;
            let value = parsed.map_err(|e: JsonError| Failure::Input(format!("{place}: {e}")))?.value;
            let (output, treated) = trial
                .treat(value, |why| {
                    cx.complain(format!(
                    "{place}: no call that a store takes ({why}), so only [redaction] applies to it, not [[patients]]"
                ));
                })
                .map_err(|e| Failure::from(e).at(&place))?;
            let shown = match args.explain {
                true => {
                    let treated = treated.iter().map(Treated::to_json).collect::<Vec<_>>();
                    Object::from_iter([("output", output), ("treated", treated.into())]).into()
                }
                false => output,
            };
            out.line(shown.to_canonical().as_str())?;
        }
        // What was read is answered before waiting for more.
        out.flush()?;
    }
    Ok(End::Done)
}

/// What tries the policy out.
struct Trial {
    policies: PolicySet,
    sanitizer: Sanitizer,
    /// The store for calls, made with the first of them.
    log: Option<AuditLog>,
}

/// How many entries the store in memory may have before another takes its place.
const MOST: u64 = 10_000;
/// Members of a line that say nothing about its call, or not by a policy for its contents.
const OF_THE_ENTRY: [&str; 8] =
    ["kind", "nonce", "policy_seq", "prev", "recorded_at", "retain_until", "seq", "treated"];
/// Members of a call that name an entry of its store, which is not at hand here. They are numbers, and stay.
const REFERENCES: [&str; 3] = ["follow_up_of", "grant", "retry_of"];

impl Trial {
    fn new(policies: PolicySet) -> Result<Trial, Failure> {
        let key = PseudonymKey::new(*b"a key to try policies out, only!");
        let sanitizer = Sanitizer::new(&policies.redaction, Secrets { pseudonyms: vec![key] })?;
        Ok(Trial { policies, sanitizer, log: None })
    }

    /// The treated value, and what was treated. `no_call` is told why a value with the name of a tool is not a call.
    fn treat(&mut self, value: Json, no_call: impl Fn(String)) -> attestlog::Result<(Json, Vec<Treated>)> {
        let mut call = value.as_object().filter(|members| members.get("tool_name").is_some()).cloned();
        let references = call.as_mut().map(|call| REFERENCES.map(|name| (name, call.remove(name)))).unwrap_or_default();
        match call.map(|call| ToolCall::from_json(call.into())) {
            Some(Ok(call)) => {
                let has_time = value.get("timestamp").is_some();
                let (mut output, summary) = self.recorded(call)?;
                if !has_time {
                    output.remove("timestamp");
                }
                for (name, value) in references {
                    if let Some(value) = value {
                        output.insert(name, value);
                    }
                }
                // An entry does not say at which characters. Where the value by itself is treated alike, it does.
                let by_itself = dry_run(&self.sanitizer, value)?.1;
                let of = |t: &Treated| (t.path.clone(), t.detector.clone(), t.action);
                let place = |t: Treated| {
                    let all: Vec<Treated> = by_itself.iter().filter(|own| of(own) == of(&t)).cloned().collect();
                    if all.is_empty() { vec![t] } else { all }
                };
                Ok((output.into(), summary.into_iter().flat_map(place).collect()))
            }
            Some(Err(e)) => {
                no_call(e.to_string());
                dry_run(&self.sanitizer, value)
            }
            None => dry_run(&self.sanitizer, value),
        }
    }

    /// The call as a store has it, and what its entry says was treated.
    fn recorded(&mut self, call: ToolCall) -> attestlog::Result<(Object, Vec<Treated>)> {
        if self.log.as_ref().is_some_and(|log| log.size().is_ok_and(|size| size >= MOST)) {
            self.log = None;
        }
        let log = match &self.log {
            Some(log) => log,
            None => {
                let options = Options::new().random(Arc::new(SeededRandom::new(1))).background(false);
                self.log.insert(options.policies(self.policies.clone()).in_memory()?)
            }
        };
        let line = log.entry(log.record(call)?.seq)?.line();
        let line = Json::parse(line.as_bytes()).map(|parsed| parsed.value).unwrap_or_default();
        let treated = line.get("treated").map(Treated::from_summary).transpose()?.unwrap_or_default();
        let members = line.as_object().cloned().unwrap_or_default().into_iter();
        let members = members.filter(|(name, _)| !OF_THE_ENTRY.contains(&name.as_str()));
        Ok((members.map(|(name, value)| (name, without_ciphertexts(value))).collect(), treated))
    }
}

/// The value with `[SEALED]` in place of what is sealed.
fn without_ciphertexts(value: Json) -> Json {
    if sealed_subject(&value).is_some() {
        return "[SEALED]".into();
    }
    match value {
        Json::Array(items) => items.into_iter().map(without_ciphertexts).collect::<Vec<_>>().into(),
        Json::Object(members) => {
            members.into_iter().map(|(name, value)| (name, without_ciphertexts(value))).collect::<Object>().into()
        }
        other => other,
    }
}
