//! The filters that commands share: repeatable facets, OR within one and AND between them, and a range of time.

use attestlog::{Field, Kind, Outcome, Query, Timestamp, Trigger};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

/// Which entries.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Filters (repeat one for alternatives; different ones restrict each other)")]
pub struct Filters {
    /// Kind of entry
    #[arg(long, value_name = "KIND", value_parser = one_of(Kind::ALL, Kind::as_str), hide_possible_values = true)]
    kind: Vec<Kind>,
    /// Conversation
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    conversation: Vec<String>,
    /// User who started the call
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    user: Vec<String>,
    /// Tool
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    tool: Vec<String>,
    /// Patient whom the call concerns
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    patient: Vec<String>,
    /// Model that decided on the call
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    model: Vec<String>,
    /// How the call ended
    #[arg(long, value_name = "OUTCOME", value_parser = one_of(Outcome::ALL, Outcome::as_str))]
    outcome: Vec<Outcome>,
    /// What set the call off
    #[arg(long, value_name = "TRIGGER", value_parser = one_of(Trigger::ALL, Trigger::as_str))]
    trigger: Vec<Trigger>,
    /// Purpose of access
    #[arg(long, value_name = "PURPOSE", allow_hyphen_values = true)]
    purpose: Vec<String>,
    /// Agent in which the model ran
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    agent: Vec<String>,
    /// Server that offers the tool
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    server: Vec<String>,
    /// Retention class
    #[arg(long, value_name = "CLASS", allow_hyphen_values = true)]
    class: Vec<String>,
    /// Distributed trace that the call belongs to, by its whole id
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
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

impl Filters {
    /// The query for these entries.
    pub fn query(&self) -> Query {
        let facets = [
            (Field::Conversation, &self.conversation),
            (Field::User, &self.user),
            (Field::Tool, &self.tool),
            (Field::Patient, &self.patient),
            (Field::Model, &self.model),
            (Field::Purpose, &self.purpose),
            (Field::Agent, &self.agent),
            (Field::Server, &self.server),
            (Field::Class, &self.class),
        ];
        let mut query = Query::new();
        for (field, values) in facets {
            query = values.iter().fold(query, |q, value| q.facet(field, value));
        }
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
            true => query.facet(Field::Outcome, ""),
            false => failures.into_iter().fold(query, Query::outcome),
        }
    }
}
