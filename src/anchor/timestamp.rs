//! An anchor that is a time-stamping authority (RFC 3161): it signs the hash of a checkpoint's note together with its
//! own time.
//!
//! Invariants: a token counts for a note only if it was granted, is over the SHA-256 of exactly the note's bytes and,
//! when it was just requested, has the nonce of the request; its time is then the time in it. Whether the authority's
//! signature is valid and its certificate leads to a trusted root is not checked here, since that needs a certificate
//! store and revocation lists: `openssl ts -verify` does it, with the token and the note as they are kept. So a token's
//! time is worth as much as that check or, until it was made, as the channel through which the token came.
//!
//! Requests and responses are encoded and decoded here by hand, on top of `der`: they are a handful of fixed fields.
//! The signer's certificates and signature are skipped, not read.

use super::der::{self, DerError, Reader, context, element};
use super::process::Program;
use super::record::MAX_TOKEN_BYTES;
use super::{Anchor, AnchorReceipt, Attestation, Consistency, excerpt};
use crate::host::{Random, SystemRandom};
use crate::note::SignedCheckpoint;
use crate::{Error, ErrorKind, Hash, Result, Timestamp};
use std::ffi::OsString;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// 2.16.840.1.101.3.4.2.1
const SHA_256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
/// 1.2.840.113549.1.7.2
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// 1.2.840.113549.1.9.16.1.4
const TST_INFO: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x04];

/// A request to a time-stamping authority to stamp this hash, with this nonce, and to include its certificate.
///
/// ```
/// use attestlog::anchor::TimestampRequest;
/// let request = TimestampRequest::new(b"a note", [7; 8]);
/// assert_eq!(request.to_der().len(), 69);
/// assert!(request.read_response(b"no answer").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimestampRequest {
    imprint: Hash,
    nonce: [u8; 8],
}

impl TimestampRequest {
    /// A request for these bytes. The nonce must not be guessable; its first bit is cleared and its second set, so that
    /// it is a positive integer of eight bytes.
    pub fn new(note: &[u8], mut nonce: [u8; 8]) -> TimestampRequest {
        nonce[0] = nonce[0] & 0x7f | 0x40;
        TimestampRequest { imprint: Hash::of(note), nonce }
    }

    /// The TimeStampReq, to be sent as `application/timestamp-query`.
    pub fn to_der(&self) -> Vec<u8> {
        let algorithm = element(der::SEQUENCE, &[&element(der::OID, &[SHA_256]), &element(der::NULL, &[])]);
        let hash = element(der::OCTET_STRING, &[self.imprint.as_bytes()]);
        let imprint = element(der::SEQUENCE, &[&algorithm, &hash]);
        let version = element(der::INTEGER, &[&[1]]);
        let nonce = element(der::INTEGER, &[&self.nonce]);
        let send_certificate = element(der::BOOLEAN, &[&[0xff]]);
        element(der::SEQUENCE, &[&version, &imprint, &nonce, &send_certificate])
    }

    /// Reads the TimeStampResp to this request and returns the token and its time.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the authority refused (with its message), or the token is over
    /// other bytes, answers another request or is not a token; [`TooLarge`](ErrorKind::TooLarge) if it is too large.
    pub fn read_response(&self, response: &[u8]) -> Result<(Vec<u8>, Timestamp)> {
        let token = granted(response)?;
        let info = TstInfo::read(token)?;
        info.check(&self.imprint)?;
        if info.nonce != Some(self.nonce.as_slice()) {
            return Err(Error::invalid(
                "the time-stamp answers another question: its nonce is not the one that was sent",
            ));
        }
        Ok((token.to_vec(), info.time))
    }
}

/// Checks that `token` (a token as it is kept, or a whole TimeStampResp) is over exactly the bytes of `note`, and
/// returns the time in it. The authority's signature and certificate are not checked; use `openssl ts -verify -data
/// NOTE -in TOKEN -token_in -CAfile CA` for that.
///
/// # Errors
/// [`InvalidInput`](ErrorKind::InvalidInput) if it is not a time-stamp, or over other bytes;
/// [`TooLarge`](ErrorKind::TooLarge) if it is too large.
pub fn check_token(token: &[u8], note: &[u8]) -> Result<Timestamp> {
    let info = TstInfo::read(bare(token)?)?;
    info.check(&Hash::of(note))?;
    Ok(info.time)
}

/// Extracts the token from bytes that may be an authority's whole response.
pub(super) fn bare(token: &[u8]) -> Result<&[u8]> {
    // A token begins with an object identifier, a response with a status.
    let answer = Reader::new(token).inside(der::SEQUENCE, "no sequence")?.rest().first() == Some(&der::SEQUENCE);
    if answer { granted(token) } else { Ok(token) }
}

