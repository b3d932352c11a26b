//! Errors of the engine as Python exceptions: one class for each kind, in `attestlog/_errors.py`.

use attestlog::{Error, Place};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};

/// The classes by the name of their kind.
static CLASSES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();

/// The exception that says what this error says.
pub fn raised(py: Python<'_>, error: Error) -> PyErr {
    exception(py, &error).unwrap_or_else(|failed| failed)
}

fn exception(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let classes = CLASSES.get_or_try_init(py, || {
        let classes = py.import("attestlog._errors")?.getattr("BY_KIND")?.cast_into::<PyDict>()?;
        PyResult::Ok(classes.unbind())
    })?;
    let class = classes.bind(py).as_any().get_item(error.kind().as_str())?;
    let members = PyDict::new(py);
    members.set_item("seq", error.seq())?;
    members.set_item("place", error.place().map(|place| placed(py, place)).transpose()?)?;
    let said = PyTuple::new(py, [error.to_string()])?;
    Ok(PyErr::from_value(class.call(said, Some(&members))?))
}

fn placed<'py>(py: Python<'py>, place: &Place) -> PyResult<Bound<'py, PyDict>> {
    let known = PyDict::new(py);
    let numbers = [("call", place.call), ("line", place.line), ("column", place.column), ("offset", place.offset)];
    for (name, number) in numbers {
        if let Some(number) = number {
            known.set_item(name, number)?;
        }
    }
    for (name, text) in [("file", &place.file), ("member", &place.member)] {
        if let Some(text) = text {
            known.set_item(name, text)?;
        }
    }
    Ok(known)
}
