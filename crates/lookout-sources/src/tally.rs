//! The books of a build: what was read, what was left out, and why.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{BadRow, Refusal};

/// Bad rows that are kept for a report.
const MAX_LISTED: usize = 20;

/// Counts the rows that were left out. It can be written down and gone on with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    n_bad: u64,
    first: Vec<String>,
    refused: BTreeMap<String, u64>,
}

impl Tally {
    /// Counts a bad row, with those that it takes along, and lists it if it is one of the first 20.
    pub fn leave_out(&mut self, row: &BadRow) {
        self.n_bad = self.n_bad.saturating_add(row.fault.rows());
        if self.first.len() < MAX_LISTED {
            self.first.push(row.to_string());
        }
    }

    /// Counts a caption that a filter refused.
    pub fn refuse(&mut self, refusal: &Refusal) {
        *self.refused.entry(refusal.filter().to_owned()).or_default() += 1;
    }

    /// Rows that could not be used. Where a damaged shard does not say how many it had, its rest
    /// counts as one.
    pub fn n_bad(&self) -> u64 {
        self.n_bad
    }

    /// The first 20 bad rows, each as its place and what is wrong.
    pub fn first(&self) -> &[String] {
        &self.first
    }

    /// Captions that each filter refused, by the filter's name.
    pub fn refused(&self) -> &BTreeMap<String, u64> {
        &self.refused
    }
}
