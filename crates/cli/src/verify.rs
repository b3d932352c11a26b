//! `verify`: finds everything that is wrong with a store, and says how far that reaches.

use super::console;
use super::exit::{End, Failure, Outcome, complain};
use super::progress::{Progress, Unit};
use super::render::{self, Out, Style, clean_json, count, counted};
use super::store::{StoreArgs, say_damage};
use super::verify_args::{Brought, TrustArgs};
use attestlog::{AuditLog, Clock, SystemClock, Verification, VerifyOptions};
use clap::Args;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

/// Check every entry, every link and every index row
#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    trust: TrustArgs,
    /// Remember in STORE.verified that the log was verified, which `health` shows. What is found wrong is kept there in any case,
    /// if it can be; nothing else is written
    #[arg(long)]
    remember: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &VerifyArgs) -> Outcome {
    let brought = args.trust.read()?;
    let verification = match opened(args, brought) {
        Err(Failure::Store(why)) => unopened(args, why)?,
        verified => verified?,
    };
    let mut out = Out::stdout();
    let written = match args.json {
        true => out.line(verification.to_json().to_canonical().as_str()).and_then(|()| out.flush()),
        false => show(&verification, &mut out),
    };
    match written {
        // The verdict holds also where nobody reads to its end.
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => return Err(e.into()),
        _ => {}
    }
    Ok(if verification.ok() { End::Done } else { End::Found })
}

/// Opens the store, its pages first, and verifies it.
fn opened(args: &VerifyArgs, brought: Brought) -> Result<Verification, Failure> {
    let log = args.store.read_with(args.store.key.options()?.pages_first(true))?;
    let options = brought.of(&log)?;
    let verified = verify_with(&log, options, args.remember);
    let verification = verified.map_err(|e| args.store.name(&e, Failure::Store(e.to_string())))?;
    if verification.ok() {
        say_damage(&log);
    }
    Ok(verification)
}

/// Of a store that cannot be opened, or read to its end: what is wrong with its pages, if it is that.
fn unopened(args: &VerifyArgs, why: String) -> Result<Verification, Failure> {
    let found = match (console::current(), Verification::of_pages(&args.store.store)) {
        (None, Ok(found)) if !found.ok() => found.and_not_opened(&why),
        _ => return Err(Failure::Store(why)),
    };
    say_kept(found.note_beside(&args.store.store, SystemClock::default().now()).map(Some));
    Ok(found)
}

/// Verifies with a progress bar, comparing with nothing from outside.
pub fn verify(log: &AuditLog) -> attestlog::Result<Verification> {
    log.verify(&with_progress(VerifyOptions::new()))
}

/// Verifies with a progress bar, and keeps for `health` what was found; also that nothing was, to be remembered.
pub fn verify_with(log: &AuditLog, options: VerifyOptions, remember: bool) -> attestlog::Result<Verification> {
    let verification = log.verify(&with_progress(options))?;
    if remember || !verification.ok() {
        let noted = log.note_verification(&verification);
        // Whoever may not write here, or has no room, verifies all the same.
        match (noted, verification.ok()) {
            (Ok(_), true) => {}
            (Err(e), true) => complain(format!("that the log was verified could not be remembered: {e}")),
            (noted, false) => say_kept(noted),
        }
    }
    Ok(verification)
}

/// Says where what was found is kept.
fn say_kept(noted: attestlog::Result<Option<PathBuf>>) {
    match noted {
        Ok(None) => {}
        Ok(Some(file)) => complain(format!(
            "what was found is kept in {}, and `health` shows it until it is settled (alerts settle)",
            file.display()
        )),
        Err(e) => complain(format!(
            "what was found could not be kept beside the store, so `health` will not show it; keep this answer: {e}"
        )),
    }
}

/// The same with a progress bar.
pub fn with_progress(options: VerifyOptions) -> VerifyOptions {
    let progress = Progress::new("verifying", Unit::Entries);
    options.progress(Arc::new(move |done, total| progress.at(done, total)))
}

