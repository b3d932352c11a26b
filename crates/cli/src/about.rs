//! What a completeness proof is about: one value, for `prove` and for `check`.

use attestlog::Facet;
use clap::Args;

const HEADING: &str = "A completeness proof is about one of";

/// The value.
#[derive(Debug, Args)]
#[group(id = "about", multiple = false)]
pub struct AboutArgs {
    /// This patient
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named, help_heading = HEADING)]
    patient: Option<String>,
    /// This user
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named, help_heading = HEADING)]
    user: Option<String>,
    /// This tool
    #[arg(long, value_name = "NAME", allow_hyphen_values = true, value_parser = super::named::named, help_heading = HEADING)]
    tool: Option<String>,
    /// This conversation
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named, help_heading = HEADING)]
    conversation: Option<String>,
    /// This model
    #[arg(long, value_name = "NAME", allow_hyphen_values = true, value_parser = super::named::named, help_heading = HEADING)]
    model: Option<String>,
    /// This purpose
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, value_parser = super::named::named, help_heading = HEADING)]
    purpose: Option<String>,
    /// This agent
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named, help_heading = HEADING)]
    agent: Option<String>,
    /// This tool server
    #[arg(long, value_name = "NAME", allow_hyphen_values = true, value_parser = super::named::named, help_heading = HEADING)]
    server: Option<String>,
    /// This resource
    #[arg(long, value_name = "NAME", allow_hyphen_values = true, value_parser = super::named::named, help_heading = HEADING)]
    resource: Option<String>,
    /// This distributed trace
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = super::named::named, help_heading = HEADING)]
    trace: Option<String>,
    /// This program of the recording process
    #[arg(long, value_name = "PATH", allow_hyphen_values = true, value_parser = super::named::named, help_heading = HEADING)]
    peer: Option<String>,
}

impl AboutArgs {
    /// The value, if one was given.
    pub fn get(&self) -> Option<(Facet, &str)> {
        let all = [
            (Facet::Patient, &self.patient),
            (Facet::User, &self.user),
            (Facet::Tool, &self.tool),
            (Facet::Conversation, &self.conversation),
            (Facet::Model, &self.model),
            (Facet::Purpose, &self.purpose),
            (Facet::Agent, &self.agent),
            (Facet::Server, &self.server),
            (Facet::Resource, &self.resource),
            (Facet::Trace, &self.trace),
            (Facet::Peer, &self.peer),
        ];
        all.into_iter().find_map(|(field, value)| Some((field, value.as_deref()?)))
    }
}
