//! Against what redb writes.
