//! Runs the handshake of group commit (`src/store/engine/group_commit.rs`, invariants T1 and T2) under every order of
//! its threads that needs at most four preemptions:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release --manifest-path loom/Cargo.toml
//! ```
#![cfg(loom)]
#![allow(dead_code, reason = "the store uses all of it")]

#[path = "../../src/store/engine/group_commit.rs"]
mod group_commit;

#[cfg(test)]
mod tests {
    use super::group_commit::{GroupCommit, Leader, Outcome};
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::thread;

    type Queue = GroupCommit<u32, u32>;

    fn every_order(check: impl Fn() + Sync + Send + 'static) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(4);
        model.check(check);
    }

    /// Checks that at most one thread at a time holds the lead, and so the writer lock (T1).
    struct Alone<'a>(&'a AtomicUsize);

    impl<'a> Alone<'a> {
        fn enter(inside: &'a AtomicUsize) -> Alone<'a> {
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two threads lead the group commit");
            Alone(inside)
        }
    }

    impl Drop for Alone<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Acts as the store's leader: takes what waits, does the work, hands the lead on, answers.
    fn lead(leader: Leader<'_, u32, u32>, own: u32, inside: &AtomicUsize) -> u32 {
        let alone = Alone::enter(inside);
        let mut taken = leader.batches();
        let jobs: Vec<u32> = taken.iter_mut().filter_map(|t| t.batch.take()).collect();
        drop(alone);
        drop(leader);
        for (taken, job) in taken.into_iter().zip(jobs) {
            taken.answer(job * 10);
        }
        own * 10
    }

    fn submit(commits: &Queue, job: u32, inside: &AtomicUsize) -> Option<u32> {
        match commits.submit(job) {
            Outcome::Answered(answer) => Some(answer),
            Outcome::Lead(leader, job) => Some(lead(leader, job, inside)),
            Outcome::Lost => None,
        }
    }

    #[test]
    fn three_callers_each_get_their_own_answer() {
        every_order(|| {
            let shared = Arc::new((Queue::default(), AtomicUsize::new(0)));
            let others: Vec<_> = (1..3)
                .map(|job| {
                    let shared = shared.clone();
                    thread::spawn(move || assert_eq!(submit(&shared.0, job, &shared.1), Some(job * 10)))
                })
                .collect();
            assert_eq!(submit(&shared.0, 7, &shared.1), Some(70));
            others.into_iter().for_each(|t| t.join().unwrap());
            assert_eq!(shared.0.waiting(), 0);
        });
    }

    /// A purge or an index batch needs the writer lock itself while others record.
    #[test]
    fn who_wants_the_writer_lock_itself_gets_it_between_callers() {
        every_order(|| {
            let shared = Arc::new((Queue::default(), AtomicUsize::new(0)));
            let taker = {
                let shared = shared.clone();
                thread::spawn(move || {
                    let leader = shared.0.take();
                    let alone = Alone::enter(&shared.1);
                    drop(alone);
                    drop(leader);
                })
            };
            let caller = {
                let shared = shared.clone();
                thread::spawn(move || assert_eq!(submit(&shared.0, 3, &shared.1), Some(30)))
            };
            assert_eq!(submit(&shared.0, 4, &shared.1), Some(40));
            taker.join().unwrap();
            caller.join().unwrap();
        });
    }

    /// If a leader dies with batches in its hands, their callers learn that they are lost, and a caller that still
    /// waits gets the lead (T2).
    #[test]
    fn a_leader_that_dies_leaves_nobody_waiting() {
        every_order(|| {
            let shared = Arc::new((Queue::default(), AtomicUsize::new(0)));
            let others: Vec<_> = (1..3)
                .map(|job| {
                    let shared = shared.clone();
                    thread::spawn(move || {
                        let answer = submit(&shared.0, job, &shared.1);
                        assert!(answer.is_none_or(|a| a == job * 10));
                    })
                })
                .collect();
            {
                let leader = shared.0.take();
                let alone = Alone::enter(&shared.1);
                let taken = leader.batches();
                // As unwinding does, in its order.
                drop(alone);
                drop(taken);
                drop(leader);
            }
            others.into_iter().for_each(|t| t.join().unwrap());
            assert_eq!(shared.0.waiting(), 0);
        });
    }
}
