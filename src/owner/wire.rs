//! What processes say to each other: frames of a length (4 bytes, little-endian) and an encoded value.
//!
//! Both ends are programs of one user, but one of them may be broken or old. A frame is bounded, memory for it is taken as
//! its bytes arrive, and what does not decode ends the connection and nothing else.

use crate::store::{Sent, Stamp, SubjectTold, Told};
use crate::{Error, ErrorKind, Hash, Receipt, codec};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};

/// Which language this is. Programs that do not speak the same one say so and part.
pub(super) const PROTOCOL: u32 = 1;

/// The longest frame: what the codec takes.
const MAX_FRAME: usize = codec::MAX_BYTES;

/// What output is sent at a time, at most.
pub(super) const CHUNK: usize = 64 << 10;

/// The first frame, from the owner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub protocol: u32,
    pub version: String,
    pub process: u32,
}

/// What a process asks the owner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Request {
    /// By what calls are to be prepared.
    Tell,
    /// The key under which something about these people is to be sealed.
    Subject(Vec<Vec<String>>),
    /// Record these calls, all or none.
    /// Where `batch`, the first one's number is that of all of them.
    Record { stamp: Stamp, calls: Vec<Sent>, batch: bool },
    /// Run a command on the store.
    Run(Command),
    /// What the command asked for of its standard input; empty at its end.
    Input(Vec<u8>),
    /// How many entries the log has, and at which of these seqs a call stands that was never answered.
    Look(Vec<u64>),
    /// Say nothing until you go.
    Watch,
}

/// What the owner answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Reply {
    Told(Box<Told>),
    Subject(SubjectTold),
    Recorded(Vec<(u64, [u8; 32])>),
    /// How many entries the log has, and the seqs of calls that were never answered.
    Looked(u64, Vec<u64>),
    /// Prepare again.
    Stale,
    Failed(Trouble),
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
pub(super) struct Trouble {
    kind: u8,
    message: String,
}

/// By their place here, which both ends agree on with the protocol.
const KINDS: [ErrorKind; 16] = [
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
];

impl From<&Error> for Trouble {
    fn from(e: &Error) -> Trouble {
        let kind = KINDS.iter().position(|kind| *kind == e.kind()).unwrap_or(9);
        Trouble { kind: kind as u8, message: e.to_string() }
    }
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Error {
        Error::new(KINDS.get(usize::from(trouble.kind)).copied().unwrap_or(ErrorKind::Io), trouble.message)
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

/// Receives one value; `None` where the other end has gone between two of them.
pub(super) fn receive<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut head = [0; 4];
    let mut have = 0;
    while have < head.len() {
        match from.read(head.get_mut(have..).unwrap_or_default()) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // Nothing is late between two frames; in the middle of one something is.
            Err(e) if have == 0 && matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(e) => return Err(e),
        }
    }
    let length = u32::from_le_bytes(head) as usize;
    if length > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
    }
    let mut bytes = Vec::with_capacity(length.min(CHUNK));
    if from.take(length as u64).read_to_end(&mut bytes)? < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    codec::decode(&bytes).map(Some).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_back_and_rubbish_does_not() {
        let mut bytes = Vec::new();
        send(&mut bytes, &Request::Subject(vec![vec!["a".to_owned()]])).unwrap();
        send(&mut bytes, &Request::Tell).unwrap();
        let mut from = bytes.as_slice();
        assert_eq!(receive(&mut from).unwrap(), Some(Request::Subject(vec![vec!["a".to_owned()]])));
        assert_eq!(receive(&mut from).unwrap(), Some(Request::Tell));
        assert_eq!(receive::<Request>(&mut from).unwrap(), None);
        assert!(receive::<Request>(&mut &bytes[..6]).is_err(), "cut in the middle");
        assert!(receive::<Request>(&mut &b"\xff\xff\xff\xffxxxx"[..]).is_err(), "a length that nobody has");
        assert!(receive::<Request>(&mut &b"\x03\0\0\0\x01\xfe\xfe"[..]).is_err(), "no request");
    }

    #[test]
    fn every_kind_of_error_crosses() {
        for kind in KINDS {
            let e = Error::from(Trouble::from(&Error::new(kind, "m")));
            assert_eq!((e.kind(), e.to_string().as_str()), (kind, "m"));
        }
    }
}
