//! The books of a build: what was read, what was left out, and why.

use std::collections::BTreeMap;

use crate::{BadRow, Refusal};

/// Bad rows that are kept for a report.
const MAX_LISTED: usize = 20;

/// Counts the rows that were left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    n_bad: u64,
    first: Vec<BadRow>,
    refused: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Counts a bad row, with those that it takes along, and lists it if it is one of the first 20.
    pub fn leave_out(&mut self, row: BadRow) {
        self.n_bad = self.n_bad.saturating_add(row.fault.rows());
        if self.first.len() < MAX_LISTED {
            self.first.push(row);
        }
    }

    /// Counts a caption that a filter refused.
    pub fn refuse(&mut self, refusal: &Refusal) {
        *self.refused.entry(refusal.filter()).or_default() += 1;
    }

    /// Rows that could not be used. Where a damaged shard does not say how many it had, its rest
    /// counts as one.
    pub fn n_bad(&self) -> u64 {
        self.n_bad
    }

    /// The first 20 bad rows.
    pub fn first(&self) -> &[BadRow] {
        &self.first
    }

    /// Captions that each filter refused, by the filter's name.
    pub fn refused(&self) -> &BTreeMap<&'static str, u64> {
        &self.refused
    }
}