/// Writes the result for people. It never reads like a pass where nothing from outside was compared.
pub fn show(of: &Verification, out: &mut Out) -> io::Result<()> {
    for finding in &of.findings {
        out.line(out.styled(Style::Bad, &format!("✗ {}", clean_json(&finding.to_string()))))?;
    }
    if of.pages_only {
        let verdict = counted(of.findings.len() as u64, "finding", "findings");
        out.line(format!(
            "{}: the store could not be opened, and only the pages of its file were checked, no entry; restore a backup",
            out.styled(Style::Bad, &verdict)
        ))?;
        return out.flush();
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
            format!("the first {} of {}, by the key that the store itself names", count(of.signed_size), count(of.size))
        }
    };
    out.line(format!("  signed    {signed}"))?;
    let anchored = match of.anchored {
        true => format!("the first {} of {}", count(of.anchored_size), count(of.size)),
        false => "no: nothing kept elsewhere was compared (give --against FILE)".to_owned(),
    };
    paragraph("anchored", &anchored, out)?;
    if !of.not_authenticated.is_empty() {
        let tables = of.not_authenticated.join(", ");
        paragraph("tables", &format!("not authenticated, for want of the store's keys: {tables}"), out)?;
    }
    for restored in &of.restored {
        paragraph("history", &render::clean(&restored.to_string()), out)?;
    }
    for lost in &of.lost_anchors {
        paragraph("history", &lost.to_string(), out)?;
    }
    for keyless in &of.recorded_without_key {
        paragraph("history", &keyless.to_string(), out)?;
    }
    if of.unfinished_commit {
        paragraph("file", UNFINISHED, out)?;
    }
    paragraph("open", &open(of), out)?;
    out.flush()
}

/// Said of a file that holds a newer commit than the one that counts.
const UNFINISHED: &str = "it holds a commit that was not finished, newer than the one that counts. A crash in the middle of recording \
                          leaves it so, and nobody was told that it is recorded; changing one bit of a file that was not closed, to \
                          take back what was recorded last, does so too";

/// What this verification cannot vouch for.
fn open(of: &Verification) -> String {
    let open = of.size.saturating_sub(of.rewritable_from);
    match (open, of.rewritable_from) {
        (0, _) => "nothing: what was compared covers every entry".to_owned(),
        (_, 0) if !of.signed => "all of it: whoever holds the file could have rewritten it".to_owned(),
        (_, 0) if of.signed_size >= of.size => {
            "all of it: whoever holds the file and its key file could have rewritten it".to_owned()
        }
        (_, 0) => format!(
            "all of it: whoever holds the file and its key file could have rewritten it, the newest {} also without the key \
             file, since no signature covers {}",
            entries(of.size - of.signed_size),
            them(of.size - of.signed_size)
        ),
        (open, from) => {
            let unsigned = of.size.saturating_sub(of.signed_size.max(from));
            let without = match unsigned {
                0 => String::new(),
                n if n == open => format!(", and without the key file, since no signature covers {}", them(n)),
                n => format!(
                    ", the newest {} also without the key file, since no signature covers {}",
                    entries(n),
                    them(n)
                ),
            };
            format!(
                "the newest {}, from entry {from} on: nothing that was compared covers {them}, so whoever holds the file and \
                 its key file could have rewritten {them}{without}",
                entries(open),
                them = them(open)
            )
        }
    }
}

/// The newest so many.
fn entries(n: u64) -> String {
    if n == 1 { "entry".to_owned() } else { counted(n, "entry", "entries") }
}

fn them(n: u64) -> &'static str {
    if n == 1 { "it" } else { "them" }
}

fn paragraph(name: &str, text: &str, out: &mut Out) -> io::Result<()> {
    for (i, line) in render::wrap(text, out.width().unwrap_or(100).saturating_sub(12)).iter().enumerate() {
        out.line(format!("  {:<10}{line}", if i == 0 { name } else { "" }))?;
    }
    Ok(())
}

fn seconds(s: f64) -> String {
    render::duration(s * 1000.0)
}
