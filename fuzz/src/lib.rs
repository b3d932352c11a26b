//! Fuzz targets: each takes any bytes, and panics if attestlog breaks a promise. Hostile input must never make it
//! panic, hang, or use excessive memory; what else a target checks is in its assertions.
//!
//! `bytes` has the targets that read one thing, `mcp` the one that reads from two sides, `hook` the one of agents'
//! events, `operations` the one that
//! compares the store with a model, and `mutate` makes the inputs.
#![forbid(unsafe_code)]

mod bytes;
mod hook;
mod imports;
mod mcp;
pub mod mutate;
mod operations;

/// A fuzz target.
pub struct Target {
    /// Its name, which is also the name of its corpus.
    pub name: &'static str,
    /// Takes any bytes.
    pub run: fn(&[u8]),
    /// Inputs to start from, in addition to the corpus.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words that inputs are likely to contain.
    pub words: &'static [&'static str],
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "json", run: bytes::json, seeds: bytes::json_seeds, words: bytes::JSON_WORDS },
    Target { name: "line", run: bytes::line, seeds: bytes::line_seeds, words: bytes::LINE_WORDS },
    Target { name: "record", run: bytes::record, seeds: bytes::record_seeds, words: bytes::LINE_WORDS },
    Target { name: "import", run: bytes::import, seeds: bytes::import_seeds, words: bytes::IMPORT_WORDS },
    Target { name: "import_agents", run: imports::agents, seeds: imports::agents_seeds, words: imports::WORDS },
    Target { name: "import_messages", run: imports::messages, seeds: imports::messages_seeds, words: imports::WORDS },
    Target {
        name: "import_evaluations",
        run: imports::evaluations,
        seeds: imports::evaluations_seeds,
        words: imports::WORDS,
    },
    Target {
        name: "import_telemetry",
        run: imports::telemetry,
        seeds: imports::telemetry_seeds,
        words: imports::WORDS,
    },
    Target { name: "import_packed", run: imports::packed, seeds: imports::packed_seeds, words: &[] },
    Target { name: "proof", run: bytes::proof, seeds: bytes::proof_seeds, words: bytes::PROOF_WORDS },
    Target { name: "keyfile", run: bytes::keyfile, seeds: bytes::keyfile_seeds, words: bytes::KEY_WORDS },
    Target { name: "stored", run: bytes::stored, seeds: bytes::stored_seeds, words: &[] },
    Target { name: "pages", run: attestlog::fuzzing::pages, seeds: bytes::pages_seeds, words: &[] },
    Target { name: "config", run: bytes::config, seeds: bytes::config_seeds, words: bytes::CONFIG_WORDS },
    Target { name: "redact", run: bytes::redact, seeds: bytes::redact_seeds, words: bytes::REDACT_WORDS },
    Target { name: "merkle", run: bytes::merkle, seeds: bytes::merkle_seeds, words: &[] },
    Target { name: "mcp", run: mcp::run, seeds: mcp::seeds, words: mcp::WORDS },
    Target { name: "hook", run: hook::run, seeds: hook::seeds, words: hook::WORDS },
    Target { name: "operations", run: operations::run, seeds: operations::seeds, words: &[] },
];

/// The target with this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|t| t.name == name)
}
