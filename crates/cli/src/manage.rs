//! `keys`, `policy`, `hold`, `clock`: administration of a store. Each change is an entry of the chain.

use super::alerting;
use super::anchors;
use super::backup::is_free;
use super::beside;
use super::config;
use super::context::Context;
use super::exit::{End, Failure, Outcome};
use super::filter::{is_pattern, say_unknown};
use super::render::{self, Style, clean, count, counted};
use super::store::{Opened, StoreArgs, damage_json};
use super::table::{Table, left, right};
use super::told;
use super::weaker::weaker;
use attestlog::Justification;
use attestlog::json::{Json, Object};
use attestlog::redact::{Action, IdentityKind, Policy};
use attestlog::retention::{ClockEvent, HoldSelector};
use attestlog::{AuditLog, Error, Facet, Query, Receipt};
use clap::{Args, Subcommand};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;

/// Who makes a change, and why: both are recorded in the log.
#[derive(Debug, Args)]
pub struct ActorArgs {
    /// Who does this
    #[arg(long, value_name = "WHO", allow_hyphen_values = true, value_parser = super::named::named)]
    pub actor: String,
    /// Why
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub reason: String,
}

/// Show, rotate and back up the keys of a store
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Print the public key, and the epochs
    Show {
        #[command(flatten)]
        store: StoreArgs,
        /// Print JSON, with the succession of epoch keys that `check --succession` takes
        #[arg(long)]
        json: bool,
    },
    /// Hand over to a new epoch key and destroy the old one
    Rotate {
        #[command(flatten)]
        store: StoreArgs,
        /// Make a new key for pseudonyms instead
        #[arg(long)]
        pseudonyms: bool,
    },
    /// Write a copy of the key file
    Backup {
        #[command(flatten)]
        store: StoreArgs,
        /// The copy; must not exist
        dest: PathBuf,
    },
}

pub fn keys(cx: &Context, command: &KeysCommand) -> Outcome {
    let mut out = cx.out();
    match command {
        KeysCommand::Show { store, json } => {
            let log = store.read(cx)?;
            let key = log.public_key()?.ok_or_else(|| no_keys(store))?;
            let succession = log.keys().succession()?;
            if *json {
                let succession = succession.map_or(Json::Null, |s| s.to_json());
                let object = [("public_key", Json::from(key.to_string())), ("succession", succession)];
                out.line(Json::from(Object::from_iter(object)).to_canonical().as_str())?;
            } else {
                out.line(clean(&key.to_string()))?;
                for epoch in succession.iter().flat_map(|s| s.epochs()) {
                    let restored = epoch.restored_at().map_or("", |_| ", by a restore");
                    out.line(format!("  epoch {} from size {}{restored}", epoch.number(), epoch.from_size()))?;
                }
            }
        }
        KeysCommand::Rotate { store, pseudonyms } => {
            let log = store.open(cx)?;
            match pseudonyms {
                true => {
                    let receipt = changed(store, log.keys().rotate_pseudonym_key())?;
                    let done = format!("a new pseudonym key is in use; recorded as entry {}", receipt.seq);
                    told::told(told::line(&mut out, &done), close(store, log), &done)?;
                }
                false => {
                    changed(store, log.keys().rotate_epoch_key())?;
                    let number = log.keys().succession()?.map_or(0, |s| s.current().number());
                    let done = format!("epoch {number} begins; the key of the one before is destroyed");
                    told::told(told::line(&mut out, &done), close(store, log), &done)?;
                }
            }
        }
        KeysCommand::Backup { store, dest } => {
            is_free(dest)?;
            let mut random = |bytes: &mut [u8]| attestlog::host::Random::fill(&attestlog::host::SystemRandom, bytes);
            store.key.load(cx, &store.store)?.backup(dest, &mut random)?;
            out.line(format!(
                "copied to {}; whoever has it (and its passphrase, if it has one) can sign as this store",
                dest.display()
            ))?;
        }
    }
    out.flush()?;
    Ok(End::Done)
}

