//! A recording of an agent's conversations to import, as large as those that public evaluations of agents publish: two
//! hundred conversations in the form of the OpenAI API, with some 1,200 calls in 4 MB.

use crate::workload::{self, Dice};
use serde_json::{Value, json};

/// The text of a file with `conversations` conversations, and how many calls they make.
pub fn recording(conversations: u64) -> (String, usize) {
    let mut dice = Dice::new(11);
    let mut calls = 0;
    let all: Vec<Value> = (0..conversations).map(|n| conversation(n, &mut dice, &mut calls)).collect();
    (Value::Array(all).to_string(), calls)
}

fn conversation(n: u64, dice: &mut Dice, calls: &mut usize) -> Value {
    let rules =
        "The agent helps with the records of patients. It confirms what it changes before it changes it. ".repeat(65);
    let mut messages = vec![json!({"role": "system", "content": rules})];
    for turn in 0..6 + dice.below(5) {
        let asks = format!(
            "Please look at the record again, it is the {turn}. time that I ask, ticket {}.",
            dice.below(99_999)
        );
        messages.push(json!({"role": "user", "content": asks.repeat(2)}));
        if dice.below(4) == 0 {
            messages.push(json!({"role": "assistant", "content": "Could you tell me the number of the record first?"}));
            continue;
        }
        *calls += 1;
        let id = format!("call_{n}_{turn}");
        let arguments = json!({"record_id": format!("rec-{:07}", dice.below(1_000_000)), "limit": 10}).to_string();
        let function = json!({"name": workload::tool(dice.skewed(workload::TOOLS)), "arguments": arguments});
        let call = json!({"id": id, "type": "function", "function": function});
        messages.push(json!({"role": "assistant", "content": null, "tool_calls": [call]}));
        messages.push(json!({"role": "tool", "tool_call_id": id, "content": answer(dice)}));
        messages.push(
            json!({"role": "assistant", "content": "I have found the record. Is there anything else that you need?"}),
        );
    }
    json!({"id": format!("task-{n}"), "user_id": workload::user(dice.skewed(200)), "model": "gpt-4.1", "messages": messages})
}

/// About 850 bytes, like those of the published recordings.
fn answer(dice: &mut Dice) -> String {
    match dice.below(16) {
        0 => "Error: the record is locked by another user".to_owned(),
        _ => {
            let record = |n: u64| json!({"id": format!("obs-{n:07}"), "status": "final", "value": n % 977, "note": "within the usual range"});
            let records: Vec<Value> = (0..12).map(|_| record(dice.below(9_999_999))).collect();
            json!({"records": records}).to_string()
        }
    }
}
