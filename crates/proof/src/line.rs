//! The line: the canonical form of an entry, RFC 8785 JSON. It is what is hashed.
//!
//! Invariant L1: the line is canonical JSON (a property test parses every line and writes it again).
//! Invariant L2: everything that an entry states is in its line; nothing outside the line is proven.
//! The members are written here in RFC 8785 order by hand, because sorting a tree for each of a million entries a
//! second would cost more than hashing them.

use crate::entry::{
    Approval, Body, Call, CallError, Circumstances, Completion, Content, Digests, Entry, Peer, Phase, Resource,
    Retention, SHA256, Sender, Source, SystemEvent, Trigger,
};
use crate::hash::write_hex;
use crate::json::{Canonical, write_float, write_integer, write_str};
use crate::{Hash, Timestamp};

/// The key of a member that follows another member.
macro_rules! key {
    ($key:literal) => {
        concat!(",\"", $key, "\":")
    };
}

/// The line of an entry as text.
pub fn to_string(entry: &Entry) -> String {
    let mut out = Vec::with_capacity(1024);
    write(&mut out, entry.seq, &entry.prev, &entry.body);
    // Every byte written comes from a `str` or is ASCII.
    String::from_utf8(out).unwrap_or_default()
}

/// Appends the line of the entry at `seq`; `prev` is the hash of the entry before it.
pub fn write<S: AsRef<str>>(out: &mut Vec<u8>, seq: u64, prev: &Hash, body: &Body<S>) {
    write_content(out, &body.content, &ChainSlot::of(seq, prev, body));
}

/// Appends the line of an entry with this content at this place in the chain.
pub fn write_content<S: AsRef<str>>(out: &mut Vec<u8>, content: &Content<S>, slot: &ChainSlot<'_, S>) {
    walk(out, content, &mut |out, slot_field| slot.write(slot_field, out));
}

/// Members that are known only when an entry gets its place in the chain, in the order in which they appear in a line.
#[derive(Debug, Clone, Copy)]
pub enum SlotField {
    Nonce,
    Prev,
    RecordedAt,
    Retention,
    Seq,
}

/// How many slot fields a line has.
pub const SLOT_FIELDS: usize = 5;

impl SlotField {
    const ALL: [SlotField; SLOT_FIELDS] =
        [SlotField::Nonce, SlotField::Prev, SlotField::RecordedAt, SlotField::Retention, SlotField::Seq];
}

/// The values of the slot fields: everything in a line that is not part of the content.
#[derive(Debug)]
pub struct ChainSlot<'a, S: AsRef<str> = String> {
    pub seq: u64,
    pub prev: &'a Hash,
    pub nonce: [u8; 16],
    pub recorded_at: Timestamp,
    pub retention: Option<&'a Retention<S>>,
}

impl<'a, S: AsRef<str>> ChainSlot<'a, S> {
    fn of(seq: u64, prev: &'a Hash, body: &'a Body<S>) -> ChainSlot<'a, S> {
        let Body { nonce, recorded_at, retention, content: _ } = body;
        ChainSlot { seq, prev, nonce: *nonce, recorded_at: *recorded_at, retention: retention.as_ref() }
    }

    fn write(&self, slot_field: SlotField, out: &mut Vec<u8>) {
        // None of these is ever the first member of a line.
        let mut line = Line { out, first: false };
        match slot_field {
            SlotField::Nonce => line.hex(key!("nonce"), &self.nonce),
            SlotField::Prev => line.hex(key!("prev"), self.prev.as_bytes()),
            SlotField::RecordedAt => line.time(key!("recorded_at"), self.recorded_at),
            SlotField::Retention => {
                if let Some(Retention { class, until }) = self.retention {
                    line.time(key!("retain_until"), *until);
                    line.text(key!("retention_class"), class.as_ref());
                }
            }
            SlotField::Seq => line.integer(key!("seq"), self.seq),
        }
    }
}

