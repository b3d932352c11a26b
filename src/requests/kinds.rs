//! The table of requests: one row for each, with its members, its answer, what it needs, what it does, and how it is answered.

use super::pages::{self, Page};
#[cfg(feature = "owner")]
use super::table::Row;
use super::table::{By, Effect, Request};
#[cfg(feature = "owner")]
use super::{from_text, to_text};
use crate::alert::{AlertEngine, AlertState, NotFound, Owed, Settlement};
use crate::anchor::AnchorHealth;
#[cfg(feature = "config")]
use crate::anchor::{AnchorConfig, Channel};
use crate::anchor::{AnchorStatus, Record};
use crate::emergency::EmergencyAccess;
use crate::files::absolute;
use crate::grants::{Grant, GrantState};
use crate::json::Json;
use crate::keyless::Keyless;
use crate::log::{SentAbandoned, Told, Unmatched};
use crate::note::{SignedCheckpoint, Succession, VerifierKey};
use crate::proof::{CompleteProof, ConsistencyProof, InclusionProof, RevealProof};
use crate::query::Cursor;
use crate::query::Step;
use crate::query::{
    Breakdown, Conversations, Group, OlderConversations, Persons, Statistics, ToolStatistics, UnknownValue, WholeCall,
};
use crate::restored::Restored;
use crate::retention::{ClockEvent, ClockStatus, Hold, HoldSelector, PurgePlan};
use crate::store::{OpenStore, OwnSender, RemoteCall};
use crate::verify::Progress;
use crate::verify::{Verification, Verifications, VerifyOptions};
use crate::{
    Backup, Entry, Error, Facet, Hash, Health, Neighbours, PolicySet, Purged, Query, Receipt, Result, Timestamp,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// How long the owner lets a follower wait before the follower must ask again.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

requests! {
    // Ends and details of calls that other processes recorded, which need no more than recording does.
    EndOldest { call: RemoteCall, unmatched: Option<bool>, own: OwnSender } -> Option<Receipt>: Append Records, |of, store| {
        store.end_oldest(of.call.call()?.0, Unmatched::of_sent(of.unmatched), Some(of.own.sender()?))
    };
    BeginOnce { call: RemoteCall, own: OwnSender } -> Option<Receipt>: Append Records, |of, store| {
        store.begin_once(of.call.call()?.0, Some(of.own.sender()?))
    };
    Settle { calls: Vec<(RemoteCall, RemoteCall)>, own: OwnSender } -> u64: Append Records, |of, store| {
        let pair = |(ended, alone): (RemoteCall, RemoteCall)| Ok((ended.call()?.0, alone.call()?.0));
        store.settle(of.calls.into_iter().map(pair).collect::<Result<_>>()?, Some(of.own.sender()?))
    };
    Tell { calls: Vec<(RemoteCall, u64)>, own: OwnSender } -> Vec<(Option<Receipt>, Option<u64>)>: Append Records, |of, store| {
        let call = |(i, (call, nth)): (usize, (RemoteCall, u64))| Ok((call.call().map_err(|e| e.in_call(i))?.0, nth));
        let calls = of.calls.into_iter().enumerate().map(call).collect::<Result<_>>()?;
        Ok(store.tell(calls, Some(of.own.sender()?))?.into_iter().map(Told::sent).collect())
    };
    Abandon { which: SentAbandoned } -> u64: Append Records, |of, store| store.abandon(&of.which.into());

    // Reads that need no keys.
    GetEntry { seq: u64 } -> Entry: Read Reads, |of, store| store.entry(of.seq);
    FindEntries { query: Query, as_stored: bool, from: Option<Cursor> } -> Page<Entry>: Read Reads, |of, store| pages::entries(store, &of.query, of.as_stored, of.from);
    GetTimeline { conversation: String, from: Option<Cursor> } -> Page<Step>: Read Reads, |of, store| pages::steps(store, &of.conversation, of.from);
    WaitBeyond { seen: u64, at_most: Duration } -> bool: Read Reads, |of, store| store.wait_beyond(of.seen, Some(of.at_most.min(LONGEST_WAIT)));
    Count { query: Query } -> u64: Read Reads, |of, store| store.count(&of.query);
    GetBreakdown { of: Breakdown } -> Vec<Group>: Read Reads, |of, store| store.breakdown(&of.of);
    GetConversations { query: Query, most: u64, older: Option<OlderConversations> } -> Conversations: Read Reads, |of, store| store.conversations(&of.query, of.most, of.older);
    GetWholeCall { seq: u64 } -> WholeCall: Read Reads, |of, store| store.whole_call(of.seq);
    GetStatistics { of: Statistics } -> Vec<ToolStatistics>: Read Reads, |of, store| store.statistics(&of.of);
    Size {} -> u64: Read Reads, |_of, store| store.checked_size();
    Unanswered { seqs: Vec<u64> } -> Vec<u64>: Read Reads, |of, store| store.unanswered(&of.seqs);
    GetDamage {} -> Option<Error>: Read Reads, |_of, store| Ok(store.damage());
    CheckFile {} -> (): Read Reads, |_of, store| store.check_file();
    CheckRecording {} -> (): Read Reads, |_of, store| store.check_recording();
    Warnings {} -> Vec<String>: Read Reads, |_of, store| Ok(store.warnings());
    GetHealth {} -> Health: Read Reads, |_of, store| store.health();
    PublicKey {} -> Option<VerifierKey>: Read Reads, |_of, store| Ok(store.public_key());
    GetSuccession {} -> Option<Succession>: Read Reads, |_of, store| Ok(store.succession());
    RecordedWithoutKey {} -> Vec<Keyless>: Read Reads, |_of, store| store.recorded_without_key();
    Policies {} -> PolicySet: Read Reads, |_of, store| Ok(store.policies());
    Holds {} -> Vec<(u64, Hold)>: Read Reads, |_of, store| store.holds();
    CountHeld { hold: u64 } -> u64: Read Reads, |of, store| store.count_held(of.hold);
    NamesIn { selector: HoldSelector } -> BTreeMap<String, String>: Read Reads, |of, store| Ok(store.names_in(&of.selector));
    GetClock {} -> ClockStatus: Read Reads, |_of, store| store.clock_status();
    PurgedSince { from: Option<Timestamp> } -> Vec<(u64, BTreeMap<String, u64>)>: Read Reads, |of, store| store.purged_since(of.from);
    GetRestored {} -> Vec<Restored>: Read Reads, |_of, store| store.restored();
    Emergencies {} -> Vec<GrantState>: Read Reads, |_of, store| store.emergencies();
    Alerts {} -> Vec<AlertState>: Read Reads, |_of, store| store.alerts();
    Anchors {} -> Vec<AnchorHealth>: Read Reads, |_of, store| Ok(store.anchors());
    Attestations {} -> Vec<(String, Record)>: Read Reads, |_of, store| store.attestations();
    GetPersons { facet: Facet } -> Persons: Read Reads, |of, store| store.persons(of.facet);
    UnknownValues { query: Query } -> Vec<UnknownValue>: Read Reads, |of, store| store.unknown_values(&of.query);
    ValuesMatching { facet: Facet, pattern: String } -> Vec<String>: Read Reads, |of, store| store.values_matching(of.facet, &of.pattern);
    LookAlikes { facet: Facet, value: String } -> Vec<String>: Read Reads, |of, store| store.look_alikes(of.facet, &of.value);
    Spellings { facet: Facet, value: String } -> Vec<String>: Read Reads, |of, store| store.spellings(of.facet, &of.value);
    GetVerifications {} -> Verifications: Read Reads, |_of, store| store.verifications();
    Verify { options: VerifyOptions } -> Verification: Read Reads, |of, store, told| store.verify(&of.options.telling(told));
    RootAt { size: u64 } -> Hash: Read Reads, |of, store| store.root_at(of.size);

    // Proofs against the newest signed checkpoint; these sign nothing.
    Signed {} -> SignedCheckpoint: Read Reads, |_of, store| store.newest_signed();
    KeyConflict {} -> Option<String>: Read Reads, |_of, store| Ok(store.key_conflict());
    ProveSigned { size: u64, seq: u64 } -> InclusionProof: Read Reads, |of, store| store.at_signed(of.size)?.prove(of.seq);
    ProveSignedConsistent { size: u64, old: SignedCheckpoint } -> ConsistencyProof: Read Reads, |of, store| store.at_signed(of.size)?.prove_consistent(&of.old);
    ProveSignedComplete { size: u64, facet: Facet, value: String, neighbours: Neighbours } -> CompleteProof: Read Reads, |of, store| {
        store.at_signed(of.size)?.prove_complete(of.facet, &of.value, of.neighbours)
    };

    // Requests that sign, open sealed values, or look up pseudonyms by clear name.
    Checkpoint {} -> SignedCheckpoint: Admin Repeatable, |_of, store| store.checkpoint();
    Prove { seq: u64 } -> InclusionProof: Admin Repeatable, |of, store| store.prove(of.seq);
    ProveConsistent { old: SignedCheckpoint } -> ConsistencyProof: Admin Repeatable, |of, store| store.prove_consistent(&of.old);
    ProveComplete { facet: Facet, value: String, neighbours: Neighbours } -> CompleteProof: Admin Repeatable, |of, store| {
        store.prove_complete(of.facet, &of.value, of.neighbours)
    };
    CheckEmergency { user: String, patient: String, grant: u64 } -> Grant: Admin Reads, |of, store| store.check_emergency(&of.user, &of.patient, of.grant);
    PlanPurge {} -> PurgePlan: Admin Reads, |_of, store| store.plan_purge();
    FlushAnchors { at_most: Duration } -> bool: Admin Repeatable, |of, store| Ok(store.flush_anchors(of.at_most));

    // Requests that change the store, or write files with the owner's permissions.
    ProveReveal { seq: u64, path: String, by: By } -> RevealProof: Admin Changes, |of, store| store.prove_reveal(of.seq, &of.path, of.by.told());
    Reveal { seq: u64, path: String, by: By } -> Json: Admin Changes, |of, store| store.reveal(of.seq, &of.path, of.by.told());
    Erase { subject: String, by: By } -> Receipt: Admin Changes, |of, store| store.erase(&of.subject, of.by.told());
    FlushIndex {} -> (): Admin Repeatable, |_of, store| store.flush_index();
    BackUp { dest: PathBuf } -> Backup: Admin Changes, |of, store, told| {
        store.backup_with(absolute(&of.dest)?, |done, of| told.iter().for_each(|told| told(done, of)))
    };
    WriteEvidence { dir: PathBuf, options: VerifyOptions } -> Verification: Admin Changes, |of, store, told| store.write_evidence(absolute(&of.dir)?, &of.options.telling(told));
    WriteSignedEvidence { size: u64, dir: PathBuf, options: VerifyOptions } -> Verification: Admin Exports, |of, store, told| {
        store.at_signed(of.size)?.write_evidence(absolute(&of.dir)?, &of.options.telling(told))
    };
    Purge { actor: String } -> Purged: Admin Changes, |of, store| store.purge(&of.actor);
    PlaceHold { case: String, covering: HoldSelector, by: By } -> Receipt: Admin Changes, |of, store| store.place_hold(&of.case, of.covering, of.by.told());
    ReleaseHold { seq: u64, by: By } -> Receipt: Admin Changes, |of, store| store.release_hold(of.seq, of.by.told());
    ConfirmClock { by: By } -> ClockEvent: Admin Changes, |of, store| store.confirm_clock(of.by.told());
    ConfirmRestored { by: By } -> Receipt: Admin Changes, |of, store| store.confirm_restored(of.by.told());
    SetPolicies { policies: PolicySet } -> Receipt: Admin Changes, |of, store| store.set_policy(of.policies);
    RotateEpochKey {} -> (): Admin Changes, |_of, store| store.rotate_epoch_key();
    RotatePseudonymKey {} -> Receipt: Admin Changes, |_of, store| store.rotate_pseudonym_key();
    OpenEmergency { user: String, patient: String, urgency: String, ttl: Duration, by: By } -> Grant: Admin Changes, |of, store| {
        let access = EmergencyAccess { user: &of.user, patient: &of.patient, urgency: &of.urgency, ttl: of.ttl };
        store.open_emergency(access, of.by.told())
    };
    CloseEmergency { grant: u64, actor: String } -> Receipt: Admin Changes, |of, store| store.close_emergency(of.grant, &of.actor);
    ReviewEmergency { grant: u64, by: By, note: Option<String> } -> Receipt: Admin Changes, |of, store| store.review_emergency(of.grant, of.by.told(), of.note.as_deref());
    AckAlert { seq: u64, by: By } -> Receipt: Admin Changes, |of, store| store.ack_alert(of.seq, of.by.told(), Default::default());
    ForgetReceiver { name: String } -> bool: Admin Changes, |of, store| store.forget_receiver(&of.name);
    EvaluateAlerts {} -> bool: Admin Repeatable, |_of, store| {
        AlertEngine::new(store)?.run_once()?;
        Ok(store.engine().jobs.delivering.now().is_some())
    };
    VerifyForAlerts { options: VerifyOptions } -> Verification: Admin Repeatable, |of, store, told| AlertEngine::new(store)?.verify_once(&of.options.telling(told));
    AlertsOwed { receiver: String } -> Owed: Admin Repeatable, |of, store| store.alerts_owed(&of.receiver);
    AlertsDelivered { receiver: String, from: u64, to: u64, failed: Option<u64> } -> (): Admin Repeatable, |of, store| {
        store.alerts_delivered(&of.receiver, of.from, of.to, of.failed)
    };
    SetReceivers { receivers: String } -> bool: Admin Repeatable, |of, store| match store.engine().jobs.delivering.now() {
        Some(engine) => engine.deliver_to(&of.receivers).map(|()| true),
        None => Ok(false),
    };
    #[cfg(feature = "config")]
    SetAnchors { anchors: String } -> (): Admin Repeatable, |of, store| {
        let configured = AnchorConfig::from_toml(&of.anchors, "the anchors")?;
        for anchor in &configured {
            if let Channel::File(path) = &anchor.channel {
                absolute(path)?;
            }
        }
        store.set_anchors(configured.iter().map(AnchorConfig::build).collect::<Result<_>>()?)
    };
    ForgetAnchor { name: String } -> Option<AnchorStatus>: Admin Changes, |of, store| store.forget_anchor(&of.name);
    SettleVerification { by: By, options: VerifyOptions, gone: bool } -> Settlement: Admin Changes, |of, store| {
        store.settle_verification(of.by.told(), &of.options, if of.gone { NotFound::Settle } else { NotFound::Refuse })
    };
}
