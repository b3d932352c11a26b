//! `verify`: finds everything that is wrong with a store, and says how far that reaches.

use super::exit::{End, Failure, Outcome, complain};
use super::progress::{Progress, Unit};
use super::prove::public_key;
use super::render::{self, Out, Style, clean_json, count, counted};
use super::store::StoreArgs;
use attestlog::anchor::Evidence;
use attestlog::json::{Json, Number, Object};
use attestlog::note::VerifierKey;
use attestlog::{AuditLog, Verification, VerifyOptions};
use clap::Args;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

/// Check every entry, every link and every index row
#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The log's public key as you have it from elsewhere, or a file with it
    #[arg(long, value_name = "KEY", value_parser = public_key)]
    public_key: Option<VerifierKey>,
    /// What was kept elsewhere: checkpoints, anchor files, time-stamps, proofs
    #[arg(long, value_name = "FILE")]
    against: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &VerifyArgs) -> Outcome {
    let mut options = VerifyOptions::new();
    if let Some(key) = &args.public_key {
        options = options.public_key(key.clone());
    }
    for path in &args.against {
        // Whatever is wrong with such a file, it is the input that is at fault.
        let evidence = Evidence::read(path, &[]).map_err(|e| Failure::Input(e.to_string()))?;
        for unread in &evidence.unreadable {
            complain(unread);
        }
        options = options.against(evidence.kept);
    }
    let log = args.store.open()?;
    let verification = verify_with(&log, options).map_err(|e| args.store.name(Failure::Store(e.to_string())))?;
    let mut out = Out::stdout();
    let written = match args.json {
        true => out.line(json(&verification).to_canonical().as_str()).and_then(|()| out.flush()),
        false => show(&verification, &mut out),
    };
    match written {
        // The verdict holds also where nobody reads to its end.
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => return Err(e.into()),
        _ => {}
    }
    Ok(if verification.ok() { End::Done } else { End::Found })
}

/// Verifies what the store says of itself, with a progress bar.
pub fn verify(log: &AuditLog) -> attestlog::Result<Verification> {
    verify_with(log, VerifyOptions::new())
}

fn verify_with(log: &AuditLog, options: VerifyOptions) -> attestlog::Result<Verification> {
    let progress = Arc::new(Progress::new("verifying", Unit::Entries));
    let bar = progress.clone();
    let verification = log.verify(&options.progress(Arc::new(move |done, total| bar.at(done, total))))?;
    // For `health`. Whoever may not write here, or has no room, verifies all the same.
    let _ = log.note_verification(&verification);
    Ok(verification)
}

/// Writes the result for people. It never reads like a pass where nothing from outside was compared.
pub fn show(of: &Verification, out: &mut Out) -> io::Result<()> {
    for finding in &of.findings {
        out.line(out.styled(Style::Bad, &format!("✗ {}", clean_json(&finding.to_string()))))?;
    }
    let (verdict, style) = match (of.findings.len() as u64, of.anchored) {
        (0, true) => ("nothing wrong found".to_owned(), Style::Good),
        (0, false) => ("nothing wrong found, but UNANCHORED".to_owned(), Style::Warn),
        (n, _) => (counted(n, "finding", "findings"), Style::Bad),
    };
    let purged = if of.purged > 0 { format!(", {} purged by policy", count(of.purged)) } else { String::new() };
    let checked = format!("{} checked{purged} in {}", counted(of.entries, "entry", "entries"), seconds(of.seconds));
    out.line(format!("{}: {checked}", out.styled(style, &verdict)))?;
    out.line(format!("  size      {}", of.size))?;
    out.line(format!("  root      {}", of.root))?;
    out.line(format!("  head      {}", of.head))?;
    let signed = match (of.signed, of.key_pinned) {
        (false, _) => "no: no checkpoint of this store is signed".to_owned(),
        (true, true) => format!("the first {} of {}, by the key that you gave", count(of.signed_size), count(of.size)),
        (true, false) => {
            format!(
                "the first {} of {}, by the key that the store names (give --public-key to pin yours)",
                count(of.signed_size),
                count(of.size)
            )
        }
    };
    out.line(format!("  signed    {signed}"))?;
    let anchored = match of.anchored {
        true => format!("the first {} of {}", count(of.anchored_size), count(of.size)),
        false => "no: nothing kept elsewhere was compared (give --against FILE), so whoever holds the file and its key could have \
                  rewritten all of it"
            .to_owned(),
    };
    for (i, line) in render::wrap(&anchored, out.width().unwrap_or(100).saturating_sub(12)).iter().enumerate() {
        out.line(format!("{}{line}", if i == 0 { "  anchored  " } else { "            " }))?;
    }
    out.flush()
}

fn seconds(s: f64) -> String {
    render::duration(s * 1000.0)
}

fn json(of: &Verification) -> Json {
    let findings = of.findings.iter().map(|f| {
        Json::from(Object::from_iter([
            ("kind", Json::from(f.kind.as_str())),
            ("seq", f.seq.into()),
            ("detail", f.detail.as_str().into()),
        ]))
    });
    Json::from(Object::from_iter([
        ("ok", Json::from(of.ok())),
        ("size", of.size.into()),
        ("entries", of.entries.into()),
        ("purged", of.purged.into()),
        ("root", of.root.to_string().into()),
        ("head", of.head.to_string().into()),
        ("signed", of.signed.into()),
        ("signed_size", of.signed_size.into()),
        ("key_pinned", of.key_pinned.into()),
        ("anchored", of.anchored.into()),
        ("anchored_size", of.anchored_size.into()),
        ("findings", findings.collect::<Vec<_>>().into()),
        ("seconds", Number::from_f64(of.seconds).map_or(Json::Null, Json::Number)),
    ]))
}