/// Appends the line of `content` without its slot fields. Returns the offsets in `out` where they belong.
pub fn write_around(out: &mut Vec<u8>, content: &Content) -> [usize; SLOT_FIELDS] {
    let mut slot_fields = [0; SLOT_FIELDS];
    walk(out, content, &mut |out, slot_field| slot_fields[slot_field as usize] = out.len());
    slot_fields
}

/// Appends the line that [`write_around`] wrote into `text` from `start` on, with its slot fields filled in.
pub fn fill(out: &mut Vec<u8>, text: &[u8], start: usize, slot_fields: &[usize; SLOT_FIELDS], slot: &ChainSlot<'_>) {
    let mut done = start;
    for (slot_field, &at) in SlotField::ALL.into_iter().zip(slot_fields) {
        out.extend_from_slice(&text[done..at]);
        slot.write(slot_field, out);
        done = at;
    }
    out.extend_from_slice(&text[done..]);
}

fn walk<S: AsRef<str>>(out: &mut Vec<u8>, content: &Content<S>, slot_field: &mut impl FnMut(&mut Vec<u8>, SlotField)) {
    let mut line = Line { out, first: true };
    match content {
        Content::Call(call) => write_call(&mut line, call, slot_field),
        Content::System(SystemEvent { kind, detail }) => {
            line.json(key!("detail"), Some(detail));
            line.text(key!("kind"), kind.as_str());
            SlotField::ALL.into_iter().for_each(|each| slot_field(line.out, each));
        }
    }
    line.out.push(b'}');
}

fn write_call<S: AsRef<str>>(
    line: &mut Line<'_>,
    call: &Call<S>,
    slot_field: &mut impl FnMut(&mut Vec<u8>, SlotField),
) {
    // Without `..`: what is not in the line is not proven.
    let Call {
        phase,
        policy_seq,
        follows,
        grant,
        emergency,
        backfilled,
        late_answer,
        trigger,
        timestamp,
        turn_number,
        completion,
        conversation_id,
        user_id,
        patient_ids,
        model,
        agent_id,
        tool_server,
        tool_name,
        purpose,
        session_metadata,
        arguments,
        call_id,
        treated,
        restated,
        sender,
        given,
        circumstances,
    } = call;
    let ended = completion.as_ref().map(|Completion { duration_ms: _, outcome, result_summary, error }| {
        (outcome.as_str(), result_summary.as_ref(), error.as_ref())
    });
    // `from_line` names each of its members, and tests compare what it reads with what was written here.
    let none = Circumstances::default();
    let around = circumstances.as_deref().unwrap_or(&none);
    line.opt_text(key!("agent_id"), agent_id.as_ref());
    line.approval(around.approval.as_ref());
    line.json(key!("arguments"), arguments.as_ref());
    line.flag(key!("backfilled"), *backfilled);
    if let Phase::Finished(begun) = phase {
        line.integer(key!("begun_seq"), *begun);
    }
    line.opt_text(key!("call_id"), call_id.as_ref());
    line.opt_text(key!("call_trigger"), trigger.map(Trigger::as_str));
    line.texts(key!("contradicts"), &around.contradicts);
    line.text(key!("conversation_id"), conversation_id.as_ref());
    line.opt_integer(key!("detail_of"), call.detail_of());
    line.digests(&around.digests);
    line.opt_float(key!("duration_ms"), call.duration_ms());
    line.flag(key!("emergency"), *emergency);
    line.error(key!("error"), ended.and_then(|(.., error)| error));
    if *trigger == Some(Trigger::FollowUp) {
        line.opt_integer(key!("follow_up_of"), *follows);
    }
    line.opt_text(key!("given"), given.as_ref());
    line.opt_integer(key!("grant"), *grant);
    line.text(key!("kind"), call.kind().as_str());
    line.flag(key!("late_answer"), *late_answer);
    line.opt_text(key!("model"), model.as_ref());
    slot_field(line.out, SlotField::Nonce);
    line.opt_text(key!("outcome"), ended.map(|(outcome, ..)| outcome));
    line.opt_text(key!("parent_agent_id"), around.parent_agent_id.as_ref());
    line.opt_text(key!("parent_call_id"), around.parent_call_id.as_ref());
    line.texts(key!("patient_ids"), patient_ids);
    line.peer(around.peer.as_ref());
    line.integer(key!("policy_seq"), *policy_seq);
    slot_field(line.out, SlotField::Prev);
    line.opt_text(key!("prompt_id"), around.prompt_id.as_ref());
    line.opt_text(key!("purpose"), purpose.as_ref());
    slot_field(line.out, SlotField::RecordedAt);
    line.resources(&around.resources);
    line.texts(key!("restated"), restated);
    line.json(key!("result_summary"), ended.and_then(|(_, summary, _)| summary));
    slot_field(line.out, SlotField::Retention);
    if *trigger != Some(Trigger::FollowUp) {
        line.opt_integer(key!("retry_of"), *follows);
    }
    line.sender(key!("sender"), sender.as_ref());
    slot_field(line.out, SlotField::Seq);
    line.json(key!("session_metadata"), session_metadata.as_ref());
    line.sources(&around.sources);
    line.opt_text(key!("span_id"), around.span_id.as_ref());
    line.opt_boolean(key!("success"), call.success());
    line.time(key!("timestamp"), *timestamp);
    line.text(key!("tool_name"), tool_name.as_ref());
    line.opt_text(key!("tool_server"), tool_server.as_ref());
    line.opt_text(key!("trace_id"), around.trace_id.as_ref());
    line.json(key!("treated"), treated.as_ref());
    line.opt_integer(key!("turn_number"), *turn_number);
    line.text(key!("user_id"), user_id.as_ref());
}

