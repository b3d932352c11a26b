//! Turns the host's call into what may be recorded: validated, sanitised, summarised. Runs on the caller's thread, before the
//! queue, so that no raw data ever reaches the writer or the disk; a call from another process is prepared on the thread of
//! its connection.

mod circumstances;

use crate::entry::{self, CallResult, Summary, ToolCall};
use crate::json::{Json, Object, Path};
use crate::policy::Policies;
use crate::redact::{Action, Altered, Context, Hidden, IdentityKind, Root, Sanitizer, Treated};
use crate::store::engine::Engine;
use crate::store::engine::encode::Prepared;
use crate::store::write::given::Given;
use crate::store::write::names::Names;
use crate::store::write::subjects::CallKeys;
use crate::{Error, ErrorKind, Result, Timestamp};
use attestlog_proof::entry::{Call, CallError, Completion, Facet, Outcome, Phase, Sender, SourceKind, Trigger};

impl Prepared {
    /// Gives the batch that begins with this call a number of the process's own sender.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the call already has a sender.
    pub(crate) fn number_batch(&mut self, own: Option<Sender>) -> Result<()> {
        let Some(own) = own else { return Ok(()) };
        if self.call.sender.replace(own).is_some() {
            return Err(Error::invalid("sender: the call has one, and is in a batch that has another"));
        }
        self.numbers_batch = true;
        Ok(())
    }
}

impl Engine {
    /// Prepares a call for recording.
    pub(crate) fn prepare(&self, call: ToolCall, phase: Phase) -> Result<Prepared> {
        self.config.process.check()?;
        let phase = match (call.detail_of, phase) {
            (None, phase) => phase,
            (Some(of), Phase::Whole | Phase::Detail(_)) => Phase::Detail(of),
            (Some(_), Phase::Begun | Phase::Finished(_)) => {
                let message = "details of a call are an entry of their own, which neither begins nor ends a call";
                return Err(Error::invalid(message).in_member("detail_of"));
            }
        };
        prepare(self, call, phase)
    }
}

/// Prepares a call for recording.
pub(crate) fn prepare(engine: &Engine, mut call: ToolCall, phase: Phase) -> Result<Prepared> {
    let mut altered = call.normalise();
    call.replace_nul();
    call.validate(&engine.config.limits)?;
    call.check_reserved()?;
    call.replace_forged_seals();
    engine.name_session(&mut call);
    let given = Given::of(engine, &call);
    let policies = engine.policies();
    let seals = policies.set.redaction.needs_subject_keys();
    key_digests(engine, seals, &mut call.session_metadata);
    let result = match &call.result {
        Some(CallResult::Value(value)) => Some(value),
        _ => None,
    };
    let Some(sanitizer) = &policies.sanitizer else {
        return Err(Error::new(
            ErrorKind::Key,
            "the policy writes pseudonyms and their key is missing; bring back the store's key file",
        ));
    };
    let mut found = Altered::default();
    let mut patients = policies.set.patients.find_noting(
        &call.tool_name,
        call.arguments.as_ref(),
        result,
        &engine.config.limits,
        &mut found,
    )?;
    altered.push(("patient_ids", found));
    patients.append(&mut call.patient_ids);
    patients.sort_unstable();
    patients.dedup();
    check_nameable(engine, sanitizer, &call, &patients)?;
    let is_open = is_open(&call, phase, patients.len(), engine.config.limits.patients);
    let user = call.user_id.clone();
    let mut keys = CallKeys::new(engine, sanitizer, (&patients, &user), is_open).continuing(first(&call, phase))?;
    let mut random = |out: &mut [u8]| {
        engine.config.random.fill(out);
        Ok(())
    };
    let context = match engine.keys().is_some() {
        true => Context::sealing("", &mut keys, &mut random),
        false => Context::new(),
    };
    let names = names(sanitizer, &patients, &call);
    let renamed = |key: &str| names.renamed(key);
    let context = if names.is_empty() { context } else { context.naming(&renamed) };
    let policies = &policies;
    let mut preparing =
        PrepareContext { engine, policies, sanitizer, context, names: &names, named: Vec::new(), restated: Vec::new() };
    preparing.tell(&altered);
    let patient_ids = preparing.patients(&patients);
    let completion = match phase {
        Phase::Begun if call.result.is_some() || call.outcome.is_some() => {
            return Err(Error::invalid("a call that is only begun has no result yet"));
        }
        Phase::Begun => None,
        // Details need not say how the call ended.
        Phase::Detail(_) if call.result.is_none() && call.outcome.is_none() => {
            call.circumstances.duration_ms = call.duration_ms;
            None
        }
        Phase::Whole | Phase::Finished(_) | Phase::Detail(_) => {
            Some(preparing.completion(call.result.take(), call.outcome, call.duration_ms)?)
        }
    };
    if call.has_nearly_json() {
        // Kept as text; names in it were found as far as it could be parsed.
        preparing.restated.push("arguments".to_owned());
    }
    let prepared = entry_of(call, phase, preparing, completion, patient_ids, given)?;
    Ok(Prepared { subject: keys.into_fresh(), ..prepared })
}

