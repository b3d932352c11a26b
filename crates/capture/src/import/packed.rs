//! Packed files: gzip, Zstandard, and the archives that Inspect writes (`.eval`), which are zip files of JSON.
//!
//! Invariant R109: what comes out is bounded: a file unpacks to at most as many bytes as a file may have, and to at most [`RATIO`] times its own
//! size once that is much. A file that goes on beyond this is refused before the rest of it is unpacked.

use super::ImportOptions;
use attestlog::{Error, ErrorKind, Result};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use ruzstd::decoding::StreamingDecoder;
use std::borrow::Cow;
use std::io::Read;

/// Repetitive sessions shrink to a fiftieth; a file that expands further was built to.
const RATIO: usize = 500;
/// Up to this size nothing is asked about the ratio.
const SMALL: usize = 16 << 20;
/// The most files that an archive may have.
const FILES: usize = 100_000;
/// How often a file may be packed.
const LAYERS: usize = 3;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const ZIP: &[u8] = b"PK\x03\x04";

/// The contents of a file that may be packed.
pub(super) fn unpacked<'a>(bytes: &'a [u8], options: &ImportOptions) -> Result<Cow<'a, [u8]>> {
    let mut bytes = Cow::Borrowed(bytes);
    for _ in 0..LAYERS {
        let most = most(bytes.len(), options);
        bytes = match () {
            () if bytes.starts_with(GZIP) => Cow::Owned(gzip(&bytes, most)?),
            () if bytes.starts_with(ZSTD) => Cow::Owned(zstd(&bytes, most)?),
            () if bytes.starts_with(ZIP) => return Ok(Cow::Owned(eval(&bytes, most)?)),
            () => break,
        };
    }
    Ok(bytes)
}

fn most(packed: usize, options: &ImportOptions) -> usize {
    options.max_bytes.min(packed.saturating_mul(RATIO).max(SMALL))
}

fn bad(what: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("the packed file {what}"))
}

fn too_large(most: usize) -> Error {
    let message = format!(
        "unpacks to more than {most} bytes, the limit for a file of its size: unpack it, and see whether it is what it should be"
    );
    Error::new(ErrorKind::TooLarge, message)
}

/// Several gzip members, one after another, are one file.
fn gzip(bytes: &[u8], most: usize) -> Result<Vec<u8>> {
    let (mut rest, mut out) = (bytes, Vec::new());
    while rest.starts_with(GZIP) {
        let body = gzip_body(rest).ok_or_else(|| bad("ends within its header"))?;
        let begun = out.len();
        let used = inflate(body, &mut out, most)?;
        let trailer = body.get(used..used + 8).ok_or_else(|| bad("is cut off"))?;
        let sum = out.get(begun..).map(crc32).unwrap_or_default();
        if trailer.get(..4) != Some(&sum.to_le_bytes()[..]) {
            return Err(bad("is damaged: its checksum is another"));
        }
        rest = body.get(used + 8..).unwrap_or_default();
    }
    match rest.iter().all(|byte| *byte == 0) {
        true => Ok(out),
        false => Err(bad("goes on with something else after its end")),
    }
}

/// What comes after the header of a gzip member.
fn gzip_body(bytes: &[u8]) -> Option<&[u8]> {
    let flags = *bytes.get(3)?;
    let mut rest = bytes.get(10..)?;
    if flags & 4 != 0 {
        let (length, after) = rest.split_first_chunk::<2>()?;
        rest = after.get(usize::from(u16::from_le_bytes(*length))..)?;
    }
    for flag in [8, 16] {
        if flags & flag != 0 {
            let end = rest.iter().position(|byte| *byte == 0)?;
            rest = rest.get(end + 1..)?;
        }
    }
    if flags & 2 != 0 { rest.get(2..) } else { Some(rest) }
}

