//! The log. Every call of the engine is made without Python's lock, so other threads go on.

use crate::entry::Entry;
use crate::errors::raised;
use crate::from_json::given;
use crate::hits::{Entries, Timeline};
use crate::into_json::Reader;
use crate::question;
use crate::receipt::Receipt;
use attestlog::anchor::Evidence;
use attestlog::json::form::Form;
use attestlog::keys::Passphrase;
use attestlog::note::{SignedCheckpoint, VerifierKey};
use attestlog::verify::VerifyOptions;
use attestlog::{AuditLog, Error, Facet, Neighbours, Options, PolicySet, Sharing, ToolCall};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::path::PathBuf;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

/// How often a long operation lets Python look for signals, such as that of Ctrl-C.
const LOOK: Duration = Duration::from_millis(50);

/// A call, checked and read, that is not recorded yet.
#[pyclass(frozen, module = "attestlog")]
pub struct PreparedCall(ToolCall);

#[pymethods]
impl PreparedCall {
    /// The same call with its end: of `ends` the members result, error, outcome, duration_ms and approval.
    #[pyo3(signature = (ends, default=None))]
    fn ended(
        &self,
        py: Python<'_>,
        ends: &Bound<'_, PyDict>,
        default: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PreparedCall> {
        const ENDS: &[&str] = &["result", "error", "outcome", "duration_ms", "approval"];
        for name in ends.keys() {
            let name = name.extract::<String>()?;
            if !ENDS.contains(&name.as_str()) {
                return Err(PyTypeError::new_err(format!("an end has no member {name:?}; it has {}", ENDS.join(", "))));
            }
        }
        let names = PyDict::new(py);
        let ToolCall { conversation_id, user_id, tool_name, .. } = &self.0;
        for (name, text) in [("conversation_id", conversation_id), ("user_id", user_id), ("tool_name", tool_name)] {
            names.set_item(name, text)?;
        }
        let end = read(py, Some(names.as_any()), Some(ends), default)?;
        let mut call = self.0.clone();
        (call.result, call.outcome, call.duration_ms) = (end.result, end.outcome, end.duration_ms);
        if end.circumstances.approval.is_some() {
            call.circumstances.approval = end.circumstances.approval;
        }
        call.restated.extend(end.restated);
        call.sender = None;
        Ok(PreparedCall(call))
    }
}

/// The native log; `attestlog.AuditLog` derives from it.
#[pyclass(frozen, subclass, weakref, module = "attestlog")]
pub struct Log {
    log: AuditLog,
}

/// A call from a dict and keywords.
fn read(
    py: Python<'_>,
    base: Option<&Bound<'_, PyAny>>,
    members: Option<&Bound<'_, PyDict>>,
    default: Option<&Bound<'_, PyAny>>,
) -> PyResult<ToolCall> {
    let parsed = Reader::new(py, default).call(base, members)?;
    ToolCall::from_parsed(parsed).map_err(|e| raised(py, e))
}

/// The calls of a batch, each a dict or prepared.
fn read_batch(py: Python<'_>, calls: &Bound<'_, PyAny>, default: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<ToolCall>> {
    if calls.is_instance_of::<PyDict>() {
        return Err(PyTypeError::new_err("a batch is a list of calls, not a dict"));
    }
    let mut all = Vec::with_capacity(calls.len().unwrap_or_default().min(1 << 16));
    for (place, call) in calls.try_iter()?.enumerate() {
        let call = call?;
        all.push(match call.cast::<PreparedCall>() {
            Ok(prepared) => prepared.get().0.clone(),
            Err(_) => {
                let parsed = Reader::of_call(py, default, place).call(Some(&call), None)?;
                ToolCall::from_parsed(parsed)
                    .map_err(|e| raised(py, e.at(format_args!("calls[{place}]")).in_call(place)))?
            }
        });
    }
    Ok(all)
}

impl Log {
    /// Asks the engine, and turns its error into an exception.
    fn ask<T: Send>(&self, py: Python<'_>, ask: impl FnOnce(&AuditLog) -> attestlog::Result<T> + Send) -> PyResult<T> {
        py.detach(|| ask(&self.log)).map_err(|e| raised(py, e))
    }

    /// The same for what may take minutes: on a thread of its own, so that Ctrl-C is answered. What it asks goes on then, unheard.
    fn ask_long<T: Send + 'static>(
        &self,
        py: Python<'_>,
        ask: impl FnOnce(&AuditLog) -> attestlog::Result<T> + Send + 'static,
    ) -> PyResult<T> {
        let log = self.log.clone();
        let (answer, answered) = mpsc::channel();
        std::thread::Builder::new().name("attestlog-ask".to_owned()).spawn(move || answer.send(ask(&log)))?;
        let answered = Mutex::new(answered);
        loop {
            let heard = py.detach(|| answered.lock().ok().map(|answered| answered.recv_timeout(LOOK)));
            match heard {
                Some(Ok(answer)) => return answer.map_err(|e| raised(py, e)),
                Some(Err(mpsc::RecvTimeoutError::Timeout)) => py.check_signals()?,
                _ => return Err(PyRuntimeError::new_err("the thread that asked the log ended without an answer")),
            }
        }
    }
}

#[pymethods]
impl Log {
    #[new]
    #[pyo3(signature = (path, mode="open", *, exclusive=false, read_only=false, name=None, keys=true, key_file=None,
                        passphrase=None, public_key=None, policies=None))]
    #[allow(clippy::too_many_arguments, reason = "keywords of Python")]
    fn new(
        py: Python<'_>,
        path: Option<PathBuf>,
        mode: &str,
        exclusive: bool,
        read_only: bool,
        name: Option<String>,
        keys: bool,
        key_file: Option<PathBuf>,
        passphrase: Option<String>,
        public_key: Option<&str>,
        policies: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Log> {
        let mut options = Options::new();
        options = if exclusive { options.exclusive() } else { options };
        options = if read_only { options.read_only() } else { options };
        options = if keys { options } else { options.without_keys() };
        options = name.into_iter().fold(options, Options::name);
        options = key_file.into_iter().fold(options, Options::key_file);
        if let Some(passphrase) = passphrase {
            options = options.passphrase(Passphrase::new(passphrase).map_err(|e| raised(py, e))?);
        }
        if let Some(policies) = policies {
            let form = Reader::new(py, None).member("policies", policies)?.value;
            options = options.policies(PolicySet::from_json(&form).map_err(|e| raised(py, e.in_member("policies")))?);
        }
        let mut sharing = Sharing::default();
        sharing.public_key = public_key.map(|key| parsed_key(py, key)).transpose()?;
        if sharing.public_key.is_some() && mode != "open" {
            return Err(PyValueError::new_err("public_key: only a store that exists can be compared with a key"));
        }
        let path = path.unwrap_or_default();
        let opened = py.detach(|| match mode {
            "create" => options.create(&path),
            "open_or_create" => options.open_or_create(&path),
            "in_memory" => options.in_memory(),
            _ => options.open_with(&path, sharing),
        });
        Ok(Log { log: opened.map_err(|e| raised(py, e))? })
    }

    /// A call, checked and read, that can be recorded later.
    #[pyo3(signature = (call=None, /, *, default=None, **members))]
    fn prepare(
        &self,
        py: Python<'_>,
        call: Option<&Bound<'_, PyAny>>,
        default: Option<&Bound<'_, PyAny>>,
        members: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PreparedCall> {
        match call.map(|call| call.cast::<PreparedCall>()) {
            Some(Ok(prepared)) if members.is_none_or(|members| members.is_empty()) => {
                Ok(PreparedCall(prepared.get().0.clone()))
            }
            Some(Ok(_)) => Err(PyTypeError::new_err("a prepared call takes no more members")),
            _ => read(py, call, members, default).map(PreparedCall),
        }
    }

    /// Records one call and returns when it is on the disk.
    #[pyo3(signature = (call=None, /, *, default=None, **members))]
    fn record(
        &self,
        py: Python<'_>,
        call: Option<&Bound<'_, PyAny>>,
        default: Option<&Bound<'_, PyAny>>,
        members: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Receipt> {
        let call = self.prepare(py, call, default, members)?.0;
        self.ask(py, |log| log.record(call)).map(Receipt)
    }

    /// Records several calls in one commit: all of them or, on an error, none.
    #[pyo3(signature = (calls, *, default=None))]
    fn record_batch(
        &self,
        py: Python<'_>,
        calls: &Bound<'_, PyAny>,
        default: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<Receipt>> {
        let calls = read_batch(py, calls, default)?;
        let receipts = self.ask(py, |log| log.record_batch(calls))?;
        Ok(receipts.into_iter().map(Receipt).collect())
    }

    /// Records that this call is about to be made.
    fn record_begin(&self, py: Python<'_>, call: &PreparedCall) -> PyResult<Receipt> {
        let call = call.0.clone();
        self.ask(py, |log| log.begin(call).map(|begun| begun.receipt())).map(Receipt)
    }

    /// Records how the call that was begun at this seq ended.
    fn record_end(&self, py: Python<'_>, call: &PreparedCall, begun: u64) -> PyResult<Receipt> {
        let ends = vec![(Some(begun), call.0.clone())];
        // A batch of one: its place in it says nothing.
        let alone = |mut e: Error| {
            e.take_call();
            e
        };
        let receipts = self.ask(py, |log| log.end_batch(ends).map_err(alone))?;
        receipts.into_iter().next().map(Receipt).ok_or_else(|| PyRuntimeError::new_err("the log gave no receipt"))
    }

    /// The entry at this seq.
    fn entry(&self, py: Python<'_>, seq: u64) -> PyResult<Entry> {
        self.ask(py, |log| log.entry(seq)).map(Entry::from)
    }

    /// The entries that these keywords describe.
    #[pyo3(signature = (**asked))]
    fn query(&self, py: Python<'_>, asked: Option<&Bound<'_, PyDict>>) -> PyResult<Entries> {
        let query = question::query(py, asked)?;
        self.ask(py, |log| Entries::new(log.clone(), query))
    }

    /// How many entries these keywords describe.
    #[pyo3(signature = (**asked))]
    fn count(&self, py: Python<'_>, asked: Option<&Bound<'_, PyDict>>) -> PyResult<u64> {
        let query = question::query(py, asked)?;
        self.ask(py, |log| log.count(&query))
    }

    /// The calls of a conversation.
    fn timeline(&self, py: Python<'_>, conversation: &str) -> PyResult<Timeline> {
        self.ask(py, |log| log.timeline(conversation)).map(Timeline::new)
    }

    /// How tools were used: a dict for each tool.
    #[pyo3(signature = (**asked))]
    fn statistics<'py>(&self, py: Python<'py>, asked: Option<&Bound<'_, PyDict>>) -> PyResult<Bound<'py, PyList>> {
        let of = question::statistics(py, asked)?;
        let tools = self.ask(py, |log| log.statistics(&of))?;
        let list = PyList::empty(py);
        tools.iter().try_for_each(|tool| list.append(given(py, &tool.to_json())?))?;
        Ok(list)
    }

    /// How groups of calls went.
    #[pyo3(signature = (by, **asked))]
    fn breakdown<'py>(
        &self,
        py: Python<'py>,
        by: &Bound<'_, PyAny>,
        asked: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let of = question::breakdown(py, by, asked)?;
        let groups = self.ask(py, |log| log.breakdown(&of))?;
        let list = PyList::empty(py);
        groups.iter().try_for_each(|group| list.append(given(py, &group.to_json(of.by()))?))?;
        Ok(list)
    }

    /// The newest conversations with an entry that the keywords describe.
    #[pyo3(signature = (most=50, **asked))]
    fn conversations<'py>(
        &self,
        py: Python<'py>,
        most: u64,
        asked: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let query = question::query(py, asked)?;
        let found = self.ask(py, |log| log.conversations(&query, most))?;
        given(py, &found.form())
    }

    /// The call that the entry at this seq is a part of, with all its parts.
    fn whole_call<'py>(&self, py: Python<'py>, seq: u64) -> PyResult<Bound<'py, PyAny>> {
        given(py, &self.ask(py, |log| log.whole_call(seq))?.form())
    }

    /// How many entries the log has.
    fn size(&self, py: Python<'_>) -> PyResult<u64> {
        self.ask(py, AuditLog::size)
    }

    /// The state of the store.
    fn health<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        given(py, &self.ask(py, AuditLog::health)?.to_json())
    }

    /// What whoever runs the log should know.
    fn warnings(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.ask(py, AuditLog::warnings)
    }

    /// Checks every entry, every link and every derived row.
    #[pyo3(signature = (*, public_key=None, against=None))]
    fn verify<'py>(
        &self,
        py: Python<'py>,
        public_key: Option<&str>,
        against: Option<&str>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut options = VerifyOptions::new();
        if let Some(key) = public_key {
            options = options.public_key(parsed_key(py, key)?);
        }
        if let Some(kept) = against {
            let evidence = Evidence::parse("against", kept.as_bytes(), None, &[]).map_err(|e| raised(py, e))?;
            options = options.against(evidence.kept).against_unreadable("against", evidence.unreadable);
        }
        let verification = self.ask_long(py, move |log| log.verify(&options))?;
        let shown = given(py, &verification.to_json())?;
        shown.set_item("ok", verification.ok())?;
        Ok(shown)
    }

    /// A proof that the entry at this seq is in the log.
    fn prove(&self, py: Python<'_>, seq: u64) -> PyResult<String> {
        self.ask(py, |log| log.prove(seq)).map(|proof| proof.to_string())
    }

    /// A proof that these are all entries with this value of a facet.
    #[pyo3(signature = (facet, value, *, reveal_neighbours=false))]
    fn prove_complete(&self, py: Python<'_>, facet: &str, value: &str, reveal_neighbours: bool) -> PyResult<String> {
        let facet = facet.parse::<Facet>().map_err(|e| raised(py, e))?;
        let neighbours = if reveal_neighbours { Neighbours::Reveal } else { Neighbours::Withhold };
        self.ask(py, |log| log.proofs().complete(facet, value, neighbours)).map(|proof| proof.to_string())
    }

    /// A proof that the log only grew since a checkpoint that was kept.
    fn prove_consistent(&self, py: Python<'_>, checkpoint: &str) -> PyResult<String> {
        let kept = checkpoint.parse::<SignedCheckpoint>();
        let kept = kept.map_err(|e| raised(py, Error::invalid(format!("checkpoint: {e}"))))?;
        self.ask(py, |log| log.proofs().consistent(&kept)).map(|proof| proof.to_string())
    }

    /// Signs a checkpoint of the log's current state.
    fn checkpoint(&self, py: Python<'_>) -> PyResult<String> {
        self.ask(py, AuditLog::checkpoint).map(|signed| signed.to_string())
    }

    /// The public half of the log's key, which auditors keep.
    fn public_key(&self, py: Python<'_>) -> PyResult<Option<String>> {
        self.ask(py, AuditLog::public_key).map(|key| key.map(|key| key.to_string()))
    }

    /// Copies the store while recording continues.
    fn backup<'py>(&self, py: Python<'py>, dest: PathBuf) -> PyResult<Bound<'py, PyAny>> {
        given(py, &self.ask_long(py, move |log| log.backup(dest))?.to_json())
    }

    /// Whether this process has the store open.
    #[getter]
    fn is_owner(&self, py: Python<'_>) -> bool {
        py.detach(|| self.log.is_owner())
    }

    /// Closes the log: signs a checkpoint and closes the file. Every other handle of this opening is closed too.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.ask(py, |log| log.clone().close())
    }

    fn __repr__(&self) -> String {
        format!("<attestlog.AuditLog at {:p}>", &self.log)
    }
}

fn parsed_key(py: Python<'_>, text: &str) -> PyResult<VerifierKey> {
    text.trim().parse().map_err(|e| raised(py, Error::invalid(format!("public_key: {e}"))))
}
