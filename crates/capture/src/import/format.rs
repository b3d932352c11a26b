//! The formats that can be imported, and their names.

use std::fmt;

macro_rules! formats {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// The format of a transcript.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
        #[non_exhaustive]
        pub enum Format {
            $($(#[$doc])* $variant,)*
        }

        impl Format {
            /// Every format.
            pub const ALL: &[Format] = &[$(Format::$variant,)*];

            /// Its name on the command line.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Format::$variant => $name,)*
                }
            }
        }
    };
}

formats! {
    /// Whichever of the others the file is; [`Imported::format`](super::Imported::format) says which.
    #[default]
    Auto => "auto",
    /// Messages of the OpenAI chat completions API: `tool_calls` (or the older `function_call`) of an assistant
    /// message, answered by messages of the role `tool` (or `function`).
    OpenAiChat => "openai-chat",
    /// Items of the OpenAI Responses API and of the Agents SDK.
    OpenAiResponses => "openai-responses",
    /// Messages of the Anthropic API: blocks `tool_use`, `server_tool_use` and `mcp_tool_use`, answered by blocks
    /// `tool_result` and its like.
    Anthropic => "anthropic",
    /// Messages of Bedrock's Converse API.
    Bedrock => "bedrock",
    /// Sessions of Claude Code and of its sub-agents.
    ClaudeCode => "claude-code",
    /// Rollouts of Codex.
    Codex => "codex",
    /// Sessions of the Gemini CLI, and contents of the Gemini API.
    Gemini => "gemini",
    /// Sessions of OpenCode, as it exports them.
    OpenCode => "opencode",
    /// Messages of LangChain, states of LangGraph.
    LangChain => "langchain",
    /// Runs of LangSmith.
    LangSmith => "langsmith",
    /// Runs and sessions of agno.
    Agno => "agno",
    /// Trajectories of SWE-agent.
    SweAgent => "swe-agent",
    /// Logs of Inspect, in JSON or as `.eval`.
    Inspect => "inspect",
    /// Results of tau2.
    Tau2 => "tau2",
    /// Runs of AgentDojo.
    AgentDojo => "agentdojo",
    /// Events of OpenHands.
    OpenHands => "openhands",
    /// Messages of the Vercel AI SDK, for models and for user interfaces.
    VercelAi => "vercel-ai",
    /// The Agent Trajectory Interchange Format.
    Atif => "atif",
    /// OpenTelemetry traces in OTLP/JSON, one export or one per line. Every span of a tool is a call: spans marked by
    /// the GenAI conventions (`gen_ai.operation.name` is `execute_tool`, or the span's name says so), the MCP
    /// conventions, OpenInference, Traceloop, LangSmith, Langfuse, MLflow or the Vercel AI SDK.
    OtlpJson => "otlp-json",
    /// The input of `attestlog record`: one call per line (see [`ToolCall::from_jsonl`](attestlog::ToolCall::from_jsonl)).
    Jsonl => "jsonl",
}

impl Format {
    /// The format with this name.
    ///
    /// ```
    /// use attestlog_capture::import::Format;
    /// assert_eq!(Format::from_name("openai-chat"), Some(Format::OpenAiChat));
    /// assert_eq!(Format::from_name("xml"), None);
    /// ```
    pub fn from_name(name: &str) -> Option<Format> {
        Self::ALL.iter().copied().find(|f| f.as_str() == name)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
