//! An entry of the log: what was read is given member by member, and made into Python values only when it is asked for.

use crate::from_json::given;
use attestlog::json::{Canonical, Json};
use attestlog::{Call, Timestamp};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict};

/// An entry of the log, as it was hashed.
///
/// Members of calls are None in entries about the log itself, and where the call does not have them.
#[pyclass(frozen, module = "attestlog")]
pub struct Entry {
    pub entry: attestlog::Entry,
    begun_at: Option<Timestamp>,
}

impl From<attestlog::Entry> for Entry {
    fn from(entry: attestlog::Entry) -> Entry {
        Entry { entry, begun_at: None }
    }
}

impl From<attestlog::query::Step> for Entry {
    fn from(step: attestlog::query::Step) -> Entry {
        Entry { entry: step.entry, begun_at: step.begun_at }
    }
}

impl Entry {
    fn call(&self) -> Option<&Call> {
        self.entry.call()
    }

    fn text<'a>(&'a self, of: impl FnOnce(&'a Call) -> Option<&'a String>) -> Option<&'a str> {
        self.call().and_then(of).map(String::as_str)
    }

    fn json<'py>(
        &self,
        py: Python<'py>,
        of: impl FnOnce(&Call) -> Option<&Canonical>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.call().and_then(of).map(|text| given(py, &text.to_json())).transpose()
    }
}

#[pymethods]
impl Entry {
    /// The entry's number.
    #[getter]
    fn seq(&self) -> u64 {
        self.entry.seq
    }

    /// The SHA-256 hash of its line, as 64 hexadecimal digits.
    #[getter]
    fn hash(&self) -> String {
        self.entry.hash().to_string()
    }

    /// The hash of the entry before it.
    #[getter]
    fn prev(&self) -> String {
        self.entry.prev.to_string()
    }