fn no_keys(store: &StoreArgs) -> Failure {
    Failure::Store(format!("{}: the store was made without keys", store.store.display()))
}

/// Adds the store's name to the error of a change.
pub fn changed<T>(store: &StoreArgs, result: Result<T, Error>) -> Result<T, Failure> {
    result.map_err(|e| store.failed(e))
}

pub fn close(store: &StoreArgs, log: Opened) -> Result<(), Failure> {
    changed(store, log.close())
}

/// Show and set the policies of a store
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Print the policies in force, as the TOML that `policy set` takes
    Show {
        #[command(flatten)]
        store: StoreArgs,
        /// Print JSON, as it stands in the log
        #[arg(long)]
        json: bool,
    },
    /// Print a file with everything that a policy can say, to begin from
    Example,
    /// Put the policies of a TOML file into force
    Set {
        #[command(flatten)]
        store: StoreArgs,
        /// The file; `-` is standard input. Anchors and receivers stay as they are unless the file names some
        file: PathBuf,
        /// Have no receivers of alerts from now on
        #[arg(long)]
        no_receivers: bool,
    },
}

pub fn policy(cx: &Context, command: &PolicyCommand) -> Outcome {
    let mut out = cx.out();
    match command {
        PolicyCommand::Show { store, json } => {
            let policies = store.read(cx)?.retention().policies()?;
            match json {
                true => out.line(policies.to_json().to_canonical().as_str())?,
                false => out.line(policies.to_toml().trim_end())?,
            }
        }
        PolicyCommand::Example => out.line(include_str!("example.toml").trim_end())?,
        PolicyCommand::Set { store, file, no_receivers } => {
            let text = config::text(cx, file)?;
            let policies = config::policies(&text, file)?;
            let configured = anchors::read(&text, file)?;
            let receivers = alerting::configured(&text, file)?;
            if *no_receivers && !receivers.0.is_empty() {
                return Err(Failure::Input(format!(
                    "{}: it names [[receivers]], against --no-receivers",
                    file.display()
                )));
            }
            let stays = if configured.is_empty() { anchors::configured(&store.store)? } else { Vec::new() };
            beside::check(store, file, &[&*configured, &stays].concat(), &receivers)?;
            if receivers.0.is_empty() && !*no_receivers {
                beside::check(store, file, &configured, &alerting::receivers(&store.store).unwrap_or_default())?;
            }
            let log = store.open(cx)?;
            let weaker = weaker(&log.retention().policies()?, &policies);
            let receipt = log.retention().set_policies(policies).map_err(|e| Failure::from(e).at(file.display()))?;
            let written = || {
                if !configured.is_empty() {
                    anchors::replace(&store.store, &configured)?;
                }
                // Receivers are not part of the policy: a file that does not mention them removes none.
                if *no_receivers || !receivers.0.is_empty() {
                    alerting::configure(&store.store, &receivers)?;
                }
                beside::changed(cx, &log, &store.store, !configured.is_empty())
            };
            let written = written();
            let done = format!("in force for what is recorded from now on; recorded as entry {}", receipt.seq);
            let closed = close(store, log);
            written?;
            weaker.into_iter().for_each(|line| cx.complain(line));
            told::told(told::line(&mut out, &done), closed, &done)?;
        }
    }
    out.flush()?;
    Ok(End::Done)
}

