//! The report as one HTML page: it loads nothing, runs nothing, and suits a screen and printing on A4 or Letter.
//!
//! Invariant: text reaches the page only through [`Page::text`] or [`Page::value`]; both escape it.

use super::{Access, AccessReport, Statement, Subject, Tally};
use crate::text::{html, shortened};
use crate::zone::Zone;
use attestlog::Timestamp;
use std::fmt::Write;

/// Longer ids are shortened in the middle; JSON and CSV have them in full.
const MAX_VALUE: usize = 96;
/// Above this length of its description of what was viewed, a row fills much of a page.
const TALL: usize = 600;
const STYLE: &str = include_str!("report.css");

impl AccessReport {
    /// The report as a self-contained HTML page.
    pub fn to_html(&self) -> String {
        let context = self.context();
        let mut page = Page { out: String::with_capacity(16_000 + 600 * self.rows().len()), zone: context.zone };
        page.head(self);
        page.tag("<header><h1>");
        page.text(context.subject.title());
        page.tag("</h1><p class=\"lead\">");
        page.text(context.subject.noun());
        page.tag(" <strong>");
        page.value(context.subject.shown());
        page.tag("</strong>, ");
        page.text(&context.period_text());
        page.tag("</p>");
        if let Some(sentence) = self.unknown() {
            page.tag("<p class=\"bad\">UNKNOWN TO THIS LOG. ");
            page.text(&sentence);
            page.tag("</p>");
        }
        page.particulars(self);
        page.tag("</header>\n<main>");
        page.standing(self);
        page.figures(self);
        page.emergencies(self);
        page.tallies(self);
        page.accesses(self);
        page.tag("</main>\n");
        page.footer(self);
        page.tag("</body></html>\n");
        page.out
    }
}

struct Page {
    out: String,
    /// In which times are shown.
    zone: Zone,
}

impl Page {
    /// Adds markup that is constant in this file.
    fn tag(&mut self, markup: &'static str) {
        self.out.push_str(markup);
    }

    /// Adds text that is constant in this file, or made of numbers and times.
    fn text(&mut self, text: &str) {
        self.out.push_str(&html(text));
    }

    /// Adds text from outside: shortened, escaped, and isolated from the writing direction of its surroundings.
    fn value(&mut self, value: &str) {
        self.tag("<bdi>");
        self.text(&shortened(value, MAX_VALUE));
        self.tag("</bdi>");
    }

    fn opt_value(&mut self, value: Option<&str>, otherwise: &str) {
        match value {
            Some(value) => self.value(value),
            None => self.text(otherwise),
        }
    }

    fn particulars(&mut self, report: &AccessReport) {
        let context = report.context();
        let made = context.generated_at.map(|at| self.zone.moment_named(at));
        if context.recorded_as.is_empty() && context.log.is_none() && made.is_none() {
            return;
        }
        self.tag("<dl>");
        context.recorded_as.iter().for_each(|known| self.term("Known to the log as", known));
        context.log.iter().for_each(|log| self.term("Log", log));
        context.size.iter().for_each(|size| self.term("Entries in the log", &size.to_string()));
        context.root.iter().for_each(|root| self.term("Root of the log at that size", &root.to_string()));
        context.public_key.iter().for_each(|key| self.whole_term("Public key of the log", key));
        made.iter().for_each(|at| self.term("Report made", at));
        self.tag("</dl>");
    }

    fn term(&mut self, name: &str, value: &str) {
        self.tag("<dt>");
        self.text(name);
        self.tag("</dt><dd>");
        self.value(value);
        self.tag("</dd>");
    }

    /// A value that is of no use if it is shortened.
    fn whole_term(&mut self, name: &str, value: &str) {
        self.tag("<dt>");
        self.text(name);
        self.tag("</dt><dd><bdi>");
        self.text(value);
        self.tag("</bdi></dd>");
    }

    fn head(&mut self, report: &AccessReport) {
        self.tag(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
             <meta name=\"referrer\" content=\"no-referrer\"><meta name=\"robots\" content=\"noindex\"><title>",
        );
        let subject = &report.context().subject;
        self.text(&format!("{}: {}", subject.title(), shortened(subject.shown(), 60)));
        self.tag("</title><style>\n");
        self.tag(STYLE);
        self.tag("</style></head>\n<body>");
    }

