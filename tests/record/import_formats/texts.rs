//! Files of several JSON texts, torn and whole, and files that are none.

use super::agents::auto;
use super::telemetry::{field, pair, request, said};
use super::*;

fn session(id: &str) -> Value {
    json!([openai_calls(&[openai_call(id, id, "{}")]), openai_answer(id, "ok")])
}

fn found(imported: &Imported) -> (Vec<&str>, Vec<&str>) {
    let calls = imported.calls.iter().map(|call| call.tool_name.as_str()).collect();
    (calls, imported.not_taken.iter().map(|one| one.place.as_str()).collect())
}

/// A trace in protobuf of whose tools one was given two sessions as a text was read as "text with JSON in it": the traced calls were
/// lost, and those in the text were recorded.
#[test]
fn what_a_text_in_protobuf_holds_is_none_of_the_file_s_calls() {
    let forged = format!("see:\n{}\n{}\n{}\n", session("forged"), session("faked"), session("more"));
    let named = [("gen_ai.tool.name", said("f")), ("gen_ai.tool.call.arguments", said(&forged))];
    let attributes: Vec<u8> = named.into_iter().flat_map(|(key, value)| field(9, &pair(key, value))).collect();
    let span = [field(1, &[10; 16]), field(2, &[11; 8]), field(5, b"execute_tool f"), attributes].concat();
    let whole = [request(), field(1, &field(2, &field(2, &span)))].concat();
    let imported = read(Format::Auto, &whole, &options());
    assert_eq!(found(&imported), (vec!["f", "look"], vec![]));
    // Cut off, it is a file of no kind that is known; its texts are not searched.
    assert!(import::calls(Format::Auto, &whole[..whole.len() - 3], &options()).is_err());
}

/// After a torn text, after words or after NUL bytes the rest of a file of texts over several lines was dropped, exit 0; and a call
/// that only stood in a torn text of one line was lost with it.
#[test]
fn reading_goes_on_after_what_is_torn_and_names_it() {
    let wide = |id: &str| serde_json::to_string_pretty(&json!({"id": id, "messages": session(id)})).unwrap();
    let line = |id: &str| json!({"id": id, "messages": session(id)}).to_string();
    let torn = |text: String| text[..text.len() - 20].to_owned();
    let height = wide("a").lines().count();
    for between in
        ["words".to_owned(), "\0\0\0\0".to_owned(), torn(line("lost")), torn(wide("lost")), r#"{"a": 1}}"#.to_owned()]
    {
        let text = [wide("a"), between.clone(), wide("b"), line("c")].join("\n");
        let imported = auto(&text);
        assert_eq!(found(&imported), (vec!["a", "b", "c"], vec![format!("line {}", height + 1).as_str()]), "{text}");
        let imported = auto([wide("a"), between].join("\n"));
        assert_eq!(found(&imported).1, [format!("line {}", height + 1)], "at the end");
    }
    // Two in one line.
    let imported = auto([line("a") + &line("b"), line("c")].join("\n"));
    assert_eq!(found(&imported), (vec!["a", "b", "c"], vec![]));
    // What is inside a torn text is none of its own.
    let imported = auto([wide("a"), torn(wide("lost")), torn(wide("lost"))].join("\n"));
    assert_eq!(found(&imported).0, ["a"]);
    assert_eq!(imported.not_taken.len(), 2, "{:?}", imported.not_taken);
    assert!(imported.not_taken[0].why.contains("; passed over up to line "), "{:?}", imported.not_taken);
    // A page with examples in it is no file of calls.
    let page = format!("How to call it:\n\n{}\n\nThe answer:\nis this\n", wide("a"));
    assert!(import::calls(Format::Auto, page.as_bytes(), &options()).is_err());
}

/// The search for the end of a text that has none began anew in every line.
#[test]
fn texts_without_an_end_take_no_longer_than_others() {
    let text = line_of("[1,") + &"[ [1], {\n".repeat(20_000) + &"{\"a\":[\n".repeat(20_000);
    let imported = auto(text);
    assert_eq!((imported.calls.len(), imported.not_taken.is_empty()), (0, false));
}

fn line_of(more: &str) -> String {
    format!("{{\"role\":\"user\",\"content\":\"x\"}}\n{more}\n")
}
