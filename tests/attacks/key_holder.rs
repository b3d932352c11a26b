//! Somebody who has the keys, or had them before a rotation.
