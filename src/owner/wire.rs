//! The protocol between processes: frames of a length (4 bytes, little-endian) and an encoded value.
//!
//! Both ends are programs of one user, but either may be broken, outdated or hostile. A frame has a maximum length, memory
//! for it is allocated as its bytes arrive, and a frame that does not decode ends its connection and nothing else.

use crate::store::RemoteBatch;
use crate::{Error, ErrorKind, Hash, Place, Receipt, codec};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{self, Read, Write};

/// The protocol's version. Programs with different versions report it and disconnect.
pub(super) const PROTOCOL: u32 = 7;

/// The longest frame: the codec's limit.
pub(super) const MAX_FRAME: usize = codec::MAX_BYTES;

/// The longest first frame, in either direction.
pub(super) const MAX_HELLO: usize = 4 << 10;

/// Memory for a frame is allocated in parts of this size.
pub(super) const CHUNK: usize = 64 << 10;

/// The first frame, from the owner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub protocol: u32,
    pub version: String,
    pub process: u32,
    /// The store's id.
    pub store: String,
    /// The challenge that a proof of the store's key must answer.
    pub challenge: [u8; 32],
    /// Whether this process only reads, and gives the store up when it is asked.
    pub reads: bool,
}

/// What a process sends to the owner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Request {
    /// The first frame: the version of the protocol.
    Hello { protocol: u32 },
    /// Proves that the sender has the store's keys.
    Prove([u8; 32]),
    /// Prepare and record these calls, all or none.
    Record(RemoteBatch),
    /// One of the operations of [`requests`](crate::requests).
    Ask(Ask),
    /// Keep the connection open; its closing signals that the owner exited.
    Watch,
    /// Asks the owner to prove, over these bytes, that it has the store's keys.
    Show([u8; 32]),
    /// Asks a process that only reads to give the store up. It needs no proof: whoever asks gets nothing but the chance to lock
    /// the file.
    GiveWay,
    /// Answer when a checkpoint covers the entry with this seq, or the newest, if there are fewer.
    Sign(u64),
}

/// What the owner answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Reply {
    /// The proof is correct.
    Proven,
    Recorded(Vec<(u64, [u8; 32])>),
    /// The result of an operation, as JSON.
    Answered(String),
    Failed(WireError),
    /// How far a request has come: done, and of how many; 0 if that is not known.
    Progress(u64, u64),
    /// The owner's signature; empty if it opened the store without keys.
    Shown(Vec<u8>),
    /// The store's file is closed and unlocked.
    GaveWay,
    /// What was recorded is signed.
    Signed,
}

/// An operation, by its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Ask {
    pub name: String,
    /// Answer although the store was opened with damage.
    pub despite: bool,
    /// The members of the request, as JSON.
    pub members: String,
}

/// The longest request except calls to be recorded. The largest are verifications against anchors that the caller sends
/// along.
pub(super) const MAX_ASK: usize = 32 << 20;
/// The longest answer; it leaves space for the rest of its frame.
pub(super) const MAX_ANSWER: usize = MAX_FRAME - (4 << 10);

/// The form in which an error is sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct WireError {
    kind: u8,
    message: String,
    place: Option<Place>,
    seq: Option<u64>,
}

/// Sent as an index into this list, whose order is part of the protocol.
const KINDS: [ErrorKind; 19] = [
    ErrorKind::InvalidInput,
    ErrorKind::TooLarge,
    ErrorKind::NotFound,
    ErrorKind::AlreadyExists,
    ErrorKind::NotAStore,
    ErrorKind::NewerFormat,
    ErrorKind::Locked,
    ErrorKind::Damaged,
    ErrorKind::DiskFull,
    ErrorKind::Io,
    ErrorKind::Key,
    ErrorKind::Busy,
    ErrorKind::Closed,
    ErrorKind::Conflict,
    ErrorKind::ClockFrozen,
    ErrorKind::NoSuchEntry,
    ErrorKind::ReadOnly,
    ErrorKind::OtherHistory,
    ErrorKind::Recorded,
];

impl From<&Error> for WireError {
    fn from(e: &Error) -> WireError {
        let kind = KINDS.iter().position(|kind| *kind == e.kind()).unwrap_or(9);
        // The call's position in the batch is sent as the place, and the other end puts it into words.
        let (mut plain, place) = (e.retold(), e.place().cloned());
        plain.take_call();
        WireError { kind: kind as u8, message: plain.to_string(), place, seq: e.seq() }
    }
}

impl From<WireError> for Error {
    fn from(wire_error: WireError) -> Error {
        let WireError { kind, message, place, seq } = wire_error;
        let error = Error::new(KINDS.get(usize::from(kind)).copied().unwrap_or(ErrorKind::Io), message);
        let error = place.into_iter().fold(error, Error::with_place);
        seq.into_iter().fold(error, Error::about)
    }
}

