//! What the treatment of one entry costs: `cargo run --release --example speed redaction`.
use attestlog::json::Json;
use attestlog::redact::{Context, Policy, Preset, PseudonymKey, Root, Sanitizer, Secrets};
use std::hint::black_box;
use std::time::{Duration, Instant};

#[path = "../../tests/keeping/hostile_units.rs"]
mod hostile_units;

/// Arguments, result and session metadata of a call as agents send them, about 600 bytes together.
const ENTRY: [(Root, &str); 3] = [
    (
        Root::Arguments,
        r#"{"order_id":"ORD-48213377","customer_id":"cus_98765","status":"shipped","carrier":"DHL","tracking_number":"JD014600003RU","items":[{"sku":"SKU-10442","quantity":2,"price":39.9},{"sku":"SKU-20831","quantity":1,"price":12.5}],"note":"The customer asked to leave the parcel with a neighbour if nobody is at home"}"#,
    ),
    (
        Root::Result,
        r#"{"success":true,"order_id":"ORD-48213377","updated_at":"2025-07-06T14:23:01.456Z","previous_status":"packed","fields":["status","carrier"]}"#,
    ),
    (
        Root::SessionMetadata,
        r#"{"user_role":"support_agent","client_ip":"10.0.1.5","user_agent":"SupportDashboard/2.1"}"#,
    ),
];

fn measure(mut run: impl FnMut()) -> Duration {
    run();
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let (start, mut n) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_millis(60) {
            run();
            n += 1;
        }
        best = best.min(start.elapsed() / n);
    }
    best
}

/// The length of the texts that try for slowness: without optimisation a mebibyte of each takes minutes in all.
const LENGTH: usize = if cfg!(debug_assertions) { 1 << 16 } else { 1 << 20 };

/// The cost of treating fresh copies, less the cost of copying.
fn cost(sanitizer: &Sanitizer, values: &[(Root, Json)]) -> Duration {
    let copies = measure(|| drop(black_box(values.to_vec())));
    let both = measure(|| {
        let mut context = Context::new();
        for (root, mut value) in values.iter().cloned() {
            sanitizer.treat(root, &mut value, &mut context).expect("nothing is sealed here");
            black_box(value);
        }
    });
    both.saturating_sub(copies)
}

pub fn run() {
    let parse = |text: &str| Json::parse(text.as_bytes()).expect("the example is JSON").value;
    let entry: Vec<_> = ENTRY.iter().map(|(root, text)| (*root, parse(text))).collect();
    let bytes: usize = ENTRY.iter().map(|(_, text)| text.len()).sum();
    let prose =
        "The flight HAT136 from JFK to SEA leaves at 08:00 and costs 153 dollars; 12 seats are left in economy. ";
    let record = |i: usize| format!(r#"{{"id":"rec_{i:05}","title":"Visit {i}","count":{i},"summary":"{prose}"}}"#);
    let list = (0..62).map(record).collect::<Vec<_>>().join(",");
    let object = format!(r#"{{"records":[{list}]}}"#);
    let large = vec![(Root::Result, parse(&object))];
    let text = vec![(Root::Result, Json::from(prose.repeat(98)))];
    let inner = vec![(Root::Result, Json::from(object.as_str()))];
    // JSON that is cut off is read as a text, and a second time as it is meant.
    let cut = Json::from(object.as_str()).to_canonical().as_str().to_owned();
    let escaped = vec![(Root::Result, Json::from(cut))];
    let foreign = vec![(Root::Result, Json::from("Die Überführung nach Zürich kostet 153 Franken. ".repeat(200)))];

    for preset in Preset::ALL {
        let secrets = Secrets { pseudonyms: vec![PseudonymKey::new([7; 32])] };
        let sanitizer = Sanitizer::new(&Policy::preset(preset), secrets).expect("the preset is a policy");
        let name = preset.name();
        println!("{name:<8} entry of {bytes} bytes                     {:>9.2?}", cost(&sanitizer, &entry));
        println!("{name:<8} result of {} bytes, an object           {:>9.2?}", object.len(), cost(&sanitizer, &large));
        println!(
            "{name:<8} result of {} bytes, a text              {:>9.2?}",
            prose.len() * 98,
            cost(&sanitizer, &text)
        );
        println!("{name:<8} result of {} bytes, JSON in a string    {:>9.2?}", object.len(), cost(&sanitizer, &inner));
        println!("{name:<8} result of {} bytes, escaped JSON       {:>9.2?}", object.len(), cost(&sanitizer, &escaped));
        println!("{name:<8} result of 10000 bytes, not ASCII          {:>9.2?}", cost(&sanitizer, &foreign));
    }
    let sanitizer = Sanitizer::new(&Policy::default(), Secrets::default()).expect("the preset is a policy");
    for unit in hostile_units::UNITS {
        let value = Json::from(unit.repeat(LENGTH / unit.len()));
        let (start, mut copy) = (Instant::now(), value.clone());
        sanitizer.treat(Root::Text, &mut copy, &mut Context::new()).expect("nothing is sealed here");
        println!("{} KiB of {unit:<36?} {:>9.2?}", LENGTH >> 10, start.elapsed());
    }
}
