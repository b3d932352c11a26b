//! The log's own format.

use super::*;
use attestlog::json::Json;

#[test]
fn lines_of_the_log_s_own_format_take_what_options_say_and_are_backfilled() {
    let text = "\n{\"tool_name\":\"t\",\"user_id\":\"own\",\"model\":\"own\"}\r\n   \n\
                {\"tool_name\":\"t\",\"conversation_id\":\"own\",\"user_id\":null,\"backfilled\":false}\n";
    let imported = read(Format::Jsonl, text, &options().model("m"));
    let mut first = ToolCall::new("c", "u", "t").model("m").backfilled();
    first
        .session_metadata
        .insert("import", Json::parse(br#"{"replaced":{"model":"own","user_id":"own"}}"#).unwrap().value);
    let second = ToolCall::new("c", "u", "t").model("m");
    assert_eq!(imported.calls, [first, second], "the options take the place of what a line says");
    assert_eq!(imported.places, ["line 2", "line 4"]);
    assert_refused(Format::Jsonl, text, &ImportOptions::new(), "line 2: conversation_id is missing");
    assert_eq!(read(Format::Jsonl, "{\"tool_name\":\"t\",\"error\":\"\"}", &options()).tally().failures, 0);
    let no_user = "{\"tool_name\":\"t\",\"conversation_id\":\"c\"}";
    assert_refused(Format::Jsonl, no_user, &ImportOptions::new(), "line 1: user_id is missing: say it with --user");
    let good = "{\"tool_name\":\"t\"}\n";
    for (bad, message) in [
        ("{\"tool_name\":\"t\",\"colour\":1}", "line 2: colour: is not a member of a call"),
        ("{\"tool_name\":\"\"}", "line 2: tool_name: must not be empty"),
        ("{\"tool_name\":\"t\"", "line 2: expected ',' or '}'"),
        ("[]", "line 2: a call is an object, not an array"),
        ("{\"tool_name\":\"t\",\"tool_name\":\"t\"}", "occurs twice"),
    ] {
        // A bad line does not lose any good one; if no line is good, the file is something else.
        let imported = read(Format::Jsonl, format!("{good}{bad}\n{good}"), &options());
        assert_eq!((imported.calls.len(), imported.not_taken.len()), (2, 1));
        assert!(imported.not_taken[0].to_string().contains(message), "{}", imported.not_taken[0]);
        assert_refused(Format::Jsonl, bad, &options(), message.strip_prefix("line 2: ").unwrap_or(message));
    }
}
