//! Tests of the table of requests as a whole.

use super::kinds::ROWS;
use super::table::Need;

/// The requests that anybody who can reach the owner may send without a key: listed here so that a change of the list is noticed.
#[test]
fn what_reads_without_keys_is_a_list() {
    let reads: Vec<&str> = ROWS.iter().filter(|row| row.need == Need::Read).map(|row| row.name).collect();
    let expected = "GetEntry, FindEntries, GetTimeline, WaitBeyond, Count, GetBreakdown, GetConversations, GetWholeCall, GetStatistics, \
                    Size, Unanswered, GetDamage, CheckFile, \
                    CheckRecording, Warnings, GetHealth, PublicKey, GetSuccession, RecordedWithoutKey, Policies, Holds, CountHeld, NamesIn, \
                    GetClock, PurgedSince, GetRestored, Emergencies, Alerts, Anchors, Attestations, GetPersons, UnknownValues, \
                    ValuesMatching, LookAlikes, Spellings, GetVerifications, Verify, RootAt, Signed, KeyConflict, ProveSigned, \
                    ProveSignedConsistent, ProveSignedComplete";
    assert_eq!(reads.join(", "), expected);
}

/// What any process of this user may do without a key besides recording calls and reading.
#[test]
fn what_records_without_keys_is_a_list() {
    let appends: Vec<&str> = ROWS.iter().filter(|row| row.need == Need::Append).map(|row| row.name).collect();
    assert_eq!(appends, ["EndOldest", "BeginOnce", "Settle", "Tell", "Abandon"]);
}

/// The owner could not tell two requests with the same name apart.
#[test]
fn each_request_has_a_name_of_its_own() {
    let mut names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
}
