//! What a numbered call looked like when it was given: its sender's id, and its members before the policy hid anything.
//!
//! Both are needed to recognise a repeat and must not be readable. A sender's id is often made from somebody's name, or, by an
//! import, from the session's id. So in a store with keys the id is written as a MAC of it, and so are the members, under a
//! key that never changes: a repeat is recognised after every rotation and under every policy. What was sealed is left out,
//! since a MAC of it would remain after its erasure.

use crate::entry::{self, CallResult, ToolCall, reserved::IMPORTED};
use crate::hash::to_hex;
use crate::json::{Json, Object};
use crate::redact::{Sanitizer, unsealed};
use crate::store::engine::Engine;
use crate::{Error, ErrorKind, Hash, Result};
use attestlog_proof::entry::{Call, CallError, Sender, SourceKind};

/// Hexadecimal digits of each digest.
const DIGITS: usize = 16;

/// The parts of a call that have digests, in their order, as a difference in them is called.
const PARTS: [&str; 4] = ["arguments", "session_metadata", "name or id that the policy hides", "error"];

/// The members of a numbered call before the policy is applied.
pub(crate) struct Given {
    arguments: Option<Json>,
    session: Json,
    names: Json,
    error: Option<Json>,
}

impl Given {
    /// What the host gave; `None` if the call has no sender or the store no keys.
    pub(crate) fn of(engine: &Engine, call: &ToolCall) -> Option<Given> {
        // Without `..`: a member that is added needs a decision here. `same` compares those that no policy changes.
        let ToolCall {
            conversation_id,
            user_id,
            tool_name,
            model,
            agent_id,
            tool_server,
            arguments,
            result,
            session_metadata,
            call_id,
            purpose,
            sender,
            circumstances,
            // Compared by their names in the log: those that are given may also stand in the arguments.
            patient_ids: _,
            // What no policy changes.
            timestamp: _,
            turn_number: _,
            outcome: _,
            duration_ms: _,
            trigger: _,
            follows: _,
            emergency: _,
            grant: _,
            backfilled: _,
            late_answer: _,
            detail_of: _,
            restated: _,
            // How long the entry is kept is no part of the call.
            retention_class: _,
            retain_until: _,
        } = call;
        if sender.is_none() || engine.keys().is_none() {
            return None;
        }
        let imported = call.first_source() == Some(SourceKind::Import);
        let mut session = session_metadata.clone();
        without_findings(&mut session);
        let opt = |text: &Option<String>| text.as_deref().map_or(Json::Null, Json::from);
        let mut names = vec![
            // An imported session without an id is named after its beginning, which may become known later.
            if imported { Json::Null } else { Json::from(conversation_id.as_str()) },
            Json::from(user_id.as_str()),
            Json::from(tool_name.as_str()),
            opt(model),
            opt(agent_id),
            opt(tool_server),
            opt(call_id),
            opt(purpose),
        ];
        // Who told of it is not what was told: a later version of the same source repeats the call.
        let around = entry::said_around(circumstances);
        names.extend((!around.is_empty()).then(|| around.into()));
        let error = match result {
            Some(CallResult::Error(error)) => Some(of_error(error)),
            _ => None,
        };
        Some(Given { arguments: arguments.clone(), session: session.into(), names: Json::from(names), error })
    }

    /// The digests, given the members as the policy leaves them. An error in which it hides something has none if the policy
    /// seals values: what it would seal elsewhere is masked in a text.
    pub(crate) fn digests(
        self,
        engine: &Engine,
        arguments: Option<&Json>,
        session: Option<&Json>,
        (error, seals): (Option<&CallError>, bool),
    ) -> Option<String> {
        let Given { arguments: raw, session: said, names, error: raw_error } = self;
        let written = error.map(of_error);
        let error = raw_error.filter(|raw| !seals || written.as_ref() == Some(raw));
        let raw = raw.map(|raw| unsealed(raw, arguments));
        let said = unsealed(said, session);
        let keys = engine.keys();
        let keys = keys.as_ref()?;
        let digest = |part: &str, given: &Json| {
            let mac = keys.sender_mac(part, given.to_canonical().as_str().as_bytes());
            to_hex(&mac[..DIGITS / 2])
        };
        let [of_arguments, of_session, of_names, of_error] = PARTS;
        let mut digests = digest(of_arguments, &raw.map_or(Json::Null, |raw| Json::from(vec![raw])));
        digests.push_str(&digest(of_session, &said));
        digests.push_str(&digest(of_names, &names));
        digests.extend(error.map(|error| digest(of_error, &error)));
        Some(digests)
    }
}