    /// Integrity, anchoring and purges: how reliable the report is, stated before its contents.
    fn standing(&mut self, report: &AccessReport) {
        self.tag("<section aria-labelledby=\"standing\"><h2 id=\"standing\">What stands behind this report</h2>");
        self.tag("<div class=\"statements\">");
        for (name, Statement { good, word, sentence }) in
            [("Integrity of the log", report.integrity()), ("Outside confirmation", report.anchoring())]
        {
            self.tag(if good { "<div class=\"statement good\"><h3>" } else { "<div class=\"statement\"><h3>" });
            self.text(name);
            self.tag("</h3><p class=\"word\">");
            self.tag(if good {
                "<span aria-hidden=\"true\">\u{2713}</span> "
            } else {
                "<span aria-hidden=\"true\">\u{2717}</span> "
            });
            self.text(word);
            self.tag("</p><p>");
            self.text(&sentence);
            self.tag("</p></div>");
        }
        self.tag("<div class=\"statement neutral\"><h3>Purged by policy</h3><p class=\"word\">");
        let purged = report.context().purged.iter().fold(0u64, |sum, p| sum.saturating_add(p.count));
        match purged {
            0 => self.text("NONE RECORDED"),
            1 => self.text("1 ENTRY PURGED"),
            n => self.text(&format!("{n} ENTRIES PURGED")),
        }
        self.tag("</p>");
        for sentence in report.purges() {
            self.tag("<p>");
            self.text(&sentence);
            self.tag("</p>");
        }
        self.tag("</div></div></section>\n");
    }

    fn figures(&mut self, report: &AccessReport) {
        let totals = report.totals();
        let by_user = matches!(report.context().subject, Subject::User(_));
        let accounting = matches!(report.context().subject, Subject::Disclosures(_));
        let mut figures = vec![(totals.accesses, if accounting { "disclosures" } else { "accesses" })];
        figures.push(if by_user { (totals.patients, "distinct patients") } else { (totals.users, "distinct users") });
        figures.push((totals.failed, "failed or refused"));
        figures.push((totals.unfinished, "unfinished"));
        figures.push((totals.emergencies, "in an emergency"));
        if accounting {
            figures.push((totals.routine_left_out, "left out: treatment, payment, operations"));
            figures.push((totals.undisclosed_left_out, "left out: nothing disclosed"));
        }
        self.tag("<section aria-labelledby=\"figures\"><h2 id=\"figures\">In figures</h2><ul class=\"figures\">");
        for (n, what) in figures {
            let _ = write!(self.out, "<li><b>{n}</b> <span>");
            self.text(what);
            self.tag("</span></li>");
        }
        self.tag("</ul>");
        if let Some(sentence) = report.doubtful_times() {
            self.tag("<p class=\"bad\">");
            self.text(&sentence);
            self.tag("</p>");
        }
        if !totals.purposes.is_empty() {
            self.tag("<p class=\"purposes\"><span>By purpose:</span> <bdi>");
            self.text(&report.purposes());
            self.tag("</bdi></p>");
        }
        self.tag("</section>\n");
    }

    fn emergencies(&mut self, report: &AccessReport) {
        let grants = report.grants(MAX_VALUE);
        if grants.is_empty() {
            return;
        }
        let by_user = matches!(report.context().subject, Subject::User(_));
        self.tag(
            "<section aria-labelledby=\"emergencies\"><h2 id=\"emergencies\">Emergency access</h2>\
             <div class=\"wide\" role=\"region\" tabindex=\"0\" aria-labelledby=\"emergencies\"><table class=\"grants\">\
             <thead><tr><th scope=\"col\" class=\"number\">Grant</th><th scope=\"col\">User</th>",
        );
        self.tag(if by_user { "<th scope=\"col\">Patient</th>" } else { "" });
        self.tag(
            "<th scope=\"col\">Time</th><th scope=\"col\">Reason</th><th scope=\"col\">Used</th>\
             <th scope=\"col\">Review</th></tr></thead><tbody>\n",
        );
        for told in grants {
            let _ = write!(self.out, "<tr><td class=\"number\" data-label=\"Grant\">{}", told.seq);
            let patient = if by_user { &told.patient[..] } else { "" };
            let cells = [
                ("User", &told.user[..]),
                ("Patient", patient),
                ("Time", &told.time),
                ("Reason", &told.why),
                ("Used", &told.used),
            ];
            for (label, cell) in cells.into_iter().filter(|(label, _)| by_user || *label != "Patient") {
                self.cell(label);
                self.tag("<bdi>");
                self.text(cell);
                self.tag("</bdi>");
                if label == "Time" {
                    self.tag("<span class=\"sub\"><bdi>");
                    self.text(&told.ended);
                    self.tag("</bdi></span>");
                }
            }
            self.cell("Review");
            self.tag(if told.open { "<bdi class=\"bad\">" } else { "<bdi>" });
            self.text(&told.review);
            self.tag("</bdi></td></tr>\n");
        }
        self.tag("</tbody></table></div></section>\n");
    }

