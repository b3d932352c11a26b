//! The agent itself, or whoever chooses its arguments.

mod identities;
