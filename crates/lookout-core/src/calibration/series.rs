//! One value over time: its middle, how it strays, how long it remembers, and its blocks.

use std::time::Duration;

/// Turns a median absolute deviation into the standard deviation of a normal variable.
const NORMAL: f64 = 1.482_602_218_505_602;

/// The value that `share` of the others are below; `sorted` is not empty.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let at = share * (sorted.len() - 1) as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within the length"
    )]
    let (low, part) = (at as usize, at.fract());
    let high = (low + 1).min(sorted.len() - 1);
    sorted[low] + part * (sorted[high] - sorted[low])
}

/// Median and deviation of `values`, at least one: the median absolute deviation as that of a normal
/// variable. Half of the values may be anything.
pub(super) fn middle(values: &[f64]) -> (f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let median = quantile(&sorted, 0.5);
    let mut strays: Vec<f64> = sorted.iter().map(|it| (it - median).abs()).collect();
    strays.sort_by(f64::total_cmp);
    (median, NORMAL * quantile(&strays, 0.5))
}

/// Two levels that `values` keep to, where there are two: Ashman's D of the best split in two, and the
/// share of the upper part. D is √2 |μ₁ − μ₂| / √(σ₁² + σ₂²) (Ashman, Bird, Zepf, AJ 108, 1994); a
/// drift at even speed has 3.5.
pub(super) fn two_levels(values: &[f64]) -> Option<(f64, f64)> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let number = |it: usize| it as f64;
    let n = sorted.len();
    let (sum, squares): (f64, f64) =
        sorted.iter().fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
    let mut best: Option<(f64, usize, f64)> = None;
    let (mut low_sum, mut low_squares) = (0.0, 0.0);
    for (idx, x) in sorted.iter().enumerate().take(n.saturating_sub(1)) {
        low_sum += x;
        low_squares += x * x;
        let (n_low, n_high) = (number(idx + 1), number(n - idx - 1));
        let (low, high) = (low_sum / n_low, (sum - low_sum) / n_high);
        // Otsu's split: the least variance within.
        let low_variance = (low_squares / n_low - low * low).max(0.0);
        let high_variance = ((squares - low_squares) / n_high - high * high).max(0.0);
        let within = n_low * low_variance + n_high * high_variance;
        if best.is_none_or(|(least, ..)| within < least) {
            let spread = (low_variance + high_variance).sqrt().max(1e-9);
            best = Some((within, idx + 1, 2f64.sqrt() * (high - low) / spread));
        }
    }
    best.map(|(_, n_low, d)| (d, number(n - n_low) / number(n)))
}

/// The exponentially weighted mean that the decision takes, with weight 1 − exp(−Δt/τ); it begins anew
/// after a gap of `stale_after`.
pub(super) fn smoothed(
    times: &[Duration],
    values: impl Iterator<Item = f64>,
    tau: Duration,
    stale_after: Duration,
) -> Vec<f64> {
    let mut mean: Option<(f64, Duration)> = None;
    let step = |(at, x): (&Duration, f64)| {
        let new = match mean {
            Some((old, before)) if at.saturating_sub(before) < stale_after && !tau.is_zero() => {
                let gap = at.saturating_sub(before);
                old - (x - old) * (-gap.as_secs_f64() / tau.as_secs_f64()).exp_m1()
            }
            _ => x,
        };
        mean = Some((new, *at));
        new
    };
    times.iter().zip(values).map(step).collect()
}