/// A JSON object being written; absent members are omitted. The keys used here need no escaping.
struct Line<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl Line<'_> {
    fn key(&mut self, key: &str) {
        let at = self.out.len();
        self.out.extend_from_slice(key.as_bytes());
        if std::mem::take(&mut self.first) {
            self.out[at] = b'{';
        }
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        write_str(value, self.out);
    }

    fn opt_text(&mut self, key: &str, value: Option<impl AsRef<str>>) {
        if let Some(value) = value {
            self.text(key, value.as_ref());
        }
    }

    fn texts(&mut self, key: &str, values: &[impl AsRef<str>]) {
        if values.is_empty() {
            return;
        }
        self.key(key);
        for (i, value) in values.iter().enumerate() {
            self.out.push(if i == 0 { b'[' } else { b',' });
            write_str(value.as_ref(), self.out);
        }
        self.out.push(b']');
    }

    fn json(&mut self, key: &str, value: Option<&Canonical<impl AsRef<str>>>) {
        if let Some(value) = value {
            self.key(key);
            self.out.extend_from_slice(value.as_str().as_bytes());
        }
    }

    fn integer(&mut self, key: &str, value: u64) {
        self.key(key);
        write_integer(value, self.out);
    }

    fn opt_integer(&mut self, key: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.integer(key, value);
        }
    }

    fn opt_boolean(&mut self, key: &str, value: Option<bool>) {
        if let Some(value) = value {
            self.key(key);
            self.out.extend_from_slice(if value { b"true" } else { b"false" });
        }
    }

    /// Written only if it is true.
    fn flag(&mut self, key: &str, raised: bool) {
        self.opt_boolean(key, raised.then_some(true));
    }

    fn opt_float(&mut self, key: &str, value: Option<f64>) {
        if let Some(value) = value {
            self.key(key);
            write_float(value, self.out);
        }
    }

    fn hex<const N: usize>(&mut self, key: &str, bytes: &[u8; N]) {
        let mut digits = [[0; 2]; N];
        write_hex(bytes, digits.as_flattened_mut());
        self.key(key);
        self.out.push(b'"');
        self.out.extend_from_slice(digits.as_flattened());
        self.out.push(b'"');
    }

    fn error<S: AsRef<str>>(&mut self, key: &str, error: Option<&CallError<S>>) {
        let Some(CallError { kind, message }) = error else { return };
        self.key(key);
        let mut inner = Line { out: self.out, first: true };
        inner.text(key!("message"), message.as_ref());
        inner.opt_text(key!("type"), kind.as_ref());
        inner.out.push(b'}');
    }

    fn sender<S: AsRef<str>>(&mut self, key: &str, sender: Option<&Sender<S>>) {
        let Some(Sender { id, number }) = sender else { return };
        self.key(key);
        let mut inner = Line { out: self.out, first: true };
        inner.text(key!("id"), id.as_ref());
        inner.integer(key!("number"), *number);
        inner.out.push(b'}');
    }

    fn approval<S: AsRef<str>>(&mut self, approval: Option<&Approval<S>>) {
        let Some(Approval { decision, by, source, asked_at, answered_at }) = approval else { return };
        self.key(key!("approval"));
        let mut inner = Line { out: self.out, first: true };
        inner.opt_time(key!("answered_at"), *answered_at);
        inner.opt_time(key!("asked_at"), *asked_at);
        inner.opt_text(key!("by"), by.as_ref());
        inner.text(key!("decision"), decision.as_str());
        inner.opt_text(key!("source"), source.as_ref());
        inner.out.push(b'}');
    }

    fn digests(&mut self, digests: &Digests) {
        if *digests == Digests::default() {
            return;
        }
        let Digests { tool_definition, policy, instructions } = digests;
        self.key(key!("digests"));
        let mut inner = Line { out: self.out, first: true };
        inner.digest(key!("instructions"), instructions.as_ref());
        inner.digest(key!("policy"), policy.as_ref());
        inner.digest(key!("tool_definition"), tool_definition.as_ref());
        inner.out.push(b'}');
    }

    fn digest(&mut self, key: &str, digest: Option<&Hash>) {
        let Some(digest) = digest else { return };
        self.key(key);
        self.out.push(b'"');
        self.out.extend_from_slice(SHA256.as_bytes());
        self.out.extend_from_slice(&digest.hex());
        self.out.push(b'"');
    }

    fn peer<S: AsRef<str>>(&mut self, peer: Option<&Peer<S>>) {
        let Some(Peer { uid, gid, pid, started, program }) = peer else { return };
        self.key(key!("peer"));
        let mut inner = Line { out: self.out, first: true };
        inner.integer(key!("gid"), u64::from(*gid));
        inner.integer(key!("pid"), u64::from(*pid));
        inner.opt_text(key!("program"), program.as_ref());
        inner.opt_time(key!("started"), *started);
        inner.integer(key!("uid"), u64::from(*uid));
        inner.out.push(b'}');
    }

    fn resources<S: AsRef<str>>(&mut self, resources: &[Resource<S>]) {
        self.objects(key!("resources"), resources, |inner, Resource { kind, name }| {
            inner.text(key!("kind"), kind.as_ref());
            inner.text(key!("name"), name.as_ref());
        });
    }

    fn sources<S: AsRef<str>>(&mut self, sources: &[Source<S>]) {
        self.objects(key!("sources"), sources, |inner, Source { kind, program, version, added }| {
            inner.texts(key!("added"), added);
            inner.opt_text(key!("program"), program.as_ref());
            inner.text(key!("source"), kind.as_str());
            inner.opt_text(key!("version"), version.as_ref());
        });
    }

    /// A list of objects; left out if it is empty.
    fn objects<T>(&mut self, key: &str, all: &[T], write: impl Fn(&mut Line<'_>, &T)) {
        if all.is_empty() {
            return;
        }
        self.key(key);
        for (i, one) in all.iter().enumerate() {
            self.out.push(if i == 0 { b'[' } else { b',' });
            let mut inner = Line { out: self.out, first: true };
            write(&mut inner, one);
            inner.out.push(b'}');
        }
        self.out.push(b']');
    }

    fn opt_time(&mut self, key: &str, value: Option<Timestamp>) {
        if let Some(value) = value {
            self.time(key, value);
        }
    }

    fn time(&mut self, key: &str, value: Timestamp) {
        self.key(key);
        self.out.push(b'"');
        value.write(self.out);
        self.out.push(b'"');
    }
}