impl From<DerError> for Error {
    fn from(e: DerError) -> Error {
        Error::invalid(e.to_string()).with_source(e)
    }
}

/// The token in a response, if the authority granted one.
fn granted(response: &[u8]) -> Result<&[u8]> {
    if response.len() > MAX_TOKEN_BYTES {
        return Err(Error::new(ErrorKind::TooLarge, format!("a time-stamp of more than {MAX_TOKEN_BYTES} bytes")));
    }
    let mut outer = Reader::new(response);
    let mut answer = outer.inside(der::SEQUENCE, "not the answer of an authority")?;
    outer.finish()?;
    let mut status = answer.inside(der::SEQUENCE, "no status")?;
    // 0 is granted, 1 is granted with modifications, which the token itself shows.
    match status.expect(der::INTEGER, "no status number")? {
        [0 | 1] => Ok(answer.rest()),
        number => {
            let number = if let [one] = number { one.to_string() } else { "unknown".to_owned() };
            let words = status.optional(der::SEQUENCE)?.and_then(|strings| Reader::new(strings).element().ok());
            let words = words.map(|(_, first)| excerpt(first)).unwrap_or_default();
            Err(Error::invalid(format!("the authority refused to stamp (status {number}): {words}")))
        }
    }
}

/// The fields of a token that are needed here.
struct TstInfo<'a> {
    imprint: &'a [u8],
    time: Timestamp,
    nonce: Option<&'a [u8]>,
}

impl<'a> TstInfo<'a> {
    fn read(token: &'a [u8]) -> Result<TstInfo<'a>, Error> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Error::new(ErrorKind::TooLarge, format!("a time-stamp of more than {MAX_TOKEN_BYTES} bytes")));
        }
        let mut info = signed_content(token)?;
        if info.expect(der::INTEGER, "no version")? != [1] {
            return Err(DerError("a version other than 1").into());
        }
        info.expect(der::OID, "no policy")?;
        let mut imprint = info.inside(der::SEQUENCE, "no imprint")?;
        let mut algorithm = imprint.inside(der::SEQUENCE, "no algorithm")?;
        if algorithm.expect(der::OID, "no algorithm")? != SHA_256 {
            return Err(Error::invalid("the time-stamp is over a hash other than SHA-256"));
        }
        let hash = imprint.expect(der::OCTET_STRING, "no hash")?;
        imprint.finish()?;
        info.expect(der::INTEGER, "no serial number")?;
        let time = general_time(info.expect(der::GENERALIZED_TIME, "no time")?)?;
        info.optional(der::SEQUENCE)?; // how accurate it is
        info.optional(der::BOOLEAN)?; // whether the authority's times are ordered
        let nonce = info.optional(der::INTEGER)?;
        info.optional(context(0))?; // who the authority is
        info.optional(context(1))?; // extensions
        info.finish()?;
        Ok(TstInfo { imprint: hash, time, nonce })
    }

    fn check(&self, imprint: &Hash) -> Result<()> {
        if self.imprint == imprint.as_bytes() {
            Ok(())
        } else {
            Err(Error::invalid("the time-stamp is over bytes other than those of this checkpoint's note"))
        }
    }
}

/// Opens ContentInfo, SignedData and EncapsulatedContentInfo, and returns the fields of the TSTInfo.
fn signed_content(token: &[u8]) -> Result<Reader<'_>, DerError> {
    let mut outer = Reader::new(token);
    let mut info = outer.inside(der::SEQUENCE, "no token")?;
    outer.finish()?;
    if info.expect(der::OID, "no content type")? != SIGNED_DATA {
        return Err(DerError("not signed data"));
    }
    let mut explicit = info.inside(context(0), "no content")?;
    info.finish()?;
    let mut signed = explicit.inside(der::SEQUENCE, "no signed data")?;
    explicit.finish()?;
    signed.expect(der::INTEGER, "no version of the signed data")?;
    signed.expect(der::SET, "no digest algorithms")?;
    let mut content = signed.inside(der::SEQUENCE, "no signed content")?;
    signed.optional(context(0))?; // certificates
    signed.optional(context(1))?; // revocation lists
    if signed.inside(der::SET, "no signers")?.is_empty() {
        return Err(DerError("nobody signed it"));
    }
    signed.finish()?;
    if content.expect(der::OID, "no type of the signed content")? != TST_INFO {
        return Err(DerError("what was signed is not a time-stamp"));
    }
    let mut octets = content.inside(context(0), "nothing was signed")?;
    content.finish()?;
    let mut tst = Reader::new(octets.expect(der::OCTET_STRING, "what was signed is not a string of bytes")?);
    octets.finish()?;
    let fields = tst.inside(der::SEQUENCE, "no time-stamp information")?;
    tst.finish()?;
    Ok(fields)
}

