//! The same calls, clock and randomness give the same bytes, in the store and in its key file.

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let (one, other) = (crate::tampering::rich(), crate::tampering::rich());
    assert!(one.bytes == other.bytes, "the stores differ");
    assert!(one.older.0 == other.older.0 && one.killed == other.killed);
    // A key file names the store that uses it, and the file that it is itself: these two have different paths and inodes.
    let keys = |text: &[u8]| -> Vec<String> {
        let lines = std::str::from_utf8(text).unwrap().lines();
        lines
            .filter(|line| ["used-by ", "file ", "checksum "].iter().all(|own| !line.starts_with(own)))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(keys(&one.older.1), keys(&other.older.1));
    assert_eq!(keys(&std::fs::read(&one.key).unwrap()), keys(&std::fs::read(&other.key).unwrap()));
    assert_eq!(one.verifier, other.verifier);
    assert!(crate::tampering::closed(200) == crate::tampering::closed(200));
}
