//! Packed files, and files that were made to do harm.

use super::agents::{assert_read, auto};
use super::*;

const SESSION: &str = r#"[{"role":"assistant","tool_calls":[{"id":"c1","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c1","content":"ok"}]"#;

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { 0xedb8_8320 ^ (sum >> 1) } else { sum >> 1 })
    })
}

/// A gzip member whose one block is stored as it is; it has a name in its header.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    let mut packed = vec![0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3];
    packed.extend(b"session.json\0\x01");
    packed.extend([length.to_le_bytes(), (!length).to_le_bytes()].concat());
    packed.extend(bytes);
    packed.extend([crc32(bytes).to_le_bytes(), u32::from(length).to_le_bytes()].concat());
    packed
}

/// A frame of Zstandard of these blocks: how often a byte is repeated, or bytes as they are.
fn zstd(blocks: &[(u32, &[u8])]) -> Vec<u8> {
    let mut packed = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x38];
    for (index, (kind, bytes)) in blocks.iter().enumerate() {
        let (kind, size) = if *kind == 0 { (0, u32::try_from(bytes.len()).unwrap()) } else { (1, *kind) };
        let header = u32::from(index + 1 == blocks.len()) | kind << 1 | size << 3;
        packed.extend(&header.to_le_bytes()[..3]);
        packed.extend(*bytes);
    }
    packed
}

/// An archive of stored files.
fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in files {
        let at = u32::try_from(archive.len()).unwrap();
        let sizes = [crc32(bytes), u32::try_from(bytes.len()).unwrap(), u32::try_from(bytes.len()).unwrap()];
        let about = [
            &[20, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
            &sizes.map(u32::to_le_bytes).concat(),
            &u16::try_from(name.len()).unwrap().to_le_bytes(),
            &[0, 0],
        ]
        .concat();
        archive.extend([b"PK\x03\x04", &about[..], name.as_bytes(), bytes].concat());
        directory.extend([b"PK\x01\x02\x14\0", &about[..], &[0; 10], &at.to_le_bytes(), name.as_bytes()].concat());
    }
    let (at, size, count) = (archive.len() as u32, directory.len() as u32, files.len() as u16);
    archive.extend(&directory);
    archive.extend(
        [
            &b"PK\x05\x06\0\0\0\0"[..],
            &count.to_le_bytes(),
            &count.to_le_bytes(),
            &size.to_le_bytes(),
            &at.to_le_bytes(),
            &[0, 0],
        ]
        .concat(),
    );
    archive
}

#[test]
fn packed_files_are_unpacked() {
    let halves = SESSION.as_bytes().split_at(20);
    for packed in [
        gzip(SESSION.as_bytes()),
        // A log that was packed in pieces.
        [gzip(halves.0), gzip(halves.1)].concat(),
        zstd(&[(0, halves.0), (0, halves.1)]),
        [zstd(&[(0, halves.0)]), vec![0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9], zstd(&[(0, halves.1)])].concat(),
        gzip(&zstd(&[(0, SESSION.as_bytes())])),
    ] {
        assert_read(&auto(packed), Format::OpenAiChat, &[("f", "c1", "ok")]);
    }
}

#[test]
fn an_eval_of_inspect_is_an_archive_and_a_damaged_sample_is_named_alone() {
    let sample = |id: u64| format!("{{\n\"id\": {id}, \"epoch\": 1, \"messages\": {SESSION}}}");
    let header = r#"{"version": 2, "eval": {"run_id": "r1", "model": "m-x"}}"#;
    let (one, two) = (sample(1), sample(2));
    let files = [
        ("header.json", header.as_bytes()),
        ("samples/1_epoch_1.json", one.as_bytes()),
        ("samples/2_epoch_1.json", two.as_bytes()),
    ];
    let imported = auto(zip(&files));
    assert_read(&imported, Format::Inspect, &[("f", "c1", "ok"), ("f", "c1", "ok")]);
    assert_eq!(
        (imported.calls[1].conversation_id.as_str(), imported.calls[1].model.as_deref()),
        ("r1-2-epoch-1", Some("m-x"))
    );
    let torn = auto(zip(&[files[0], ("samples/1_epoch_1.json", &one.as_bytes()[..60]), files[2]]));
    assert_eq!((torn.calls.len(), torn.not_taken[0].place.as_str()), (1, "line 2"));
}

/// R109.
#[test]
fn what_is_cut_off_damaged_or_made_to_grow_is_refused() {
    let (whole, frame) = (gzip(SESSION.as_bytes()), zstd(&[(0, SESSION.as_bytes())]));
    for length in [3, 12, 30, whole.len() - 9, whole.len() - 1] {
        assert_refused(Format::Auto, &whole[..length], &options(), "the packed file");
    }
    assert_refused(Format::Auto, &frame[..frame.len() - 5], &options(), "the packed file is cut off or damaged");
    let mut other = whole;
    other[40] ^= 1;
    assert_refused(Format::Auto, &other, &options(), "its checksum is another");
    assert_refused(Format::Auto, zip(&[("a.txt", b"x")]), &options(), "no log of Inspect");
    // 32 MiB in a thousand bytes.
    let grows: Vec<(u32, &[u8])> = vec![(128 << 10, b" "); 256];
    let error = import::calls(Format::Auto, &zstd(&grows), &options()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains("unpacks to more than 16777216 bytes"), "{error}");
    let small = options().max_bytes(64);
    assert_eq!(import::calls(Format::Auto, &gzip(SESSION.as_bytes()), &small).unwrap_err().kind(), ErrorKind::TooLarge);
}

#[test]
fn hostile_lines_cost_only_themselves() {
    let row = |text: &str| {
        format!(
            r#"{{"type":"assistant","uuid":"{text}","sessionId":"s","timestamp":"2026-01-01T00:00:00Z","message":{{"role":"assistant","content":[{{"type":"tool_use","id":"{text}","name":"t","input":{{}}}}]}}}}"#
        )
    };
    let nested = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let text = [row("a"), nested, "\0".repeat(1_000), "{\"type\":\"assistant\",".to_owned(), row("b")].join("\n");
    let imported = auto(text);
    assert_eq!((imported.format, imported.calls.len()), (Format::ClaudeCode, 2));
    let places: Vec<&str> = imported.not_taken.iter().map(|one| one.place.as_str()).collect();
    assert_eq!(places, ["line 2", "line 3", "line 4"]);
}
