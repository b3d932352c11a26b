//! The filters that commands share: repeatable facets, OR within one and AND between them, and a range of time.

use super::console;
use super::exit::{Failure, complain};
use super::render::clean;
use attestlog::{AuditLog, Facet, Kind, Outcome, Query, Timestamp, Trigger};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::io::Write as _;

/// Which entries.
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
    /// Patient whom the call concerns
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    patient: Vec<String>,
    /// Model that decided on the call
    #[arg(long, value_name = "NAME", allow_hyphen_values = true, value_parser = super::named::named)]
    model: Vec<String>,
    /// How the call ended
    #[arg(long, value_name = "OUTCOME", value_parser = one_of(Outcome::ALL, Outcome::as_str))]
    outcome: Vec<Outcome>,
    /// What set the call off
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
    /// Distributed trace that the call belongs to, by its whole id
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named)]
    trace: Vec<String>,
    /// Only calls made in an emergency
    #[arg(long)]
    emergency: bool,
    /// Only calls that failed, in whichever way
    #[arg(long)]
    failed: bool,
    /// Only calls that were begun and have no end
    #[arg(long)]
    unfinished: bool,
    /// From this time on: RFC 3339 or YYYY-MM-DD (UTC)
    #[arg(long, value_name = "TIME")]
    pub since: Option<Timestamp>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<Timestamp>,
}

/// Whether a value stands for all that fit it.
pub fn is_pattern(value: &str) -> bool {
    value.contains(['*', '?'])
}

/// Says on standard error which values of a query no entry has, and which come near them.
pub fn say_unknown(log: &AuditLog, query: &Query) -> Result<(), Failure> {
    let unknown = log.unknown_values(query)?;
    if unknown.is_empty() {
        return Ok(());
    }
    let purged = purged(log)?;
    for value in unknown {
        let similar: Vec<String> = value.similar.iter().map(|known| format!("{known:?}")).collect();
        let similar = if similar.is_empty() { String::new() } else { format!("; similar: {}", similar.join(", ")) };
        let field = value.field.as_str();
        complain(format!("no entry of this log has the {field} {:?}{purged}{similar}", value.value));
    }
    Ok(())
}

/// What to add where no entry has a value.
fn purged(log: &AuditLog) -> Result<&'static str, Failure> {
    Ok(match log.purged_since(None)?.is_empty() {
        true => "",
        false => " (entries that were purged may have had it)",
    })
}

/// Refuses a pattern where one whole value is needed. Taken as it stands it would mean nobody, and the answer would look
/// like one about everybody who fits it. A value that an entry really has may look like a pattern.
pub fn refuse_pattern(log: &AuditLog, field: Facet, value: &str) -> Result<(), Failure> {
    // What cannot be read may have it.
    if !is_pattern(value) || log.damage().is_some() || log.count(&Query::new().facet(field, value).limit(1))? > 0 {
        return Ok(());
    }
    let name = field.as_str();
    Err(Failure::Input(format!(
        "the {name} {value:?}: `*` and `?` stand for nothing here, and no entry has this {name}; name it whole (`attestlog \
         query STORE --{name} {value:?}` shows who fits)"
    )))
}

/// A value that is one of a closed set; clap names the set where it is not.
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

/// What looks the same is told apart by its numbers.
pub fn told_apart(name: &str) -> String {
    let told = |c: char| if c.is_ascii_graphic() { c.to_string() } else { c.escape_unicode().to_string() };
    name.chars().map(told).collect()
}

/// Tells people what is in the log and only looks like what they asked for.
pub fn tell_look_alikes(log: &AuditLog, field: Facet, value: &str) -> Result<(), Failure> {
    // What is only spelled otherwise was said already, where no entry has the value.
    let said = log.unknown_values(&Query::new().facet(field, value))?.into_iter().flat_map(|unknown| unknown.similar);
    let said: Vec<String> = said.collect();
    for other in log.look_alikes(field, value)?.into_iter().filter(|other| !said.contains(other)) {
        let (field, name, other) = (field.as_str(), clean(value), told_apart(&other));
        writeln!(
            console::stderr(),
            "note: the log has a {field} that looks like {name} and is written differently: {other}"
        )?;
    }
    Ok(())
}

impl Filters {
    /// The query for these entries of a log. A value with `*` or `?` stands for all that fit it, as in policy rules. Of a
    /// value that no entry has, standard error says so.
    pub fn query(&self, log: &AuditLog) -> Result<Query, Failure> {
        let mut query = self.fixed();
        for (field, values) in self.open() {
            for value in values {
                let fits = match is_pattern(value) {
                    true => log.values_matching(field, value)?,
                    false => Vec::new(),
                };
                // Without any the pattern itself, which then is a value that no entry has.
                query = match fits.is_empty() {
                    true => query.facet(field, value),
                    false => fits.into_iter().fold(query, |query, value| query.facet(field, value)),
                };
            }
        }
        say_unknown(log, &query)?;
        for trace in &self.trace {
            if log.damage().is_none() && log.count(&Query::new().trace(trace).limit(1))? == 0 {
                complain(format!("no entry of this log has the trace {trace:?}{}", purged(log)?));
            }
        }
        Ok(query)
    }

    /// The query for entries that are still to come: what no entry has yet is nothing to be surprised at, and a pattern would
    /// stand for what is there now.
    pub fn query_to_come(&self) -> Result<Query, Failure> {
        let mut query = self.fixed();
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

    /// The facets whose values anybody can choose.
    fn open(&self) -> [(Facet, &Vec<String>); 9] {
        [
            (Facet::Conversation, &self.conversation),
            (Facet::User, &self.user),
            (Facet::Tool, &self.tool),
            (Facet::Patient, &self.patient),
            (Facet::Model, &self.model),
            (Facet::Purpose, &self.purpose),
            (Facet::Agent, &self.agent),
            (Facet::Server, &self.server),
            (Facet::Class, &self.class),
        ]
    }

    /// What the other filters ask for.
    fn fixed(&self) -> Query {
        let mut query = Query::new();
        query = self.trace.iter().fold(query, Query::trace);
        query = self.kind.iter().fold(query, |q, &kind| q.kind(kind));
        query = self.trigger.iter().fold(query, |q, &trigger| q.trigger(trigger));
        query = self.outcomes(query);
        if self.emergency {
            query = query.emergency();
        }
        if self.unfinished {
            query = query.unfinished();
        }
        query = self.since.into_iter().fold(query, Query::since);
        self.until.into_iter().fold(query, Query::until)
    }

    /// Tells people of users and patients in the log who only look like those asked for.
    pub fn tell_look_alikes(&self, log: &AuditLog) -> Result<(), Failure> {
        let people = [(Facet::User, &self.user), (Facet::Patient, &self.patient)];
        let mut asked = people.into_iter().flat_map(|(field, values)| values.iter().map(move |value| (field, value)));
        asked.try_for_each(|(field, value)| tell_look_alikes(log, field, value))
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
