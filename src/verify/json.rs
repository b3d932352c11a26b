//! The JSON of a verification, as `verify --json` prints it and as an evidence folder holds it.

use super::{LostAnchors, Verification};
use crate::json::{Json, Number, Object};
use crate::keyless::Keyless;
use crate::restored::Restored;

impl Verification {
    /// `{"ok","size","entries","purged","root","head","signed","signed_size","key_pinned","anchored","anchored_size",
    /// "rewritable_from","restored":[…],"lost_anchors":[{"restored","from","to","count"}],"recorded_without_key":[{"from","to","at"}],"not_authenticated":[…],
    /// "unfinished_commit","pages_only","findings":[{"kind","seq","detail"}],"seconds"}`.
    pub fn to_json(&self) -> Json {
        let findings = self.findings.iter().map(|f| {
            let kind = Json::from(f.kind.as_str());
            Object::from_iter([("kind", kind), ("seq", f.seq.into()), ("detail", f.detail.as_str().into())])
        });
        Json::from(Object::from_iter([
            ("ok", Json::from(self.ok())),
            ("size", self.size.into()),
            ("entries", self.entries.into()),
            ("purged", self.purged.into()),
            ("root", self.root.to_string().into()),
            ("head", self.head.to_string().into()),
            ("signed", self.signed.into()),
            ("signed_size", self.signed_size.into()),
            ("key_pinned", self.key_pinned.into()),
            ("anchored", self.anchored.into()),
            ("anchored_size", self.anchored_size.into()),
            ("rewritable_from", self.rewritable_from.into()),
            ("restored", self.restored.iter().map(Restored::to_json).collect::<Vec<_>>().into()),
            ("lost_anchors", self.lost_anchors.iter().map(LostAnchors::to_json).collect::<Vec<_>>().into()),
            ("recorded_without_key", self.recorded_without_key.iter().map(Keyless::to_json).collect::<Vec<_>>().into()),
            ("not_authenticated", self.not_authenticated.iter().copied().map(Json::from).collect::<Vec<_>>().into()),
            ("unfinished_commit", self.unfinished_commit.into()),
            ("pages_only", self.pages_only.into()),
            ("findings", findings.collect::<Vec<_>>().into()),
            ("seconds", Number::from_f64(self.seconds).map_or(Json::Null, Json::Number)),
        ]))
    }
}