/// Legal holds
#[derive(Debug, Subcommand)]
pub enum HoldCommand {
    /// Keep all entries that match, recorded before or later, until the hold is released
    ///
    /// Values of one kind are alternatives, different kinds restrict each other: `--user anna --user ben --tool refund` holds
    /// the calls of `refund` by anna or ben, and no other call of theirs. To hold all of each, place one hold for each.
    Place(HoldPlace),
    /// Release a hold
    Release {
        #[command(flatten)]
        store: StoreArgs,
        /// The hold: the seq of the entry that placed it
        #[arg(value_parser = super::named::listed)]
        id: u64,
        #[command(flatten)]
        actor: ActorArgs,
    },
    /// Confirm, after a restore, that the holds, policies and emergency grants now in force are the right ones
    ///
    /// If a backup lacks any that were in force, or may lack them, nothing is purged or erased until then (`attestlog
    /// health` says so). Find out which there were, place them again, and say in the reason what you checked.
    Confirm {
        #[command(flatten)]
        store: StoreArgs,
        #[command(flatten)]
        actor: ActorArgs,
    },
    /// List the holds in force
    List {
        #[command(flatten)]
        store: StoreArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub struct HoldPlace {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    actor: ActorArgs,
    /// The case that the hold is for
    #[arg(long, value_name = "CASE", allow_hyphen_values = true)]
    case: String,
    /// Calls of this conversation
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    conversation: Vec<String>,
    /// Calls that this user started
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    user: Vec<String>,
    /// Calls that concern this patient
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    patient: Vec<String>,
    /// Calls of this tool
    #[arg(long, value_name = "NAME", allow_hyphen_values = true, value_parser = super::named::named)]
    tool: Vec<String>,
    /// Entries: `7` or `7-12`
    #[arg(long, value_name = "SEQS", value_parser = seqs)]
    seq: Vec<(u64, u64)>,
    /// Every entry
    #[arg(long)]
    everything: bool,
}

fn seqs(text: &str) -> Result<(u64, u64), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last => Ok((first, last)),
        _ => Err("write 7 or 7-12".to_owned()),
    }
}

impl HoldPlace {
    /// The query for the entries that the hold names. A hold takes values literally, `*` and `?` too.
    fn named(&self) -> Query {
        let facets = [
            (Facet::Conversation, &self.conversation),
            (Facet::User, &self.user),
            (Facet::Patient, &self.patient),
            (Facet::Tool, &self.tool),
        ];
        let each = facets.into_iter().flat_map(|(field, values)| values.iter().map(move |value| (field, value)));
        each.fold(Query::new(), |query, (field, value)| query.facet(field, value))
    }

    /// Refuses a pattern, which would hold nothing, and reports on standard error which values no entry has yet.
    fn check(&self, cx: &Context, log: &AuditLog) -> Result<(), Failure> {
        let named = self.named();
        if let Some(pattern) = log.values().unknown(&named)?.into_iter().find(|value| is_pattern(&value.value)) {
            let (field, value) = (pattern.field.as_str(), pattern.value);
            return Err(Failure::Input(format!(
                "--{field} {value:?}: a hold takes whole values, in which `*` and `?` stand for nothing, and no entry has \
                 this {field}: it would hold nothing. Name each value (`attestlog query STORE --{field} {value:?}` shows \
                 what fits), or hold --everything"
            )));
        }
        say_unknown(cx, log, &named)?;
        let size = log.size()?;
        if let Some(last) = self.seq.iter().map(|(_, last)| *last).max().filter(|last| *last >= size) {
            cx.complain(format!(
                "this log has {} so far: the hold on entry {last} is on whatever gets that number",
                counted(size, "entry", "entries")
            ));
        }
        Ok(())
    }

    /// On whom the hold is, as it was given: lists may show pseudonyms in place of these names. `None` if it names nobody, or
    /// somebody whose name the policy hides.
    fn named_as_given(&self, policy: &Policy) -> Option<String> {
        let given = [
            (IdentityKind::Conversation, &self.conversation),
            (IdentityKind::User, &self.user),
            (IdentityKind::Patient, &self.patient),
        ];
        let mut given = given.into_iter().filter(|(_, names)| !names.is_empty()).peekable();
        given.peek()?;
        let shown = given.all(|(kind, _)| policy.facet(kind) == Action::Keep);
        shown.then(|| format!(" on {}", clean(&covers(&self.selector(), &BTreeMap::new()))))
    }

