//! `quipu-core`: segments of records with a Merkle tree of all of them, and a registry of entities.
//!
//! Users are actors, the only entities: each kind of entity is another two files to sync. The tool is the `method`, the
//! conversation the `url`, the patient a column, so that no row of the relation table is needed. Segments of 4 MB let
//! the newest entries of a user be found without reading much that is older. A snapshot is taken once and asked often.

use super::{Peer, content};
use crate::Failure;
use attestlog::{Content, Entry};
use quipu_core::query::TargetFilter;
use quipu_core::registry::EntityInput;
use quipu_core::schema::{CustomColumnDef, FieldDef, TypeSchema};
use quipu_core::store::{AuditStore, ReadSnapshot, StoreConfig, SyncPolicy};
use quipu_core::{LogQuery, Order, Uid, Value, ValueKind};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub struct Quipu {
    dir: PathBuf,
    /// `None` only while it is opened again: the folder is locked.
    store: Option<AuditStore>,
    /// What is asked, until something is recorded.
    snapshot: Option<ReadSnapshot>,
    /// Of each hundredth entry: a proof is asked for by id.
    ids: Vec<Uid>,
    recorded: u64,
}

fn open(dir: &Path) -> Result<AuditStore, Failure> {
    // Nothing is synced but where `record` asks for it.
    let config = StoreConfig::new(dir).max_segment_bytes(4 << 20).sync_policy(SyncPolicy::OsManaged);
    AuditStore::open(config).map_err(|e| e.to_string().into())
}

impl Quipu {
    pub fn create(dir: &Path) -> Result<Quipu, Failure> {
        let mut store = open(dir)?;
        store.define_type(TypeSchema::new("user", vec![FieldDef::text("name").indexed().required()]))?;
        store.define_custom_column(CustomColumnDef::new("patient", ValueKind::Text))?;
        Ok(Quipu { dir: dir.to_owned(), store: Some(store), snapshot: None, ids: Vec::new(), recorded: 0 })
    }

    fn store(&mut self) -> Result<&mut AuditStore, Failure> {
        self.store.as_mut().ok_or_else(|| "it is closed".into())
    }

    fn ask(&mut self, query: &LogQuery) -> Result<Option<usize>, Failure> {
        if self.snapshot.is_none() {
            self.snapshot = Some(self.store()?.snapshot()?);
        }
        let Some(snapshot) = &mut self.snapshot else { return Ok(None) };
        Ok(Some(snapshot.query(query)?.len()))
    }
}

impl Peer for Quipu {
    fn notes(&self) -> &'static [&'static str] {
        &[
            "no index of the log: a question reads segments from one end until it has enough",
            "nothing is redacted or summarised by it, and no retention by class; it gets what SQLite gets",
            "no key was given to it, so it signs nothing; with one it would sign a checkpoint every 4 MB",
            "a record is synced in three tables of two files each, by its own order",
        ]
    }

    fn record(&mut self, entries: &[Entry]) -> Result<(), Failure> {
        self.snapshot = None;
        for entry in entries {
            let Content::Call(call) = &entry.body.content else { continue };
            let user = EntityInput::new(&call.user_id).text("name", &call.user_id);
            let patient = call.patient_ids.first().map(|id| ("patient".to_owned(), Value::Text(id.clone())));
            let custom: BTreeMap<String, Value> = patient.into_iter().collect();
            let content = quipu_core::Content::Text(content(entry));
            let at = (call.timestamp.nanos() / 1_000) as u64;
            let store = self.store.as_mut().ok_or("it is closed")?;
            let id =
                store.append_at(at, "user", &user, &call.tool_name, &call.conversation_id, content, &[], custom)?;
            if self.recorded.is_multiple_of(100) {
                self.ids.push(id);
            }
            self.recorded += 1;
        }
        Ok(self.store()?.sync()?)
    }

    fn reopen(&mut self) -> Result<(), Failure> {
        self.snapshot = None;
        self.store = None;
        self.store = Some(open(&self.dir)?);
        Ok(())
    }

    fn by_conversation(&mut self, id: &str) -> Result<Option<usize>, Failure> {
        self.ask(&LogQuery { url_prefix: Some(id.to_owned()), order: Order::Asc, ..LogQuery::default() })
    }

    fn newest_of_user(&mut self, id: &str) -> Result<Option<usize>, Failure> {
        let actor = Some(TargetFilter::exact("user", "name", Value::Text(id.to_owned())).latest_only());
        self.ask(&LogQuery { actor, limit: Some(50), ..LogQuery::default() })
    }

    fn verify(&mut self) -> Result<u64, Failure> {
        let store = self.store()?;
        store.verify_integrity()?;
        Ok(store.tree_size())
    }

    fn prove(&mut self, seq: u64) -> Result<Option<()>, Failure> {
        let id = *self.ids.get((seq / 100) as usize).ok_or("no such entry")?;
        let store = self.store()?;
        let (proof, root) = (store.prove_inclusion(id)?, store.merkle_root());
        let (at, size) = (proof.leaf_index as usize, proof.tree_size as usize);
        match quipu_core::merkle::verify_inclusion(&proof.leaf, at, size, &proof.path, &root) {
            true => Ok(Some(())),
            false => Err("the proof does not hold".into()),
        }
    }
}
