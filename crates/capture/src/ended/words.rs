//! What agents write in place of a tool's answer, as seen in their files or in their source.
//!
//! A tool's output may hold any of these sentences. So each function says where the agent writes it, what of the call's own has to stand
//! in it, and why a tool cannot reach that place; whoever calls it looks for signs first.

use attestlog::Outcome;
use attestlog::json::Json;

/// What Claude Code (2.0 to 2.1.332) tells the model in place of an answer, and who refused the call if that is known.
///
/// In its session files an answer with one of these texts is an error, and has no `permissionDecision` beside it or one that refuses
/// (before 2.1 it has none at all); in hooks a call with one of them had no `PostToolUse`. A refusal names the tool, its file or a part of
/// its command, so that the words of another call's output are not taken for it.
pub(crate) fn claude_code(tool: &str, input: Option<&Json>, text: &str) -> Option<(Outcome, Option<&'static str>)> {
    let given = |key: &str| input.and_then(|input| input.get(key)?.as_str()).unwrap_or_default();
    let names_own = |said: &str| {
        let names = ["file_path", "notebook_path", "path", "url"].map(given);
        said.split_whitespace().any(|word| word.trim_matches(['"', '\'', ',', '.']) == tool)
            || names.iter().any(|name| !name.is_empty() && said.contains(name))
    };
    let denied = |by| Some((Outcome::Denied, Some(by)));
    if let Some(error) = text.strip_prefix("<tool_use_error>") {
        let error = error.strip_prefix("Error: ").unwrap_or(error);
        let is_unknown = error.starts_with("No such tool available") || error.starts_with("InputValidationError");
        return Some((if is_unknown { Outcome::ProtocolError } else { Outcome::ToolError }, None));
    }
    if text.starts_with("The user doesn't want to proceed with this tool use.")
        || text.starts_with("The user doesn't want to take this action")
    {
        return denied("user");
    }
    if ["PreToolUse:", "Hook PreToolUse:", "Execution stopped by PreToolUse hook"]
        .iter()
        .any(|begin| text.strip_prefix(begin).is_some_and(|rest| begin.ends_with("hook") || rest.starts_with(tool)))
    {
        return denied("hook");
    }
    if let Some(rest) = text.strip_prefix("Permission to ") {
        let (what, _) = rest.split_once(" has been denied").or_else(|| rest.split_once(" has been auto-denied"))?;
        let of_command = what.split_once(" with command ").is_none_or(|(_, said)| given("command").contains(said));
        return if names_own(what) && of_command { denied("rule") } else { None };
    }
    if let Some(rest) = text.strip_prefix("Claude requested permissions to ") {
        let (what, _) =
            rest.split_once(", but you haven't granted it yet").or_else(|| rest.split_once(" which is a sensitive"))?;
        return if names_own(what) { denied("user") } else { None };
    }
    let of_shell = |text: &str| tool == "Bash" && (text.is_empty() || given("command").contains(text));
    let several = "This Bash command contains multiple operations. The following part";
    if let Some(rest) = text.strip_prefix(several) {
        let (_, part) = rest.split_once("require approval: ").or_else(|| rest.split_once("requires approval: "))?;
        return if part.split(", ").all(of_shell) { denied("user") } else { None };
    }
    match text.trim_end_matches('.') {
        "This command requires approval" | "This Bash command requires approval" if tool == "Bash" => denied("user"),
        _ => None,
    }
}

/// The exit code with which the text begins that Claude Code gives for a shell command that failed.
pub(crate) fn claude_code_exit(tool: &str, text: &str) -> Option<i64> {
    let code = text.strip_prefix("Exit code ").filter(|_| tool == "Bash")?;
    code.split(['\n', ' ']).next()?.parse().ok()
}

/// The tools of Codex whose answers begin with a header that Codex writes: exit code, wall time.
fn has_header(tool: &str) -> bool {
    const SHELLS: &[&str] = &[
        "shell",
        "shell_command",
        "local_shell",
        "container.exec",
        "exec_command",
        "write_stdin",
        "unified_exec",
        "exec",
        "apply_patch",
    ];
    SHELLS.contains(&tool)
}

/// The exit code in the header that Codex writes before what a program printed: `Exit code: 1`, `Process exited with code 1`, and in old
/// versions `{"output":…,"metadata":{"exit_code":1}}`. Only the answers of its own tools for commands and patches have one.
pub(crate) fn codex_exit(tool: &str, text: &str) -> Option<i64> {
    if !has_header(tool) {
        return None;
    }
    if text.starts_with('{') {
        let limits = attestlog::json::Limits::default();
        let value = Json::parse_lenient(text.as_bytes(), &limits).ok()?.value;
        return value.get("metadata")?.get("exit_code")?.as_i64();
    }
    let marks = ["Exit code: ", "Process exited with code "];
    of_header(text).find_map(|line| marks.iter().find_map(|mark| line.strip_prefix(mark)))?.trim().parse().ok()
}

