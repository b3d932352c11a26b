//! attestlog for Python: the native half of the package `attestlog` (`python/attestlog`).
//!
//! It turns Python values into calls and questions (`into_json`, `question`), asks the engine's `AuditLog` while other Python
//! threads run (`log`), and gives its answers back (`entry`, `hits`, `from_json`, `arrow`). What the engine knows is not known
//! here a second time: members of calls, names of facets and rules for times are the engine's.
#![deny(unsafe_code)]

mod arrow;
mod entry;
mod errors;
mod from_json;
mod hits;
mod into_json;
mod log;
mod question;
mod receipt;

use attestlog::note::VerifierKey;
use attestlog::proof;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The native half of the package; use `attestlog`.
#[pymodule]
mod _native {
    #[pymodule_export]
    use crate::entry::Entry;
    #[pymodule_export]
    use crate::hits::{Entries, Timeline};
    #[pymodule_export]
    use crate::log::{Log, PreparedCall};
    #[pymodule_export]
    use crate::receipt::Receipt;
    #[pymodule_export]
    use crate::{check_proof, error_kinds};
}

/// What a proof shows, checked with nothing but the log's public key.
#[pyfunction]
#[pyo3(name = "check")]
fn check_proof<'py>(py: Python<'py>, proof: &Bound<'py, PyAny>, public_key: &str) -> PyResult<Bound<'py, PyDict>> {
    let bytes = match proof.extract::<&str>() {
        Ok(text) => text.as_bytes().to_vec(),
        Err(_) => proof.extract::<Vec<u8>>()?,
    };
    let checked = py.detach(|| {
        let key: VerifierKey =
            public_key.trim().parse().map_err(|e| attestlog::Error::invalid(format!("public_key: {e}")))?;
        proof::check(&bytes, &key).map_err(attestlog::Error::from)
    });
    let checked = checked.map_err(|e| errors::raised(py, e))?;
    let shown = PyDict::new(py);
    shown.set_item("text", checked.to_string())?;
    shown.set_item("holds", checked.holds())?;
    shown.set_item("json", from_json::given(py, &checked.to_json())?)?;
    Ok(shown)
}

/// The names of all kinds of errors: a test compares them with the exceptions.
#[pyfunction]
fn error_kinds() -> Vec<&'static str> {
    attestlog::ErrorKind::ALL.iter().map(|kind| kind.as_str()).collect()
}
