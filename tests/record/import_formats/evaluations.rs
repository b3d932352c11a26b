//! Files of evaluations and of tracing services.

use super::agents::{assert_read, auto, lines};
use super::*;

fn chat(id: &str) -> Value {
    json!([
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": id, "function": "look", "arguments": {"id": 1}}], "model": "m-x"},
        {"role": "tool", "content": "ok", "tool_call_id": id, "function": "look"},
    ])
}

#[test]
fn a_log_of_inspect() {
    let mut failing = chat("c2");
    failing[2]["error"] = json!({"type": "timeout", "message": "too slow"});
    let log = json!({"version": 2, "status": "success", "eval": {"run_id": "r1", "task": "t", "model": "openai/gpt-x"}, "plan": {}, "samples": [
        {"id": 1, "epoch": 1, "uuid": "u-1", "messages": chat("c1"), "output": {"choices": [{"message": chat("c1")[1]}]},
            "events": [{"event": "tool", "id": "c1", "function": "look", "arguments": {"id": 1}, "result": "ok"}]},
        {"id": 1, "epoch": 2, "messages": failing},
    ]});
    let imported = auto(log.to_string());
    assert_read(&imported, Format::Inspect, &[("look", "c1", "ok"), ("look", "c2", "timeout")]);
    assert_eq!(
        (imported.calls[0].conversation_id.as_str(), imported.calls[1].conversation_id.as_str()),
        ("u-1", "r1-1-epoch-2")
    );
    assert_eq!(imported.calls[0].model.as_deref(), Some("m-x"));
}

#[test]
fn results_of_tau2() {
    let messages = json!([
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "name": "look", "arguments": {"id": 1}, "requestor": "assistant"}]},
        {"id": "c1", "role": "tool", "content": "Error: gone", "requestor": "assistant", "error": true},
        {"role": "user", "tool_calls": [{"id": "c2", "name": "toggle", "arguments": {}, "requestor": "user"}]},
        {"role": "tool", "tool_messages": [{"id": "c2", "role": "tool", "content": "on", "requestor": "user", "error": false}]},
    ]);
    let results = json!({"timestamp": "2025-10-31T07:16:44", "info": {"agent_info": {"llm": "gpt-x"}},
        "tasks": [{"id": "0", "evaluation_criteria": {"actions": [{"name": "look", "arguments": {}}]}}],
        "simulations": [{"id": "sim-1", "task_id": "0", "trial": 0, "messages": messages}]});
    let imported = auto(results.to_string());
    assert_read(&imported, Format::Tau2, &[("look", "c1", "tool_error"), ("toggle", "c2", "ok")]);
    assert_eq!(
        (imported.calls[0].conversation_id.as_str(), imported.calls[0].model.as_deref()),
        ("sim-1", Some("gpt-x"))
    );
}

#[test]
fn a_run_of_agentdojo() {
    let run = json!({"suite_name": "banking", "pipeline_name": "p", "user_task_id": "user_task_0", "injection_task_id": null, "messages": [
        {"role": "user", "content": [{"type": "text", "content": "x"}]},
        {"role": "assistant", "content": null, "tool_calls": [{"function": "pay", "args": {"n": 1}, "id": "c1", "placeholder_args": null}]},
        {"role": "tool", "content": [{"type": "text", "content": "done"}], "tool_call_id": "c1", "tool_call": {"function": "pay", "args": {"n": 1}, "id": "c1"}, "error": null},
        {"role": "assistant", "content": null, "tool_calls": [{"function": "pay", "args": {"n": 2}, "id": null}]},
        {"role": "tool", "content": "", "tool_call_id": null, "tool_call": {"function": "pay", "args": {"n": 2}, "id": null}, "error": "ValueError: no"}]});
    let imported = auto(run.to_string());
    assert_read(&imported, Format::AgentDojo, &[("pay", "c1", "ok"), ("pay", "-", "tool_error")]);
    assert_eq!(imported.calls[0].conversation_id, "banking-user_task_0");
}