    fn selector(&self) -> HoldSelector {
        let mut selector = HoldSelector::default();
        selector.everything = self.everything;
        selector.conversations.extend(self.conversation.iter().cloned());
        selector.users.extend(self.user.iter().cloned());
        selector.patients.extend(self.patient.iter().cloned());
        selector.tools.extend(self.tool.iter().cloned());
        self.seq.iter().for_each(|&(first, last)| selector.seqs.insert_range(first, last));
        selector
    }
}

pub fn hold(cx: &Context, command: &HoldCommand) -> Outcome {
    let mut out = cx.out();
    match command {
        HoldCommand::Place(place) => {
            let ActorArgs { actor, reason } = &place.actor;
            let log = place.store.open(cx)?;
            place.check(cx, &log)?;
            let named = place.named_as_given(&changed(&place.store, log.retention().policies())?.redaction);
            let receipt: Receipt = changed(
                &place.store,
                log.retention().place_hold(&place.case, place.selector(), Justification { actor, reason }),
            )?;
            let done = format!("hold {} is placed{}", receipt.seq, named.as_deref().unwrap_or_default());
            let held = log
                .retention()
                .count_held(receipt.seq)
                .ok()
                .map(|n| format!("; it keeps {}", counted(n, "entry", "entries")));
            let said = format!("{done}{}, and those recorded later that match", held.unwrap_or_default());
            // A script takes the hold's number from standard output.
            let line = match out.width() {
                Some(_) => said,
                None => {
                    if named.is_some() {
                        cx.complain(said);
                    }
                    receipt.seq.to_string()
                }
            };
            told::told(told::line(&mut out, line), close(&place.store, log), &done)?;
        }
        HoldCommand::Release { store, id, actor } => {
            let log = store.open(cx)?;
            let receipt = changed(
                store,
                log.retention().release_hold(*id, Justification { actor: &actor.actor, reason: &actor.reason }),
            )?;
            let done = format!("released; recorded as entry {}", receipt.seq);
            told::told(told::line(&mut out, &done), close(store, log), &done)?;
        }
        HoldCommand::Confirm { store, actor } => {
            let log = store.open(cx)?;
            let receipt = changed(
                store,
                log.retention().confirm_restored(Justification { actor: &actor.actor, reason: &actor.reason }),
            )?;
            let done = format!("confirmed; recorded as entry {}", receipt.seq);
            told::told(told::line(&mut out, &done), close(store, log), &done)?;
        }
        HoldCommand::List { store, json } => {
            let log = store.read(cx)?;
            let holds = log.retention().holds()?;
            if *json {
                let mut all: Vec<Json> = damage_json(&log)?.into_iter().collect();
                for (id, hold) in &holds {
                    let mut object = hold.to_json();
                    if let Json::Object(members) = &mut object {
                        members.insert("id", *id);
                        let names = log.retention().names_in(&hold.selector)?;
                        members.insert("names", names.into_iter().collect::<Object>());
                        members.insert("entries", log.retention().count_held(*id).ok());
                    }
                    all.push(object);
                }
                out.line(Json::Array(all).to_canonical().as_str())?;
            } else {
                let columns =
                    [right("ID"), left("CASE"), left("PLACED BY"), left("REASON"), left("COVERS"), right("ENTRIES")];
                let mut table = Table::new(&mut out, &columns);
                for (id, hold) in &holds {
                    let selector = clean(&covers(&hold.selector, &log.retention().names_in(&hold.selector)?));
                    let plain = |text: String| (text, Style::Plain);
                    let (case, actor, reason) = (clean(&hold.case), clean(&hold.actor), clean(&hold.reason));
                    let entries = log.retention().count_held(*id).map_or("?".to_owned(), count);
                    let id = (id.to_string(), Style::Bold);
                    table.row(vec![id, plain(case), plain(actor), plain(reason), plain(selector), plain(entries)])?;
                }
                table.finish()?;
                if holds.is_empty() {
                    cx.note("no hold is in force")?;
                }
            }
        }
    }
    out.flush()?;
    Ok(End::Done)
}

