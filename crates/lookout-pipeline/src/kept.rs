//! Tells once that what was said cannot be kept, and once that it can be again: a full disk would otherwise
//! write a line for each event, into a log on the same disk.

use std::collections::BTreeMap;

use lookout_core::{CameraMemory, Id, PortError, Remember};

/// A memory whose failures are logged where they begin and where they end.
pub(crate) struct Told {
    memory: Box<dyn Remember>,
    failing: Failing,
}

/// How often something has failed since it last went well.
#[derive(Debug, Default)]
struct Failing(u64);

/// What is worth a line.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Failed,
    /// After so many failures.
    Recovered(u64),
}

impl Failing {
    fn turn(&mut self, is_good: bool) -> Option<Turn> {
        let n = self.0;
        self.0 = if is_good { 0 } else { n.saturating_add(1) };
        match (n, is_good) {
            (0, false) => Some(Turn::Failed),
            (1.., true) => Some(Turn::Recovered(n)),
            _ => None,
        }
    }
}

impl Told {
    pub(crate) fn of(memory: Box<dyn Remember>) -> Self {
        Self { memory, failing: Failing::default() }
    }
}

impl Remember for Told {
    fn remember(&mut self, cameras: &BTreeMap<Id, CameraMemory>) -> Result<(), PortError> {
        let result = self.memory.remember(cameras);
        match (self.failing.turn(result.is_ok()), &result) {
            (Some(Turn::Failed), Err(error)) => tracing::error!(
                "What was said is not kept for the next start: {error}; said once until it is."
            ),
            (Some(Turn::Recovered(failures)), _) => {
                tracing::info!(failures, "What was said is kept for the next start again.");
            }
            _ => {}
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_where_failures_begin_and_one_with_their_number_where_they_end() {
        let mut failing = Failing::default();
        let turns: Vec<Option<Turn>> = [true, false, false, false, true, true, false, true]
            .into_iter()
            .map(|is_good| failing.turn(is_good))
            .collect();
        let (failed, recovered) = (Some(Turn::Failed), |n| Some(Turn::Recovered(n)));
        let expected =
            [None, failed, None, None, recovered(3), None, Some(Turn::Failed), recovered(1)];
        assert_eq!(turns, expected);
    }
}
