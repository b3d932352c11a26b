//! Random conversations, written as a transcript and read back; damaged files.

use super::otlp::{EXECUTE, START, export, span, text};
use super::*;

#[derive(Debug, Clone)]
struct Made {
    id: u8,
    tool: u8,
    arguments: u16,
    /// What the tool answered, and the position of its answer among those of the message.
    answer: Option<(u8, u8)>,
}

#[derive(Debug, Clone)]
enum Step {
    User,
    Calls(Vec<Made>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let answer = prop::option::weighted(0.8, (0u8..4, any::<u8>()));
    let made = (0u8..3, 0u8..2, any::<u16>(), answer).prop_map(|(id, tool, arguments, answer)| Made {
        id,
        tool,
        arguments,
        answer,
    });
    let step = prop_oneof![1 => Just(Step::User), 2 => prop::collection::vec(made, 1..5).prop_map(Step::Calls)];
    prop::collection::vec(step, 0..12).prop_map(|mut steps| {
        for step in &mut steps {
            let Step::Calls(calls) = step else { continue };
            // Calls with one id in one message are distinguished only by their order: it is kept, without gaps.
            for i in 1..calls.len() {
                if let Some(before) = calls[..i].iter().rev().find(|c| c.id == calls[i].id).cloned() {
                    calls[i].answer = match (before.answer, calls[i].answer) {
                        (Some((_, earlier)), Some((said, at))) => Some((said, at.max(earlier))),
                        _ => None,
                    };
                }
            }
        }
        steps
    })
}

fn said(kind: u8) -> &'static str {
    ["plain", "{\"id\":1}", "Error: no", "[1,2]"][usize::from(kind)]
}

/// The calls of a message with the answers in the order in which they come.
fn answers(calls: &[Made]) -> Vec<(String, &'static str)> {
    let mut answered: Vec<&Made> = calls.iter().filter(|c| c.answer.is_some()).collect();
    answered.sort_by_key(|c| c.answer.unwrap().1);
    answered.iter().map(|c| (format!("id{}", c.id), said(c.answer.unwrap().0))).collect()
}

fn render(format: Format, steps: &[Step]) -> Value {
    let mut messages = Vec::new();
    for step in steps {
        let Step::Calls(calls) = step else {
            messages.push(user());
            continue;
        };
        let answers = answers(calls);
        if format == Format::OpenAiChat {
            let call =
                |c: &Made| openai_call(&format!("id{}", c.id), &format!("t{}", c.tool), &c.arguments.to_string());
            messages.push(openai_calls(&calls.iter().map(call).collect::<Vec<_>>()));
            messages.extend(answers.iter().map(|(id, said)| openai_answer(id, *said)));
        } else {
            let call = |c: &Made| json!({"type": "tool_use", "id": format!("id{}", c.id), "name": format!("t{}", c.tool), "input": c.arguments});
            messages.push(json!({"role": "assistant", "content": calls.iter().map(call).collect::<Vec<_>>()}));
            let answer =
                |(id, said): &(String, &str)| json!({"type": "tool_result", "tool_use_id": id, "content": said});
            if !answers.is_empty() {
                messages.push(json!({"role": "user", "content": answers.iter().map(answer).collect::<Vec<_>>()}));
            }
        }
        if answers.is_empty() {
            // The user does not wait forever.
            messages.push(user());
        }
    }
    messages.into()
}

fn calls_of(conversation: usize, steps: &[Step]) -> Vec<ToolCall> {
    let (mut turn, mut calls) = (0, Vec::new());
    for step in steps {
        let Step::Calls(made) = step else {
            turn += 1;
            continue;
        };
        for c in made {
            let mut call = ToolCall::new(format!("conv{conversation}"), "u", format!("t{}", c.tool)).backfilled();
            call = call.call_id(format!("id{}", c.id)).arguments(u32::from(c.arguments));
            if turn > 0 {
                call = call.turn(turn);
            }
            calls.push(match c.answer {
                None => call.outcome(Outcome::Abandoned),
                Some((2, _)) => call.result(said(2)),
                Some((0, _)) => call.result(said(0)),
                Some((kind, _)) => call.result(json::Json::parse(said(kind).as_bytes()).unwrap().value),
            });
        }
        if made.iter().all(|c| c.answer.is_none()) {
            turn += 1;
        }
    }
    calls
}

proptest! {
    #[test]
    fn random_conversations_come_back_as_the_calls_that_were_made(
        conversations in prop::collection::vec(steps(), 1..4),
        by_line: bool,
    ) {
        let wanted: Vec<_> = conversations.iter().enumerate().flat_map(|(i, steps)| calls_of(i, steps)).collect();
        for format in FORMATS {
            let records: Vec<Value> = conversations.iter().enumerate().map(|(i, steps)| {
                json!({"conversation_id": format!("conv{i}"), "user_id": "u", "messages": render(format, steps)})
            }).collect();
            let text = match by_line {
                true => records.iter().map(|r| format!("{r}\n")).collect(),
                false => file(&records),
            };
            let imported = read(format, text, &ImportOptions::new());
            prop_assert_eq!(&imported.not_taken, &[]);
            prop_assert_eq!(&imported.calls, &wanted);
        }
    }

    /// Whatever is put in place of something else: an answer or an error, never a panic.
    #[test]
    fn a_damaged_transcript_is_read_or_refused(steps in steps(), cut in any::<prop::sample::Index>(), with in "[\\[\\]{}\",:a-z0-9 ]{0,6}") {
        let trace = export(json!([]), vec![span("a", "b", START, &[(EXECUTE, text("execute_tool")), ("gen_ai.tool.call.arguments", json!({"kvlistValue": {"values": []}}))])]);
        for format in Format::ALL {
            let text = match format {
                Format::OpenAiChat | Format::Anthropic => render(*format, &steps).to_string(),
                Format::OtlpJson => trace.to_string(),
                _ => r#"{"tool_name":"t","arguments":{"a":[1,2]},"result":{"error":"x"}}"#.to_owned(),
            };
            let at = cut.index(text.len() + 1);
            let (before, after) = text.split_at(at);
            let after = after.get(with.len()..).unwrap_or_default();
            if let Err(error) = import::calls(*format, format!("{before}{with}{after}").as_bytes(), &options()) {
                prop_assert!(matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::TooLarge));
            }
        }
    }
}