#[test]
fn trajectories_of_swe_agent() {
    let with_ids = json!({"environment": "e", "info": {}, "trajectory": [{"action": "read a", "observation": "x"}], "history": [
        {"role": "user", "content": "an example", "is_demo": true, "tool_calls": [{"id": "d", "function": {"name": "no", "arguments": "{}"}}]},
        {"role": "assistant", "content": "", "agent": "main", "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "read", "arguments": "{\"path\":\"a\"}"}}, {"id": "c2", "type": "function", "function": {"name": "read", "arguments": "{}"}}]},
        {"role": "tool", "content": "Error: b is missing", "tool_call_ids": ["c2"]},
        {"role": "tool", "content": "text of a", "tool_call_ids": ["c1"]}]});
    let imported = auto(with_ids.to_string());
    assert_read(&imported, Format::SweAgent, &[("read", "c1", "ok"), ("read", "c2", "ok")]);
    assert_eq!((imported.tally().failures, imported.calls[0].agent_id.as_deref()), (1, Some("main")));
    let texts = json!({"environment": "e", "history": [{"role": "assistant", "content": "I look", "action": "open a.py"}], "info": {}, "trajectory": [
        {"action": "open a.py\n", "observation": "text", "thought": "I look", "execution_time": 0.5}, {"action": "", "observation": "none"}]});
    let imported = auto(texts.to_string());
    assert_read(&imported, Format::SweAgent, &[("open", "-", "ok")]);
    assert_eq!(imported.calls[0].duration_ms, Some(500.0));
    // A history alone, as demonstrations have it.
    let said = |role: &str, kind: &str, more: Value| json!({"role": role, "message_type": kind, "agent": "main", "content": "x", "action": more});
    let history = json!({"history": [said("user", "observation", Value::Null), said("assistant", "action", "ls -l".into()), said("user", "observation", Value::Null), said("assistant", "action", "submit".into())]});
    assert_read(&auto(history.to_string()), Format::SweAgent, &[("ls", "-", "ok"), ("submit", "-", "abandoned")]);
    let with_calls = json!({"history": with_ids["history"]});
    assert_read(&auto(with_calls.to_string()), Format::OpenAiChat, &[("read", "c1", "ok"), ("read", "c2", "ok")]);
}

#[test]
fn events_of_openhands() {
    let about = |id: &str| {
        json!({"function_name": "execute_bash", "tool_call_id": id, "total_calls_in_response": 1, "model_response": {"model": "gpt-x",
        "choices": [{"message": {"tool_calls": [{"id": id, "function": {"name": "execute_bash", "arguments": "{\"command\":\"ls\"}"}}]}}]}})
    };
    let events = json!([
        {"id": 0, "timestamp": "2025-01-01T10:00:00.000", "source": "user", "action": "message", "args": {"content": "x"}},
        {"id": 1, "timestamp": "2025-01-01T10:00:01.000", "source": "agent", "action": "run", "args": {"command": "ls"}, "tool_call_metadata": about("c1")},
        {"id": 2, "timestamp": "2025-01-01T10:00:03.000", "source": "agent", "cause": 1, "observation": "run", "content": "a", "extras": {"metadata": {"exit_code": 1}}, "tool_call_metadata": about("c1")},
        {"id": 3, "source": "agent", "action": "read", "args": {"path": "/a"}},
        {"id": 4, "source": "agent", "cause": 3, "observation": "read", "content": "text", "extras": {}},
        {"id": 5, "source": "environment", "observation": "agent_state_changed", "content": "", "extras": {"agent_state": "finished"}},
    ]);
    let wanted = [("execute_bash", "c1", "tool_error"), ("read", "3", "ok")];
    let imported = auto(events.to_string());
    assert_read(&imported, Format::OpenHands, &wanted);
    let first = &imported.calls[0];
    assert_eq!((first.duration_ms, first.model.as_deref(), first.turn_number), (Some(2000.0), Some("gpt-x"), Some(1)));
    assert_read(&auto(json!({"instance_id": "i-1", "history": events}).to_string()), Format::OpenHands, &wanted);
    let sdk = [
        json!({"kind": "ActionEvent", "id": "e1", "timestamp": "2025-11-01T10:00:00", "source": "agent", "tool_name": "terminal", "tool_call_id": "c1",
            "tool_call": {"id": "c1", "name": "terminal", "arguments": "{\"command\":\"ls\"}"}, "action": {"kind": "TerminalAction", "command": "ls"}}),
        json!({"kind": "ObservationEvent", "id": "e2", "source": "environment", "tool_name": "terminal", "tool_call_id": "c1", "action_id": "e1", "observation": {"content": "a", "exit_code": 0}}),
        json!({"kind": "ActionEvent", "id": "e3", "source": "agent", "tool_name": "terminal", "tool_call_id": "c2", "action": {"command": "rm"}}),
        json!({"kind": "UserRejectObservation", "id": "e4", "source": "environment", "tool_name": "terminal", "tool_call_id": "c2", "rejection_reason": "no"}),
    ];
    assert_read(&auto(lines(&sdk)), Format::OpenHands, &[("terminal", "c1", "ok"), ("terminal", "c2", "denied")]);
}

