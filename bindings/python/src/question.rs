//! Keywords as questions of the engine: `query(user="usr_7", since="7 July")` becomes the JSON form of a `Query`.

use crate::errors::raised;
use crate::into_json::Reader;
use attestlog::json::{Json, Object};
use attestlog::query::{Breakdown, Grouping, Statistics};
use attestlog::{Error, Facet, Kind, Outcome, Query, Trigger};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The keywords of a query besides the names of facets.
const OTHERS: &[&str] =
    &["since", "until", "after", "limit", "newest_first", "unfinished", "failed", "error", "slower_than", "containing"];

/// The query that these keywords describe.
pub fn query(py: Python<'_>, asked: Option<&Bound<'_, PyDict>>) -> PyResult<Query> {
    let (mut form, mut facets) = (Object::new(), Object::new());
    let (mut failed, mut unfinished) = (false, false);
    for (name, value) in asked.into_iter().flat_map(|asked| asked.iter()) {
        if value.is_none() {
            continue;
        }
        let name = name.extract::<String>()?;
        match name.as_str() {
            "failed" => failed = truth(&name, &value)?,
            "unfinished" => unfinished = truth(&name, &value)?,
            "newest_first" if !truth(&name, &value)? => {}
            "emergency" if !truth(&name, &value)? => {
                return Err(PyValueError::new_err("emergency: only True can be asked for"));
            }
            "emergency" => _ = facets.insert("emergency", listed(Json::from("true"))),
            "slower_than" => _ = form.insert(name, nanoseconds(&value)?),
            "error" => _ = form.insert("errors", listed(read(py, &name, &value)?)),
            other if OTHERS.contains(&other) => {
                let value = read(py, &name, &value)?;
                form.insert(name, value);
            }
            other => {
                // `class` is a word of Python's own.
                let facet = if other == "retention_class" { "class" } else { other };
                let facet = facet.parse::<Facet>().map_err(|_| unknown(other))?;
                let values = listed(read(py, other, &value)?);
                known(facet, &values).map_err(|e| raised(py, e.in_member(other)))?;
                facets.insert(facet.as_str(), values);
            }
        }
    }
    if !facets.is_empty() {
        form.insert("facets", facets);
    }
    let mut query: Query = formed(py, &Json::Object(form))?;
    if failed {
        query = query.failed();
    }
    if unfinished {
        query = query.unfinished();
    }
    Ok(query)
}

/// Refuses what no entry can have in a facet with a closed set of values: it would look like nothing found.
fn known(facet: Facet, values: &Json) -> attestlog::Result<()> {
    let texts = values.as_array().unwrap_or_default().iter().filter_map(Json::as_str);
    texts.into_iter().try_for_each(|text| match facet {
        Facet::Outcome if text != "begun" => text.parse::<Outcome>().map(drop),
        Facet::Trigger => text.parse::<Trigger>().map(drop),
        Facet::Kind => text.parse::<Kind>().map(drop),
        _ => Ok(()),
    })
}

/// Statistics of this tool, or all, in this time.
pub fn statistics(py: Python<'_>, asked: Option<&Bound<'_, PyDict>>) -> PyResult<Statistics> {
    let mut form = Object::new();
    for (name, value) in asked.into_iter().flat_map(|asked| asked.iter()) {
        if !value.is_none() {
            let name = name.extract::<String>()?;
            let value = read(py, &name, &value)?;
            form.insert(name, value);
        }
    }
    formed(py, &Json::Object(form))
}

/// Figures of the calls that these keywords find, by these groups.
pub fn breakdown(py: Python<'_>, by: &Bound<'_, PyAny>, asked: Option<&Bound<'_, PyDict>>) -> PyResult<Breakdown> {
    let names = match by.extract::<String>() {
        Ok(one) => vec![one],
        Err(_) => by.extract::<Vec<String>>()?,
    };
    let by = names.iter().map(|name| name.parse::<Grouping>()).collect::<attestlog::Result<Vec<_>>>();
    Ok(Breakdown::new(by.map_err(|e| raised(py, e))?, query(py, asked)?))
}

/// Reads the JSON form of a question.
fn formed<T: serde::de::DeserializeOwned>(py: Python<'_>, form: &Json) -> PyResult<T> {
    serde_json::from_str(form.to_canonical().as_str()).map_err(|e| raised(py, Error::invalid(e.to_string())))
}

fn read<'py>(py: Python<'py>, name: &str, value: &Bound<'py, PyAny>) -> PyResult<Json> {
    Reader::new(py, None).member(name, value).map(|parsed| parsed.value)
}

fn listed(value: Json) -> Json {
    match value {
        Json::Array(_) => value,
        one => Json::Array(vec![one]),
    }
}

fn truth(name: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    value.extract::<bool>().map_err(|_| PyTypeError::new_err(format!("{name}: must be True or False")))
}

/// Seconds, or a `timedelta`, as the engine's form of a duration.
fn nanoseconds(value: &Bound<'_, PyAny>) -> PyResult<Json> {
    let seconds = match value.getattr_opt("total_seconds")? {
        Some(total) => total.call0()?.extract::<f64>()?,
        None => value.extract::<f64>()?,
    };
    if !(0.0..=1e9).contains(&seconds) {
        return Err(PyValueError::new_err("slower_than: must be a number of seconds from 0"));
    }
    Ok(Json::from((seconds * 1e9).round() as u64))
}

fn unknown(name: &str) -> PyErr {
    let facets: Vec<&str> = Facet::ALL.iter().map(|facet| facet.as_str()).collect();
    let known = facets.iter().chain(OTHERS).copied().collect::<Vec<_>>().join(", ");
    PyTypeError::new_err(format!("a query has no keyword {name:?}; it has {known}"))
}
