//! The filters that commands share: repeatable facets, OR within one and AND between them, and a time range.

use super::context::Context;
use super::exit::Failure;
use super::render::clean;
use super::zone::{When, Zone, ZoneArgs, length, when};
use attestlog::host::{Clock, SystemClock};
use attestlog::{AuditLog, Facet, Kind, Outcome, Query, Timestamp, Trigger};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::time::Duration;

/// Which entries to select.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Filters (repeat one for alternatives; different ones restrict each other)")]
pub struct Filters {
    /// Kind of entry
    #[arg(long, value_name = "KIND", value_parser = one_of(Kind::ALL, Kind::as_str), hide_possible_values = true)]
    kind: Vec<Kind>,
    /// Conversation
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    conversation: Vec<String>,
    /// User who started the call
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    user: Vec<String>,
    /// Tool
    #[arg(long, value_name = "NAME", allow_hyphen_values = true, value_parser = super::named::named)]
    tool: Vec<String>,
    /// Patient that the call concerns
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    patient: Vec<String>,
    /// Model that decided on the call
    #[arg(long, value_name = "NAME", allow_hyphen_values = true, value_parser = super::named::named)]
    model: Vec<String>,
    /// How the call ended
    #[arg(long, value_name = "OUTCOME", value_parser = one_of(Outcome::ALL, Outcome::as_str))]
    outcome: Vec<Outcome>,
    /// What triggered the call
    #[arg(long, value_name = "TRIGGER", value_parser = one_of(Trigger::ALL, Trigger::as_str))]
    trigger: Vec<Trigger>,
    /// Purpose of access
    #[arg(long, value_name = "PURPOSE", allow_hyphen_values = true, value_parser = super::named::named)]
    purpose: Vec<String>,
    /// Agent in which the model ran
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    agent: Vec<String>,
    /// Server that offers the tool
    #[arg(long, value_name = "NAME", allow_hyphen_values = true, value_parser = super::named::named)]
    server: Vec<String>,
    /// Retention class
    #[arg(long, value_name = "CLASS", allow_hyphen_values = true)]
    class: Vec<String>,
    /// Resource that the call read or changed: a path, a table, an address
    #[arg(long, value_name = "NAME", allow_hyphen_values = true, value_parser = super::named::named)]
    resource: Vec<String>,
    /// Distributed trace that the call belongs to, by its full id
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    trace: Vec<String>,
    /// Program of the process that recorded the call
    #[arg(long, value_name = "PATH", allow_hyphen_values = true, value_parser = super::named::named)]
    peer: Vec<String>,
    /// Only calls made in an emergency
    #[arg(long)]
    emergency: bool,
    /// Only calls that failed in any way
    #[arg(long)]
    failed: bool,
    /// Only calls that were begun and have no end
    #[arg(long)]
    unfinished: bool,
    /// Kind of failure: the type of the error or, if it has none, the outcome
    #[arg(long, value_name = "TYPE", allow_hyphen_values = true, value_parser = super::named::named)]
    error: Vec<String>,
    /// Only calls that took longer than this, such as 500ms or 2s
    #[arg(long, value_name = "TIME", value_parser = length)]
    slower_than: Option<Duration>,
    /// Only entries with this text in their arguments, result, error or session metadata, as they are stored. This reads every entry
    /// that the other filters leave. Capital and small letters from A to Z are the same
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, value_parser = super::named::named)]
    grep: Option<String>,
    /// From this time on: 7d, 2h (ago), yesterday, 2026-11, YYYY-MM-DD (UTC without --tz), RFC 3339
    #[arg(long, value_name = "TIME", value_parser = when)]
    since: Option<When>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = when)]
    until: Option<When>,
    #[command(flatten)]
    zone: ZoneArgs,
}

/// Whether a value is a pattern.
pub fn is_pattern(value: &str) -> bool {
    value.contains(['*', '?'])
}

/// Reports on standard error which values of a query no entry has, and which known values are similar.
pub fn say_unknown(cx: &Context, log: &AuditLog, query: &Query) -> Result<(), Failure> {
    let unknown = log.values().unknown(query)?;
    if unknown.is_empty() {
        return Ok(());
    }
    let purged = purged(log)?;
    for value in unknown {
        let similar: Vec<String> = value.similar.iter().map(|known| format!("{known:?}")).collect();
        let similar = if similar.is_empty() { String::new() } else { format!("; similar: {}", similar.join(", ")) };
        let (field, name) = (value.field.as_str(), &value.value);
        match value.named_by.as_slice() {
            [] => cx.complain(format!("no entry of this log has the {field} {name:?}{purged}{similar}")),
            named_by => {
                let seqs: Vec<String> = named_by.iter().map(u64::to_string).collect();
                cx.complain(format!(
                    "no call of this log has the {field} {name:?}{purged}{similar}; what names it is {} {}, of emergency access \
                     or a hold",
                    if seqs.len() == 1 { "entry" } else { "entries" },
                    seqs.join(", ")
                ));
            }
        }
    }
    Ok(())
}

