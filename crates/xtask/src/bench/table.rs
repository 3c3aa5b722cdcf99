//! The table of a contest, as Markdown.

use std::fmt::Write;

use anyhow::Context;

use super::contest::Contestant;

/// Rows in the order of `contestants`, then the two ratios that the goal is about.
pub(crate) fn print(contestants: &[Contestant]) -> String {
    render(contestants).unwrap_or_else(|error| format!("No table: {error:#}."))
}

fn render(contestants: &[Contestant]) -> anyhow::Result<String> {
    let times = |it: &Contestant| it.best_and_median_ms().context("nothing was measured");
    let ours = contestants.iter().find(|it| it.is_ours()).context("we are missing")?;
    let (our_best, our_median) = times(ours)?;
    let mut text = "\
| | best ms | median ms | ours / it, best | load ms | memory MiB | cosine to float | run by |
| --- | --- | --- | --- | --- | --- | --- | --- |
"
    .to_owned();
    let mut fastest: [Option<(&str, f64)>; 2] = [None; 2];
    for it in contestants {
        let (best, median) = times(it)?;
        let report = it.report()?;
        let ratio = if it.is_ours() { String::new() } else { format!("{:.2}", our_best / best) };
        let memory = match (report.peak_mib, report.empty_mib) {
            (None, _) => "unknown".to_owned(),
            (Some(peak), None) => peak.to_string(),
            (Some(peak), Some(empty)) => format!("{peak} ({empty} before the model)"),
        };
        writeln!(
            text,
            "| {} | {best:.2} | {median:.2} | {ratio} | {:.0} | {memory} | {:.5} | {} |",
            it.name(),
            report.load_ms,
            report.cosine_min,
            it.run_by()?,
        )?;
        if !it.is_ours() {
            for (fastest, time) in fastest.iter_mut().zip([best, median]) {
                if fastest.is_none_or(|(_, least)| time < least) {
                    *fastest = Some((it.name(), time));
                }
            }
        }
    }
    let [Some((best_name, best)), Some((median_name, median))] = fastest else {
        return Ok(text);
    };
    write!(
        text,
        "\nOurs / onnxruntime's best: {:.2} by best time ({best_name}), {:.2} by median \
         ({median_name}).",
        our_best / best,
        our_median / median,
    )?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::contest::compete;
    use super::super::contest::tests::{REPORT, answering, scripted};
    use super::*;

    #[test]
    fn the_ratio_is_to_the_fastest_form() {
        let mut all = [
            scripted("ours", None, &answering("[4.0,5.0,9.0]", REPORT)),
            scripted("float", Some("f"), &answering("[8.0,8.0,8.0]", REPORT)),
            scripted("dynamic", Some("d"), &answering("[5.0,10.0,10.0]", REPORT)),
        ];
        compete(&mut all, 1, 3).expect("all should finish");
        let table = print(&all);
        assert!(table.contains("| ours | 4.00 | 5.00 |  | 1 | 20 | 0.90000 | x |\n"), "{table}");
        assert!(table.contains("| float | 8.00 | 8.00 | 0.50 |"), "{table}");
        let last = table.lines().last().expect("a line");
        assert_eq!(
            last,
            "Ours / onnxruntime's best: 0.80 by best time (dynamic), 0.62 by median (float)."
        );
    }
}
