//! The JSON of a verification, as `verify --json` prints it and as an evidence folder holds it, and of how to verify.

use super::{LostAnchors, Verification, VerifyOptions};
use crate::Result;
use crate::json::{Json, Object};
use attestlog_proof::json::form::{Form, member};
use attestlog_proof::members::Members;

attestlog_proof::json_form!(members LostAnchors { restored, from, to, count });

attestlog_proof::json_form!(members Verification {
    size,
    entries,
    purged,
    root,
    head,
    signed,
    signed_size,
    key_pinned,
    anchored,
    anchored_size,
    rewritable_from,
    restored,
    lost_anchors,
    recorded_without_key,
    not_authenticated,
    unfinished_commit,
    pages_only,
    findings,
    seconds,
} repeats { "ok" => |it| it.ok(), "unsettled" => |it| it.unsettled().count() as u64 });

impl Verification {
    /// `{"ok","size","entries","purged","root","head","signed","signed_size","key_pinned","anchored","anchored_size",
    /// "rewritable_from","restored":[…],"lost_anchors":[{"restored","from","to","count"}],
    /// "recorded_without_key":[{"from","to","at"}],"not_authenticated":[…],"unfinished_commit","pages_only",
    /// "findings":[{"kind","seq","detail","settled":{"seq","actor","disposition","at"}}],"unsettled",
    /// "seconds"}`.
    pub fn to_json(&self) -> Json {
        self.form()
    }
}

impl super::Finding {
    /// `{"kind","seq","detail","settled":{"seq","actor","disposition","at"}}`; `settled` is null if nobody has settled it.
    pub fn to_json(&self) -> Json {
        self.form()
    }
}

impl Form for VerifyOptions {
    /// `{"threads","public_key","against":[{"checkpoint","time","source":{"file","line","form"}}],
    /// "unreadable":[{"file","line","reason","cut_off"}]}`. Who is told of the progress is no part of it.
    fn form(&self) -> Json {
        let unreadable = self.unreadable.iter().map(|(file, place)| {
            let mut json = place.form();
            if let Json::Object(members) = &mut json {
                members.insert("file", file.as_str());
            }
            json
        });
        Object::from_iter([
            ("threads", self.threads.form()),
            ("public_key", self.public_key.form()),
            ("against", self.against.form()),
            ("unreadable", Json::Array(unreadable.collect())),
        ])
        .into()
    }

    fn read(value: &Json) -> Result<VerifyOptions> {
        let mut members = Members::of(value)?;
        let mut options = VerifyOptions::new();
        if let Some(threads) = member(&mut members, "threads")? {
            options = options.threads(threads);
        }
        if let Some(key) = member(&mut members, "public_key")? {
            options = options.public_key(key);
        }
        options = options.against(member::<Option<Vec<_>>>(&mut members, "against")?.unwrap_or_default());
        for place in member::<Option<Vec<Object>>>(&mut members, "unreadable")?.unwrap_or_default() {
            let mut place = place;
            let file = place.remove("file").map(|file| String::read(&file)).transpose()?.unwrap_or_default();
            options = options.against_unreadable(&file, [Form::read(&place.into())?]);
        }
        members.end()?;
        Ok(options)
    }
}

attestlog_proof::json_form!(own VerifyOptions);
