//! What processes say to each other: frames of a length (4 bytes, little-endian) and an encoded value.
//!
//! Both ends are programs of one user, but one of them may be broken, old or hostile. A frame is bounded, memory for it is taken
//! as its bytes arrive, and what does not decode ends the connection and nothing else.

use crate::store::RemoteBatch;
use crate::{Error, ErrorKind, Hash, Place, Receipt, codec};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};

/// Which language this is. Programs that do not speak the same one say so and part.
pub(super) const PROTOCOL: u32 = 4;

/// The longest frame: what the codec takes.
pub(super) const MAX_FRAME: usize = codec::MAX_BYTES;

/// The longest first frame of either side.
pub(super) const MAX_HELLO: usize = 4 << 10;

/// What output is sent at a time, at most.
pub(super) const CHUNK: usize = 64 << 10;

/// The first frame, from the owner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub protocol: u32,
    pub version: String,
    pub process: u32,
    /// The store's id.
    pub store: String,
    /// What a proof of the store's key has to be about.
    pub challenge: [u8; 32],
}

/// What a process asks the owner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Request {
    /// The first: this is a program that speaks this language.
    Hello { protocol: u32 },
    /// That the sender has the store's key.
    Prove([u8; 32]),
    /// Prepare and record these calls, all or none.
    Record(RemoteBatch),
    /// Run a command on the store.
    Run(Command),
    /// What the command asked for of its standard input; empty at its end.
    Input(Vec<u8>),
    /// How many entries the log has, and at which of these seqs a call stands that was never answered.
    Look(Vec<u64>),
    /// Say nothing until you go.
    Watch,
    /// Show that you have the store's keys, in an answer that has these bytes in it.
    Show([u8; 32]),
}

/// What the owner answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Reply {
    /// The proof is right.
    Proven,
    Recorded(Vec<(u64, [u8; 32])>),
    /// How many entries the log has, and the seqs of calls that were never answered.
    Looked(u64, Vec<u64>),
    Failed(WireError),
    /// Of a command's standard output.
    Out(Vec<u8>),
    /// Of a command's standard error.
    Err(Vec<u8>),
    /// More of the standard input.
    Want,
    /// A command that follows the log has said everything below this seq.
    Position(u64),
    /// The command has ended.
    Exit(u8),
    /// The owner's signature; nothing where it has the store open without keys.
    Shown(Vec<u8>),
}

/// What a command does, and so what may be done when the owner goes in the middle of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// It only reads; it can be run again as long as nothing of it was shown.
    Reads,
    /// It changes the store; nobody knows how far it came.
    Changes,
    /// It goes on until somebody ends it, and goes on elsewhere from where it was.
    Follows,
}

/// A command of the program, to be run by the process that has the store open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// The arguments, with the program's name.
    pub arguments: Vec<String>,
    /// The folder that relative paths in them start from.
    pub folder: String,
    /// What it does.
    pub effect: Effect,
    /// What is known of the caller's terminal and environment.
    pub settings: BTreeMap<String, String>,
    /// For one that follows: from where to go on.
    pub resume: Option<u64>,
}

/// An error as it crosses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct WireError {
    kind: u8,
    message: String,
    place: Option<Place>,
    seq: Option<u64>,
}

/// By their place here, which both ends agree on with the protocol.
const KINDS: [ErrorKind; 18] = [
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
];

impl From<&Error> for WireError {
    fn from(e: &Error) -> WireError {
        let kind = KINDS.iter().position(|kind| *kind == e.kind()).unwrap_or(9);
        // Which call of the batch it is stands in the place, and the other end says it.
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

/// Receives one value; `None` where the other end has gone between two of them. `waits` is asked each time that nothing came for as
/// long as the stream waits, with whether some of the value has come; where it says no, that is an error.
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

/// One value as it came.
#[derive(Debug)]
pub(super) enum Frame {
    Whole(Vec<u8>),
    /// It was read to its end, and not kept.
    Dropped,
}

/// The bytes of one value of at most `most`. `keep` is told of those that have arrived, a part at a time; where it says no, what is
/// there of the value is dropped, and the rest as it comes.
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

/// Reads until `out` is full or nothing more comes; says how much came.
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

/// Whether nothing came within the time that a stream waits.
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
        send(&mut bytes, &Request::Input(vec![7; 100])).unwrap();
        send(&mut bytes, &Request::Watch).unwrap();
        let mut from = bytes.as_slice();
        assert_eq!(receive(&mut from).unwrap(), Some(Request::Input(vec![7; 100])));
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
