"""Real coding agents, with hooks that `attestlog hook install` wrote, against a stand-in for their models: real_agents.py PROGRAM.

Claude Code, Codex and the Gemini CLI are installed from npm into a temporary folder, or ATTESTLOG_AGENTS names a folder with a
`node_modules` in which they are. Each runs one short session in which the stand-in asks for two commands, of which one fails. Then the log
must have these calls and no others, and the session file that the agent has written must add no call. What cannot be run here is named
and left out. Every wait is bounded.
"""
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading

PROGRAM = os.path.abspath(sys.argv[1])
COMMANDS = ["echo one > one.txt; echo done", "echo two; exit 3"]
PACKAGES = {
    "claude-code": "@anthropic-ai/claude-code",
    "codex": "@openai/codex",
    "gemini": "@google/gemini-cli",
}
# How long an installation, and a session, may take, in seconds.
INSTALLING, SESSION = 900, 180


def stream(events):
    """Server-sent events."""
    return "".join((f"event: {e['type']}\n" if "type" in e else "") + f"data: {json.dumps(e)}\n\n" for e in events).encode()


def anthropic(request):
    """The next message of a model of Anthropic's."""
    messages = request.get("messages", [])
    asked = sum(part.get("type") == "tool_use" for m in messages if m["role"] == "assistant"
                for part in m["content"] if isinstance(part, dict))
    if request.get("tools") and asked < len(COMMANDS):
        given = json.dumps({"command": COMMANDS[asked], "description": "a test"})
        start = {"type": "tool_use", "id": f"toolu_test_{asked}", "name": "Bash", "input": {}}
        delta, stop = {"type": "input_json_delta", "partial_json": given}, "tool_use"
    else:
        start, delta, stop = {"type": "text", "text": ""}, {"type": "text_delta", "text": "end"}, "end_turn"
    usage = {"input_tokens": 1, "output_tokens": 1}
    message = {"id": f"msg_{len(messages)}", "type": "message", "role": "assistant", "model": request.get("model"), "content": [],
               "stop_reason": None, "stop_sequence": None, "usage": usage}
    return stream([
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": start},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    ])


def openai(request):
    """The next items of a model of OpenAI's."""
    asked = sum(item.get("type") == "function_call" for item in request.get("input", []))
    if asked < len(COMMANDS):
        item = {"type": "function_call", "id": f"fc_{asked}", "call_id": f"call_test_{asked}", "name": "exec_command",
                "arguments": json.dumps({"cmd": COMMANDS[asked]}), "status": "completed"}
    else:
        item = {"type": "message", "id": "m", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": "end"}]}
    usage = {"input_tokens": 1, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 1,
             "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 2}
    return stream([
        {"type": "response.created", "response": {"id": f"r{asked}"}},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {"id": f"r{asked}", "usage": usage}},
    ])


class Model(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def log_message(self, *_):
        pass

    def answer(self, code, kind, body):
        self.send_response(code)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(404, "application/json", b'{"error":{"message":"nothing here"}}')

    def do_HEAD(self):
        self.answer(200, "text/plain", b"")

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        path = self.path.split("?")[0]
        if path.endswith("/count_tokens"):
            self.answer(200, "application/json", b'{"input_tokens":1}')
        elif path.endswith("/messages"):
            self.answer(200, "text/event-stream", anthropic(request))
        elif path.endswith("/responses"):
            self.answer(200, "text/event-stream", openai(request))
        else:
            self.do_GET()


def installed(folder, agent):
    """The command that starts an agent, from this folder; None if it is not there."""
    modules = os.path.join(folder, "node_modules")
    if agent == "claude-code":
        native = os.path.join(modules, "@anthropic-ai/claude-code-linux-x64/claude")
        script = os.path.join(modules, "@anthropic-ai/claude-code/cli.js")
        if os.path.exists(native):
            return [native]
        return ["node", script] if os.path.exists(script) else None
    name = os.path.join(modules, ".bin", agent)
    return [name] if os.path.exists(name) else None


def prepare(agent, home, port):
    """Writes what the agent needs besides its hooks; returns its arguments and its environment."""
    env = {"PATH": os.environ["PATH"], "HOME": home, "TERM": "dumb", "LANG": "C.UTF-8"}
    address = f"http://127.0.0.1:{port}"
    if agent == "claude-code":
        env |= {"ANTHROPIC_BASE_URL": address, "ANTHROPIC_API_KEY": "sk-ant-none", "DISABLE_AUTOUPDATER": "1",
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_TELEMETRY": "1"}
        return ["-p", "go", "--output-format", "json", "--allowedTools", "Bash"], env
    if agent == "codex":
        os.makedirs(os.path.join(home, ".codex"), exist_ok=True)
        with open(os.path.join(home, ".codex/config.toml"), "w") as config:
            config.write(f"""model = "gpt-5-codex"
model_provider = "stand-in"
approval_policy = "never"
sandbox_mode = "danger-full-access"
check_for_update_on_startup = false
[analytics]
enabled = false
[model_providers.stand-in]
name = "stand-in"
base_url = "{address}/v1"
wire_api = "responses"
env_key = "NO_KEY"
""")
        env["NO_KEY"] = "none"
        return ["exec", "--json", "--skip-git-repo-check", "--dangerously-bypass-hook-trust", "go"], env
    # The Gemini CLI brings a stand-in of its own.
    call = lambda command: [{"functionCall": {"name": "run_shell_command", "args": {"command": command}}}]
    steps = [call(command) for command in COMMANDS] + [[{"text": "end"}]]
    answers = os.path.join(home, "answers.jsonl")
    with open(answers, "w") as out:
        for parts in steps:
            candidate = {"content": {"parts": parts, "role": "model"}, "finishReason": "STOP", "index": 0}
            used = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
            answer = [{"candidates": [candidate], "usageMetadata": used}]
            out.write(json.dumps({"method": "generateContentStream", "response": answer}) + "\n")
    os.makedirs(os.path.join(home, ".gemini"), exist_ok=True)
    with open(os.path.join(home, ".gemini/settings.json"), "w") as settings:
        json.dump({"security": {"auth": {"selectedType": "gemini-api-key"}, "folderTrust": {"enabled": False}},
                   "general": {"disableAutoUpdate": True}, "privacy": {"usageStatisticsEnabled": False}}, settings, indent=2)
    env["GEMINI_API_KEY"] = "none"
    return ["--fake-responses", answers, "-p", "go", "--approval-mode", "yolo", "-m", "gemini-2.5-flash"], env


def attestlog(*args, home=None):
    env = dict(os.environ, HOME=home) if home else None
    ran = subprocess.run([PROGRAM, *args], capture_output=True, text=True, timeout=120, env=env)
    if ran.returncode != 0:
        raise AssertionError(f"attestlog {' '.join(args)}: {ran.returncode}\n{ran.stdout}{ran.stderr}")
    return ran.stdout


def session(agent, start, folder, port):
    """Runs one session of an agent and compares the log with it."""
    home, work, store = (os.path.join(folder, agent, name) for name in ("home", "work", "audit.log"))
    os.makedirs(home)
    os.makedirs(work)
    attestlog("init", store)
    args, env = prepare(agent, home, port)
    attestlog("hook", "install", agent, store, "--as-user", "ada", home=home)
    ran = subprocess.run(start + args, cwd=work, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SESSION)
    said = f"{agent} ended with {ran.returncode}\n{ran.stdout[-2000:]}\n{ran.stderr[-2000:]}"
    assert os.path.exists(os.path.join(work, "one.txt")), f"the tool did not run; {said}"
    lines = attestlog("query", store, "--kind", "tool_call", "--json").splitlines()
    found = [json.loads(line)["entry"] if "entry" in json.loads(line) else json.loads(line) for line in lines]
    commands = [call["arguments"].get("command") for call in found]
    assert commands == COMMANDS, f"the log has {commands}; {said}"
    assert all(call["user_id"] == "ada" for call in found)
    if agent != "gemini":
        # Its hooks give calls no ids, so nothing could be joined.
        where = os.path.join(home, {"claude-code": ".claude/projects", "codex": ".codex/sessions"}[agent])
        told = json.loads(attestlog("import", store, where, "--user", "ada", "--json"))
        counts = {name: told[name] for name in ("recorded", "already_there", "details")}
        assert counts == {"recorded": 0, "already_there": 2, "details": 2}, told
    attestlog("verify", store)


def main():
    folder = tempfile.mkdtemp(prefix="attestlog-agents-")
    model = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
    model.daemon_threads = True
    threading.Thread(target=model.serve_forever, daemon=True).start()
    failed = False
    try:
        for agent, package in PACKAGES.items():
            place = os.environ.get("ATTESTLOG_AGENTS") or folder
            start = installed(place, agent)
            if start is None and place == folder and shutil.which("npm"):
                command = ["npm", "install", "--prefix", folder, "--no-audit", "--no-fund", "--loglevel", "error", package]
                try:
                    subprocess.run(command, check=True, timeout=INSTALLING, stdin=subprocess.DEVNULL)
                except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as e:
                    print(f"SKIPPED {agent}: npm could not install it: {e}", flush=True)
                    continue
                start = installed(place, agent)
            if start is None:
                print(f"SKIPPED {agent}: it is not there, and npm does not bring it", flush=True)
                continue
            try:
                session(agent, start, folder, model.server_address[1])
                print(f"{agent}: {len(COMMANDS)} calls asked for, {len(COMMANDS)} in the log", flush=True)
            except (AssertionError, subprocess.TimeoutExpired) as e:
                failed = True
                print(f"FAILED {agent}: {e}", flush=True)
    finally:
        model.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if failed else 0)


main()
