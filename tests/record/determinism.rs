//! The same calls, clock and randomness give the same bytes: of the store and of its key file.

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let (one, other) = (crate::tampering::rich(), crate::tampering::rich());
    assert!(one.bytes == other.bytes, "the stores differ");
    assert!(one.older == other.older && one.killed == other.killed);
    assert_eq!(std::fs::read(&one.key).unwrap(), std::fs::read(&other.key).unwrap());
    assert_eq!(one.verifier, other.verifier);
    assert!(crate::tampering::closed(200) == crate::tampering::closed(200));
}