fn of_error(CallError { kind, message }: &CallError) -> Json {
    Json::from(vec![kind.as_deref().map_or(Json::Null, Json::from), Json::from(message.as_str())])
}

/// How two calls differ in what was given, apart from an error: `Some(None)` if they do not, `None` if it is not known.
pub(crate) fn difference(there: &Call, here: &Call) -> Option<Option<&'static str>> {
    let (a, b) = (there.given.as_deref()?, here.given.as_deref()?);
    let parts = PARTS.into_iter().take(3).enumerate();
    let mut other = parts.filter(|(part, _)| digest(a, *part) != digest(b, *part)).map(|(_, member)| member);
    let found = other.next();
    // Under another policy other values are sealed, and these are left out.
    let seals = |call: &Call| {
        [&call.arguments, &call.session_metadata]
            .into_iter()
            .flatten()
            .any(|text| text.as_str().contains(r#"{"sealed":"#))
    };
    let known = found.is_none() || there.policy_seq == here.policy_seq || !(seals(there) || seals(here));
    known.then_some(found)
}

/// Whether both calls were given the same error; `None` if it is not known.
pub(crate) fn is_same_error(there: &Call, here: &Call) -> Option<bool> {
    let error = |call: &Call| digest(call.given.as_deref()?, 3).map(str::to_owned);
    Some(error(there)? == error(here)?)
}

fn digest(digests: &str, part: usize) -> Option<&str> {
    digests.get(part * DIGITS..(part + 1) * DIGITS)
}

impl Engine {
    /// The digest of a result without what is sealed in it: nobody can try guesses of a value with it, not even after its
    /// erasure.
    pub(crate) fn digest_unsealed(&self, raw: Json, treated: &Json) -> Option<String> {
        self.digest(unsealed(raw, Some(treated)).to_canonical().as_str().as_bytes())
    }

    /// Gives an imported session without a name the one that the log shows: 16 digits of the hash that came in its place, or
    /// in a store with keys of a MAC of it, since the hash is of messages that somebody may guess.
    pub(crate) fn name_session(&self, call: &mut ToolCall) {
        let imported = call.first_source() == Some(SourceKind::Import);
        let Some(rest) = call.conversation_id.strip_prefix(IMPORTED).filter(|_| imported) else { return };
        let (hash, number) = rest.split_at_checked(64).unwrap_or((rest, ""));
        if hash.parse::<Hash>().is_err() {
            return;
        }
        let mac = self.keys().as_ref().map(|keys| to_hex(&keys.sender_mac("session", hash.as_bytes())));
        let digits = mac.as_deref().unwrap_or(hash).get(..DIGITS).unwrap_or_default();
        call.conversation_id = [IMPORTED, digits, number].concat();
    }

    /// The sender as the log shows it. A store that was made without keys shows its id as it is.
    ///
    /// # Errors
    /// [`Key`](ErrorKind::Key) if the store's keys are missing; [`InvalidInput`](ErrorKind::InvalidInput) if there are none
    /// and the id must not be written.
    pub(crate) fn shown_sender(&self, sender: Sender, sanitizer: &Sanitizer) -> Result<Sender> {
        let Sender { id, number } = sender;
        if let Some(keys) = &*self.keys() {
            let prefix = if id.starts_with(IMPORTED) { IMPORTED } else { "sender-" };
            let mac = keys.sender_mac("id", id.as_bytes());
            // Letters only: a sequence of digits could look like a card number. 96 bits are more than enough to keep a
            // billion calls apart.
            let halves = mac.iter().take(12).flat_map(|byte| [byte >> 4, byte & 15]);
            let letters: String = halves.map(|half| char::from(b'a' + half)).collect();
            return Ok(Sender::new([prefix, &letters].concat(), number));
        }
        if self.chain_state().genesis.as_ref().is_some_and(|genesis| genesis.keys.is_some()) {
            let message = "the keys that tell a repeat from a new call are missing; bring back the store's key file";
            return Err(Error::new(ErrorKind::Key, message).in_member("sender"));
        }
        if sanitizer.is_no_name(&id) {
            let message = "its id looks like a secret, a card or an account number; use another one";
            return Err(Error::invalid(message).in_member("sender"));
        }
        Ok(Sender::new(id, number))
    }
}

/// Takes from a session's metadata how an import found the call, which is not what was given: all that it notes but what its flags
/// replaced.
pub(crate) fn without_findings(session: &mut Object) {
    let replaced = session.remove("import").and_then(|import| import.get("replaced").cloned());
    if let Some(replaced) = replaced {
        session.insert("import", Object::from_iter([("replaced", replaced)]));
    }
}
