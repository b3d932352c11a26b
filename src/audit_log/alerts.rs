//! Alerts: what was raised, and how each was acknowledged.

use super::AuditLog;
use super::prove::told;
#[cfg(feature = "config")]
use crate::alert::Receivers;
use crate::alert::{AlertEngine, AlertState, Deliver, Owed, Rules};
use crate::text::Justification;
use crate::verify::{Verification, VerifyOptions};
use crate::{Error, Receipt, Result, requests};

/// The alerts of a log: see [`AuditLog::alerts`].
#[derive(Debug)]
pub struct Alerts<'l>(&'l AuditLog);

impl AuditLog {
    /// The alerts that were raised, and the engine that raises them.
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let log = AuditLog::in_memory()?;
    /// for state in log.alerts().list()? {
    ///     println!("{}", state.alert.rule);
    /// }
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn alerts(&self) -> Alerts<'_> {
        Alerts(self)
    }
}

impl Alerts<'_> {
    /// Every alert with its acknowledgements, oldest first.
    ///
    /// # Errors
    /// [`Damaged`](crate::ErrorKind::Damaged): [`AuditLog::damage`], unless asked through [`AuditLog::despite_damage`], or an entry
    /// or row that was read is damaged; [`Io`](crate::ErrorKind::Io); [`Closed`](crate::ErrorKind::Closed).
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let log = AuditLog::in_memory()?;
    /// assert!(log.alerts().list()?.is_empty());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn list(&self) -> Result<Vec<AlertState>> {
        self.0.ask(requests::Alerts {})
    }

    /// Acknowledges the alert at `seq`: records who looked into it (the actor of `by`) and the conclusion (the reason).
    ///
    /// # Errors
    /// [`NoSuchEntry`](crate::ErrorKind::NoSuchEntry): there is no alert at that seq;
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput): no actor or no disposition; as [`AuditLog::record`].
    ///
    /// ```
    /// # use attestlog::{AuditLog, Justification};
    /// # let log = AuditLog::in_memory()?;
    /// for state in log.alerts().list()? {
    ///     log.alerts().ack(state.alert.seq, Justification { actor: "privacy_office", reason: "expected: a drill" })?;
    /// }
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn ack(&self, seq: u64, by: Justification<'_>) -> Result<Receipt> {
        self.0.ask(requests::AckAlert { seq, by: by.into() })
    }

    /// Forgets a receiver of alerts: alerts that were not delivered to it are dropped. If it is used again, it receives only alerts
    /// raised from then on. Returns whether it was known.
    ///
    /// # Errors
    /// [`Damaged`](crate::ErrorKind::Damaged), and as [`AuditLog::record`].
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let log = AuditLog::in_memory()?;
    /// assert!(!log.alerts().forget_receiver("pager")?, "nobody of that name was ever told");
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn forget_receiver(&self, name: &str) -> Result<bool> {
        self.0.ask(requests::ForgetReceiver { name: name.to_owned() })
    }

    /// Delivers alerts to these receivers from now on, in place of those that [`AlertEngine::deliver_to_all`] was given: in the
    /// engine that runs in the process that has the store open, so files have absolute paths. Receivers that a host gave to its
    /// engine itself stay. Returns
    /// whether an engine runs there; if none does, nothing is delivered until one is started with these receivers.
    ///
    /// Does not write `STORE.receivers`, from which the program takes the receivers when it opens the store.
    ///
    /// # Errors
    /// As [`AlertEngine::start`](crate::alert::AlertEngine::start).
    ///
    /// ```
    /// # use attestlog::{AuditLog, alert::Receivers};
    /// # let log = AuditLog::in_memory()?;
    /// let receivers = Receivers::from_toml("[[receivers]]\nto = 'stderr'\n", "store.toml")?;
    /// assert!(!log.alerts().deliver_to(&receivers)?, "no engine runs");
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    #[cfg(feature = "config")]
    pub fn deliver_to(&self, receivers: &Receivers) -> Result<bool> {
        self.0.ask(requests::SetReceivers { receivers: receivers.to_toml() })
    }

    /// Lets the rules of the log's policies look at everything that was recorded so far, in the process that has the store open.
    /// Returns whether an alert engine runs there, which looks at everything itself and delivers to its receivers.
    ///
    /// # Errors
    /// As [`AlertEngine::run_once`].
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let log = AuditLog::in_memory()?;
    /// assert!(!log.alerts().evaluate()?, "no engine runs");
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn evaluate(&self) -> Result<bool> {
        self.0.ask(requests::EvaluateAlerts {})
    }

    /// Verifies the log in the process that has it open, and raises an alert there for findings that have not been alerted yet.
    ///
    /// # Errors
    /// As [`AlertEngine::verify_once`].
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # use attestlog::verify::VerifyOptions;
    /// # let log = AuditLog::in_memory()?;
    /// assert!(log.alerts().verify(&VerifyOptions::new())?.ok());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn verify(&self, options: &VerifyOptions) -> Result<Verification> {
        self.0.ask_telling(requests::VerifyForAlerts { options: options.clone() }, &mut told(options))
    }

    /// Delivers what a receiver is owed, in this process, whichever process has the store open: the alerts that were raised since it
    /// was last told, or since the store first heard of it. Returns how many it took, and why it did not take the next one.
    ///
    /// # Errors
    /// As [`AlertEngine::run_once`]; then it is told the same alerts again.
    ///
    /// ```
    /// # use attestlog::{AuditLog, alert::Callback};
    /// # let log = AuditLog::in_memory()?;
    /// let mut pager = Callback::new("pager", |alert| {
    ///     println!("{}: {}", alert.severity, alert.id);
    ///     Ok(())
    /// });
    /// let (taken, failed) = log.alerts().deliver(&mut pager)?;
    /// assert!(taken == 0 && failed.is_none());
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn deliver(&self, receiver: &mut dyn Deliver) -> Result<(u64, Option<Error>)> {
        let (name, mut taken) = (receiver.name(), 0);
        loop {
            let Owed { from, alerts, to } = self.0.ask(requests::AlertsOwed { receiver: name.clone() })?;
            if to == from {
                return Ok((taken, None));
            }
            let mut refused = None;
            for (seq, alert) in alerts {
                match receiver.deliver(&alert) {
                    Ok(()) => taken += 1,
                    Err(e) => {
                        refused = Some((seq, e));
                        break;
                    }
                }
            }
            let failed = refused.as_ref().map(|(seq, _)| *seq);
            let to = failed.unwrap_or(to);
            self.0.ask(requests::AlertsDelivered { receiver: name.clone(), from, to, failed })?;
            if let Some((_, e)) = refused {
                return Ok((taken, Some(e)));
            }
        }
    }

    /// An alert engine with the rules of the log's policies: each entry is judged by the policy in force when it was recorded. A
    /// policy set while the engine runs applies from its own entry on.
    ///
    /// The engine runs in the process that has the store open; a host that shares its store starts it in
    /// [`Sharing::on_owning`](crate::Sharing::on_owning).
    ///
    /// # Errors
    /// As [`Alerts::engine_with`].
    ///
    /// ```
    /// # use attestlog::AuditLog;
    /// # let log = AuditLog::in_memory()?;
    /// let mut engine = log.alerts().engine()?;
    /// let run = engine.run_once()?;
    /// assert_eq!(run.raised, 0);
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn engine(&self) -> Result<AlertEngine> {
        AlertEngine::new(&self.0.own()?)
    }

    /// An alert engine with the given rules, whatever the log's policies say. Only one engine at a time processes a log; a second
    /// one finds nothing to do.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput): a rule is invalid, or names a time zone that this build does not know;
    /// [`Locked`](crate::ErrorKind::Locked): another process has the store open.
    ///
    /// ```
    /// # use attestlog::{AuditLog, alert::Rules};
    /// # let log = AuditLog::in_memory()?;
    /// let mut engine = log.alerts().engine_with(Rules::none())?;
    /// engine.run_once()?;
    /// # Ok::<(), attestlog::Error>(())
    /// ```
    pub fn engine_with(&self, rules: Rules) -> Result<AlertEngine> {
        AlertEngine::with_rules(&self.0.own()?, rules)
    }
}
