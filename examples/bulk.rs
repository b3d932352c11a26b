use attestlog::*;
fn main() -> Result<()> {
    let dir = std::env::temp_dir().join("attestlog-bulk");
    let _ = std::fs::remove_file(&dir);
    let log = Options::new().create(&dir)?;
    let n: u64 = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(200_000);
    let t = std::time::Instant::now();
    for b in 0..n / 1000 {
        let calls = (0..1000).map(|i| {
            let k = b * 1000 + i;
            let args = json::Json::parse(format!(r#"{{"order_id":"o-{k}","status":"shipped","note":"customer asked for an update of the order number {}","amount":{}}}"#, k*7919%100000, k % 977).as_bytes()).unwrap().value;
            ToolCall::new(format!("conv_{:08}", k / 10), format!("usr_{:05}", k * 31 % 5000), format!("tool_{}", k % 50))
                .arguments(args).model("gpt-4.1").role("nurse").patient(format!("P-{:06}", k * 17 % 20000)).purpose("treatment").trigger(Trigger::UserRequest)
                .duration(std::time::Duration::from_micros(k * 13 % 100_000)).result(json::Json::parse(format!(r#"{{"id":"r-{k}","status":"ok","name":"x"}}"#).as_bytes()).unwrap().value)
        });
        log.record_batch(calls)?;
    }
    let e = t.elapsed();
    println!("{n} in {e:?}: {:.0}/s", n as f64 / e.as_secs_f64());
    println!("{}", log.entry(n / 2)?.line());
    let t = std::time::Instant::now();
    for i in 0..200 {
        log.record(ToolCall::new("c", "u", format!("t{i}")))?;
    }
    println!("one: {:?}", t.elapsed() / 200);
    log.close()?;
    println!("{} bytes/entry", std::fs::metadata(&dir).unwrap().len() / n);
    let t = std::time::Instant::now();
    let log = AuditLog::open(&dir)?;
    println!("open {:?} size {}", t.elapsed(), log.size());
    Ok(())
}
