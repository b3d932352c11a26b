//! What the policy does to what surrounds a call.
//!
//! Invariant R94: every text in it is treated like a name of its kind before it is written. Whoever approved is written as the
//! policy writes users, so that the pseudonym of an approver is that of the same person as a user. A resource is treated like
//! any text, because an address may hold a secret: if anything in it would be treated, the whole name becomes a pseudonym, by
//! which it is still found.

use crate::Result;
use crate::redact::IdentityKind;
use crate::store::write::prepare::PrepareContext;
use attestlog_proof::entry::{Approval, Circumstances, Digests, Facet, Peer, Resource, Source};

impl PrepareContext<'_> {
    /// The circumstances as the entry has them.
    pub(super) fn circumstances(&mut self, around: Circumstances) -> Result<Option<Box<Circumstances>>> {
        // Without `..`: a member that is added is treated here, or recorded as it is.
        let Circumstances {
            trace_id,
            span_id,
            prompt_id,
            parent_agent_id,
            parent_call_id,
            sources,
            approval,
            digests,
            peer,
            resources,
            // Names of members, from a closed set.
            contradicts,
            duration_ms,
        } = around;
        let mut id = |of, path: &str, text: Option<String>| text.map(|text| self.name(of, path, text));
        let trace_id = id(Some(Facet::Trace), "trace_id", trace_id);
        let span_id = id(None, "span_id", span_id);
        let prompt_id = id(None, "prompt_id", prompt_id);
        let parent_agent_id = id(Some(Facet::Agent), "parent_agent_id", parent_agent_id);
        let parent_call_id = id(None, "parent_call_id", parent_call_id);
        let digests: Digests = digests;
        let sources = sources.into_iter().enumerate().map(|(i, source)| self.source(i, source)).collect();
        let approval = approval.map(|approval| self.approval(approval));
        let peer = peer.map(|Peer { uid, gid, pid, started, program }| {
            let program = program.map(|program| self.name(Some(Facet::Peer), "peer.program", program));
            Peer { uid, gid, pid, started, program }
        });
        let each = resources.into_iter().enumerate().map(|(i, resource)| self.resource(i, resource));
        let mut resources = each.collect::<Result<Vec<Resource>>>()?;
        // Pseudonyms come in another order than the names that they stand for.
        resources.sort_unstable();
        resources.dedup();
        Ok(Circumstances {
            trace_id,
            span_id,
            prompt_id,
            parent_agent_id,
            parent_call_id,
            sources,
            approval,
            digests,
            peer,
            resources,
            contradicts,
            duration_ms,
        }
        .kept())
    }

    fn source(&mut self, i: usize, Source { kind, program, version, added }: Source) -> Source {
        let mut name = |member: &str, text: Option<String>| {
            text.map(|text| self.name(None, &format!("sources[{i}].{member}"), text))
        };
        Source { kind, program: name("program", program), version: name("version", version), added }
    }

    fn approval(&mut self, approval: Approval) -> Approval {
        let Approval { decision, by, source, asked_at, answered_at } = approval;
        let by = by.map(|by| self.facet(IdentityKind::User, "approval.by", &by));
        let source = source.map(|source| self.name(None, "approval.source", source));
        Approval { decision, by, source, asked_at, answered_at }
    }

    fn resource(&mut self, i: usize, Resource { name, kind }: Resource) -> Result<Resource> {
        let kind = self.name(None, &format!("resources[{i}].kind"), kind);
        Ok(Resource { name: self.said(Facet::Resource, &format!("resources[{i}].name"), name)?, kind })
    }
}
