//! `verify`: finds everything that is wrong with a store, and says how far its verdict reaches.

use super::context::Context;
use super::exit::{Failure, Outcome};
use super::progress::Unit;
use super::render::{self, Out, Style, clean_json, count, counted};
use super::store::{StoreArgs, say_damage, say_found};
use super::verify_args::{Brought, TrustArgs};
use attestlog::host::{Clock, SystemClock};
use attestlog::verify::{Verification, VerifyOptions};
use attestlog::{AuditLog, ErrorKind, Options, owner};
use clap::Args;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Check every entry, every link and every index row
#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    trust: TrustArgs,
    /// Record in STORE.verified that the log was verified, which `health` shows. Findings are kept there in any case, if
    /// possible; nothing else is written
    #[arg(long)]
    remember: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(cx: &Context, args: &VerifyArgs) -> Outcome {
    let brought = args.trust.read(cx)?;
    let verification = match opened(cx, args, brought) {
        Err(Failure::Store(why)) => unopened(cx, args, why)?,
        verified => verified?,
    };
    let mut out = cx.out();
    let written = match args.json {
        true => out.line(verification.to_json().to_canonical().as_str()).and_then(|()| out.flush()),
        false => show(&verification, args.trust.gives_kept(), &mut out),
    };
    match written {
        // The verdict also stands if nobody reads the output to its end.
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => return Err(e.into()),
        _ => {}
    }
    Ok(args.trust.verdict(&verification))
}

/// Opens the store, checking its pages first, and verifies it.
fn opened(cx: &Context, args: &VerifyArgs, brought: Brought) -> Result<Verification, Failure> {
    let options = args.store.key.options(cx)?.pages_first(true);
    let log = args.store.read_with(cx, options, args.trust.public_key())?;
    let options = brought.of(cx, &log)?;
    let verified = verify_with(cx, &log, options, args.remember);
    let verification = verified.map_err(|e| args.store.name(&e, Failure::Store(e.to_string())))?;
    if verification.ok() {
        say_damage(cx, &log)?;
        say_found(cx, &log);
    }
    Ok(verification)
}

/// For a store that cannot be opened, or not read to its end: what is wrong with its pages, if that is the cause.
fn unopened(cx: &Context, args: &VerifyArgs, why: String) -> Result<Verification, Failure> {
    // Another process may be writing to the file.
    let found = match (owner::reach(&args.store.store), Verification::of_pages(&args.store.store)) {
        // Whoever runs `verify` need not be told to.
        (Ok(None), Ok(found)) if !found.ok() || is_damaged(&args.store.store) => {
            found.and_not_opened(why.split("; `attestlog verify`").next().unwrap_or_default())
        }
        // Damage is an answer about a store.
        (Ok(None), Err(e)) if e.kind() == ErrorKind::NotAStore => return Err(args.store.failed(e)),
        _ => return Err(Failure::Store(why)),
    };
    say_kept(cx, found.note_beside(&args.store.store, SystemClock::default().now()).map(Some));
    Ok(found)
}

/// Whether damage is why a store cannot be opened or verified, although its pages are as they were written: somebody who repairs their
/// checksums can do that too.
fn is_damaged(store: &Path) -> bool {
    let verified = Options::new().read_only().open(store).and_then(|log| log.verify(&VerifyOptions::new()));
    verified.is_err_and(|e| e.kind() == ErrorKind::Damaged)
}

/// Verifies with a progress bar, comparing with nothing from outside.
pub fn verify(cx: &Context, log: &AuditLog) -> attestlog::Result<Verification> {
    log.verify(&with_progress(cx, VerifyOptions::new()))
}

/// Verifies with a progress bar, and keeps findings for `health`; with `remember`, also the fact that there were none.
pub fn verify_with(
    cx: &Context,
    log: &AuditLog,
    options: VerifyOptions,
    remember: bool,
) -> attestlog::Result<Verification> {
    let verification = log.verify(&with_progress(cx, options))?;
    let news = verification.unsettled().next().is_some();
    if remember || news {
        let noted = log.verifications().note(&verification);
        // Somebody who may not write here, or has no space, can still verify.
        match (noted, news) {
            (Ok(_), false) => {}
            (Err(e), false) => cx.complain(format!("that the log was verified could not be remembered: {e}")),
            (noted, true) => say_kept(cx, noted),
        }
    }
    Ok(verification)
}

/// Says where findings are kept.
fn say_kept(cx: &Context, noted: attestlog::Result<Option<PathBuf>>) {
    match noted {
        Ok(None) => {}
        Ok(Some(file)) => cx.complain(format!(
            "what was found is kept in {}, and `health` shows it until it is settled (alerts settle)",
            file.display()
        )),
        Err(e) => cx.complain(format!(
            "what was found could not be kept beside the store, so `health` will not show it; keep this answer: {e}"
        )),
    }
}

/// Adds a progress bar to the options.
pub fn with_progress(cx: &Context, options: VerifyOptions) -> VerifyOptions {
    let progress = cx.progress("verifying", Unit::Entries);
    options.progress(Arc::new(move |done, total| progress.at(done, total)))
}

/// Writes the result for people. It never reads like a pass if nothing from outside was compared; `given` says whether something was
/// given to be compared.
pub fn show(of: &Verification, given: bool, out: &mut Out) -> io::Result<()> {
    for finding in &of.findings {
        let text = clean_json(&finding.to_string());
        out.line(match &finding.settled {
            None => out.styled(Style::Bad, &format!("✗ {text}")),
            Some(settled) => out.styled(Style::Warn, &format!("✗ {text} ({})", render::clean(&settled.to_string()))),
        })?;
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
        (n, _) if of.is_settled() => {
            let settled = if n == 1 { "settled" } else { "all of them settled" };
            (format!("{}, {settled}", counted(n, "finding", "findings")), Style::Warn)
        }
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
    let reach = format!("the first {} of {}", count(of.anchored_size), count(of.size));
    let anchored = match (of.anchored, of.anchored_size) {
        (true, _) => reach,
        (false, 0) if given => "no: nothing that was given to compare covers a part of this log".to_owned(),
        (false, 0) => "no: nothing kept elsewhere was compared (give --against FILE)".to_owned(),
        (false, _) => format!("{reach}, by what could be compared; a part of what was given could not be (see above)"),
    };
    paragraph("anchored", &anchored, out)?;
    if !of.not_authenticated.is_empty() {
        let tables = of.not_authenticated.join(", ");
        paragraph("tables", &format!("not authenticated, because the store's keys are not here: {tables}"), out)?;
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

/// Shown for a file that holds a newer commit than the one in force.
const UNFINISHED: &str = "it holds a commit that was not finished, newer than the one that counts. A crash in the middle of recording \
                          leaves it so, and nobody was told that it is recorded; changing one bit in a file that was not closed, to \
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

/// The words that follow "the newest".
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
