//! A table with headings and tab-separated columns, read whole. There is no quoting.

use std::path::{Path, PathBuf};

use crate::SourceError;
use crate::files::read_small;

const MAX_BYTES: usize = 1 << 30;

pub(crate) struct Table {
    text: String,
    /// Where each wanted column stands; optional ones may be missing.
    columns: Vec<Option<usize>>,
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
        let wrong = |line, problem| SourceError::Set { path: PathBuf::from(path), line, problem };
        let bytes = read_small(path, MAX_BYTES)
            .map_err(|source| SourceError::Read { path: path.to_path_buf(), source })?
            .ok_or_else(|| wrong(None, format!("the file must have at most {MAX_BYTES} bytes")))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| wrong(None, "the file must be UTF-8".to_owned()))?;
        let first = text.lines().next().unwrap_or_default();
        let headings: Vec<&str> =
            first.trim_start_matches('\u{feff}').split('\t').map(str::trim).collect();
        let mut columns = Vec::new();
        for (at, name) in required.iter().chain(optional).enumerate() {
            let column = headings.iter().position(|it| it.eq_ignore_ascii_case(name));
            if column.is_none() && at < required.len() {
                let got = headings.join(", ");
                let problem = format!("there must be a column headed `{name}`, got {got:?}");
                return Err(wrong(Some(1), problem));
            }
            columns.push(column);
        }
        Ok(Self { text, columns })
    }

    /// The lines below the headings.
    pub(crate) fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let below = (1..).zip(self.text.lines()).skip(1);
        below.filter(|(_, it)| !it.trim().is_empty()).map(|(number, it)| {
            let all: Vec<&str> = it.split('\t').collect();
            let cell =
                |at: &Option<usize>| at.and_then(|it| all.get(it)).map_or("", |it| it.trim());
            Line { number, cells: self.columns.iter().map(cell).collect() }
        })
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
