//! Access for the benchmarks to the single steps of recording. Compiled only with the feature `benching`; not part of the
//! public interface.

use crate::rows::List;
use crate::store::layout::block::BlockBuilder;
use crate::store::layout::entry_record::EntryRecord;
use crate::store::layout::index_row::Row;
use crate::store::layout::stored_entry::encode_body;
use crate::store::log::OpenStore;
use crate::{Entry, Hash, Result, ToolCall, codec, line};
use attestlog_proof::entry::{Body, Content, Phase};

/// A call as the writer gets it: validated, sanitised, with its retention.
pub(crate) fn entry(log: &OpenStore, call: ToolCall) -> Result<Entry> {
    let engine = log.engine();
    let mut prepared = engine.prepare(call, Phase::Whole)?;
    let now = engine.config.clock.now();
    prepared.call.timestamp = prepared.timestamp.unwrap_or(now);
    let patient = !prepared.call.patient_ids.is_empty();
    let policies = engine.policies();
    let retention = policies.set.retention.assign(&prepared.call.tool_name, patient, None, None, now)?;
    let mut nonce = [0; 16];
    engine.config.random.fill(&mut nonce);
    let body = Body { nonce, recorded_at: now, retention: Some(retention), content: Content::Call(prepared.call) };
    Ok(Entry { seq: 0, prev: Hash::ZERO, body })
}

/// Appends the line of the entry at `seq`, after the previous hash `prev`, to `out`.
pub fn write_line(entry: &Entry, seq: u64, prev: &Hash, out: &mut Vec<u8>) {
    line::write(out, seq, prev, &entry.body);
}

/// The stored form of an entry.
pub fn encode(entry: &Entry) -> Result<Vec<u8>> {
    Ok(encode_body(&entry.body)?)
}

/// A block being filled.
#[derive(Debug, Default)]
pub struct Blocks(BlockBuilder);

impl Blocks {
    /// Adds an encoded entry; returns the bytes of the block that became full.
    pub fn push(&mut self, seq: u64, bytes: &[u8]) -> Result<Option<Vec<u8>>> {
        let (head, content) = codec::decode_first(bytes)?;
        self.0.push(seq, &EntryRecord { head, content: content.into() }, false)
    }
}

/// The stored form of a posting list.
pub fn postings(seqs: &[u64]) -> Vec<u8> {
    crate::rows::encode(seqs)
}

/// A posting row as an index batch writes it.
pub fn row(seqs: Vec<u64>) -> Vec<u8> {
    let list = crate::rows::encode(&seqs);
    Row { salt: [7; 16], position: 1000, list: List { first: seqs.first().copied().unwrap_or_default(), bytes: &list } }
        .encode()
}
