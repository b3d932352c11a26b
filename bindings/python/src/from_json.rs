//! JSON of the engine as Python values.

use attestlog::json::Json;
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// This value as a `dict`, `list`, `str`, `int`, `float`, `bool` or `None`. What the engine gives is nested at most 256 deep.
pub fn given<'py>(py: Python<'py>, value: &Json) -> PyResult<Bound<'py, PyAny>> {
    match value {
        Json::Null => Ok(py.None().into_bound(py)),
        Json::Bool(truth) => truth.into_bound_py_any(py),
        Json::Number(number) => match number.as_i64() {
            Some(n) => n.into_bound_py_any(py),
            None => number.as_f64().into_bound_py_any(py),
        },
        Json::String(text) => text.into_bound_py_any(py),
        Json::Array(items) => {
            let list = PyList::empty(py);
            items.iter().try_for_each(|item| list.append(given(py, item)?))?;
            Ok(list.into_any())
        }
        Json::Object(members) => {
            let dict = PyDict::new(py);
            members.iter().try_for_each(|(key, member)| dict.set_item(key, given(py, member)?))?;
            Ok(dict.into_any())
        }
    }
}