/// Whether the header says that the program was still running when the model was told of it.
pub(crate) fn codex_runs_on(tool: &str, text: &str) -> bool {
    has_header(tool) && of_header(text).any(|line| line.starts_with("Process running with session ID "))
}

/// The lines of the header: at most one of each kind before `Output:`. What the program printed comes after that.
fn of_header(text: &str) -> impl Iterator<Item = &str> {
    let is_of_header = |line: &&str| {
        ["Chunk ID: ", "Exit code: ", "Wall time: ", "Process ", "Original token count: ", "Total output lines: "]
            .iter()
            .any(|begin| line.starts_with(begin))
    };
    text.lines().take(8).take_while(is_of_header)
}

/// What Codex (0.2 to 0.171) writes in place of an answer: of its own tools for commands and patches, whose answers otherwise have its
/// header, and as the whole answer of any tool. A server's answer is a list, or stands below a header.
pub(crate) fn codex(tool: &str, text: &str) -> Option<Outcome> {
    const REFUSED: &[&str] = &[
        "exec command rejected by user",
        "patch rejected by user",
        "rejected by user",
        "user rejected MCP tool call",
        "user cancelled MCP tool call",
    ];
    let text = text.trim();
    let is_unknown = ["unsupported call: ", "unsupported custom tool call: "]
        .iter()
        .any(|begin| text.strip_prefix(begin).is_some_and(|named| !named.contains(char::is_whitespace)));
    if is_unknown || text.starts_with("failed to parse function arguments: ") {
        return Some(Outcome::ProtocolError);
    }
    if REFUSED.contains(&text) || text.starts_with("This action was rejected due to unacceptable risk") {
        return Some(Outcome::Denied);
    }
    let after = |begin: &str| text.strip_prefix(begin).map(|rest| rest.trim_end_matches('s'));
    let is_seconds = |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if text == "aborted" || after("aborted by user after ").is_some_and(is_seconds) {
        return Some(Outcome::Abandoned);
    }
    // Its answer is an image, or says that one was attached.
    if tool == "view_image" && !text.is_empty() && !text.starts_with("attached local image path") {
        return Some(Outcome::ToolError);
    }
    if !has_header(tool) {
        return None;
    }
    if let Some((time, "aborted by user")) = text.split_once('\n')
        && time.starts_with("Wall time: ")
    {
        return Some(Outcome::Abandoned);
    }
    let begins = |all: &[&str]| all.iter().any(|begin| text.starts_with(begin));
    match () {
        () if begins(&["command timed out after "]) => Some(Outcome::Timeout),
        () if text.contains(" rejected: policy forbids commands starting with ")
            || text.contains("rejected: blocked by policy")
            || text.contains("reject command — you should not ask for escalated permissions")
            || text.contains("reject command; you should not ask for escalated permissions") =>
        {
            (!text.contains('\n')).then_some(Outcome::Denied)
        }
        () if begins(&[
            "failed in sandbox",
            "execution error",
            "exec_command failed",
            "apply_patch verification failed",
            "patch rejected: ",
        ]) =>
        {
            Some(Outcome::ToolError)
        }
        () => None,
    }
}

/// How a shell command of the Gemini CLI ended, from the lines that it writes below what the command printed: `Exit Code: 3`, `Signal: 9`.
///
/// `display` is what the command printed, as the CLI keeps it for people. It stands between `Output: ` and the lines, so that what the
/// command printed itself is not taken for one. Without it the lines may be the command's own, and `true` is returned with them.
pub(crate) fn gemini_shell(tool: &str, text: &str, display: Option<&str>) -> Option<(Outcome, bool)> {
    if tool != "run_shell_command" {
        return None;
    }
    let text = text.trim();
    let text = text
        .strip_prefix("<untrusted_context>")
        .and_then(|text| text.strip_suffix("</untrusted_context>"))
        .unwrap_or(text);
    let text = text.trim();
    let output = text
        .split_once("Output: ")
        .filter(|(before, _)| before.is_empty() || before.ends_with('\n'))
        .map(|(_, after)| after);
    let below =
        |shown: &str| output?.strip_prefix(shown.trim_end())?.trim_start_matches([' ', '\r']).strip_prefix('\n');
    let sure = display.filter(|shown| !shown.trim().is_empty()).and_then(below).or_else(|| below("(empty)"));
    // Without what was printed only the last lines can be looked at, which the CLI writes in this order.
    let lines: Vec<&str> = sure.unwrap_or(text).lines().collect();
    let mut lines = lines.iter().rev().map(|line| line.trim()).peekable();
    for begin in ["Process Group PGID: ", "Background PIDs: "] {
        lines.next_if(|line| line.starts_with(begin));
    }
    let none = |said: &str| matches!(said, "(none)" | "0" | "");
    let signal = lines.next_if(|line| line.starts_with("Signal: ")).and_then(|line| line.strip_prefix("Signal: "));
    let code = lines.next_if(|line| line.starts_with("Exit Code: ")).and_then(|line| line.strip_prefix("Exit Code: "));
    let failed = signal.is_some_and(|said| !none(said)) || code.is_some_and(|said| !none(said));
    if failed
        || sure.is_some_and(|below| {
            below.lines().any(|line| line.starts_with("Error: ") && !none(line.trim_start_matches("Error: ")))
        })
    {
        return Some((Outcome::ToolError, sure.is_none()));
    }
    None
}

