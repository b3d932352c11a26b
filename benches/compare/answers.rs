//! Questions: the same ones to attestlog and to SQLite, by turns.

use crate::Failure;
use crate::measure::Times;
use crate::report::{OURS, Row, SQLITE, Target, Unit};
use crate::run::Compare;
use crate::sqlite::{Ask, Reading, Sqlite};
use crate::workload::{self, Dice, Workload};
use attestlog::query::Statistics;
use attestlog::{AuditLog, Facet, Neighbours, Options, Query, Timestamp};
use std::path::Path;
use std::time::{Duration, Instant};

const DAY: i64 = 86_400_000_000_000;

/// A question, and what the report says of it.
struct Question {
    id: &'static str,
    what: &'static str,
    make: fn(&mut Dice, &Shape) -> Ask,
    /// Asked of SQLite with its five indexes only; the others get indexes that fit them.
    plain: bool,
}

/// What the questions must know of the store.
struct Shape {
    entries: u64,
    conversations: u64,
}

const QUESTIONS: &[Question] = &[
    Question {
        id: "by_conversation",
        what: "by conversation",
        make: |dice, shape| Ask::Conversation(workload::conversation(dice.below(shape.conversations))),
        plain: true,
    },
    Question {
        id: "by_user",
        what: "by user, newest 50",
        make: |dice, _| Ask::User(workload::user(dice.skewed(workload::USERS))),
        plain: true,
    },
    Question {
        id: "by_patient",
        what: "by patient over 30 days",
        make: |dice, _| {
            let (since, until) = month(dice);
            Ask::Patient(workload::patient(dice.skewed(workload::PATIENTS)), since, until)
        },
        plain: true,
    },
    Question {
        id: "by_time",
        what: "by time only",
        make: |dice, shape| {
            // As many days as fifty entries are from.
            let length = (90 * DAY as i128 * 50 / i128::from(shape.entries.max(50))) as i64;
            let since = workload::START + dice.below((90 * DAY - length).max(1) as u64) as i64;
            Ask::Time(since, since + length)
        },
        plain: false,
    },
    Question {
        id: "by_user_tool",
        what: "by user and tool, newest 50",
        make: |dice, _| {
            let user = workload::user(dice.skewed(workload::USERS / 50));
            Ask::UserTool(user, workload::tool(dice.skewed(workload::TOOLS)))
        },
        plain: false,
    },
    Question { id: "failed", what: "the first page of failed calls", make: |_, _| Ask::Failed, plain: false },
    Question {
        id: "count_user",
        what: "count: a user's calls",
        make: |dice, _| Ask::CountUser(workload::user(dice.skewed(workload::USERS))),
        plain: false,
    },
    Question {
        id: "count_tool",
        what: "count: a tool's calls of 30 days",
        make: |dice, _| {
            let (since, until) = month(dice);
            Ask::CountTool(workload::tool(dice.skewed(workload::TOOLS)), since, until)
        },
        plain: false,
    },
];

fn month(dice: &mut Dice) -> (i64, i64) {
    let since = workload::START + dice.below(60) as i64 * DAY;
    (since, since + 30 * DAY)
}

/// The times of a question, attestlog's and SQLite's, and how many entries it found on average.
#[derive(Default)]
struct Asked {
    ours: Times,
    theirs: Times,
    hits: u64,
}

/// Asks attestlog; returns how many entries were found, or counted.
fn answer(log: &AuditLog, ask: &Ask) -> attestlog::Result<u64> {
    let at = Timestamp::from_nanos;
    let query = match ask {
        Ask::Conversation(id) => Query::new().conversation(id.as_str()),
        Ask::User(id) => Query::new().user(id.as_str()).newest_first().limit(50),
        Ask::Patient(id, since, until) => Query::new().patient(id.as_str()).since(at(*since)).until(at(*until)),
        Ask::Time(since, until) => Query::new().since(at(*since)).until(at(*until)),
        Ask::UserTool(user, tool) => Query::new().user(user.as_str()).tool(tool.as_str()).newest_first().limit(50),
        Ask::Failed => Query::new().failed().newest_first().limit(50),
        Ask::CountUser(id) => return log.count(&Query::new().user(id.as_str())),
        Ask::CountTool(tool, since, until) => {
            return log.count(&Query::new().tool(tool.as_str()).since(at(*since)).until(at(*until)));
        }
    };
    let found = log.query(&query)?.collect::<attestlog::Result<Vec<_>>>()?;
    Ok(found.len() as u64)
}