    /// Its line: the bytes that are hashed and exported.
    #[getter]
    fn line<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.entry.line().as_bytes())
    }

    /// What kind of entry it is: "tool_call", "call_begun", "genesis" and others.
    #[getter]
    fn kind(&self) -> &'static str {
        self.entry.kind().as_str()
    }

    /// Whether it is of a call, and not about the log itself.
    #[getter]
    fn is_call(&self) -> bool {
        self.call().is_some()
    }

    /// When the call happened, by its caller's clock, to the microsecond; the line has the whole time.
    #[getter]
    fn timestamp<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        moment(py, self.entry.timestamp())
    }

    /// When it was recorded, by the log's clock.
    #[getter]
    fn recorded_at<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        moment(py, self.entry.body.recorded_at)
    }

    /// In a timeline: when the call was begun, if that was recorded.
    #[getter]
    fn begun_at<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.begun_at.map(|at| moment(py, at)).transpose()
    }

    /// The conversation that the call belongs to.
    #[getter]
    fn conversation_id(&self) -> Option<&str> {
        self.text(|call| Some(&call.conversation_id))
    }

    /// Who started the call.
    #[getter]
    fn user_id(&self) -> Option<&str> {
        self.text(|call| Some(&call.user_id))
    }

    /// The tool.
    #[getter]
    fn tool_name(&self) -> Option<&str> {
        self.text(|call| Some(&call.tool_name))
    }

    /// The model that decided on the call.
    #[getter]
    fn model(&self) -> Option<&str> {
        self.text(|call| call.model.as_ref())
    }

    /// The agent in which the model ran.
    #[getter]
    fn agent_id(&self) -> Option<&str> {
        self.text(|call| call.agent_id.as_ref())
    }

    /// The server or provider that offers the tool.
    #[getter]
    fn tool_server(&self) -> Option<&str> {
        self.text(|call| call.tool_server.as_ref())
    }

    /// The provider's id of the call.
    #[getter]
    fn call_id(&self) -> Option<&str> {
        self.text(|call| call.call_id.as_ref())
    }

    /// Why the data was accessed.
    #[getter]
    fn purpose(&self) -> Option<&str> {
        self.text(|call| call.purpose.as_ref())
    }

    /// What set the call off.
    #[getter]
    fn call_trigger(&self) -> Option<&'static str> {
        self.call().and_then(|call| call.trigger).map(|trigger| trigger.as_str())
    }

    /// The turn of the conversation.
    #[getter]
    fn turn_number(&self) -> Option<u64> {
        self.call().and_then(|call| call.turn_number)
    }

    /// The patients that the call concerns.
    #[getter]
    fn patient_ids(&self) -> Vec<String> {
        self.call().map(|call| call.patient_ids.clone()).unwrap_or_default()
    }

    /// How the call ended: "ok", "tool_error", "denied" and others; None while it has only begun.
    #[getter]
    fn outcome(&self) -> Option<&'static str> {
        self.call().and_then(|call| call.completion.as_ref()).map(|ended| ended.outcome.as_str())
    }

    /// Whether the call succeeded; None while it has only begun.
    #[getter]
    fn success(&self) -> Option<bool> {
        self.call().and_then(Call::success)
    }

    /// How long the call took, in milliseconds.
    #[getter]
    fn duration_ms(&self) -> Option<f64> {
        self.call().and_then(Call::duration_ms)
    }

    /// What the tool was called with, as the store holds it: without what the policy hides.
    #[getter]
    fn arguments<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.json(py, |call| call.arguments.as_ref())
    }

    /// The summary of what the tool answered.
    #[getter]
    fn result_summary<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.json(py, |call| call.completion.as_ref()?.result_summary.as_ref())
    }

    /// What is known of the session: the user's role, the client's address and others.
    #[getter]
    fn session_metadata<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.json(py, |call| call.session_metadata.as_ref())
    }

    /// The error with which the tool failed: a dict with "message", and "type" if it is known.
    #[getter]
    fn error<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(error) = self.call().and_then(|call| call.completion.as_ref()?.error.as_ref()) else {
            return Ok(None);
        };
        let dict = PyDict::new(py);
        dict.set_item("message", &error.message)?;
        if let Some(kind) = &error.kind {
            dict.set_item("type", kind)?;
        }
        Ok(Some(dict))
    }

    /// The number of the entry that this one continues, as an end continues its beginning.
    #[getter]
    fn part_of(&self) -> Option<u64> {
        self.call().and_then(Call::part_of)
    }

    /// The whole line as a dict.
    pub fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        given(py, &line(&self.entry).map_err(|e| crate::errors::raised(py, e))?)
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Entry>().is_ok_and(|other| other.get().entry.hash() == self.entry.hash())
    }

    fn __hash__(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = *self.entry.hash().as_bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    fn __repr__(&self) -> String {
        let mut shown = format!("<Entry {} {}", self.entry.seq, self.entry.kind());
        if let Some(call) = self.call() {
            shown += &format!(" tool={:?} user={:?}", call.tool_name, call.user_id);
        }
        if let Some(outcome) = self.outcome() {
            shown += &format!(" outcome={outcome}");
        }
        shown + ">"
    }
}

/// An entry's line as JSON.
fn line(entry: &attestlog::Entry) -> attestlog::Result<Json> {
    let limits = attestlog::json::Limits::UNBOUNDED;
    Ok(Json::parse_within(entry.line().as_bytes(), &limits)?.value)
}

/// The moment 1970-01-01 as Python has it, and its class of time spans.
static DATETIME: PyOnceLock<(Py<PyAny>, Py<PyAny>)> = PyOnceLock::new();

/// A time as a `datetime` in UTC, to the microsecond.
fn moment<'py>(py: Python<'py>, at: Timestamp) -> PyResult<Bound<'py, PyAny>> {
    let (epoch, timedelta) = DATETIME.get_or_try_init(py, || {
        let module = py.import("datetime")?;
        let utc = module.getattr("timezone")?.getattr("utc")?;
        let epoch = module.getattr("datetime")?.call1((1970, 1, 1, 0, 0, 0, 0, utc))?;
        PyResult::Ok((epoch.unbind(), module.getattr("timedelta")?.unbind()))
    })?;
    let since = timedelta.bind(py).call1((0, 0, at.nanos().div_euclid(1000)))?;
    epoch.bind(py).add(since)
}