/// What to add to that report if the log was purged.
fn purged(log: &AuditLog) -> Result<&'static str, Failure> {
    Ok(match log.retention().purged_since(None)?.is_empty() {
        true => "",
        false => " (entries that were purged may have had it)",
    })
}

/// Refuses a pattern where one exact value is needed. Taken literally it would match nobody, and the answer would look like
/// one about everybody who matches it. A value that an entry really has may look like a pattern.
pub fn refuse_pattern(log: &AuditLog, field: Facet, value: &str) -> Result<(), Failure> {
    // Entries that cannot be read may have it.
    if !is_pattern(value) || log.damage()?.is_some() || log.count(&Query::new().facet(field, value).limit(1))? > 0 {
        return Ok(());
    }
    let name = field.as_str();
    // In a log that keeps pseudonyms no pattern finds anybody.
    let who = match log.values().matching(field, value) {
        Ok(_) => format!(" (`attestlog query STORE --{name} {value:?}` shows who fits)"),
        Err(_) => String::new(),
    };
    Err(Failure::Input(format!(
        "the {name} {value:?}: `*` and `?` stand for nothing here, and no entry has this {name}; name it whole{who}"
    )))
}

/// Parses a value from a closed set; on error clap lists the set.
fn one_of<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    name: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    let names = PossibleValuesParser::new(all.iter().map(|&one| name(one)));
    names.try_map(move |given| {
        let found = all.iter().copied().find(|&one| name(one) == given);
        found.ok_or("is none of them")
    })
}

/// Escapes all but ASCII, so that names that look the same can be told apart.
pub fn told_apart(name: &str) -> String {
    let told = |c: char| if c.is_ascii_graphic() || c == ' ' { c.to_string() } else { c.escape_unicode().to_string() };
    name.chars().map(told).collect()
}

/// Reports values in the log that only look like the requested one.
pub fn tell_look_alikes(cx: &Context, log: &AuditLog, field: Facet, value: &str) -> Result<(), Failure> {
    // Values that are only spelled differently were reported already, if no entry has the value.
    let said = log.values().unknown(&Query::new().facet(field, value))?.into_iter().flat_map(|unknown| unknown.similar);
    let said: Vec<String> = said.collect();
    for other in log.values().look_alikes(field, value)?.into_iter().filter(|other| !said.contains(other)) {
        let (field, name, escaped) = (field.as_str(), clean(value), told_apart(&other));
        let other = clean(&other);
        cx.note(format!(
            "the log has a {field} that looks like {name} and is written differently: {other} ({escaped})"
        ))?;
    }
    Ok(())
}

impl Filters {
    /// Whether calls with this trigger are left out, because others were asked for.
    pub fn leave_out(&self, trigger: Trigger) -> bool {
        !self.trigger.is_empty() && !self.trigger.contains(&trigger)
    }

    /// The query narrowed to details of calls as far as possible; `None` if other kinds of entries were asked for.
    pub fn details(&self, query: &Query) -> Option<Query> {
        match self.kind.as_slice() {
            [] => Some(query.clone().kind(Kind::CallDetail)),
            kinds => kinds.contains(&Kind::CallDetail).then(|| query.clone()),
        }
    }

    /// The query for these entries of a log. A value with `*` or `?` stands for all values that match it, as in policy
    /// rules. If no entry has a value, standard error says so.
    pub fn query(&self, cx: &Context, log: &AuditLog) -> Result<Query, Failure> {
        let mut query = self.fixed()?;
        for (field, values) in self.open() {
            for value in values {
                let fits = match is_pattern(value) {
                    true => log.values().matching(field, value)?,
                    false => Vec::new(),
                };
                // If nothing matches, the pattern itself is used, as a value that no entry has.
                query = match fits.is_empty() {
                    true => query.facet(field, value),
                    false => fits.into_iter().fold(query, |query, value| query.facet(field, value)),
                };
            }
        }
        say_unknown(cx, log, &query)?;
        Ok(query)
    }

