//! Fuzz targets: each takes any bytes, and panics where attestlog breaks a promise. What it must never do with hostile
//! input is panic, hang, or take memory out of proportion; what else a target demands stands at its assertions.
//!
//! `bytes` has the targets that read one thing, `mcp` the one that listens to two sides, `operations` the one that plays
//! against a model, `mutate` the inputs.
#![forbid(unsafe_code)]

mod bytes;
mod mcp;
pub mod mutate;
mod operations;

/// A fuzz target.
pub struct Target {
    /// What it is called, and where its corpus is.
    pub name: &'static str,
    /// Takes any bytes.
    pub run: fn(&[u8]),
    /// Inputs to begin from, besides the corpus.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words that inputs are likely to hold.
    pub words: &'static [&'static str],
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "json", run: bytes::json, seeds: bytes::json_seeds, words: bytes::JSON_WORDS },
    Target { name: "line", run: bytes::line, seeds: bytes::line_seeds, words: bytes::LINE_WORDS },
    Target { name: "record", run: bytes::record, seeds: bytes::record_seeds, words: bytes::LINE_WORDS },
    Target { name: "import", run: bytes::import, seeds: bytes::import_seeds, words: bytes::IMPORT_WORDS },
    Target { name: "proof", run: bytes::proof, seeds: bytes::proof_seeds, words: bytes::PROOF_WORDS },
    Target { name: "keyfile", run: bytes::keyfile, seeds: bytes::keyfile_seeds, words: bytes::KEY_WORDS },
    Target { name: "stored", run: bytes::stored, seeds: bytes::stored_seeds, words: &[] },
    Target { name: "pages", run: attestlog::fuzzing::pages, seeds: bytes::pages_seeds, words: &[] },
    Target { name: "config", run: bytes::config, seeds: bytes::config_seeds, words: bytes::CONFIG_WORDS },
    Target { name: "redact", run: bytes::redact, seeds: bytes::redact_seeds, words: bytes::REDACT_WORDS },
    Target { name: "merkle", run: bytes::merkle, seeds: bytes::merkle_seeds, words: &[] },
    Target { name: "mcp", run: mcp::run, seeds: mcp::seeds, words: mcp::WORDS },
    Target { name: "operations", run: operations::run, seeds: operations::seeds, words: &[] },
];

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|t| t.name == name)
}