impl Reply {
    pub(super) fn recorded(receipts: &[Receipt]) -> Reply {
        Reply::Recorded(receipts.iter().map(|r| (r.seq, r.hash.0)).collect())
    }
}

pub(super) fn receipts(of: Vec<(u64, [u8; 32])>) -> Vec<Receipt> {
    of.into_iter().map(|(seq, hash)| Receipt::new(seq, Hash(hash))).collect()
}

/// Sends one value.
pub(super) fn send<T: Serialize>(to: &mut impl Write, value: &T) -> io::Result<()> {
    let mut frame = vec![0; 4];
    codec::encode_into(value, &mut frame).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
    let length = frame.len() - 4;
    let stated = u32::try_from(length).ok().filter(|_| length <= MAX_FRAME);
    let stated =
        stated.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the message is too large to send"))?;
    if let Some(head) = frame.get_mut(..4) {
        head.copy_from_slice(&stated.to_le_bytes());
    }
    to.write_all(&frame)
}

/// Receives one value; `None` if the other end closed the connection between two values. Each time that a read times out,
/// `waits` is called with whether part of the value has arrived; if it returns false, that is an error.
pub(super) fn receive<T: DeserializeOwned>(
    from: &mut impl Read,
    most: usize,
    waits: &mut dyn FnMut(bool) -> bool,
) -> io::Result<Option<T>> {
    match receive_frame(from, most, waits, &mut |_, _| true)? {
        Some(Frame::Whole(bytes)) => decode(&bytes).map(Some),
        Some(Frame::Dropped) | None => Ok(None),
    }
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    codec::decode(bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

/// One value as received.
#[derive(Debug)]
pub(super) enum Frame {
    Whole(Vec<u8>),
    /// It was read to its end and discarded.
    Dropped,
}

/// The bytes of one value of at most `most` bytes. `keep` is called for each part that has arrived; if it returns false, the
/// bytes so far and the rest are discarded.
pub(super) fn receive_frame<R: Read>(
    from: &mut R,
    most: usize,
    waits: &mut dyn FnMut(bool) -> bool,
    keep: &mut dyn FnMut(&mut R, usize) -> bool,
) -> io::Result<Option<Frame>> {
    let mut head = [0; 4];
    match fill(from, &mut head, false, waits)? {
        0 => return Ok(None),
        4 => {}
        _ => return Err(io::ErrorKind::UnexpectedEof.into()),
    }
    let length = u32::from_le_bytes(head) as usize;
    if length > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
    }
    let mut bytes = Vec::with_capacity(length.min(CHUNK));
    let (mut come, mut kept) = (0, true);
    while come < length {
        let have = bytes.len();
        bytes.resize(have + CHUNK.min(length - come), 0);
        let part = bytes.get_mut(have..).unwrap_or_default();
        let read = fill(from, part, true, waits)?;
        if read < part.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        come += read;
        kept = kept && keep(from, read);
        if !kept {
            bytes = Vec::new();
        }
    }
    Ok(Some(if kept { Frame::Whole(bytes) } else { Frame::Dropped }))
}

/// Reads until `out` is full or the stream ends; returns the number of bytes read.
fn fill(from: &mut impl Read, out: &mut [u8], begun: bool, waits: &mut dyn FnMut(bool) -> bool) -> io::Result<usize> {
    let mut have = 0;
    while have < out.len() {
        match from.read(out.get_mut(have..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if is_late(&e) && waits(begun || have > 0) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(have)
}

/// Whether a read timed out.
pub(super) fn is_late(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
        super::receive(from, MAX_FRAME, &mut |_| false)
    }

    #[test]
    fn a_frame_comes_back_and_rubbish_does_not() {
        let mut bytes = Vec::new();
        send(&mut bytes, &Request::Show([7; 32])).unwrap();
        send(&mut bytes, &Request::Watch).unwrap();
        let mut from = bytes.as_slice();
        assert_eq!(receive(&mut from).unwrap(), Some(Request::Show([7; 32])));
        assert_eq!(receive(&mut from).unwrap(), Some(Request::Watch));
        assert_eq!(receive::<Request>(&mut from).unwrap(), None);
        assert!(receive::<Request>(&mut &bytes[..6]).is_err(), "cut in the middle");
        assert!(receive::<Request>(&mut &b"\xff\xff\xff\xffxxxx"[..]).is_err(), "a length that nobody has");
        assert!(receive::<Request>(&mut &b"\x03\0\0\0\x01\xfe\xfe"[..]).is_err(), "no request");
    }

    #[test]
    fn every_kind_of_error_crosses() {
        for kind in KINDS {
            let e = Error::from(WireError::from(&Error::new(kind, "m")));
            assert_eq!((e.kind(), e.to_string().as_str()), (kind, "m"));
        }
        let error = Error::invalid("must be a text").in_member("user_id").in_call(3).about(7);
        let there = Error::from(WireError::from(&error));
        assert_eq!((there.to_string(), there.place(), there.seq()), (error.to_string(), error.place(), error.seq()));
    }
}