/// The entry of a call whose patients and answer are treated, and how long it is to be kept.
fn entry_of(
    call: ToolCall,
    phase: Phase,
    mut preparing: PrepareContext<'_>,
    completion: Option<Completion>,
    patient_ids: Vec<String>,
    given: Option<Given>,
) -> Result<Prepared> {
    // Without `..`: a member that is added is treated here, or recorded as it is.
    let ToolCall {
        conversation_id: conversation,
        user_id: user,
        tool_name: tool,
        timestamp,
        turn_number,
        model,
        agent_id,
        tool_server,
        arguments,
        session_metadata,
        trigger,
        call_id,
        follows,
        purpose,
        emergency,
        grant,
        backfilled,
        late_answer,
        retention_class,
        retain_until,
        restated,
        sender,
        circumstances,
        // `phase` says it.
        detail_of: _,
        // `completion` was made of these.
        result: _,
        outcome: _,
        duration_ms: _,
        // They are among `patient_ids`.
        patient_ids: _,
    } = call;
    let PrepareContext { engine, policies, sanitizer, .. } = preparing;
    let arguments = arguments.map(|a| preparing.value(Root::Arguments, a)).transpose()?;
    let metadata = Some(session_metadata).filter(|members| !members.is_empty());
    let metadata = metadata.map(|m| preparing.value(Root::SessionMetadata, m.into())).transpose()?;
    let restated = preparing.restated(restated)?;
    let user_id = preparing.facet(IdentityKind::User, "user_id", &user);
    let conversation_id = preparing.facet(IdentityKind::Conversation, "conversation_id", &conversation);
    let tool_name = preparing.name(Some(Facet::Tool), "tool_name", tool.clone());
    let retention_class = match retention_class {
        None if tool_name != tool => class_of(policies, &tool, &tool_name, &patient_ids),
        said => said,
    };
    let mut name = |of, path: &str, text: Option<String>| text.map(|text| preparing.name(of, path, text));
    let (model, agent_id) = (name(Some(Facet::Model), "model", model), name(Some(Facet::Agent), "agent_id", agent_id));
    let tool_server = name(Some(Facet::Server), "tool_server", tool_server);
    let call_id = name(None, "call_id", call_id);
    let sender = sender.map(|sender| engine.shown_sender(sender, sanitizer)).transpose()?;
    let error = completion.as_ref().and_then(|ended| ended.error.as_ref());
    let seals = policies.set.redaction.needs_subject_keys();
    let given = given.and_then(|given| given.digests(engine, arguments.as_ref(), metadata.as_ref(), (error, seals)));
    let purpose = purpose.map(|text| preparing.said(Facet::Purpose, "purpose", text)).transpose()?;
    let circumstances = preparing.circumstances(circumstances)?;
    let treated = preparing.finish();
    let call = Box::new(Call {
        phase,
        timestamp: timestamp.unwrap_or(Timestamp::from_nanos(0)),
        conversation_id,
        turn_number,
        user_id,
        model,
        agent_id,
        tool_name,
        tool_server,
        arguments: arguments.map(|a| a.to_canonical()),
        trigger,
        call_id,
        follows,
        patient_ids,
        policy_seq: policies.seq,
        purpose,
        emergency,
        grant,
        backfilled,
        late_answer,
        session_metadata: metadata.map(|m| m.to_canonical()),
        completion,
        treated: treated.map(|t| t.to_canonical()),
        restated,
        sender,
        given,
        circumstances,
    });
    Ok(Prepared { call, timestamp, retention_class, retain_until, subject: None, numbers_batch: false })
}

/// Whether what is recorded of a call later may name further people: its end, a late answer, patients that did not fit. Details
/// need not name the people of their call, so they are sealed under a key of their own.
fn is_open(call: &ToolCall, phase: Phase, patients: usize, most: usize) -> bool {
    let answered = matches!(call.result, Some(CallResult::Value(_))) || call.outcome == Some(Outcome::Ok);
    let captured = phase != Phase::Whole || call.first_source().is_some();
    matches!(phase, Phase::Begun | Phase::Detail(_)) || captured && (!answered || patients >= most)
}