/// Unpacks a deflate stream after what is in `out`; returns how many bytes it took.
fn inflate(bytes: &[u8], out: &mut Vec<u8>, most: usize) -> Result<usize> {
    let (mut state, mut used, mut filled) = (Box::<DecompressorOxide>::default(), 0, 0);
    // Distances reach back within this stream only, so it gets a buffer of its own.
    let mut own = vec![0; (bytes.len().saturating_mul(4)).clamp(4 << 10, 1 << 20)];
    loop {
        let input = bytes.get(used..).unwrap_or_default();
        let (status, read, wrote) =
            decompress(&mut state, input, &mut own, filled, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF);
        (used, filled) = (used + read, filled + wrote);
        if out.len() + filled > most {
            return Err(too_large(most));
        }
        match status {
            TINFLStatus::Done => {
                own.truncate(filled);
                out.append(&mut own);
                return Ok(used);
            }
            TINFLStatus::HasMoreOutput => own.resize((own.len().saturating_mul(2)).min(most.saturating_add(1)), 0),
            _ => return Err(bad("is cut off or damaged")),
        }
    }
}

fn zstd(bytes: &[u8], most: usize) -> Result<Vec<u8>> {
    let (mut rest, mut out) = (bytes, Vec::new());
    while !rest.is_empty() {
        // A frame that is to be passed over.
        if let Some((head, after)) = rest.split_first_chunk::<8>()
            && let [0x50..=0x5f, 0x2a, 0x4d, 0x18, length @ ..] = head
        {
            let length = u32::from_le_bytes(*length) as usize;
            rest = after.get(length..).ok_or_else(|| bad("is cut off"))?;
            continue;
        }
        let mut frame = StreamingDecoder::new(&mut rest).map_err(|_| bad("is no Zstandard frame"))?;
        let room = most.saturating_sub(out.len()) as u64 + 1;
        frame.by_ref().take(room).read_to_end(&mut out).map_err(|_| bad("is cut off or damaged"))?;
        if out.len() > most {
            return Err(too_large(most));
        }
    }
    Ok(out)
}

/// A file in an archive.
struct Entry<'a> {
    name: &'a str,
    method: u16,
    packed: &'a [u8],
}

/// The log in an archive of Inspect, as lines: what it says of itself, then a sample in each.
fn eval(bytes: &[u8], most: usize) -> Result<Vec<u8>> {
    let entries = entries(bytes).ok_or_else(|| bad("is no whole zip archive"))?;
    let header = ["header.json", "_journal/start.json"];
    let header = header.iter().find_map(|name| entries.iter().find(|entry| entry.name == *name));
    let is_sample = |entry: &&Entry<'_>| entry.name.starts_with("samples/") && entry.name.ends_with(".json");
    let mut samples: Vec<&Entry<'_>> = entries.iter().filter(is_sample).collect();
    if samples.is_empty() {
        return Err(bad("is an archive, and no log of Inspect: it has no samples"));
    }
    samples.sort_by_key(|entry| entry.name);
    let mut out = Vec::new();
    if let Some(header) = header {
        out.extend_from_slice(b"{\"samples\":[],\"header\":");
        line(header, &mut out, most)?;
        out.extend_from_slice(b"}\n");
    }
    for entry in samples {
        line(entry, &mut out, most)?;
        out.push(b'\n');
    }
    Ok(out)
}

/// Adds a file as one line. One that is damaged is a line that is no JSON: it is reported, and the others are read.
fn line(entry: &Entry<'_>, out: &mut Vec<u8>, most: usize) -> Result<()> {
    let begun = out.len();
    match unpack(entry, out, most) {
        Err(e) if e.kind() == ErrorKind::TooLarge => return Err(e.at(format!("{:?}", super::clip(entry.name)))),
        Err(e) => {
            out.truncate(begun);
            out.extend_from_slice(format!("{:?}: {e}", super::clip(entry.name)).replace('\n', " ").as_bytes());
        }
        // White space in JSON, since a text has none that is not written as `\\n`.
        Ok(()) => out.iter_mut().skip(begun).filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' '),
    }
    Ok(())
}