    fn tallies(&mut self, report: &AccessReport) {
        if report.tallies().is_empty() {
            return;
        }
        let by_user = matches!(report.context().subject, Subject::User(_));
        let heading = if by_user { "Whose data" } else { "Who" };
        self.tag("<section aria-labelledby=\"who\"><h2 id=\"who\">");
        self.text(heading);
        self.tag("</h2><div class=\"wide\" role=\"region\" tabindex=\"0\" aria-labelledby=\"who\"><table class=\"who\"><thead><tr><th scope=\"col\">");
        self.text(if by_user { "Patient" } else { "User" });
        self.tag(if by_user { "</th>" } else { "</th><th scope=\"col\">Roles</th>" });
        self.tag(
            "<th scope=\"col\" class=\"number\">Accesses</th><th scope=\"col\" class=\"number\">Failed</th>\
             <th scope=\"col\" class=\"number\">Emergency</th><th scope=\"col\">First</th>\
             <th scope=\"col\">Last</th></tr></thead><tbody>\n",
        );
        for tally in report.tallies() {
            self.tally(tally, by_user);
        }
        self.tag("</tbody></table></div></section>\n");
    }

    fn tally(&mut self, tally: &Tally, by_user: bool) {
        self.tag("<tr><th scope=\"row\">");
        self.value(&tally.name);
        self.tag("</th>");
        if !by_user {
            self.tag("<td data-label=\"Roles\">");
            for (i, role) in tally.roles.iter().enumerate() {
                self.text(if i > 0 { ", " } else { "" });
                self.value(role);
            }
            self.tag("</td>");
        }
        for (label, n) in [("Accesses", tally.accesses), ("Failed", tally.failed), ("Emergency", tally.emergencies)] {
            let _ = write!(self.out, "<td class=\"number\" data-label=\"{label}\">{n}</td>");
        }
        for (label, t) in [("First", tally.first), ("Last", tally.last)] {
            let _ = write!(self.out, "<td data-label=\"{label}\">");
            self.time(t, &self.zone.moment(t));
            self.tag("</td>");
        }
        self.tag("</tr>\n");
    }

    fn accesses(&mut self, report: &AccessReport) {
        self.tag("<section aria-labelledby=\"accesses\"><h2 id=\"accesses\">");
        let accounting = matches!(report.context().subject, Subject::Disclosures(_));
        self.text(if accounting { "Every disclosure" } else { "Every access" });
        self.tag("</h2>");
        if report.rows().is_empty() {
            self.tag("<p>No accesses in this period.</p></section>\n");
            return;
        }
        let by_user = matches!(report.context().subject, Subject::User(_));
        self.tag(
            "<div class=\"wide\" role=\"region\" tabindex=\"0\" aria-labelledby=\"accesses\"><table class=\"accesses\"><caption>Names of fields and ids of records only, never what stood in them. \
             Times are ",
        );
        self.text(report.context().zone.name());
        self.tag(
            ".</caption><thead><tr><th scope=\"col\" class=\"number\">Entry</th><th scope=\"col\">Time</th>\
             <th scope=\"col\">",
        );
        self.text(if by_user { "Patient" } else { "User" });
        self.tag(
            "</th><th scope=\"col\">Through</th><th scope=\"col\">Tool</th><th scope=\"col\">Viewed</th>\
             <th scope=\"col\">Purpose</th><th scope=\"col\">Outcome</th></tr></thead><tbody>\n",
        );
        for row in report.rows() {
            self.access(row, by_user);
        }
        self.tag("</tbody></table></div></section>\n");
    }

