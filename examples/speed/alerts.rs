//! What the built-in alert rules cost per entry: `cargo run --release --example speed alerts [ENTRIES]`.
use attestlog::{AuditLog, Options, Result, ToolCall};
use std::time::Instant;

pub fn run(args: &[String]) -> Result<()> {
    let entries: u64 = args.first().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    let dir = std::env::temp_dir().join(format!("attestlog-alert-speed-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let path = dir.join("store");
    let log = Options::new().create(&path)?;
    // Users with regular patients, and every twentieth access to anybody.
    let (users, patients) = (2_000, 200_000);
    let mut state = 1u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut done = 0;
    while done < entries {
        let calls = (0..1000).map(|_| {
            let user = random(users);
            let patient = if random(20) == 0 { random(patients) } else { user * 40 + random(40) };
            let call = ToolCall::new(format!("conv_{}", random(100_000)), format!("user_{user}"), "read_chart");
            let call = call.patient(format!("P-{patient}")).model("gpt-4.1").role("physician").purpose("treatment");
            if random(50) == 0 { call.error("denied") } else { call.result(true) }
        });
        log.record_batch(calls)?;
        done += 1000;
    }
    log.flush_index()?;
    measure("from the first entry on", &log, entries)?;
    log.close()?;

    let log = Options::new().open(&path)?;
    let begun = Instant::now();
    let mut engine = log.alerts().engine()?;
    engine.run_once()?;
    println!("started anew: ready after {:?}", begun.elapsed());
    // Nobody of these was seen with each other since the engine was started; in the first round it knows none of the
    // users, and asks the index what they did before.
    for round in ["users and pairs of whom it knows nothing", "users whom it knows, mostly new pairs"] {
        for _ in 0..20 {
            let calls = (0..1000).map(|_| {
                let (user, patient) = (random(users), random(patients));
                ToolCall::new("conv_1", format!("user_{user}"), "read_chart").patient(format!("P-{patient}"))
            });
            log.record_batch(calls)?;
        }
        let start = Instant::now();
        let run = engine.run_once()?;
        println!(
            "{round}, at {} entries: {:.2} µs an entry, {} alerts among {}",
            log.size()?,
            start.elapsed().as_secs_f64() * 1e6 / run.evaluated as f64,
            run.raised,
            run.evaluated
        );
    }
    log.close()?;
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

fn measure(what: &str, log: &AuditLog, entries: u64) -> Result<()> {
    let start = Instant::now();
    let run = log.alerts().engine()?.run_once()?;
    let took = start.elapsed();
    println!(
        "{what}: {:.2} µs an entry ({entries} calls, {} alerts raised, {:.1} s)",
        took.as_secs_f64() * 1e6 / run.evaluated as f64,
        run.raised,
        took.as_secs_f64()
    );
    Ok(())
}