fn unpack(entry: &Entry<'_>, out: &mut Vec<u8>, most: usize) -> Result<()> {
    match entry.method {
        0 if out.len() + entry.packed.len() <= most => out.extend_from_slice(entry.packed),
        0 => return Err(too_large(most)),
        8 => _ = inflate(entry.packed, out, most)?,
        93 => out.append(&mut zstd(entry.packed, most.saturating_sub(out.len()))?),
        method => {
            return Err(bad(&format!("has {:?} in a way ({method}) that is not known here", super::clip(entry.name))));
        }
    }
    Ok(())
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<usize> {
    let part = bytes.get(at..at.checked_add(N)?)?;
    Some(part.iter().rev().fold(0, |all, byte| all << 8 | usize::from(*byte)))
}

/// The files that the archive's directory lists.
fn entries(bytes: &[u8]) -> Option<Vec<Entry<'_>>> {
    // The end of the directory is within the last bytes: it has a comment of at most 64 KiB.
    let from = bytes.len().saturating_sub(22 + (64 << 10));
    let end = from + bytes.get(from..)?.windows(4).rposition(|mark| mark == b"PK\x05\x06")?;
    let (mut count, mut at) = (number::<2>(bytes, end + 10)?, number::<4>(bytes, end + 16)?);
    if at == 0xffff_ffff || count == 0xffff {
        let of = end.checked_sub(20)?;
        if bytes.get(of..of + 4)? == b"PK\x06\x07" {
            let wide = number::<8>(bytes, of + 8)?;
            (count, at) = (number::<8>(bytes, wide.checked_add(32)?)?, number::<8>(bytes, wide.checked_add(48)?)?);
        }
    }
    let mut found = Vec::new();
    for _ in 0..count.min(FILES) {
        if bytes.get(at..at.checked_add(4)?)? != b"PK\x01\x02" {
            return None;
        }
        let (name, extra, comment) =
            (number::<2>(bytes, at + 28)?, number::<2>(bytes, at + 30)?, number::<2>(bytes, at + 32)?);
        let (mut length, mut full, mut local) =
            (number::<4>(bytes, at + 20)?, number::<4>(bytes, at + 24)?, number::<4>(bytes, at + 42)?);
        wide(bytes.get(at + 46 + name..at + 46 + name + extra)?, [&mut full, &mut length, &mut local])?;
        let begins = local
            .checked_add(30)?
            .checked_add(number::<2>(bytes, local.checked_add(26)?)?)?
            .checked_add(number::<2>(bytes, local.checked_add(28)?)?)?;
        let packed = bytes.get(begins..begins.checked_add(length)?)?;
        let method = u16::try_from(number::<2>(bytes, at + 10)?).ok()?;
        if let Ok(name) = std::str::from_utf8(bytes.get(at + 46..at + 46 + name)?) {
            found.push(Entry { name, method, packed });
        }
        at = at.checked_add(46 + name + extra + comment)?;
    }
    Some(found)
}

/// Puts the sizes that did not fit into the directory's fields, which the extra field has, in their place.
fn wide(mut extra: &[u8], sizes: [&mut usize; 3]) -> Option<()> {
    while extra.len() >= 4 {
        let (id, length) = (number::<2>(extra, 0)?, number::<2>(extra, 2)?);
        let body = extra.get(4..4 + length)?;
        if id == 1 {
            let mut at = 0;
            for size in sizes {
                if *size == 0xffff_ffff {
                    *size = number::<8>(body, at)?;
                    at += 8;
                }
            }
            return Some(());
        }
        extra = extra.get(4 + length..)?;
    }
    Some(())
}

const TABLE: [u32; 256] = {
    let (mut table, mut index) = ([0; 256], 0);
    while index < 256 {
        let (mut value, mut bit) = (index as u32, 0);
        while bit < 8 {
            value = if value & 1 == 1 { 0xedb8_8320 ^ (value >> 1) } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
};

fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| {
        let entry = TABLE.get(usize::from((sum as u8) ^ byte)).copied().unwrap_or_default();
        entry ^ (sum >> 8)
    };
    !bytes.iter().fold(!0, step)
}
