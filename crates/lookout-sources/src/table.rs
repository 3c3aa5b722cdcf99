//! A table with headings and tab-separated columns, read whole. There is no quoting, and a heading that is
//! asked for stands once.

use std::path::{Path, PathBuf};

use crate::SourceError;
use crate::files::read_text;

const MAX_BYTES: usize = 1 << 30;

pub(crate) struct Table {
    path: PathBuf,
    text: String,
    /// Where each wanted column stands; optional ones may be missing.
    columns: Vec<Option<usize>>,
    n_headings: usize,
    n_required: usize,
}

/// A line of a table that is not blank.
pub(crate) struct Line<'a> {
    /// From 1.
    pub(crate) number: usize,
    cells: Vec<&'a str>,
}

impl Table {
    /// Reads the columns headed `required` and `optional`, in that order.
    pub(crate) fn read(
        path: &Path,
        required: &[&str],
        optional: &[&str],
    ) -> Result<Self, SourceError> {
        let wrong =
            |problem| SourceError::Set { path: PathBuf::from(path), line: Some(1), problem };
        let text = read_text(path, MAX_BYTES)?;
        let first = text.lines().next().unwrap_or_default();
        let headings: Vec<&str> =
            first.trim_start_matches('\u{feff}').split('\t').map(str::trim).collect();
        let mut columns = Vec::new();
        for (at, name) in required.iter().chain(optional).enumerate() {
            let mut places =
                (0..headings.len()).filter(|it| headings[*it].eq_ignore_ascii_case(name));
            let column = places.next();
            if column.is_none() && at < required.len() {
                let got = headings.join(", ");
                return Err(wrong(format!(
                    "there must be a column headed `{name}`, with tabs between columns, got {got:?}"
                )));
            }
            if let (Some(first), Some(second)) = (column, places.next()) {
                return Err(wrong(format!(
                    "one column must be headed `{name}`, got columns {} and {}",
                    first + 1,
                    second + 1
                )));
            }
            columns.push(column);
        }
        let (n_headings, n_required) = (headings.len(), required.len());
        Ok(Self { path: path.to_path_buf(), text, columns, n_headings, n_required })
    }

    /// The lines below the headings. One errs that has more cells than there are headings, or ends before
    /// a required column; optional cells at its end may be missing.
    pub(crate) fn lines(&self) -> impl Iterator<Item = Result<Line<'_>, SourceError>> {
        let below = (1..).zip(self.text.lines()).skip(1);
        below.filter(|(_, it)| !it.trim().is_empty()).map(|(number, it)| self.line(number, it))
    }

    fn line<'a>(&self, number: usize, text: &'a str) -> Result<Line<'a>, SourceError> {
        let cells: Vec<&str> = text.split('\t').map(str::trim).collect();
        let required = self.columns.iter().take(self.n_required).flatten();
        let least = required.max().map_or(0, |last| last + 1);
        let (most, got) = (self.n_headings, cells.len());
        if !(least..=most).contains(&got) {
            let rule = match least == most {
                true => format!("a line must have {most} cells, as the headings"),
                false => format!("a line must have {least} to {most} cells, as the headings"),
            };
            let (path, line) = (self.path.clone(), Some(number));
            return Err(SourceError::Set { path, line, problem: format!("{rule}, got {got}") });
        }
        let cell = |at: &Option<usize>| at.and_then(|it| cells.get(it)).copied().unwrap_or("");
        Ok(Line { number, cells: self.columns.iter().map(cell).collect() })
    }
}

impl<'a> Line<'a> {
    /// What stands in a column, by its position among those that were asked for; nothing where the line
    /// is too short.
    pub(crate) fn get(&self, column: usize) -> &'a str {
        self.cells[column]
    }
}

/// The parts of a cell, without those that are blank.
pub(crate) fn parts<'a>(cell: &'a str, separator: &'a str) -> impl Iterator<Item = &'a str> {
    cell.split(separator).map(str::trim).filter(|it| !it.is_empty())
}
