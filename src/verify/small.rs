//! Checks the small tables that affect decisions and that the entries do not fully vouch for: reports what is
//! impossible, what was not written with the store's keys, and which tables cannot be checked here.

use super::finding::{Finding, FindingKind as K};
use crate::Result;
use crate::anchor::Record;
use crate::note::SignedCheckpoint;
use crate::retention::SeqSet;
use crate::store::{Engine, Snapshot, Vouched};
use std::borrow::Cow;

/// The findings, and the tables whose rows cannot be authenticated here.
#[derive(Debug, Default)]
pub(super) struct Small {
    pub findings: Vec<Finding>,
    pub not_authenticated: Vec<Cow<'static, str>>,
}

pub(super) fn check(engine: &Engine, snapshot: &Snapshot, purged: &SeqSet) -> Result<Small> {
    let mut small = Small::default();
    let mut find = |kind, seq, detail| small.findings.push(Finding::new(kind, seq, detail));
    let (state, signed) = (&snapshot.state, snapshot.newest_signed(snapshot.state.size)?);
    if state.signed != signed {
        let detail =
            format!("the state says that {} entries are signed, the newest checkpoint has {signed}", state.signed);
        find(K::StateMismatch, None, detail);
    }
    for key in snapshot.unknown_meta()? {
        find(K::SmallTableMismatch, None, format!("the table meta has a row {key:?}, which nothing writes"));
    }
    if engine.chain_state().genesis.as_ref().is_some_and(|genesis| genesis.keys.is_none())
        && snapshot.series()?.is_some()
    {
        find(
            K::SmallTableMismatch,
            None,
            "a store without keys has a record of how many checkpoints there are".to_owned(),
        );
    }
    for wrong in engine.check_cursors(snapshot)?.into_iter().chain(engine.check_owed(snapshot)?) {
        find(K::SmallTableMismatch, None, wrong);
    }
    let unsigned = engine.chain_state().opened_without_key;
    let mut senders = false;
    snapshot.scan_senders(&mut |id, window| {
        // A window that cannot be read is reported where it is compared with the entries.
        let Ok(window) = window else { return Ok(()) };
        if !window.seqs().any(|(_, seq)| purged.contains(seq)) {
            return Ok(());
        }
        match engine.window_vouched(id, &window)? {
            Vouched::Yes => {}
            Vouched::No if unsigned && !window.has_mac() => senders = true,
            Vouched::No => {
                let id: String = id.chars().take(80).collect();
                let detail = format!(
                    "the numbers of sender {id:?} name purged entries and were not written with the store's keys"
                );
                find(K::SenderMismatch, None, detail);
            }
            Vouched::Unknown => senders = true,
        }
        Ok(())
    })?;
    snapshot.scan_attestations(&mut |size, name, record| {
        let note = snapshot.checkpoint(size)?.and_then(|note| SignedCheckpoint::parse(&note).ok());
        let same = Record::parse(record).ok().zip(note).is_some_and(|(record, note)| {
            record.checkpoint.checkpoint().size() == size && record.checkpoint.checkpoint() == note.checkpoint()
        });
        if !same {
            let name: String = name.chars().take(80).collect();
            let detail =
                format!("what the anchor {name:?} gave for {size} entries is not about a checkpoint of this store");
            find(K::CheckpointMismatch, size.checked_sub(1), detail);
        }
        Ok(())
    })?;
    let keyless = engine.keys().is_none();
    let tables = [
        ("anchors", keyless && engine.has_owed(snapshot)?),
        ("marks", keyless && snapshot.has_cursors()?),
        ("senders", senders),
        ("subjects", keyless && snapshot.has_subjects()?),
    ];
    small.not_authenticated = tables.into_iter().filter(|(_, not)| *not).map(|(table, _)| table.into()).collect();
    Ok(small)
}
