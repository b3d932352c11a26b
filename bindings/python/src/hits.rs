//! Answers that are read as they are asked for: the entries of a query, the calls of a conversation.

use crate::arrow::Table;
use crate::entry::Entry;
use crate::errors::raised;
use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use attestlog::{AuditLog, Hits, Query};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyList};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// How many entries are read at a time at most, while other Python threads run.
const MOST_AT_ONCE: usize = 128;

/// Entries that were read and not yet given, and how many are read next: one, then two, so that the first comes soon.
struct Ahead<I: Iterator> {
    source: Option<I>,
    read: VecDeque<I::Item>,
    next: usize,
}

impl<T, I: Iterator<Item = attestlog::Result<T>>> Ahead<I> {
    fn new(source: I) -> Ahead<I> {
        Ahead { source: Some(source), read: VecDeque::new(), next: 1 }
    }

    fn next(&mut self) -> Option<attestlog::Result<T>> {
        if self.read.is_empty()
            && let Some(source) = &mut self.source
        {
            self.read.extend(source.take(self.next));
            if self.read.len() < self.next {
                self.source = None;
            }
            self.next = (self.next * 2).min(MOST_AT_ONCE);
        }
        self.read.pop_front()
    }
}

/// The entries that a query finds, in its order, as the log was when it was asked.
///
/// An iterator: entries are read as they are asked for, each checked against the log. It is also a table in the Arrow C stream
/// interface, which pyarrow, pandas and polars read.
#[pyclass(frozen, module = "attestlog")]
pub struct Entries {
    log: AuditLog,
    query: Query,
    ahead: Mutex<Ahead<Hits>>,
}

impl Entries {
    pub fn new(log: AuditLog, query: Query) -> attestlog::Result<Entries> {
        let ahead = Mutex::new(Ahead::new(log.query(&query)?));
        Ok(Entries { log, query, ahead })
    }
}

#[pymethods]
impl Entries {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Entry>> {
        let next = py.detach(|| self.ahead.lock().unwrap_or_else(PoisonError::into_inner).next());
        next.transpose().map(|entry| entry.map(Entry::from)).map_err(|e| raised(py, e))
    }

    /// The remaining entries as a list of dicts: their lines.
    fn to_dicts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        while let Some(entry) = self.__next__(py)? {
            list.append(entry.to_dict(py)?)?;
        }
        Ok(list)
    }

    /// The answer as a table of pyarrow. See `__arrow_c_stream__`.
    fn to_arrow<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("pyarrow")?.call_method1("table", (slf,))
    }

    /// The answer as a DataFrame of pandas.
    fn to_pandas<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let frame = slf.py().import("pandas")?.getattr("DataFrame")?;
        match frame.getattr_opt("from_arrow")? {
            Some(read) => read.call1((slf,)),
            // Before pandas 3.
            None => Entries::to_arrow(slf)?.call_method0("to_pandas"),
        }
    }

    /// The answer as a DataFrame of polars.
    fn to_polars<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("polars")?.call_method1("DataFrame", (slf,))
    }

    /// The answer as an Arrow stream, with a column for each member of a call and one for the line; asks the log again, from the first entry.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        // The interface allows to give other types than were requested.
        let _ = requested_schema;
        let hits = py.detach(|| self.log.query(&self.query)).map_err(|e| raised(py, e))?;
        let stream = FFI_ArrowArrayStream::new(Box::new(Table::new(hits)));
        PyCapsule::new_with_value(py, stream, c"arrow_array_stream")
    }
}

/// The calls of a conversation, in the order in which they were recorded. A call in two steps is one, with `begun_at`.
#[pyclass(frozen, module = "attestlog")]
pub struct Timeline(Mutex<Ahead<attestlog::Timeline>>);

impl Timeline {
    pub fn new(timeline: attestlog::Timeline) -> Timeline {
        Timeline(Mutex::new(Ahead::new(timeline)))
    }
}

#[pymethods]
impl Timeline {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Entry>> {
        let next = py.detach(|| self.0.lock().unwrap_or_else(PoisonError::into_inner).next());
        next.transpose().map(|step| step.map(Entry::from)).map_err(|e| raised(py, e))
    }
}
