//! A calibration as text.

use std::time::Duration;

use lookout_core::Id;
use lookout_store::{CameraCalibration, KeptClass};

use crate::output;

pub(super) fn print(camera: &Id, it: &CameraCalibration) -> anyhow::Result<()> {
    output::line(text(camera, it))
}

fn text(camera: &Id, it: &CameraCalibration) -> String {
    let covered = time(it.covered_s);
    let made = it.made_s.and_then(date).map_or(String::new(), |it| format!(", {it}"));
    let mut text = format!(
        "camera {camera}: {} in {covered}{made}\n  temperature {:.2}: {}\n",
        output::count(it.n_frames, "frame"),
        it.temperature,
        match it.temperature_from.as_str() {
            "negatives" =>
                "found by the negatives; above 1 scores are made less sure, 1 leaves them",
            "no negatives" => "without negatives nothing tells it",
            _ => "left alone, as no negative describes this scene; add one that does",
        }
    );
    let width = it.classes.keys().map(String::len).max().unwrap_or(0);
    for (id, class) in &it.classes {
        text += &format!(
            "  {id:width$}  {:+.4} ± {:.4}  {}\n",
            class.mean,
            class.deviation,
            bound(class)
        );
    }
    let n_labels = it.classes.values().filter(|it| it.is_label).count();
    let n_told = it.classes.values().filter(|it| it.from.is_some()).count();
    let which = match n_told {
        0 => {
            text += "  no bound tells of a day, so no rate of false alarms is promised";
            return text;
        }
        n if n == n_labels => "all labels",
        _ => "the labels that have one",
    };
    text += &format!(
        "  bounds: at most {} false alarm{} a day of {which} together, sigma averaged over {} s; \
         extrapolated from {covered} to a day, and blind to what that time did not have",
        it.false_alarms_a_day,
        if it.false_alarms_a_day > 1.0 { "s" } else { "" },
        it.smoothing_s,
    );
    text
}

fn bound(class: &KeptClass) -> String {
    match (class.bound, class.lower_bound, &class.from, &class.why_no_bound) {
        (Some(enter), Some(exit), Some(from), _) => format!(
            "there from {enter:.1} sigma, gone below {exit:.1} (seen up to {:.1} in {} blocks of {})",
            from.greatest,
            from.n_blocks,
            time(from.block_s)
        ),
        (Some(enter), _, _, Some(why)) => {
            format!("there from {enter:.1} sigma, above all that was seen; PROVISIONAL: {why}")
        }
        (Some(enter), ..) => format!("there from {enter:.1} sigma"),
        (None, _, _, Some(why)) => format!("NO BOUND: {why}"),
        (None, ..) if class.is_label => "NO BOUND".to_owned(),
        (None, ..) => "negative, needs no bound".to_owned(),
    }
}

/// A time for people.
pub(super) fn time(seconds: f64) -> String {
    match seconds {
        it if it < 100.0 => format!("{it:.0} s"),
        it if it < 6000.0 => format!("{:.0} min", it / 60.0),
        it => format!("{:.1} h", it / 3600.0),
    }
}

/// The day of a moment since the Unix epoch, in UTC: days to a civil date as Hinnant derives it
/// (`days_from_civil` and its inverse).
fn date(made_s: u64) -> Option<String> {
    let days = i64::try_from(Duration::from_secs(made_s).as_secs() / 86_400).ok()? + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    Some(format!("{year}-{month:02}-{day:02}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times() {
        assert_eq!(date(0).as_deref(), Some("1970-01-01"));
        assert_eq!(date(951_782_400).as_deref(), Some("2000-02-29"));
        assert_eq!(date(1_798_675_199).as_deref(), Some("2026-12-30"));
        assert_eq!([time(9.0), time(600.0), time(7200.0)], ["9 s", "10 min", "2.0 h"]);
    }
}
