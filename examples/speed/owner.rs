// How fast records go through the owner's socket, beside the same records in one process; and what the MCP proxy adds to
// a call: cargo run --release --example speed owner
use attestlog::json::Json;
use attestlog::{AuditLog, Options, ToolCall};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

const CLIENTS: u64 = 16;
const EACH: u64 = 1000;

fn call(i: u64) -> ToolCall {
    let arguments = Json::parse(br#"{"order_id":"o-1","status":"shipped","note":"left at the door"}"#).unwrap().value;
    ToolCall::new(format!("conv_{}", i % 50), "usr_7", "update_order_status")
        .arguments(arguments)
        .model("gpt-4.1")
        .turn(i)
}

pub fn run(args: &[String]) {
    if let [mode, store] = args
        && mode == "client"
    {
        let joint = Options::new().open(store).unwrap();
        joint.record(call(0)).unwrap();
        println!("ready");
        std::io::stdin().read_exact(&mut [0]).unwrap();
        for i in 0..EACH {
            joint.record(call(i)).unwrap();
        }
        return;
    }
    if args.first().is_some_and(|mode| mode == "cat") {
        // A server that answers every call at once.
        for line in std::io::stdin().lines() {
            let id = Json::parse(line.unwrap().as_bytes()).unwrap().value.get("id").unwrap().to_canonical();
            println!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"content\":[]}}}}");
        }
        return;
    }
    let dir = std::env::temp_dir().join(format!("attestlog-speed-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (mut inside, mut through) = (Vec::new(), Vec::new());
    for round in 0..3 {
        inside.push(in_process(&dir.join(format!("a{round}"))));
        through.push(through_the_socket(&dir.join(format!("b{round}"))));
    }
    inside.sort_by(f64::total_cmp);
    through.sort_by(f64::total_cmp);
    println!("in process, {CLIENTS} threads:       {:8.0} records/s (median of 3)", inside[1]);
    println!(
        "through the socket, {CLIENTS} processes: {:6.0} records/s, {:.0} %",
        through[1],
        100.0 * through[1] / inside[1]
    );
    latencies(&dir);
    std::fs::remove_dir_all(&dir).unwrap();
}

fn in_process(store: &Path) -> f64 {
    let log = AuditLog::create(store).unwrap();
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                for i in 0..EACH {
                    log.record(call(i)).unwrap();
                }
            });
        }
    });
    (CLIENTS * EACH) as f64 / began.elapsed().as_secs_f64()
}

fn through_the_socket(store: &Path) -> f64 {
    AuditLog::create(store).unwrap().close().unwrap();
    let owner = Options::new().open(store).unwrap();
    let start = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["owner", "client"]).arg(store).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        child
    };
    let mut children: Vec<Child> = (0..CLIENTS).map(|_| start()).collect();
    let began = Instant::now();
    children.iter_mut().for_each(|child| child.stdin.take().unwrap().write_all(b"x").unwrap());
    children.iter_mut().for_each(|child| assert!(child.wait().unwrap().success()));
    let rate = (CLIENTS * EACH) as f64 / began.elapsed().as_secs_f64();
    owner.close().unwrap();
    rate
}

/// The time of a call without the proxy, and with it as owner of the store and as one of its senders.
fn latencies(dir: &Path) {
    let program: PathBuf = std::env::current_exe().unwrap();
    let attestlog = program.parent().unwrap().parent().unwrap().join("attestlog");
    let server = program.to_str().unwrap();
    let bare = p50(Command::new(server).args(["owner", "cat"]));
    println!("a call without the proxy: p50 {bare:.3} ms");
    if !attestlog.exists() {
        println!("SKIPPED: {} is not built", attestlog.display());
        return;
    }
    let store = dir.join("m");
    AuditLog::create(&store).unwrap().close().unwrap();
    let store = store.to_str().unwrap();
    let proxy = |flags: &[&str]| {
        let mut command = Command::new(&attestlog);
        command.args(["mcp", store]).args(flags).args(["--", server, "owner", "cat"]);
        command
    };
    for (name, flags) in [("begun and ended", &[][..]), ("--read-only", &["--read-only", "*"])] {
        println!("with the proxy as owner, {name}: adds p50 {:.3} ms", p50(&mut proxy(flags)) - bare);
    }
    let owner = Options::new().open(store).unwrap();
    for (name, flags) in [("begun and ended", &[][..]), ("--read-only", &["--read-only", "*"])] {
        println!("with the proxy as sender, {name}: adds p50 {:.3} ms", p50(&mut proxy(flags)) - bare);
    }
    owner.close().unwrap();
}

fn p50(command: &mut Command) -> f64 {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, mut output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    let mut times = Vec::new();
    for id in 0..1000 {
        let request = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"tools/call\",\"params\":{{\"name\":\"t\",\"arguments\":{{\"a\":1}}}}}}\n"
        );
        let began = Instant::now();
        input.write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    drop(input);
    child.wait().unwrap();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
