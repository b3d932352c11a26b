//! Turns the host's call into what may be recorded: validated, sanitised, summarised. Runs on the caller's thread, before the
//! queue, so that no raw data ever reaches the writer or the disk; a call from another process is prepared on the thread of
//! its connection.

use crate::entry::{self, CallResult, Summary, ToolCall};
use crate::json::{Json, Object, Path};
use crate::policy::Policies;
use crate::redact::{Action, Altered, Context, Hidden, IdentityKind, Root, Sanitizer, Treated};
use crate::store::engine::Engine;
use crate::store::engine::encode::Prepared;
use crate::store::write::names::Names;
use crate::store::write::subjects::CallKeys;
use crate::{Error, ErrorKind, Result, Timestamp};
use attestlog_proof::entry::{Call, CallError, Completion, Facet, Outcome, Phase, Sender};

#[cfg(feature = "owner")]
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
        prepare(self, call, phase)
    }
}

/// Prepares a call for recording.
pub(crate) fn prepare(engine: &Engine, mut call: ToolCall, phase: Phase) -> Result<Prepared> {
    let mut altered = call.normalise();
    call.take_error_text();
    call.restate_nul();
    call.validate(&engine.config.limits)?;
    call.check_reserved()?;
    call.restate_posed();
    key_digests(engine, &mut call.session_metadata);
    let policies = engine.policies();
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
    let mut keys = CallKeys::new(engine, sanitizer, &patients, &call.user_id);
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
    let mut treatment =
        Treatment { engine, policies, sanitizer, context, names: &names, named: Vec::new(), restated: Vec::new() };
    treatment.tell(&altered);
    let patient_ids = treatment.patients(&patients);
    let completion = match phase {
        Phase::Begun if call.result.is_some() || call.outcome.is_some() => {
            return Err(Error::invalid("a call that is only begun has no result yet"));
        }
        Phase::Begun => None,
        Phase::Whole | Phase::Finished(_) => {
            Some(treatment.completion(call.result.take(), call.outcome, call.duration_ms)?)
        }
    };
    if call.has_nearly_json() {
        // Kept as text; names in it were found as far as it could be parsed.
        treatment.restated.push("arguments".to_owned());
    }
    let arguments = call.arguments.map(|a| treatment.value(Root::Arguments, a)).transpose()?;
    let metadata = match call.session_metadata.is_empty() {
        true => None,
        false => Some(treatment.value(Root::SessionMetadata, call.session_metadata.into())?),
    };
    let restated = std::mem::take(&mut treatment.restated);
    call.restated.retain(|path| !restated.contains(path));
    let restated = call.restated.into_iter().chain(restated);
    let restated = restated.map(|path| treatment.text(Root::Text, path)).collect::<Result<_>>()?;
    let user_id = treatment.facet(IdentityKind::User, "user_id", &call.user_id);
    let conversation_id = treatment.facet(IdentityKind::Conversation, "conversation_id", &call.conversation_id);
    let tool_name = treatment.name(Some(Facet::Tool), "tool_name", call.tool_name.clone());
    let retention_class = match call.retention_class {
        None if tool_name != call.tool_name => class_of(policies, &call.tool_name, &tool_name, &patient_ids),
        said => said,
    };
    let mut name = |of, path: &str, text: Option<String>| text.map(|text| treatment.name(of, path, text));
    let (model, agent_id) =
        (name(Some(Facet::Model), "model", call.model), name(Some(Facet::Agent), "agent_id", call.agent_id));
    let tool_server = name(Some(Facet::Server), "tool_server", call.tool_server);
    let call_id = name(None, "call_id", call.call_id);
    let sender = call.sender.map(|s| treatment.sender(s)).transpose()?;
    let purpose = call.purpose.map(|text| treatment.purpose(text)).transpose()?;
    let treated = treatment.finish();
    let subject = keys.into_fresh();
    let recorded = Call {
        phase,
        timestamp: call.timestamp.unwrap_or(Timestamp::from_nanos(0)),
        conversation_id,
        turn_number: call.turn_number,
        user_id,
        model,
        agent_id,
        tool_name,
        tool_server,
        arguments: arguments.map(|a| a.to_canonical()),
        trigger: call.trigger,
        call_id,
        follows: call.follows,
        patient_ids,
        policy_seq: policies.seq,
        purpose,
        emergency: call.emergency,
        grant: call.grant,
        backfilled: call.backfilled,
        captured_by: call.captured_by,
        late_answer: call.late_answer,
        session_metadata: metadata.map(|m| m.to_canonical()),
        completion,
        treated: treated.map(|t| t.to_canonical()),
        restated,
        sender,
    };
    Ok(Prepared {
        call: Box::new(recorded),
        timestamp: call.timestamp,
        retention_class,
        retain_until: call.retain_until,
        subject,
        numbers_batch: false,
    })
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
    ];
    let optional = optional.into_iter().filter_map(|(field, name)| Some((field, name.as_ref()?)));
    let patients = patients.iter().map(|name| (Facet::Patient, name));
    match required.into_iter().chain(optional).chain(patients).find(|(field, name)| sanitizer.would_mask(*field, name))
    {
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
/// original. A store without keys keeps no digest.
fn key_digests(engine: &Engine, metadata: &mut Object) {
    let Some(Json::Object(mcp)) = metadata.get_mut("mcp") else { return };
    let Some(Json::Array(marks)) = mcp.get_mut("shortened") else { return };
    for mark in marks {
        if let Json::Object(mark) = mark
            && let Some(Json::String(hash)) = mark.remove("sha256")
            && let Some(digest) = engine.digest(hash.as_bytes())
        {
            mark.insert("digest", digest);
        }
    }
}

/// The outcome of a call and its error, as far as its result shows them.
fn ending(result: Option<&CallResult>, outcome: Option<Outcome>) -> Result<(Outcome, Option<CallError>)> {
    let error = match result {
        Some(CallResult::Error(error)) => Some(error.clone()),
        Some(CallResult::Value(value)) => entry::failure::failure(value),
        None => None,
    };
    match (outcome, &error) {
        (Some(Outcome::Ok), Some(_)) => Err(Error::invalid("outcome: is ok, but the result is a failure")),
        (Some(outcome), _) => Ok((outcome, error)),
        (None, Some(_)) => Ok((Outcome::ToolError, error)),
        (None, None) => Ok((Outcome::Ok, None)),
    }
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
struct Treatment<'a> {
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

impl Treatment<'_> {
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

    /// Records are identified by their sender, so an id must not be replaced by something that several ids may share.
    fn sender(&mut self, Sender { id, number }: Sender) -> Result<Sender> {
        if self.sanitizer.is_no_name(&id) {
            return Err(Error::invalid(
                "sender: its id looks like a secret, a card or an account number; use another one",
            ));
        }
        Ok(Sender::new(self.unnamed(None, "sender", &id, id.clone()), number))
    }

    /// Treats the purpose of the call.
    fn purpose(&mut self, clear: String) -> Result<String> {
        let mut text = clear.clone();
        self.sanitizer.treat_said("purpose", &mut text, &mut self.context)?;
        Ok(self.unnamed(Some(Facet::Purpose), "purpose", &clear, text))
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
                let whole = raw.to_canonical();
                let digest = self.engine.digest(whole.as_str().as_bytes());
                let summary = match entry::viewed(&raw) {
                    // The record in the text is treated under the names of its own members.
                    Some(viewed) => {
                        let full = match self.policies.set.results.keep_full {
                            Some(_) => Some(self.value(Root::Result, raw)?),
                            None => None,
                        };
                        let root = Path::root().key("result");
                        self.restated.extend(viewed.restated.iter().map(|p| p.inside(&root).to_string()));
                        let viewed = self.value(Root::Result, viewed.value)?;
                        let policy = &self.policies.set.results;
                        Summary::of(&viewed, full.as_ref(), whole.as_str().len(), digest, policy)
                    }
                    None => {
                        let treated = self.value(Root::Result, raw)?;
                        let policy = &self.policies.set.results;
                        Summary::of(&treated, Some(&treated), whole.as_str().len(), digest, policy)
                    }
                };
                Some(Json::from(summary.json).to_canonical())
            }
            _ => None,
        };
        Ok(Completion { outcome, duration_ms, result_summary, error })
    }

    /// A summary of the treated places, if there are any.
    fn finish(self) -> Option<Json> {
        let treated = self.context.into_treated();
        let all = || treated.iter().chain(&self.named);
        all().next().is_some().then(|| Treated::summary(all()))
    }
}
