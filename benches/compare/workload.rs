//! The workload: the same calls in the same order for every store, made from a seed.
//!
//! 50 tools, 5,000 users and 20,000 patients, all skewed; some 200 interleaved conversations at a time, with about ten
//! calls each; 90 days, however many calls there are; lines of about 600 bytes.

use attestlog::json::{Json, Object};
use attestlog::{Outcome, Timestamp, ToolCall, Trigger};
use std::time::Duration;

pub const TOOLS: u64 = 50;
pub const USERS: u64 = 5_000;
pub const PATIENTS: u64 = 20_000;
const OPEN: usize = 200;
const DAYS: i64 = 90;
/// 2026-01-01.
pub const START: i64 = 1_767_225_600_000_000_000;
const DAY: i64 = 86_400_000_000_000;

/// splitmix64.
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    /// A number below `n`, small ones more often: the first tenth gets a third of all.
    pub fn skewed(&mut self, n: u64) -> u64 {
        let x = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        ((x * x * n as f64) as u64).min(n - 1)
    }
}

#[derive(Clone)]
struct Conversation {
    id: u64,
    user: u64,
    patient: Option<u64>,
    turn: u64,
    left: u64,
}

/// Makes the calls in sequence.
#[derive(Clone)]
pub struct Workload {
    dice: Dice,
    open: Vec<Conversation>,
    conversations: u64,
    made: u64,
    total: u64,
    /// Whether every call has a result of about a kilobyte.
    large: bool,
}

pub fn conversation(n: u64) -> String {
    format!("conv_{:08x}", n.wrapping_mul(2_654_435_761) & 0xffff_ffff)
}

pub fn user(n: u64) -> String {
    format!("usr_{:05}", 10_000 + n)
}

pub fn patient(n: u64) -> String {
    format!("P-{:06}", 100_000 + n * 7)
}

pub fn tool(n: u64) -> String {
    const VERBS: [&str; 10] =
        ["get", "list", "update", "search", "create", "read", "verify", "export", "cancel", "assign"];
    const THINGS: [&str; 5] = ["patient_record", "lab_results", "appointment", "order_status", "medication_plan"];
    format!("{}_{}", VERBS[(n % 10) as usize], THINGS[(n / 10 % 5) as usize])
}

impl Workload {
    /// A workload of `total` calls.
    pub fn new(total: u64) -> Workload {
        let mut workload =
            Workload { dice: Dice::new(42), open: Vec::new(), conversations: 0, made: 0, total, large: false };
        for _ in 0..OPEN {
            let begun = workload.begin();
            workload.open.push(begun);
        }
        workload
    }

    /// The same with a result of about a kilobyte for every call that does not fail: a list of records.
    pub fn with_results(total: u64) -> Workload {
        Workload { large: true, ..Workload::new(total) }
    }

    /// How many conversations have begun so far.
    pub fn conversations(&self) -> u64 {
        self.conversations
    }

    /// The next `n` calls.
    pub fn take(&mut self, n: u64) -> Vec<ToolCall> {
        (0..n).map(|_| self.next()).collect()
    }

    fn begin(&mut self) -> Conversation {
        self.conversations += 1;
        let dice = &mut self.dice;
        let user = dice.skewed(USERS);
        let patient = (dice.below(10) < 6).then(|| dice.skewed(PATIENTS));
        Conversation { id: self.conversations - 1, user, patient, turn: 0, left: 6 + dice.below(9) }
    }

    fn next(&mut self) -> ToolCall {
        let at = self.dice.below(OPEN as u64) as usize;
        self.open[at].turn += 1;
        self.open[at].left -= 1;
        let now = self.open[at].clone();
        if now.left == 0 {
            self.open[at] = self.begin();
        }
        let nth = self.made;
        self.made += 1;
        let dice = &mut self.dice;
        let tool_number = dice.skewed(TOOLS);
        let time = START + (nth as i128 * (DAYS * DAY) as i128 / self.total as i128) as i64;
        let time = time / 1_000_000 * 1_000_000 + dice.below(2_000) as i64 * 1_000_000;
        let record = dice.below(1_000_000);
        let mut arguments = Object::new();
        arguments.insert("record_id", format!("rec-{record:07}"));
        if dice.below(8) == 0 {
            arguments.insert("note", format!("asked on the phone, ticket {}", dice.below(100_000)));
        }
        let status = ["active", "closed", "pending"][dice.below(3) as usize];
        let failed = dice.below(100) < 3;
        let mut call = ToolCall::new(conversation(now.id), user(now.user), tool(tool_number))
            .timestamp(Timestamp::from_nanos(time))
            .turn(now.turn)
            .model(["gpt-4.1", "claude-sonnet-4", "gpt-4.1-mini"][(now.id % 3) as usize])
            .arguments(arguments)
            .duration(Duration::from_micros(100 * (50 + dice.skewed(30_000))))
            .role(["nurse", "physician", "support_agent"][(now.user % 3) as usize]);
        if now.turn == 1 {
            call = call.trigger(Trigger::UserRequest);
        }
        if let Some(n) = now.patient {
            call = call.patient(patient(n));
        }
        // Two of five calls have a result, so that lines have the intended length.
        match failed {
            false if self.large => call.result(records(&mut self.dice)),
            true => call.error("upstream answered 503").outcome(Outcome::ToolError),
            false if dice.below(5) < 2 => call.result(status),
            false => call,
        }
    }
}

/// What a tool answers: six records.
fn records(dice: &mut Dice) -> Json {
    let record = |n: u64| {
        let (value, unit) = (n % 1_000, ["mmol/l", "mg/dl", "g/l"][(n % 3) as usize]);
        format!(
            r#"{{"id":"obs-{:07}","code":"lab-{}","status":"final","value":{value},"unit":"{unit}","taken":"2026-01-{:02}T{:02}:{:02}:00Z","ward":"ward {}","comment":"within the usual range"}}"#,
            n % 9_999_991,
            n % 400,
            1 + n % 28,
            n % 24,
            n % 60,
            n % 12
        )
    };
    let records: Vec<String> = (0..6).map(|_| record(dice.below(1 << 40))).collect();
    Json::parse(format!("[{}]", records.join(",")).as_bytes()).expect("it is JSON").value
}
