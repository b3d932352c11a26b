//! Another user of the same machine.