/// The entry to whose call this one belongs: its beginning, or for an answer, patients or details that came later, what they follow.
fn first(call: &ToolCall, phase: Phase) -> Option<u64> {
    let further = || {
        let marked = call.session_metadata.get("mcp").and_then(|mcp| mcp.get("further_patients")?.as_bool());
        call.first_source() == Some(SourceKind::Proxy)
            && call.trigger == Some(Trigger::FollowUp)
            && marked == Some(true)
    };
    match phase {
        Phase::Finished(first) | Phase::Detail(first) => Some(first),
        _ => call.follows.filter(|_| call.late_answer || further()),
    }
}

/// Refuses a name that must be written as a pseudonym if the store has keys for that and they are missing here: if it were
/// masked instead, nobody could find it, and a proof would say that it does not occur.
fn check_nameable(engine: &Engine, sanitizer: &Sanitizer, call: &ToolCall, patients: &[String]) -> Result<()> {
    if sanitizer.pseudonym_keys().next().is_some() || engine.chain_state().pseudonym_keys.is_empty() {
        return Ok(());
    }
    let required =
        [(Facet::Conversation, &call.conversation_id), (Facet::User, &call.user_id), (Facet::Tool, &call.tool_name)];
    let optional = [
        (Facet::Model, &call.model),
        (Facet::Agent, &call.agent_id),
        (Facet::Server, &call.tool_server),
        (Facet::Purpose, &call.purpose),
        (Facet::Trace, &call.circumstances.trace_id),
        (Facet::Agent, &call.circumstances.parent_agent_id),
    ];
    let by = call.circumstances.approval.iter().filter_map(|approval| Some((Facet::User, approval.by.as_ref()?)));
    let program = call.circumstances.peer.iter().filter_map(|peer| Some((Facet::Peer, peer.program.as_ref()?)));
    let resources = call.circumstances.resources.iter().map(|resource| (Facet::Resource, &resource.name));
    let around = by.chain(program).chain(resources);
    let optional = optional.into_iter().filter_map(|(field, name)| Some((field, name.as_ref()?)));
    let patients = patients.iter().map(|name| (Facet::Patient, name));
    let mut all = required.into_iter().chain(optional).chain(around).chain(patients);
    match all.find(|(field, name)| sanitizer.would_mask(*field, name)) {
        None => Ok(()),
        Some((field, _)) => Err(Error::new(
            ErrorKind::Key,
            format!(
                "this {} must not be written as it is, and the key for its pseudonym is missing; bring back the store's key \
                 file",
                field.as_str()
            ),
        )),
    }
}

/// The retention class for a tool whose name is written as a pseudonym, which no rule of the policy matches; `None` if that
/// would keep the call for a shorter time.
fn class_of(policies: &Policies, tool: &str, written: &str, patients: &[String]) -> Option<String> {
    let (retention, now) = (&policies.set.retention, Timestamp::from_nanos(0));
    let class = retention.assign(tool, false, None, None, now).ok()?.class;
    retention.assign(written, !patients.is_empty(), Some(&class), None, now).ok()?;
    Some(class)
}

/// Replaces the digests in the metadata of a shortened call with keyed ones: without the key nobody can test guesses of the
/// original. A store without keys keeps no digest, nor does one whose policy seals values: what was left out may hold some
/// (R90).
fn key_digests(engine: &Engine, seals: bool, metadata: &mut Object) {
    for part in ["mcp", "hook"] {
        let Some(marks) = metadata.get_mut(part).and_then(|part| match part {
            Json::Object(part) => part.get_mut("shortened"),
            _ => None,
        }) else {
            continue;
        };
        let Json::Array(marks) = marks else { continue };
        for mark in marks {
            if let Json::Object(mark) = mark
                && let Some(Json::String(hash)) = mark.remove("sha256")
                && !seals
                && let Some(digest) = engine.digest(hash.as_bytes())
            {
                mark.insert("digest", digest);
            }
        }
    }
}

/// The outcome of a call and its error, as far as its result shows them.
pub(crate) fn ending(result: Option<&CallResult>, outcome: Option<Outcome>) -> Result<(Outcome, Option<CallError>)> {
    let error = match result {
        Some(CallResult::Error(error)) => Some(error.clone()),
        Some(CallResult::Value(value)) => {
            let like = || entry::failure::reads_as_failure(value).filter(|_| outcome.is_none());
            entry::failure::failure(value).or_else(like)
        }
        None => None,
    };
    match (outcome, &error) {
        (Some(Outcome::Ok), Some(_)) => Err(Error::invalid("outcome: is ok, but the result is a failure")),
        (Some(outcome), _) => Ok((outcome, error)),
        (None, Some(_)) => Ok((Outcome::ToolError, error)),
        (None, None) => Ok((Outcome::Ok, None)),
    }
}

