//! The parts, each alone.
fn main() {}