    /// The query for entries that are still to come. Patterns are refused, since they would only match values that exist now.
    pub fn query_to_come(&self) -> Result<Query, Failure> {
        let mut query = self.fixed()?;
        for (field, values) in self.open() {
            for value in values {
                if is_pattern(value) {
                    let message =
                        format!("--{} {value:?}: patterns cannot be followed; name the values whole", field.as_str());
                    return Err(Failure::Input(message));
                }
                query = query.facet(field, value);
            }
        }
        Ok(query)
    }

    /// The facets with free-form values.
    fn open(&self) -> [(Facet, &Vec<String>); 12] {
        [
            (Facet::Conversation, &self.conversation),
            (Facet::User, &self.user),
            (Facet::Tool, &self.tool),
            (Facet::Patient, &self.patient),
            (Facet::Model, &self.model),
            (Facet::Purpose, &self.purpose),
            (Facet::Agent, &self.agent),
            (Facet::Server, &self.server),
            (Facet::Resource, &self.resource),
            (Facet::Trace, &self.trace),
            (Facet::Peer, &self.peer),
            (Facet::Class, &self.class),
        ]
    }

    /// The query for the other filters.
    fn fixed(&self) -> Result<Query, Failure> {
        let mut query = Query::new();
        query = self.kind.iter().fold(query, |q, &kind| q.kind(kind));
        query = self.trigger.iter().fold(query, |q, &trigger| q.trigger(trigger));
        query = self.outcomes(query);
        if self.emergency {
            query = query.emergency();
        }
        if self.unfinished {
            query = query.unfinished();
        }
        query = self.error.iter().fold(query, Query::error);
        query = self.slower_than.into_iter().fold(query, Query::slower_than);
        query = self.grep.iter().fold(query, Query::containing);
        let (since, until) = self.times()?;
        query = since.into_iter().fold(query, Query::since);
        Ok(until.into_iter().fold(query, Query::until))
    }

    /// The time range.
    pub fn times(&self) -> Result<(Option<Timestamp>, Option<Timestamp>), Failure> {
        let now = SystemClock::default().now();
        let moment = |when: Option<When>| when.map(|when| when.moment(now, &self.zone)).transpose();
        Ok((moment(self.since)?, moment(self.until)?))
    }

    /// The zone in which times are shown.
    pub fn shown(&self) -> Zone {
        self.zone.shown()
    }

    /// Whether every entry is read that the other filters leave.
    pub fn scans(&self) -> bool {
        self.grep.is_some()
    }

    /// Whether kinds of entries were asked for.
    pub fn names_kinds(&self) -> bool {
        !self.kind.is_empty() || self.unfinished
    }

    /// The only tool, if nothing is asked for but a tool and times: what plain statistics can tell.
    pub fn only_tool(&self) -> Option<Option<&str>> {
        let Filters { kind, tool, outcome, trigger, emergency, failed, unfinished, error, slower_than, grep, .. } =
            self;
        let others = self.open().into_iter().any(|(facet, values)| facet != Facet::Tool && !values.is_empty());
        let conditions = !error.is_empty() || slower_than.is_some() || grep.is_some();
        let closed =
            !kind.is_empty() || !outcome.is_empty() || !trigger.is_empty() || *emergency || *failed || *unfinished;
        match (others || conditions || closed, tool.as_slice()) {
            (false, []) => Some(None),
            (false, [tool]) => Some(Some(tool)),
            _ => None,
        }
    }

    /// Reports users and patients in the log that only look like those asked for.
    pub fn tell_look_alikes(&self, cx: &Context, log: &AuditLog) -> Result<(), Failure> {
        let people = [(Facet::User, &self.user), (Facet::Patient, &self.patient)];
        let mut asked = people.into_iter().flat_map(|(field, values)| values.iter().map(move |value| (field, value)));
        asked.try_for_each(|(field, value)| tell_look_alikes(cx, log, field, value))
    }

    /// `--failed` restricts `--outcome`; a library query would take both as alternatives.
    fn outcomes(&self, query: Query) -> Query {
        if !self.failed {
            return self.outcome.iter().fold(query, |q, &outcome| q.outcome(outcome));
        }
        if self.outcome.is_empty() {
            return query.failed();
        }
        let failures: Vec<Outcome> = self.outcome.iter().copied().filter(|&o| o != Outcome::Ok).collect();
        match failures.is_empty() {
            // No entry has an empty outcome: nothing is both a success and a failure.
            true => query.facet(Facet::Outcome, ""),
            false => failures.into_iter().fold(query, Query::outcome),
        }
    }
}