/// Whether a call with this outcome may have shown nothing, though it has an answer.
fn is_failure(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Denied | Outcome::ToolError | Outcome::ProtocolError)
}

/// The call's own names that are not written in clear, and those whom field rules hide in it.
fn names(sanitizer: &Sanitizer, patients: &[String], call: &ToolCall) -> Names {
    let users = std::slice::from_ref(&call.user_id);
    let conversations = std::slice::from_ref(&call.conversation_id);
    let facets =
        [(IdentityKind::Patient, patients), (IdentityKind::User, users), (IdentityKind::Conversation, conversations)];
    let named = facets.into_iter().flat_map(|(facet, names)| names.iter().map(move |name| (facet, name)));
    let written = named.map(|(facet, name)| (facet, name.clone(), sanitizer.facet(facet, name)));
    let mut names = Names::new(written.filter(|(_, name, written)| name != written));
    for (clear, (domain, pseudonym)) in hidden(sanitizer, call) {
        let of = [IdentityKind::Patient, IdentityKind::User, IdentityKind::Conversation]
            .into_iter()
            .find(|facet| facet.name() == domain);
        names.add(of.map_or("rule", IdentityKind::name), &clear, pseudonym);
    }
    names
}

/// What field rules write pseudonyms of, anywhere in the call.
fn hidden(sanitizer: &Sanitizer, call: &ToolCall) -> Hidden {
    let mut hidden = Hidden::new();
    if !sanitizer.hides_identities() {
        return hidden;
    }
    if let Some(arguments) = &call.arguments {
        sanitizer.identities(Root::Arguments, arguments, &mut hidden);
    }
    if let Some(CallResult::Value(raw)) = &call.result {
        sanitizer.identities(Root::Result, raw, &mut hidden);
        if let Some(viewed) = entry::viewed(raw) {
            sanitizer.identities(Root::Result, &viewed.value, &mut hidden);
        }
    }
    if !call.session_metadata.is_empty() {
        sanitizer.identities(Root::SessionMetadata, &call.session_metadata.clone().into(), &mut hidden);
    }
    hidden
}

/// The state of one call while the redaction policy is applied.
struct PrepareContext<'a> {
    engine: &'a Engine,
    policies: &'a Policies,
    sanitizer: &'a Sanitizer,
    context: Context<'a>,
    names: &'a Names,
    /// Where names were replaced.
    named: Vec<Treated>,
    /// The paths of numbers in a record inside the result's text that a double cannot represent.
    restated: Vec<String>,
}

