//! Somebody who hands an auditor a proof or a folder that says more than it shows.

mod completeness;
