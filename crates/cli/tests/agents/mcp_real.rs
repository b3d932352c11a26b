//! The proxy between real hosts and real servers: the official Python client and server, and the official servers for Node.
//! They are installed into a folder of the target directory; if that is not possible, the tests say so and why.
#![cfg(unix)]

use crate::common::*;
use attestlog::json::Json;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

static INSTALLING: Mutex<()> = Mutex::new(());

/// A folder that outlives the test run, so that packages are installed once.
fn cache(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("mcp-{name}"));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

fn ran(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

fn skip(why: impl std::fmt::Display) {
    println!("SKIPPED: {why}");
}

/// A Python with the official package.
fn python() -> Result<PathBuf, String> {
    let _one = INSTALLING.lock();
    let dir = cache("python");
    let python = dir.join("bin/python");
    if ran(Command::new(&python).args(["-c", "import mcp"])).is_err() {
        ran(Command::new("python3").args(["-m", "venv"]).arg(&dir))?;
        ran(Command::new(&python).args(["-m", "pip", "install", "--quiet", "mcp"]))?;
    }
    Ok(python)
}

/// The script that starts an official Node server.
fn node_server(name: &str) -> Result<PathBuf, String> {
    let _one = INSTALLING.lock();
    let dir = cache("node");
    let script = dir.join(format!("node_modules/@modelcontextprotocol/{name}/dist/index.js"));
    if !script.exists() {
        let package = format!("@modelcontextprotocol/{name}");
        ran(Command::new("npm").args(["install", "--no-fund", "--no-audit", "--prefix"]).arg(&dir).arg(package))?;
    }
    ran(Command::new("node").arg("--version"))?;
    Ok(script)
}

/// Makes the calls listed on standard input, one `tool arguments` per line, and prints how each ended.
const CLIENT: &str = r#"
import asyncio, json, sys
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

async def main():
    calls = [line.split(" ", 1) for line in sys.stdin.read().splitlines()]
    parameters = StdioServerParameters(command=sys.argv[1], args=sys.argv[2:])
    async with stdio_client(parameters) as (read, write):
        async with ClientSession(read, write) as session:
            await session.initialize()
            tools = await session.list_tools()
            print("tools", len(tools.tools))
            async def one(name, arguments):
                try:
                    result = await session.call_tool(name, json.loads(arguments))
                    failed = result.is_error if hasattr(result, "is_error") else result.isError
                    return name, "failed" if failed else "ok"
                except Exception as e:
                    return name, "error"
            for name, how in await asyncio.gather(*(one(*call) for call in calls)):
                print(name, how)
asyncio.run(main())
"#;

const SERVER: &str = r#"
try:
    from mcp.server.mcpserver import MCPServer as Server
except ImportError:
    from mcp.server.fastmcp import FastMCP as Server
server = Server("ward")

@server.tool()
def look_up(patient_id: str, password: str = "") -> dict:
    return {"patient_id": patient_id, "status": "stable"}

@server.tool()
def refuse() -> str:
    raise ValueError("not today")

server.run()
"#;

/// A client and a server of the newest revision, which has no handshake and asks for input in replies.
const NEWEST_CLIENT: &str = r#"
import asyncio, sys
from mcp import Client, StdioServerParameters
from mcp_types import ElicitResult

async def yes(context, params):
    return ElicitResult(action="accept", content={"sure": True})

async def main():
    parameters = StdioServerParameters(command=sys.argv[1], args=sys.argv[2:])
    async with Client(parameters, elicitation_callback=yes) as client:
        print("discharge", (await client.call_tool("discharge", {"patient_id": "P-7"})).content[0].text)
asyncio.run(main())
"#;

const NEWEST_SERVER: &str = r#"
from typing import Annotated
from pydantic import BaseModel
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.resolve import Elicit, Resolve

server = MCPServer("ward")

class Sure(BaseModel):
    sure: bool

def confirm() -> Elicit[Sure]:
    return Elicit("Discharge the patient?", Sure)

@server.tool()
def discharge(patient_id: str, confirmed: Annotated[Sure, Resolve(confirm)]) -> str:
    return "home" if confirmed.sure else "stays"

server.run()
"#;

/// Makes the client's calls through the proxy; returns its output.
fn drive(place: &Place, python: &Path, server: &[&str], calls: &str) -> String {
    drive_by(CLIENT, place, python, server, calls)
}

fn drive_by(client: &str, place: &Place, python: &Path, server: &[&str], calls: &str) -> String {
    let client = place.write("client.py", client);
    let program = env!("CARGO_BIN_EXE_attestlog");
    let store = place.path("s");
    let input = place.write("calls", calls);
    let mut command = Command::new(python);
    command.arg(client).arg(program).args(["mcp", store.to_str().unwrap(), "--user", "u", "--conversation", "c", "--"]);
    command.args(server).stdin(std::fs::File::open(input).unwrap()).current_dir(place.dir.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn outcomes(place: &Place) -> Vec<String> {
    let lines = place.run(&["query", "s", "--json", "--kind", "tool_call"]).ok();
    let text = |line: &Json, key: &str| line.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
    let mut all: Vec<String> =
        lines.lines().map(json).map(|l| format!("{} {}", text(&l, "tool_name"), text(&l, "outcome"))).collect();
    all.sort();
    all
}

#[test]
fn the_official_python_client_and_server() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => return skip(why),
    };
    let place = Place::with_store();
    let server = place.write("server.py", SERVER);
    let calls = "look_up {\"patient_id\":\"P-7\",\"password\":\"hunter2\"}\nrefuse {}\nno_such_tool {}\n";
    let said = drive(&place, &python, &[python.to_str().unwrap(), server.to_str().unwrap()], calls);
    assert!(said.contains("look_up ok") && said.contains("refuse failed"), "{said}");
    let outcomes = outcomes(&place);
    assert_eq!(outcomes.len(), 3, "{outcomes:?}");
    assert!(outcomes.contains(&"look_up ok".to_owned()) && outcomes.contains(&"refuse tool_error".to_owned()));
    let timeline = place.run(&["timeline", "s", "c"]).ok();
    assert!(timeline.contains("patient P-7") && timeline.contains("Error executing tool refuse"), "{timeline}");
    assert!(!timeline.contains("hunter2"));
    assert_eq!(place.count(&["--server", "ward", "--kind", "tool_call"]), 3);
    place.run(&["verify", "s"]).ok();
}

#[test]
fn the_official_python_client_and_server_in_the_newest_revision() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => return skip(why),
    };
    if let Err(why) = ran(Command::new(&python).args(["-c", "from mcp import Client; import mcp_types"])) {
        return skip(format!("the package is older than the newest revision: {why}"));
    }
    let place = Place::with_store();
    let server = place.write("server.py", NEWEST_SERVER);
    let said = drive_by(NEWEST_CLIENT, &place, &python, &[python.to_str().unwrap(), server.to_str().unwrap()], "");
    assert!(said.contains("discharge home"), "{said}");
    let lines = place.run(&["query", "s", "--json", "--tool", "discharge"]).ok();
    let all: Vec<Json> = lines.lines().map(json).collect();
    let [begun, end] = &all[..] else { panic!("one logical call, begun and ended: {lines}") };
    assert_eq!(begun.get("kind").and_then(Json::as_str), Some("call_begun"));
    assert_eq!(end.get("outcome").and_then(Json::as_str), Some("ok"));
    for expected in [r#""rounds":2"#, r#""protocol":"20"#, r#""server":{"name":"ward""#, r#""patient_ids":["P-7"]"#] {
        assert!(end.to_canonical().as_str().contains(expected), "{expected} in {}", end.to_canonical());
    }
    place.run(&["verify", "s"]).ok();
}