#[test]
fn steps_of_atif() {
    let trajectory = json!({"schema_version": "ATIF-v1.4", "session_id": "s-1", "agent": {"name": "helper", "version": "1", "model_name": "gpt-x"}, "steps": [
        {"step_id": 1, "source": "user", "message": "x", "timestamp": "2025-11-01T10:00:00Z"},
        {"step_id": 2, "source": "agent", "message": "", "timestamp": "2025-11-01T10:00:01Z", "model_name": "gpt-y",
            "tool_calls": [{"tool_call_id": "c1", "function_name": "f", "arguments": {"a": 1}}, {"tool_call_id": "c2", "function_name": "g", "arguments": {}}],
            "observation": {"results": [{"source_call_id": "c2", "content": "Error: gone"}, {"source_call_id": "c1", "content": "ok"}]}},
        {"step_id": 3, "source": "agent", "message": "", "tool_calls": [{"tool_call_id": "c3", "function_name": "f", "arguments": {}}], "observation": {"results": [{"content": "ok"}]}},
    ]});
    let imported = auto(trajectory.to_string());
    assert_read(&imported, Format::Atif, &[("f", "c1", "ok"), ("g", "c2", "ok"), ("f", "c3", "ok")]);
    assert_eq!(imported.tally().failures, 1);
    let call = &imported.calls[0];
    assert_eq!(
        (call.conversation_id.as_str(), call.agent_id.as_deref(), call.model.as_deref()),
        ("s-1", Some("helper"), Some("gpt-y"))
    );
}

#[test]
fn runs_of_langsmith() {
    let tool = json!({"id": "r2", "trace_id": "tr", "parent_run_id": "r1", "run_type": "tool", "name": "look", "start_time": "2025-11-01T10:00:00", "end_time": "2025-11-01T10:00:02",
        "inputs": {"input": "{\"id\":1}"}, "outputs": {"output": {"content": "ok", "tool_call_id": "c1", "type": "tool"}}, "error": null,
        "extra": {"metadata": {"thread_id": "th-1", "user_id": "usr"}}});
    let failed = json!({"id": "r3", "trace_id": "tr", "run_type": "tool", "name": "look", "inputs": {"a": 1}, "outputs": null, "error": "ValueError: no", "extra": {"metadata": {"thread_id": "th-1", "user_id": "usr"}}});
    let llm = json!({"id": "r4", "trace_id": "tr", "run_type": "llm", "name": "m", "outputs": {"generations": [[{"message": {"kwargs": {"tool_calls": [{"id": "c1", "name": "look", "args": {}}]}}}]]}});
    let chain = json!({"id": "r1", "trace_id": "tr", "run_type": "chain", "name": "agent", "inputs": {}, "child_runs": [llm, tool, failed]});
    for text in [chain.to_string(), json!([llm, tool, failed]).to_string(), lines(&[llm, tool, failed])] {
        let imported = read(Format::Auto, text, &ImportOptions::new());
        assert_read(&imported, Format::LangSmith, &[("look", "c1", "ok"), ("look", "r3", "tool_error")]);
        let first = &imported.calls[0];
        assert_eq!(
            (first.user_id.as_str(), first.conversation_id.as_str(), first.duration_ms),
            ("usr", "th-1", Some(2000.0))
        );
        assert_eq!(
            (first.circumstances.trace_id.as_deref(), first.circumstances.span_id.as_deref()),
            (Some("tr"), Some("r2"))
        );
    }
}