/// Parses `YYYYMMDDhhmmss[.f…]Z` by converting it to RFC 3339, whose parser knows the calendar.
fn general_time(text: &[u8]) -> Result<Timestamp> {
    let wrong = || Error::invalid("the time-stamp's time is not YYYYMMDDhhmmss[.f]Z");
    let text = std::str::from_utf8(text).ok().and_then(|text| text.strip_suffix('Z')).ok_or_else(wrong)?;
    let (whole, fraction) = text.split_at_checked(14).ok_or_else(wrong)?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let fraction_holds = fraction.is_empty() || fraction.strip_prefix('.').is_some_and(digits);
    if !digits(whole) || !fraction_holds {
        return Err(wrong());
    }
    let part = |from, to| whole.get(from..to).unwrap_or_default();
    let (year, month, day) = (part(0, 4), part(4, 6), part(6, 8));
    let (hour, minute, second) = (part(8, 10), part(10, 12), part(12, 14));
    // A leap second is read as the second before it.
    let second = if second == "60" { "59" } else { second };
    format!("{year}-{month}-{day}T{hour}:{minute}:{second}{fraction}Z").parse()
}

/// Requests time-stamps from an authority, through a program or (with the feature `witness`) over HTTP.
pub struct TimestampAnchor {
    name: String,
    channel: Channel,
    random: Arc<dyn Random>,
    tells_time: bool,
}

#[derive(Debug)]
enum Channel {
    Program(Program),
    #[cfg(feature = "witness")]
    Http(super::http::Endpoint),
}

impl TimestampAnchor {
    /// Uses a program that reads the TimeStampReq from its standard input and prints the TimeStampResp. It is started
    /// directly, never through a shell. `curl --data-binary @- -H 'Content-Type: application/timestamp-query' URL` is
    /// such a program, and provides `curl`'s TLS and credentials.
    pub fn program<A: Into<OsString>>(
        program: impl Into<OsString>,
        args: impl IntoIterator<Item = A>,
        timeout: Duration,
    ) -> TimestampAnchor {
        let args = args.into_iter().map(Into::into).collect();
        let program = Program { program: program.into(), args, timeout };
        let name = format!("time-stamp {}", program.name());
        TimestampAnchor { name, channel: Channel::Program(program), random: Arc::new(SystemRandom), tells_time: false }
    }

    /// Uses the authority at `url`, with a POST.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if this build does not support the URL.
    #[cfg(feature = "witness")]
    pub fn http(url: &str, timeout: Duration) -> Result<TimestampAnchor> {
        let endpoint = super::http::Endpoint::new(url, timeout)?;
        let name = format!("time-stamp {}", endpoint.host());
        Ok(TimestampAnchor {
            name,
            channel: Channel::Http(endpoint),
            random: Arc::new(SystemRandom),
            tells_time: false,
        })
    }

    /// Sets another name, to tell apart two authorities that are reached through one program.
    pub fn named(self, name: impl Into<String>) -> TimestampAnchor {
        TimestampAnchor { name: name.into(), ..self }
    }

    /// Takes nonces from `random`.
    pub fn with_random(self, random: Arc<dyn Random>) -> TimestampAnchor {
        TimestampAnchor { random, ..self }
    }

    /// Lets entries expire by this anchor's times. A token's signature is not checked here, so the caller must know
    /// that answers come from the authority: through a program that verifies them, or over a channel that nobody else
    /// can use.
    pub fn telling_time(self) -> TimestampAnchor {
        TimestampAnchor { tells_time: true, ..self }
    }

    fn ask(&self, request: &[u8]) -> Result<Vec<u8>> {
        match &self.channel {
            Channel::Program(program) => program.ask(request, MAX_TOKEN_BYTES),
            #[cfg(feature = "witness")]
            Channel::Http(endpoint) => {
                let (status, body) = endpoint.post("application/timestamp-query", request, MAX_TOKEN_BYTES)?;
                match status {
                    200 => Ok(body),
                    _ => Err(Error::new(ErrorKind::Io, format!("the authority answered {status}: {}", excerpt(&body)))),
                }
            }
        }
    }
}

impl fmt::Debug for TimestampAnchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimestampAnchor").field("name", &self.name).field("channel", &self.channel).finish()
    }
}

impl Anchor for TimestampAnchor {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn tells_time(&self) -> bool {
        self.tells_time
    }

    fn submit(&self, signed: &SignedCheckpoint, _: &Consistency<'_>) -> Result<AnchorReceipt> {
        let mut nonce = [0; 8];
        self.random.fill(&mut nonce);
        let request = TimestampRequest::new(signed.to_string().as_bytes(), nonce);
        let response = self.ask(&request.to_der())?;
        let (token, time) = request.read_response(&response)?;
        Ok(AnchorReceipt::attested(time, Attestation::TimeStamp(token)))
    }
}
