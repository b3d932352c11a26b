//! Somebody who moves the clock of the machine or of a witness.
