//! What is answered: queries, statistics, timelines, reports, alerts, exports, the documents that are shown.

mod access_report;
mod alerts;
mod alerts_conditions;
mod alerts_restarts;
mod alerts_tampering;
mod break_glass;
mod cli_alerts;
mod cli_read;
mod cli_reports;
#[path = "../common/mod.rs"]
mod common;
mod config;
#[path = "../entries/mod.rs"]
mod entries;
mod exports;
mod fhir;
mod health;
mod queries;
mod reading;
mod readme;
mod statistics;
#[path = "../store_common/mod.rs"]
mod store_common;
mod tidy;
mod unknown_values;