/// How a call ended of which the Gemini CLI (0.61) keeps this error. What a server's tool says stands behind words of the CLI there
/// (`MCP tool 'x' reported tool error`), and its own tools have other errors.
pub(crate) fn gemini(tool: &str, error: &str) -> Option<Outcome> {
    let is_unknown = error
        .strip_prefix("Tool \"")
        .and_then(|rest| rest.strip_prefix(tool))
        .is_some_and(|rest| rest.starts_with("\" not found"));
    match () {
        () if is_unknown => Some(Outcome::ProtocolError),
        () if error.starts_with("Tool execution denied by policy") => Some(Outcome::Denied),
        () => None,
    }
}

/// The tool of OpenCode that stands in for one that does not exist or that cannot be called so; its argument `tool` names the one asked
/// for.
pub(crate) const OPENCODE_STAND_IN: &str = "invalid";

/// How a call ended that OpenCode (1.18) keeps with the status `error` and this text. A tool's own error stands in the same place, so only
/// whole sentences count, from their beginning.
pub(crate) fn opencode(error: &str) -> Option<Outcome> {
    const REFUSED: &[&str] = &[
        "The user rejected permission to use this specific tool call",
        "The user has specified a rule which prevents you from using",
        "The user dismissed this question",
    ];
    let error = error.trim();
    match () {
        () if REFUSED.iter().any(|begin| error.starts_with(begin)) => Some(Outcome::Denied),
        () if matches!(error, "Tool execution aborted" | "Aborted" | "aborted" | "The operation was aborted.") => {
            Some(Outcome::Abandoned)
        }
        () => None,
    }
}

