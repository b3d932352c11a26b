//! What the log says of an entry that is on the disk.

use pyo3::prelude::*;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

/// The number and the hash of an entry that is on the disk.
#[pyclass(frozen, eq, module = "attestlog")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Receipt(pub attestlog::Receipt);

#[pymethods]
impl Receipt {
    /// The entry's number.
    #[getter]
    fn seq(&self) -> u64 {
        self.0.seq
    }

    /// The entry's SHA-256 hash as 64 hexadecimal digits.
    #[getter]
    fn hash(&self) -> String {
        self.0.hash.to_string()
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.0.seq.hash(&mut hasher);
        self.0.hash.as_bytes().hash(&mut hasher);
        hasher.finish()
    }

    fn __repr__(&self) -> String {
        format!("Receipt(seq={}, hash='{}')", self.0.seq, self.0.hash)
    }
}