impl PrepareContext<'_> {
    /// Records for each member that names in it were altered.
    fn tell(&mut self, altered: &[(&str, Altered)]) {
        for (member, altered) in altered {
            let Some((path, dropped)) = altered.told(member) else { continue };
            self.named.extend(dropped);
            if !self.restated.contains(&path) {
                self.restated.push(path);
            }
        }
    }

    /// The paths of everything that could not be kept: those that the host gives, then those found here.
    fn restated(&mut self, mut given: Vec<String>) -> Result<Vec<String>> {
        let found = std::mem::take(&mut self.restated);
        given.retain(|path| !found.contains(path));
        given.into_iter().chain(found).map(|path| self.text(Root::Text, path)).collect()
    }

    fn value(&mut self, root: Root, mut value: Json) -> Result<Json> {
        self.sanitizer.treat(root, &mut value, &mut self.context)?;
        if !self.names.is_empty() {
            self.names.treat(&mut Path::root().key(root.name()), &mut value, &mut self.named);
        }
        Ok(value)
    }

    fn text(&mut self, root: Root, mut text: String) -> Result<String> {
        self.sanitizer.treat_text(root, &mut text, &mut self.context)?;
        if self.names.is_empty() {
            return Ok(text);
        }
        let mut value = Json::from(text);
        self.names.treat(&mut Path::root().key(root.name()), &mut value, &mut self.named);
        Ok(value.as_str().unwrap_or_default().to_owned())
    }

    /// Treats a name in the entry that is not a person's.
    fn name(&mut self, field: Option<Facet>, path: &str, clear: String) -> String {
        let mut text = clear.clone();
        self.sanitizer.treat_name(field, path, &mut text, &mut self.context);
        self.unnamed(field, path, &clear, text)
    }

    /// Treats a short text by which entries are found: the purpose of the call, a resource.
    fn said(&mut self, field: Facet, path: &str, clear: String) -> Result<String> {
        let mut text = clear.clone();
        self.sanitizer.treat_said(field, path, &mut text, &mut self.context)?;
        Ok(self.unnamed(Some(field), path, &clear, text))
    }

    /// The text without hidden names. If entries can be found by this facet, a text with hidden names becomes a single
    /// pseudonym.
    fn unnamed(&mut self, field: Option<Facet>, path: &str, clear: &str, text: String) -> String {
        let Some((clean, of)) = self.names.renamed(&text) else { return text };
        let (path, detector, action) = (path.to_owned(), of.to_owned(), Action::Pseudonymise);
        self.named.push(Treated { path, detector, action, start: None, end: None });
        field.and_then(|field| self.sanitizer.newest(field, clear)).unwrap_or(clean)
    }

    /// A facet's value as it is written. A value that the policy keeps, but that contains a hidden name, becomes a pseudonym
    /// too, under which it is also found.
    fn facet(&mut self, facet: IdentityKind, path: &str, clear: &str) -> String {
        self.named.extend(self.sanitizer.treated_facet(facet, path, clear));
        let written = self.sanitizer.facet(facet, clear);
        match self.names.replaced(&written) {
            Some(_) => self.sanitizer.newest(facet.field(), clear).unwrap_or(written),
            None => written,
        }
    }

    fn patients(&mut self, clear: &[String]) -> Vec<String> {
        let mut ids: Vec<String> = clear.iter().map(|p| self.facet(IdentityKind::Patient, "patient_ids", p)).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    fn completion(
        &mut self,
        result: Option<CallResult>,
        outcome: Option<Outcome>,
        duration_ms: Option<f64>,
    ) -> Result<Completion> {
        let told = outcome.is_some();
        let (outcome, error) = ending(result.as_ref(), outcome)?;
        let error = match error {
            None => None,
            Some(CallError { kind, message }) => Some(CallError {
                kind: kind.map(|k| self.text(Root::Error, k)).transpose()?,
                message: self.text(Root::Error, message)?,
            }),
        };
        let result_summary = match result {
            Some(CallResult::Value(raw)) => {
                // A text that only reads like an error may be the answer.
                let failed = is_failure(outcome) && (told || entry::failure::failure(&raw).is_some());
                let only_error = failed && entry::shows_only_error(&raw);
                let bytes = raw.to_canonical().as_str().len();
                let mut summary = match entry::viewed(&raw) {
                    // The record in the text is treated under the names of its own members.
                    Some(viewed) => {
                        let (full, digest) = self.beside_viewed(raw)?;
                        let root = Path::root().key("result");
                        self.restated.extend(viewed.restated.iter().map(|p| p.inside(&root).to_string()));
                        let viewed = self.value(Root::Result, viewed.value)?;
                        let policy = &self.policies.set.results;
                        Summary::of(&viewed, full.as_ref(), bytes, digest, policy)
                    }
                    None => {
                        let treated = self.value(Root::Result, raw.clone())?;
                        let digest = self.engine.digest_unsealed(raw, &treated);
                        let policy = &self.policies.set.results;
                        Summary::of(&treated, Some(&treated), bytes, digest, policy)
                    }
                };
                if only_error {
                    summary.json.insert("error_only", true);
                }
                Some(Json::from(summary.json).to_canonical())
            }
            _ => None,
        };
        Ok(Completion { outcome, duration_ms, result_summary, error })
    }

    /// The complete result, if it is kept, and its digest, where a part of it is summarised.
    fn beside_viewed(&mut self, raw: Json) -> Result<(Option<Json>, Option<String>)> {
        let keeps = self.policies.set.results.keep_full.is_some();
        if !keeps && !self.sanitizer.policy().needs_subject_keys() {
            return Ok((None, self.engine.digest(raw.to_canonical().as_str().as_bytes())));
        }
        let before = (self.context.treated().len(), self.named.len());
        let treated = self.value(Root::Result, raw.clone())?;
        let digest = self.engine.digest_unsealed(raw, &treated);
        if keeps {
            return Ok((Some(treated), digest));
        }
        self.context.forget_after(before.0);
        self.named.truncate(before.1);
        Ok((None, digest))
    }

    /// A summary of the treated places, if there are any.
    fn finish(self) -> Option<Json> {
        let treated = self.context.into_treated();
        let all = || treated.iter().chain(&self.named);
        all().next().is_some().then(|| Treated::summary(all()))
    }
}
