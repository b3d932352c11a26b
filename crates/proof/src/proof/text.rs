//! Proofs as texts: `FromStr` reads what `Display` prints, and their JSON form is that text as a string.

use super::{CheckError, CompleteProof, ConsistencyProof, InclusionProof, Proof, RevealProof};
use std::fmt;
use std::str::FromStr;

/// `FromStr` of each kind of proof: what its `Display` prints, without checking what it proves.
macro_rules! texts {
    ($($type:ident, $kind:ident, $it:ident => $proof:expr;)+) => {$(
        impl FromStr for $type {
            type Err = CheckError;

            /// As [`Proof::parse`], of this kind only.
            fn from_str(text: &str) -> Result<$type, CheckError> {
                match Proof::parse(text.as_bytes())? {
                    Proof::$kind($it) => Ok($proof),
                    _ => Err(CheckError::Malformed("it is a proof of another kind".to_owned())),
                }
            }
        }

        crate::json_form!(text $type);
    )+};
}

texts! {
    InclusionProof, Inclusion, proof => proof;
    ConsistencyProof, Consistency, proof => proof;
    CompleteProof, Complete, proof => *proof;
    RevealProof, Reveal, proof => *proof;
}

impl fmt::Display for Proof {
    /// The proof file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Proof::Inclusion(proof) => proof.fmt(f),
            Proof::Consistency(proof) => proof.fmt(f),
            Proof::Complete(proof) => proof.fmt(f),
            Proof::Reveal(proof) => proof.fmt(f),
            Proof::Checkpoint(checkpoint) => checkpoint.fmt(f),
        }
    }
}

impl FromStr for Proof {
    type Err = CheckError;

    /// As [`Proof::parse`].
    fn from_str(text: &str) -> Result<Proof, CheckError> {
        Proof::parse(text.as_bytes())
    }
}

crate::json_form!(text Proof);