#[test]
fn the_official_node_servers() {
    let (python, everything, files) =
        match (python(), node_server("server-everything"), node_server("server-filesystem")) {
            (Ok(python), Ok(everything), Ok(files)) => (python, everything, files),
            (Err(why), ..) | (_, Err(why), _) | (.., Err(why)) => return skip(why),
        };
    let place = Place::with_store();
    let calls = "echo {\"message\":\"hello\"}\necho {\"message\":\"again\"}\nno_such_tool {}\n";
    let said = drive(&place, &python, &["node", everything.to_str().unwrap(), "stdio"], calls);
    assert_eq!(said.matches("echo ok").count(), 2, "{said}");
    assert_eq!(outcomes(&place).iter().filter(|o| *o == "echo ok").count(), 2);
    assert_eq!(outcomes(&place).len(), 3);

    let place = Place::with_store();
    std::fs::create_dir(place.path("folder")).unwrap();
    let folder = place.path("folder").canonicalize().unwrap();
    let file = folder.join("note.txt").display().to_string();
    let calls = format!(
        "write_file {{\"path\":{file:?},\"content\":\"call me: 555-0134, password=hunter2\"}}\nlist_directory {{\"path\":{:?}}}\n\
         read_text_file {{\"path\":\"/etc/hostname\"}}\n",
        folder.display().to_string()
    );
    drive(&place, &python, &["node", files.to_str().unwrap(), folder.to_str().unwrap()], &calls);
    assert!(folder.join("note.txt").exists(), "the tool ran");
    let outcomes = outcomes(&place);
    assert_eq!(outcomes.len(), 3, "{outcomes:?}");
    assert!(outcomes.contains(&"write_file ok".to_owned()), "{outcomes:?}");
    assert!(outcomes.contains(&"read_text_file tool_error".to_owned()), "refused by the server: {outcomes:?}");
    let hints = place.run(&["query", "s", "--json", "--tool", "write_file", "--kind", "tool_call"]).ok();
    assert!(hints.contains("untrusted_hints"), "{hints}");
    place.run(&["verify", "s"]).ok();
}
