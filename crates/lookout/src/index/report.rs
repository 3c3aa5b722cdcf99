//! What a build tells at its end about what was left out.

use std::path::Path;

use lookout_sources::Tally;

use crate::output;

/// Counts what was left out and lists the first bad rows, on standard error.
pub(super) fn left_out(source: &Path, tally: &Tally) {
    let path = source.display();
    if !tally.refused().is_empty() {
        let each: Vec<String> =
            tally.refused().iter().map(|it| format!("{} {}", it.1, it.0)).collect();
        output::complain(&format!("{path}: refused by filters: {}", each.join(", ")));
    }
    if 0 < tally.n_bad() {
        let n = tally.n_bad();
        let rows = if n == 1 { "row" } else { "rows" };
        output::complain(&format!("{path}: {n} {rows} left out:"));
        for row in tally.first() {
            output::complain(&format!("    {}", output::one_line(row)));
        }
        let n_more = n.saturating_sub(tally.first().len() as u64);
        if 0 < n_more {
            output::complain(&format!("    and {n_more} more"));
        }
    }
}

/// Why there is no index, in a sentence.
pub(super) fn nothing(source: &Path, tally: &Tally) -> String {
    let n_refused: u64 = tally.refused().values().sum();
    let first = tally.first().first();
    format!(
        "{} has no usable caption in {}{}{}; `lookout index build --help` says what a source \
         must be",
        source.display(),
        output::count(tally.n_bad() + n_refused, "row"),
        if 0 < n_refused {
            format!(", {n_refused} of them refused by filters")
        } else {
            String::new()
        },
        first.map(|it| format!(", the first faulty one being {it}")).unwrap_or_default()
    )
}