/// Asks both in turns, `n` times after as often to warm up, or as often as five seconds allow.
fn ask(log: &AuditLog, lite: Option<&Sqlite>, make: impl Fn(&mut Dice) -> Ask, n: u64) -> Result<Asked, Failure> {
    let mut dice = Dice::new(7);
    let mut asked = Asked::default();
    for _ in ["to warm up", "to measure"] {
        asked = Asked::default();
        let started = Instant::now();
        for round in 0..n {
            if round > 5 && started.elapsed() > Duration::from_secs(5) {
                break;
            }
            let ask = make(&mut dice);
            let hits = asked.ours.time(|| answer(log, &ask))?;
            asked.hits += hits;
            let Some(lite) = lite else { continue };
            let same = asked.theirs.time(|| lite.answer(&ask))?.hits();
            if same != hits {
                return Err(format!("{ask:?}: {hits} hits, SQLite has {same}").into());
            }
        }
    }
    Ok(asked)
}

impl Compare<'_> {
    pub fn queries(&mut self) -> Result<(), Failure> {
        let (ours, theirs) = (self.ours()?, self.sqlite()?);
        let log = Options::new().open(&ours)?;
        let shape = Shape { entries: self.size, conversations: conversations(self.size) };
        let lite = theirs.as_deref().map(Sqlite::open).transpose()?;
        for question in QUESTIONS.iter().filter(|q| q.plain) {
            let asked = ask(&log, lite.as_ref(), |dice| (question.make)(dice, &shape), self.times(3_000))?;
            let bounds = [(1_000_000, 0.35), (10_000_000, 0.45)];
            self.asked(question.id, question.what, asked, Target::by_size(self.size, &bounds, Target::RatioAtMost));
        }
        self.statistics(&log, lite.as_ref())?;
        drop(lite);
        let tuned = match &theirs {
            None => None,
            Some(path) => {
                Sqlite::add_indexes(path)?;
                let reading = fastest(path, &shape, self.times(300))?;
                println!("For the questions below SQLite has indexes that fit, and reads with {}.\n", reading.text());
                Some(Sqlite::open_to_read(path, reading)?)
            }
        };
        for question in QUESTIONS {
            let asked = ask(&log, tuned.as_ref(), |dice| (question.make)(dice, &shape), self.times(1_500))?;
            match question.id {
                "by_conversation" => {
                    self.asked("by_conversation_tuned", "… SQLite tuned: by conversation", asked, None)
                }
                "by_user" => self.asked("by_user_tuned", "… SQLite tuned: by user, newest 50", asked, None),
                "by_patient" => self.asked("by_patient_tuned", "… SQLite tuned: by patient over 30 days", asked, None),
                id => self.asked(id, question.what, asked, Some(Target::RatioAtMost(1.0))),
            }
        }
        drop(tuned);
        if let Some(path) = &theirs {
            Sqlite::drop_indexes(path)?;
        }
        Ok(log.close()?)
    }

    fn asked(&mut self, id: &'static str, what: &str, mut asked: Asked, target: Option<Target>) {
        let hits = asked.hits as f64 / asked.ours.len().max(1) as f64;
        let (ours, theirs) = (asked.ours.p50(), asked.theirs.p50());
        self.report.add(
            Row::new(id, format!("{what}: p50"), Unit::Micros)
                .value(OURS, ours)
                .value(SQLITE, theirs)
                .ratio_to("of SQLite's", theirs)
                .target(target)
                .note(format!("{hits:.0} entries")),
        );
    }

    fn statistics(&mut self, log: &AuditLog, lite: Option<&Sqlite>) -> Result<(), Failure> {
        let (mut ours, mut theirs) = (Times::default(), Times::default());
        for n in 0..self.times(50).min(workload::TOOLS) {
            let tool = workload::tool(n);
            let one = ours.time(|| log.statistics(&Statistics::new().tool(&*tool)))?;
            let Some(lite) = lite else { continue };
            let same = theirs.time(|| lite.statistics(&tool))?;
            if one.first().map(|t| (t.total_calls, t.unique_users as usize)) != Some((same.0, same.4)) {
                return Err(format!("statistics of {tool}: {one:?}, SQLite has {same:?}").into());
            }
        }
        let (ours, theirs) = (ours.mean(), theirs.mean());
        self.report.add(
            Row::new("statistics", "statistics of one tool over all time: mean", Unit::Micros)
                .value(OURS, ours)
                .value(SQLITE, theirs)
                .ratio_of(theirs / ours, "times faster")
                .target(Target::by_size(self.size, &[(1_000_000, 20.0)], Target::RatioAtLeast)),
        );
        Ok(())
    }

    /// Proofs, checked as somebody without the store would.
    pub fn proofs(&mut self) -> Result<(), Failure> {
        let log = Options::new().open(self.ours()?)?;
        let key = log.public_key()?.ok_or("the store has no key")?;
        let mut dice = Dice::new(5);
        let mut single = Times::default();
        for _ in 0..self.times(1_000) {
            let seq = dice.below(self.size);
            single.time(|| -> Result<(), Failure> {
                let file = log.prove(seq)?.to_string();
                attestlog::proof::check(file.as_bytes(), &key).map_err(|e| format!("{e:?}"))?;
                Ok(())
            })?;
        }
        let inclusion = Row::new("prove", "prove one entry and check the proof: p50", Unit::Micros);
        self.report.add(inclusion.value(OURS, single.p50()));
        let conversations = conversations(self.size);
        let mut times = Times::default();
        let started = Instant::now();
        for round in 0..self.times(200) {
            if started.elapsed() > Duration::from_secs(20) && round > 5 {
                break;
            }
            let id = workload::conversation(dice.below(conversations));
            times.time(|| -> Result<(), Failure> {
                let proof = log.proofs().complete(Facet::Conversation, &id, Neighbours::Reveal)?.to_string();
                attestlog::proof::check(proof.as_bytes(), &key).map_err(|e| format!("{e:?}"))?;
                Ok(())
            })?;
        }
        self.report.add(
            Row::new("prove_answer", "prove all of a conversation and check the proof: p50", Unit::Micros)
                .value(OURS, times.p50())
                .target(Target::by_size(self.size, &[(1_000_000, 1_000.0)], Target::AtMost)),
        );
        Ok(log.close()?)
    }
}

/// How many conversations the workload of this size has.
pub fn conversations(size: u64) -> u64 {
    let mut workload = Workload::new(size);
    for _ in 0..size {
        workload.take(1);
    }
    workload.conversations()
}

/// The way of reading the file in which SQLite answers fastest.
fn fastest(path: &Path, shape: &Shape, rounds: u64) -> Result<Reading, Failure> {
    let mut best = (Duration::MAX, Reading::ALL[0]);
    for reading in Reading::ALL {
        let store = Sqlite::open_to_read(path, reading)?;
        let mut took = Duration::ZERO;
        for pass in 0..2 {
            let mut dice = Dice::new(3);
            let start = Instant::now();
            for _ in 0..rounds {
                for question in QUESTIONS {
                    store.answer(&(question.make)(&mut dice, shape))?;
                }
            }
            if pass == 1 {
                took = start.elapsed();
            }
        }
        if took < best.0 {
            best = (took, reading);
        }
    }
    Ok(best.1)
}