/// Describes what a hold covers, with clear names for the pseudonyms that can be resolved.
pub fn covers(selector: &HoldSelector, names: &BTreeMap<String, String>) -> String {
    if selector.everything {
        return "every entry".to_owned();
    }
    let facets = [
        ("conversation", &selector.conversations),
        ("user", &selector.users),
        ("patient", &selector.patients),
        ("tool", &selector.tools),
    ];
    let named = facets.into_iter().filter(|(_, values)| !values.is_empty()).map(|(field, values)| {
        let values: BTreeSet<&str> = values.iter().map(|v| names.get(v).unwrap_or(v).as_str()).collect();
        format!("{field} {}", Vec::from_iter(values).join(" or "))
    });
    let seqs = selector.seqs.ranges().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    let seqs = Vec::from_iter(seqs).join(" or ");
    let seqs = (!seqs.is_empty()).then(|| format!("entry {seqs}"));
    Vec::from_iter(named.chain(seqs)).join(" AND ")
}

/// Show and confirm the clock by which entries expire
#[derive(Debug, Subcommand)]
pub enum ClockCommand {
    /// Show the state of the clock
    Show {
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Confirm that the system clock is right, after a jump that froze expiry
    Confirm {
        #[command(flatten)]
        store: StoreArgs,
        #[command(flatten)]
        actor: ActorArgs,
    },
}

pub fn clock(cx: &Context, command: &ClockCommand) -> Outcome {
    let mut out = cx.out();
    match command {
        ClockCommand::Show { store } => {
            let status = store.read(cx)?.retention().clock()?;
            out.line(format!("expiry time   {}", status.now))?;
            out.line(format!("system clock  {}", status.wall))?;
            let days = |d: std::time::Duration| count(d.as_secs() / 86_400);
            let state = match &status.frozen {
                None if status.check().is_err() => out.styled(Style::Warn, &status.to_string()),
                None => format!(
                    "runs; {} of {} days are used up in which no process had the store open, or the clock was set",
                    days(status.credited),
                    days(status.bound)
                ),
                Some(_) => out.styled(Style::Warn, "FROZEN: nothing expires until `attestlog clock confirm`"),
            };
            out.line(format!("state         {state}"))?;
            // Scripts read the exit code.
            if status.check().is_err() {
                out.flush()?;
                return Ok(End::Found);
            }
        }
        ClockCommand::Confirm { store, actor } => {
            let log = store.open(cx)?;
            let event = changed(
                store,
                log.retention().confirm_clock(Justification { actor: &actor.actor, reason: &actor.reason }),
            )?;
            let done = match event {
                ClockEvent::Confirmed { from, to, wall, .. } if from == to => match to.since(wall).as_secs() {
                    0 => format!("confirmed: the clocks agree; expiry goes on at {}", render::moment(to)),
                    ahead => format!(
                        "confirmed: expiry goes on at {}, {ahead} s ahead of the system clock, which is allowed",
                        render::moment(to)
                    ),
                },
                ClockEvent::Confirmed { from, to, .. } if to < from => format!(
                    "confirmed: the time by which entries expire, which stood at {}, was set back to {}: it was ahead by more than is allowed, \
                     either the clock was confirmed wrongly before or the store was edited",
                    render::moment(from),
                    render::moment(to)
                ),
                ClockEvent::Confirmed { from, to, .. } => {
                    format!(
                        "confirmed: the time by which entries expire, which stood at {}, goes on at {}",
                        render::moment(from),
                        render::moment(to)
                    )
                }
                other => other.to_json().to_canonical().as_str().to_owned(),
            };
            told::told(told::line(&mut out, &done), close(store, log), &done)?;
        }
    }
    out.flush()?;
    Ok(End::Done)
}