/// After how long `values` have forgotten themselves: the first lag at which their autocorrelation is
/// below 1/e, at least the time from one to the next. Times grow.
pub(super) fn correlation(times: &[Duration], values: &[f64]) -> Duration {
    let (Some(first), Some(last)) = (times.first(), times.last()) else { return Duration::ZERO };
    let covered = last.saturating_sub(*first).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let step = covered / (times.len().max(2) - 1) as f64;
    if step <= 0.0 {
        return Duration::ZERO;
    }
    // On an even grid, each point the last value before it.
    let mut even = Vec::with_capacity(times.len());
    let mut at = 0;
    for n in 0..times.len() {
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let time = *first + Duration::from_secs_f64(step * n as f64);
        while at + 1 < times.len() && times[at + 1] <= time {
            at += 1;
        }
        even.push(values[at]);
    }
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let n = even.len() as f64;
    let mean = even.iter().sum::<f64>() / n;
    even.iter_mut().for_each(|it| *it -= mean);
    let variance: f64 = even.iter().map(|it| it * it).sum();
    let is_forgotten = |lag: usize| {
        let covariance: f64 = even[lag..].iter().zip(&even).map(|(a, b)| a * b).sum();
        covariance <= variance * (-1f64).exp()
    };
    // It falls, for all that matters: halved until the lag is found, as a long recording has many.
    let mut high = 1;
    while high < even.len() && !is_forgotten(high) {
        high *= 2;
    }
    let mut low = high / 2;
    let mut high = high.min(even.len());
    while low + 1 < high {
        let between = usize::midpoint(low, high);
        if is_forgotten(between) {
            high = between;
        } else {
            low = between;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    Duration::from_secs_f64(step * high as f64)
}

/// The greatest value of each block of `length`; a block with less than half of its share of values
/// does not count.
pub(super) fn maxima(times: &[Duration], values: &[f64], length: Duration) -> Vec<f64> {
    let (Some(first), Some(last)) = (times.first(), times.last()) else { return Vec::new() };
    let length = length.as_secs_f64();
    let n_blocks = (last.saturating_sub(*first).as_secs_f64() / length).floor();
    if n_blocks < 1.0 {
        return Vec::new();
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "no more blocks than values are kept"
    )]
    let mut blocks = vec![(f64::NEG_INFINITY, 0usize); (n_blocks as usize).min(values.len())];
    for (at, x) in times.iter().zip(values) {
        let block = at.saturating_sub(*first).as_secs_f64() / length;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a block beyond the last is none"
        )]
        if let Some((max, n)) = blocks.get_mut(block as usize) {
            *max = max.max(*x);
            *n += 1;
        }
    }
    let fewest = (values.len() / blocks.len().max(1)).div_ceil(2).max(1);
    blocks.into_iter().filter(|(_, n)| fewest <= *n).map(|(max, _)| max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: usize, step: f64) -> Vec<Duration> {
        #[expect(clippy::cast_precision_loss, reason = "a test")]
        (0..n).map(|it| Duration::from_secs_f64(step * it as f64)).collect()
    }

    fn noise(n: usize, seed: u64) -> Vec<f64> {
        let mut random = super::super::tests::Noise(seed);
        (0..n).map(|_| random.normal()).collect()
    }

    #[test]
    fn a_third_of_outliers_moves_the_middle_little() {
        let mut values = noise(3000, 1);
        let (median, deviation) = middle(&values);
        assert!(median.abs() < 0.1 && (deviation - 1.0).abs() < 0.1, "{median} {deviation}");
        values.iter_mut().step_by(3).for_each(|it| *it = 1000.0);
        let (median, deviation) = middle(&values);
        assert!(median.abs() < 1.0 && deviation < 3.0, "{median} {deviation}");
        assert_eq!(middle(&[3.0]), (3.0, 0.0));
    }

    #[test]
    fn two_levels_are_told_from_noise_and_from_drift() {
        let plain = noise(2000, 2);
        assert!(two_levels(&plain).unwrap().0 < 3.5);
        let drift: Vec<f64> = (0..2000u32).map(|it| f64::from(it) / 100.0).collect();
        assert!(two_levels(&drift).unwrap().0 < 3.6);
        let mut levels = noise(2000, 3);
        levels[..400].iter_mut().for_each(|it| *it += 8.0);
        let (d, upper) = two_levels(&levels).unwrap();
        assert!(6.0 < d && (upper - 0.2).abs() < 0.01, "{d} {upper}");
        assert!(two_levels(&[]).is_none() && two_levels(&[1.0]).is_none());
    }

    #[test]
    fn the_correlation_time_of_a_smoothed_noise_is_its_time_constant() {
        for tau in [2.0, 20.0] {
            let times = seconds(20_000, 0.5);
            let tau = Duration::from_secs_f64(tau);
            let values = smoothed(&times, noise(20_000, 4).into_iter(), tau, Duration::MAX);
            let found = correlation(&times, &values).as_secs_f64() / tau.as_secs_f64();
            assert!((0.7..1.5).contains(&found), "{found}");
        }
        let times = seconds(1000, 0.5);
        assert_eq!(correlation(&times, &noise(1000, 5)), Duration::from_millis(500));
        assert_eq!(correlation(&[], &[]), Duration::ZERO);
    }

    #[test]
    fn smoothing_is_that_of_the_decision_and_a_gap_ends_it() {
        let times = [0.0, 1.0, 2.0, 40.0].map(Duration::from_secs_f64);
        let values = [1.0, 3.0, 1.0, 7.0];
        let tau = Duration::from_secs(2);
        let got = smoothed(&times, values.into_iter(), tau, Duration::from_secs(30));
        let w = 1.0 - (-0.5f64).exp();
        let second = 1.0 + 2.0 * w;
        assert!((got[1] - second).abs() < 1e-12);
        assert!((got[2] - (second + (1.0 - second) * w)).abs() < 1e-12);
        assert!((got[3] - 7.0).abs() < 1e-12);
        let plain = smoothed(&times, values.into_iter(), Duration::ZERO, Duration::MAX);
        assert!(plain.iter().zip(values).all(|(a, b)| (a - b).abs() < 1e-12));
    }

    #[test]
    fn maxima_are_of_whole_blocks_that_were_seen() {
        let mut times = seconds(40, 1.0);
        let values: Vec<f64> = (0..40u32).map(|it| f64::from(it % 10)).collect();
        assert_eq!(maxima(&times, &values, Duration::from_secs(10)), [9.0; 3]);
        // A camera that was away for most of the second block.
        let keep = |it: &usize| !(11..=18).contains(it);
        times = (0..40).filter(keep).map(|it| times[it]).collect();
        let values: Vec<f64> = (0..40).filter(keep).map(|it| values[it]).collect();
        assert_eq!(maxima(&times, &values, Duration::from_secs(10)), [9.0; 2]);
        assert!(maxima(&times, &values, Duration::from_secs(100)).is_empty());
        assert!(maxima(&[], &[], Duration::from_secs(1)).is_empty());
    }
}
