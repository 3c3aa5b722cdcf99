//! Which step an int8 channel has.

/// Parts r of the largest value that the integers may end at. Clipping one value out of n gains
/// only where n (1 + r) > 12 · 127² (1 − r), so of channels of a few thousand values hardly more
/// than 5 % are ever worth clipping; what the candidates mostly find is a step that the values
/// happen to fall on well. That takes some 2 % off the squared error.
const RATIOS: [f32; 7] = [1.0, 0.995, 0.99, 0.985, 0.98, 0.97, 0.95];
/// The largest integer; -128 stays unused, so that the range is symmetric.
const MAX: f32 = 127.0;
/// Adding and subtracting 1.5 · 2^23 rounds a number below 2^22 half to even.
const ROUNDER: f32 = 12_582_912.0;

/// A channel as integers: value ≈ `scale` · integer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Step {
    /// Greater than 0.
    pub(crate) scale: f32,
    /// Sum of the squared differences to the values.
    pub(crate) error: f64,
    /// The same where the largest value is the largest integer.
    pub(crate) plain_error: f64,
}

impl Step {
    /// The candidate with the least squared error for `values`, which are finite.
    pub(crate) fn of(values: &[f32]) -> Self {
        let largest = values.iter().fold(0f32, |max, it| max.max(it.abs()));
        let plain = Self::candidate(values, largest);
        let mut best = plain;
        for ratio in &RATIOS[1..] {
            let next = Self::candidate(values, largest * ratio);
            if next.error < best.error {
                best = next;
            }
        }
        Self { plain_error: plain.error, ..best }
    }

    fn candidate(values: &[f32], end: f32) -> Self {
        // A channel of zeros, or nearly, has any scale.
        let scale = if end / MAX < f32::MIN_POSITIVE { 1.0 } else { end / MAX };
        let mut sums = [0f32; 16];
        let mut error = 0.0;
        // Short runs keep the sums exact enough and the loop in vector registers.
        for run in values.chunks(2048) {
            for lane in run.chunks(16) {
                for (sum, value) in sums.iter_mut().zip(lane) {
                    let difference = value - scale * rounded(*value, scale);
                    *sum += difference * difference;
                }
            }
            error += sums.iter().map(|it| f64::from(*it)).sum::<f64>();
            sums = [0.0; 16];
        }
        Self { scale, error, plain_error: error }
    }

    /// The integer for `value`, -127 to 127.
    pub(crate) fn integer(self, value: f32) -> i8 {
        #[expect(clippy::cast_possible_truncation, reason = "whole and within the range")]
        let integer = rounded(value, self.scale) as i8;
        integer
    }
}

fn rounded(value: f32, scale: f32) -> f32 {
    ((value / scale).clamp(-MAX, MAX) + ROUNDER) - ROUNDER
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(values: &[f32], step: Step) -> f64 {
        let difference = |it: &f32| f64::from(it - step.scale * f32::from(step.integer(*it)));
        values.iter().map(|it| difference(it).powi(2)).sum()
    }

    /// Numbers that are nearly normal, without a generator.
    fn values(n: usize) -> Vec<f32> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from(u16::try_from(state >> 16).unwrap()) / 65_536.0 - 0.5
        };
        (0..n).map(|_| (0..12).map(|_| next()).sum()).collect()
    }

    #[test]
    fn an_even_channel_uses_the_whole_range() {
        let ramp: Vec<f32> = (-127..=127).map(|it: i16| f32::from(it) * 0.25).collect();
        let step = Step::of(&ramp);
        assert!((step.scale - 0.25).abs() < 1e-6 && step.error < 1e-9, "{step:?}");
        assert_eq!(ramp.iter().map(|it| step.integer(*it)).max(), Some(127));
        assert_eq!(ramp.iter().map(|it| step.integer(*it)).min(), Some(-127));
    }

    #[test]
    fn an_outlier_is_clipped_when_that_costs_less_than_it_gains() {
        let mut values = values(8000);
        let even = Step::of(&values);
        values.push(8.0);
        let step = Step::of(&values);
        assert!(step.error < 0.98 * step.plain_error, "{step:?}");
        assert_eq!(step.integer(8.0), 127);
        assert!(step.scale * 127.0 < 7.9 && even.error <= even.plain_error);
        // The sums in short runs agree with the definition.
        assert!((error(&values, step) / step.error - 1.0).abs() < 1e-4);
    }

    #[test]
    fn nothing_is_divided_by_zero() {
        for values in [vec![], vec![0.0; 5], vec![f32::MIN_POSITIVE; 5]] {
            let step = Step::of(&values);
            assert!((step.scale - 1.0).abs() < f32::EPSILON);
            assert!(values.iter().all(|it| step.integer(*it) == 0));
        }
        let step = Step::of(&[f32::MAX, -f32::MAX]);
        assert_eq!((step.integer(f32::MAX), step.integer(-f32::MAX)), (127, -127));
    }
}
