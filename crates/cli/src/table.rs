//! Aligned tables that fit the terminal. Column widths are computed from the first few hundred rows and later rows are
//! streamed, so that ten million hits need no more memory than ten.

use super::render::{Out, Style, cut, width};
use std::borrow::Cow;
use std::io;

/// How many rows determine the width of a column.
const SAMPLE: usize = 500;
/// If nothing is cut, cells are padded up to this width.
const WIDEST_PADDED: usize = 60;
/// The minimum width to which a column is squeezed.
const NARROWEST: usize = 6;

/// One column.
#[derive(Debug, Clone)]
pub struct Column {
    /// Its heading.
    pub title: Cow<'static, str>,
    /// Whether it is aligned to the right, as numbers are.
    pub right: bool,
    /// Whether it is shown whole however narrow the terminal is: half a number is a different number.
    pub whole: bool,
}

/// A column of text, which may be cut.
pub const fn left(title: &'static str) -> Column {
    Column { title: Cow::Borrowed(title), right: false, whole: false }
}

/// A column of text that is never cut: times, single words.
pub const fn whole(title: &'static str) -> Column {
    Column { title: Cow::Borrowed(title), right: false, whole: true }
}

/// A column of numbers.
pub const fn right(title: &'static str) -> Column {
    Column { title: Cow::Borrowed(title), right: true, whole: true }
}

/// One cell: text that is already clean, and its style.
pub type Cell = (String, Style);

/// A table being written.
pub struct Table<'a> {
    out: &'a mut Out,
    columns: Vec<Column>,
    waiting: Vec<Vec<Cell>>,
    widths: Option<Vec<usize>>,
}

impl<'a> Table<'a> {
    /// A table with these columns.
    pub fn new(out: &'a mut Out, columns: &[Column]) -> Table<'a> {
        Table { out, columns: columns.to_vec(), waiting: Vec::new(), widths: None }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<Cell>) -> io::Result<()> {
        if let Some(widths) = &self.widths {
            return write_row(self.out, &self.columns, widths, &cells);
        }
        self.waiting.push(cells);
        if self.waiting.len() >= SAMPLE { self.lay_out() } else { Ok(()) }
    }

    /// Writes the remaining rows. A table without rows prints nothing.
    pub fn finish(mut self) -> io::Result<()> {
        if self.widths.is_none() && !self.waiting.is_empty() {
            self.lay_out()?;
        }
        Ok(())
    }

    fn lay_out(&mut self) -> io::Result<()> {
        let widest = |i: usize, column: &Column| {
            let cells = self.waiting.iter().filter_map(|row| row.get(i)).map(|(text, _)| width(text));
            cells.max().unwrap_or(0).max(width(&column.title))
        };
        let mut widths: Vec<usize> = self.columns.iter().enumerate().map(|(i, c)| widest(i, c)).collect();
        match self.out.width() {
            Some(limit) => fit(&mut widths, &self.columns, limit),
            // In a file nothing is cut, but one long cell must not push all the others apart.
            None => widths.iter_mut().for_each(|w| *w = (*w).min(WIDEST_PADDED)),
        }
        let titles: Vec<Cell> = self.columns.iter().map(|c| (c.title.clone().into_owned(), Style::Bold)).collect();
        write_row(self.out, &self.columns, &widths, &titles)?;
        for row in std::mem::take(&mut self.waiting) {
            write_row(self.out, &self.columns, &widths, &row)?;
        }
        self.widths = Some(widths);
        Ok(())
    }
}

/// Narrows the widest column that may be cut until the row fits.
fn fit(widths: &mut [usize], columns: &[Column], limit: usize) {
    let gaps = widths.len().saturating_sub(1) * 2;
    while widths.iter().sum::<usize>() + gaps > limit {
        let texts = widths.iter_mut().zip(columns).filter(|(w, c)| !c.whole && **w > NARROWEST);
        match texts.map(|(w, _)| w).max() {
            Some(widest) => *widest -= 1,
            None => return,
        }
    }
}

fn write_row(out: &mut Out, columns: &[Column], widths: &[usize], cells: &[Cell]) -> io::Result<()> {
    let mut line = String::new();
    let mut owed = 0;
    for ((column, &wide), (text, style)) in columns.iter().zip(widths).zip(cells) {
        let text = match out.width() {
            Some(_) if !column.whole => cut(text, wide),
            _ => text.clone(),
        };
        let pad = wide.saturating_sub(width(&text));
        // Blanks at the end of a line are left out.
        let before = owed + if column.right { pad } else { 0 };
        if !text.is_empty() {
            line.extend(std::iter::repeat_n(' ', before));
            line.push_str(&out.styled(*style, &text));
            owed = if column.right { 2 } else { pad + 2 };
        } else {
            owed += wide + 2;
        }
    }
    out.line(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squeezes_the_widest_text_and_no_number() {
        let columns = [right("SEQ"), left("USER"), left("TEXT")];
        let mut widths = [10, 8, 90];
        fit(&mut widths, &columns, 60);
        assert_eq!(widths, [10, 8, 38]);
        fit(&mut widths, &columns, 20);
        assert_eq!(widths, [10, 6, 6]);
    }
}