/// The kinds that agents give to the error of a call that no tool ran.
pub(crate) fn kind(kind: &str) -> Option<Outcome> {
    match kind {
        "timeout" => Some(Outcome::Timeout),
        // Inspect's, and the Gemini CLI's.
        "approval" | "policy_violation" => Some(Outcome::Denied),
        "tool_not_registered" | "invalid_tool_params" => Some(Outcome::ProtocolError),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(text: &str) -> Option<Json> {
        Some(Json::parse(text.as_bytes()).unwrap().value)
    }

    /// Two of three refusals in a real session were `ok`, because their words were not known; and a file that holds such words was a
    /// refusal.
    #[test]
    fn a_refusal_of_claude_code_names_its_call() {
        let run = input(r#"{"command":"echo oops >&2; exit 3"}"#);
        let write = input(r#"{"file_path":"/w/b.txt"}"#);
        let denied = |by| Some((Outcome::Denied, Some(by)));
        for (tool, given, text, wanted) in [
            (
                "Bash",
                &run,
                "This Bash command contains multiple operations. The following part requires approval: exit 3",
                denied("user"),
            ),
            (
                "Bash",
                &run,
                "This Bash command contains multiple operations. The following part requires approval: rm -rf /",
                None,
            ),
            ("Bash", &run, "This command requires approval", denied("user")),
            ("Read", &run, "This command requires approval", None),
            ("Bash", &run, "Permission to use Bash with command exit 3 has been denied.", denied("rule")),
            ("Bash", &run, "Permission to use Bash with command rm -rf / has been denied.", None),
            ("Bash", &run, "Permission to use Read has been denied.", None),
            (
                "Write",
                &write,
                "Claude requested permissions to write to /w/b.txt, but you haven't granted it yet.",
                denied("user"),
            ),
            (
                "Write",
                &write,
                "Claude requested permissions to write to /w/other, but you haven't granted it yet.",
                None,
            ),
            (
                "WebFetch",
                &None,
                "Claude requested permissions to use WebFetch, but you haven't granted it yet.",
                denied("user"),
            ),
            (
                "Nope",
                &None,
                "<tool_use_error>Error: No such tool available: Nope</tool_use_error>",
                Some((Outcome::ProtocolError, None)),
            ),
            ("Read", &None, "<tool_use_error>File does not exist.</tool_use_error>", Some((Outcome::ToolError, None))),
            ("Bash", &run, "hello", None),
        ] {
            assert_eq!(claude_code(tool, given.as_ref(), text), wanted, "{text}");
        }
        assert_eq!(
            (claude_code_exit("Bash", "Exit code 3\noops"), claude_code_exit("Read", "Exit code 3")),
            (Some(3), None)
        );
    }

    /// Refused, aborted and timed-out calls of Codex without end events were `ok`, and a file that begins with "Exit code: 7" a failure.
    #[test]
    fn codex_writes_its_words_where_a_tool_cannot() {
        let shell = "exec_command";
        for (tool, text, wanted) in [
            (shell, "exec command rejected by user", Some(Outcome::Denied)),
            ("apply_patch", "patch rejected by user", Some(Outcome::Denied)),
            ("get", "user cancelled MCP tool call", Some(Outcome::Denied)),
            (shell, "aborted by user after 3.2s", Some(Outcome::Abandoned)),
            (shell, "Wall time: 3.2 seconds\naborted by user", Some(Outcome::Abandoned)),
            (shell, "command timed out after 1000 milliseconds", Some(Outcome::Timeout)),
            ("apply_patch", "apply_patch verification failed: x", Some(Outcome::ToolError)),
            (shell, "failed in sandbox: x", Some(Outcome::ToolError)),
            (shell, "execution error: Io", Some(Outcome::ToolError)),
            ("view_image", "unable to locate image at `/x`: No such file or directory", Some(Outcome::ToolError)),
            ("view_image", "attached local image path", None),
            ("odd", "unsupported call: odd", Some(Outcome::ProtocolError)),
            ("read_file", "execution error: in a file", None),
            (shell, "Process exited with code 0\nOutput:\nexec command rejected by user", None),
        ] {
            assert_eq!(codex(tool, text), wanted, "{text}");
        }
        assert_eq!(codex_exit("read_file", "Exit code: 7"), None);
        assert_eq!(codex_exit(shell, "x\nProcess exited with code 3"), None);
        assert_eq!(
            codex_exit(shell, "Chunk ID: 1\nWall time: 1 seconds\nProcess exited with code 124\nOutput:\n"),
            Some(124)
        );
        assert_eq!(codex_exit(shell, r#"{"output":"x","metadata":{"exit_code":3}}"#), Some(3));
    }

    /// A shell command of the Gemini CLI that ended with 3 was `ok`, though its answer says so.
    #[test]
    fn the_exit_code_below_the_output_is_the_cli_s() {
        let shell = |text: &str, display: Option<&str>| gemini_shell("run_shell_command", text, display);
        let framed = "<untrusted_context>\nOutput: oops\nExit Code: 3\nProcess Group PGID: 2371\n</untrusted_context>";
        assert_eq!(shell(framed, Some("oops")), Some((Outcome::ToolError, false)));
        assert_eq!(shell(framed, None), Some((Outcome::ToolError, true)));
        assert_eq!(
            shell("Output: (empty)\nExit Code: 3\nProcess Group PGID: 1", Some("Command exited with code: 3")),
            Some((Outcome::ToolError, false))
        );
        // The command printed it, and ended well.
        assert_eq!(shell(framed, Some("oops\nExit Code: 3")), None);
        assert_eq!(
            shell(
                "Command: x\nOutput: a\nError: (none)\nExit Code: 0\nSignal: (none)\nProcess Group PGID: 1",
                Some("a")
            ),
            None
        );
        assert_eq!(gemini_shell("read_file", framed, Some("")), None);
    }

    /// A tool that does not exist had failed in the session file, and in the stream could not be reached.
    #[test]
    fn the_gemini_cli_names_the_tool_that_it_does_not_have() {
        assert_eq!(gemini("x", "Tool \"x\" not found. Did you mean \"y\"?"), Some(Outcome::ProtocolError));
        assert_eq!(gemini("y", "Tool \"x\" not found."), None);
        assert_eq!(gemini("x", "Tool execution denied by policy."), Some(Outcome::Denied));
    }

    /// A tool whose error says "permission denied", as the operating system does, had been refused.
    #[test]
    fn an_error_of_opencode_is_a_refusal_only_in_its_own_words() {
        assert_eq!(opencode("EACCES: permission denied, open '/x'"), None);
        assert_eq!(opencode("The user rejected permission to use this specific tool call."), Some(Outcome::Denied));
        assert_eq!(opencode("Tool execution aborted"), Some(Outcome::Abandoned));
    }
}
