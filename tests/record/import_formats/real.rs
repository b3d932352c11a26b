//! A recording of a real agent.

use super::*;

#[test]
fn a_real_recording_of_two_hundred_conversations() {
    let shared = std::env::var_os("ATTESTLOG_SHARED")
        .map_or_else(|| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), Into::into);
    let path = shared.join("data/tau-bench/gpt-4o-airline.json");
    let Ok(text) = std::fs::read(&path) else {
        eprintln!("SKIPPED a_real_recording_of_two_hundred_conversations: {} is not there", path.display());
        return;
    };
    let imported = read(Format::OpenAiChat, &text, &ImportOptions::new());
    let tally = imported.tally();
    // 200 conversations, in 18 of which the agent called no tool.
    assert_eq!((tally.calls, tally.users, tally.tools), (1164, 34, 14));
    assert_eq!((tally.conversations, tally.without_calls), (182, 18));
    assert_eq!((tally.failures, tally.abandoned), (73, 0));
    assert_eq!(imported.not_taken, []);
    // In this recording each answer follows its call, so it is easy to read it independently.
    let records: Vec<Value> = serde_json::from_slice(&text).unwrap();
    let mut wanted = Vec::new();
    for record in &records {
        let conversation = format!("task-{}-trial-{}", record["task_id"], record["trial"]);
        let user = record["info"]["task"]["user_id"].as_str().unwrap();
        let messages = record["traj"].as_array().unwrap();
        let mut turn = 0;
        for pair in messages.windows(2) {
            turn += u64::from(pair[0]["role"] == "user");
            let Some(call) = pair[0].get("tool_calls").map(|calls| &calls[0]) else { continue };
            let function = &call["function"];
            let answer = pair[1]["content"].as_str().unwrap();
            let made = ToolCall::new(&conversation, user, function["name"].as_str().unwrap())
                .arguments(json::Json::parse(function["arguments"].as_str().unwrap().as_bytes()).unwrap().value)
                .call_id(call["id"].as_str().unwrap())
                .turn(turn)
                .backfilled();
            wanted.push(match answer.as_bytes().first() {
                Some(b'{' | b'[') => made.result(json::Json::parse(answer.as_bytes()).unwrap().value),
                _ => made.result(answer),
            });
        }
    }
    assert_eq!(imported.calls, wanted);
}