    fn access(&mut self, row: &Access, by_user: bool) {
        let (fields, ids) = row.viewed.texts(MAX_VALUE);
        // A row that takes up most of a page may be broken across pages, others may not.
        self.tag(if fields.len() + ids.len() > TALL { "<tr class=\"tall\">" } else { "<tr>" });
        let _ = write!(self.out, "<td class=\"number\" data-label=\"Entry\">{}", row.seq);
        if let Some(finished) = row.answered_seq.or(row.finished_seq) {
            let _ = write!(self.out, "<span class=\"sub\">to {finished}</span>");
        }
        self.tag("</td><td class=\"time\" data-label=\"Time\">");
        let time = self.zone.moment(row.timestamp);
        let (day, clock) = time.split_once(' ').unwrap_or((&time, ""));
        let _ = write!(self.out, "<time datetime=\"{}\">{day}<span>{clock}</span></time>", row.timestamp);
        if let Some(claimed) = row.claimed_time {
            self.tag("<span class=\"sub bad\">recorded ");
            self.time(row.recorded_at, &self.zone.moment(row.recorded_at));
            self.text(&format!(" ({claimed})"));
            self.tag("</span>");
        } else if row.recorded_apart() {
            self.tag("<span class=\"sub\">recorded ");
            self.time(row.recorded_at, &self.zone.moment(row.recorded_at));
            self.tag("</span>");
        }
        if row.by_wrong_clock {
            self.tag("<span class=\"sub bad\">recorded by a clock that may have been wrong</span>");
        }
        self.cell(if by_user { "Patient" } else { "User" });
        if by_user {
            for (i, patient) in row.patients.iter().enumerate() {
                self.text(if i > 0 { ", " } else { "" });
                self.value(patient);
            }
            if row.patients.is_empty() {
                self.text("none named");
            }
        } else {
            self.value(&row.accessed_by);
            self.sub(row.role.as_deref());
        }
        self.cell("Through");
        self.opt_value(row.agent.as_deref().or(row.model.as_deref()), "not stated");
        self.sub(row.agent.as_ref().and(row.model.as_deref()));
        self.cell("Tool");
        self.value(&row.tool);
        self.sub(row.server.as_deref());
        self.cell("Viewed");
        if fields.is_empty() && ids.is_empty() {
            self.text(if row.success() == Some(true) { "not recorded" } else { "nothing recorded" });
        }
        self.tag("<bdi>");
        self.text(&fields);
        self.tag("</bdi>");
        if !ids.is_empty() {
            self.tag("<span class=\"sub\"><bdi>");
            self.text(&ids);
            self.tag("</bdi></span>");
        }
        self.cell("Purpose");
        self.opt_value(row.purpose.as_deref(), "not stated");
        self.cell("Outcome");
        self.tag(if row.success() == Some(true) { "<span>" } else { "<span class=\"bad\">" });
        self.text(row.outcome_words());
        self.tag("</span>");
        if row.showed_data {
            self.tag("<span class=\"sub\">data shown</span>");
        }
        if row.emergency {
            self.tag(" <span class=\"badge\">EMERGENCY</span>");
        }
        if let Some(grant) = row.grant {
            let _ = write!(self.out, "<span class=\"sub\">grant {grant}</span>");
        }
        if let Some(misuse) = row.misuse {
            self.tag("<span class=\"sub bad\">");
            self.text(&misuse.to_string());
            self.tag("</span>");
        }
        if row.backfilled {
            self.tag("<span class=\"sub\">imported</span>");
        }
        self.tag("</td></tr>\n");
    }

    /// Ends a cell and begins the next. Where the screen is too narrow for a table, each row is a card and each cell has its label.
    fn cell(&mut self, label: &'static str) {
        self.tag("</td><td data-label=\"");
        self.text(label);
        self.tag("\">");
    }

    fn sub(&mut self, value: Option<&str>) {
        if let Some(value) = value {
            self.tag("<span class=\"sub\">");
            self.value(value);
            self.tag("</span>");
        }
    }

    fn time(&mut self, t: Timestamp, shown: &str) {
        let _ = write!(self.out, "<time datetime=\"{t}\">{shown}</time>");
    }

    fn footer(&mut self, report: &AccessReport) {
        self.tag(
            "<footer><p>Attempts that failed, were refused or never ended are listed as accesses. \
             \u{201c}Entry\u{201d} is the number under which the log holds the access; a proof of any entry can be made \
             with <code>attestlog prove</code> and checked without the log. Values of more than 96 characters are \
             shortened here; the JSON and CSV forms of this report have them whole.</p>",
        );
        if matches!(report.context().subject, Subject::Disclosures(_)) {
            self.tag(
                "<p>Left out, and counted above: disclosures for treatment, payment and health care operations, and calls \
                 that a tool refused or failed to answer. A call without a stated purpose is never left out.</p>",
            );
        }
        self.tag("</footer>\n");
    }
}
