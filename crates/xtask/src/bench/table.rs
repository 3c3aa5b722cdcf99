//! The table of a contest, as Markdown.

use std::fmt::Write;

use anyhow::Context;

use super::contest::{Contestant, quantile};

/// How ours stands to the hardest of the others.
#[derive(Debug, PartialEq)]
pub(crate) struct Outcome {
    /// Of the paired rounds, with the form that it is the ratio to.
    paired: (f64, String),
    /// Of the best times, likewise.
    best: (f64, String),
}

impl Outcome {
    /// The ratios in one line.
    pub(crate) fn describe(&self) -> String {
        let Self { paired: (paired, to), best: (best, best_to) } = self;
        format!("{paired:.2} in paired rounds ({to}), {best:.2} by best time ({best_to})")
    }

    /// Whether the goal is met, judged as printed.
    pub(crate) fn is_met(&self) -> bool {
        (self.paired.0 * 100.0).round() <= 100.0
    }
}

/// What the columns mean.
pub(crate) const LEGEND: &str = "\
Best and median: CPU time of one picture, encoder alone, over all rounds, in milliseconds.
Ours / it, paired: in each round our median picture over its median picture; the median of the rounds,
and the middle half of them. Ours / it, best: the best times' ratio. Below 1 we are quicker.
Load: CPU time (time that passed) from the file to a model that can run, files cached.
Memory: most resident memory of loading and running. Cosine: least of the first 8 sample pictures, to
the float file's embedding without graph optimization; ours with its own decoding and resizing.
Run by: for onnxruntime the operators that most time goes to, and the instruction set that its matrix
library (MLAS) takes by its rule from what the processor shows; it cannot be asked.
Goal: at most 1.00 in paired rounds to the form of onnxruntime that is hardest to beat.";

/// Rows in the order of `contestants`, and the ratios that the goal is about.
pub(crate) fn render(contestants: &[Contestant]) -> anyhow::Result<(String, Outcome)> {
    let best_of = |it: &Contestant| it.best_ms().context("nothing was measured");
    let ours = contestants.iter().find(|it| it.is_ours()).context("we are missing")?;
    let our_best = best_of(ours)?;
    let mut text = "\
| | best ms | median ms | ours / it, paired | ours / it, best | load ms | memory MiB | cosine | run by |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"
    .to_owned();
    let mut hardest: [Option<(f64, String)>; 2] = [None, None];
    for it in contestants {
        let best = best_of(it)?;
        let median = it.median_ms().context("nothing was measured")?;
        let report = it.report()?;
        let mut ratios = [String::new(), String::new()];
        if !it.is_ours() {
            let rounds = ours.paired_ratios(it);
            let part = |part| quantile(rounds.iter().copied(), part).context("no round");
            let (low, middle, high) = (part(0.25)?, part(0.5)?, part(0.75)?);
            ratios =
                [format!("{middle:.2} ({low:.2} to {high:.2})"), format!("{:.2}", our_best / best)];
            for (hardest, ratio) in hardest.iter_mut().zip([middle, our_best / best]) {
                if hardest.as_ref().is_none_or(|(most, _)| *most < ratio) {
                    *hardest = Some((ratio, it.name().to_owned()));
                }
            }
        }
        let [paired, by_best] = ratios;
        let memory = match (report.peak_mib, report.empty_mib) {
            (None, _) => "unknown".to_owned(),
            (Some(peak), None) => peak.to_string(),
            (Some(peak), Some(empty)) => format!("{peak} ({empty} before the model)"),
        };
        writeln!(
            text,
            "| {} | {best:.2} | {median:.2} | {paired} | {by_best} | {:.0} ({:.0}) | {memory} | {:.5} | {} |",
            it.name(),
            report.load_ms,
            report.load_wall_ms,
            report.cosine_min,
            it.run_by()?,
        )?;
    }
    let [Some(paired), Some(best)] = hardest else { anyhow::bail!("we ran alone") };
    Ok((text, Outcome { paired, best }))
}

#[cfg(test)]
mod tests {
    use super::super::contest::compete;
    use super::super::contest::tests::{REPORT, answering, scripted};
    use super::*;

    #[test]
    fn the_ratio_is_to_the_form_that_is_hardest_to_beat() {
        let mut all = [
            scripted("ours", None, &answering("[4.0,5.0,9.0]", REPORT)),
            scripted("float", Some("f"), &answering("[8.0,8.0,8.0]", REPORT)),
            scripted("dynamic", Some("d"), &answering("[5.0,10.0,10.0]", REPORT)),
        ];
        compete(&mut all, 2, 3).expect("all should finish");
        let (table, outcome) = render(&all).expect("a table");
        let row = "| ours | 4.00 | 5.00 |  |  | 1 (2) | 20 | 0.90000 | x |\n";
        assert!(table.contains(row), "{table}");
        let row = "| float | 8.00 | 8.00 | 0.62 (0.62 to 0.62) | 0.50 |";
        assert!(table.contains(row), "{table}");
        assert_eq!(outcome.paired, (0.625, "float".to_owned()));
        assert_eq!(outcome.best, (0.8, "dynamic".to_owned()));
    }

    #[test]
    fn the_goal_is_judged_by_paired_rounds_as_printed() {
        let outcome = |paired| Outcome { paired: (paired, "a".into()), best: (1.5, "b".into()) };
        let met = outcome(1.004);
        assert_eq!(met.describe(), "1.00 in paired rounds (a), 1.50 by best time (b)");
        assert!(met.is_met());
        assert!(!outcome(1.006).is_met());
    }

    #[test]
    fn nothing_is_won_alone() {
        let mut one = [scripted("ours", None, &answering("[4.0]", REPORT))];
        compete(&mut one, 1, 1).expect("it should finish");
        assert!(render(&one).is_err());
    }
}
