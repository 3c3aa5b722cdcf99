//! The temperature of the scores, as far as a scene without labels can tell it.

use crate::Background;

/// The temperature T, at least 1, at which "some negative" is most likely of all frames: the greatest
/// mean of ln Σ_negatives p^(1/T) / Σ_classes p^(1/T). Each of `frames` has the fused scores of all
/// classes, the first `n_labels` of them labels.
///
/// It only ever makes scores flatter. That labels get less than they deserve cannot be seen where none
/// is there, and without that lower bound a scene on which the negatives win every time would make
/// everything as sure as can be.
pub(super) fn of_negatives(frames: &[f32], n_classes: usize, n_labels: usize) -> f64 {
    let likelihood = |temperature: f64| -> f64 {
        let of = |frame: &[f32]| {
            let power = |it: &f32| f64::from(*it).max(f64::MIN_POSITIVE).powf(1.0 / temperature);
            let labels: f64 = frame[..n_labels].iter().map(power).sum();
            let negatives: f64 = frame[n_labels..].iter().map(power).sum();
            (negatives / (labels + negatives)).ln()
        };
        frames.chunks_exact(n_classes).map(of).sum()
    };
    // Golden section over ln T. The likelihood has one summit for all that was seen; where it has more,
    // this is one of them.
    let ratio = (5f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (0.0, Background::MAX_TEMPERATURE.ln());
    let at = |low: f64, high: f64, share: f64| low + share * (high - low);
    let (mut a, mut b) = (at(low, high, 1.0 - ratio), at(low, high, ratio));
    let (mut of_a, mut of_b) = (likelihood(a.exp()), likelihood(b.exp()));
    while 1e-3 < high - low {
        if of_a < of_b {
            (low, a, of_a) = (a, b, of_b);
            b = at(low, high, ratio);
            of_b = likelihood(b.exp());
        } else {
            (high, b, of_b) = (b, a, of_a);
            a = at(low, high, 1.0 - ratio);
            of_a = likelihood(a.exp());
        }
    }
    let best = f64::midpoint(low, high).exp();
    if likelihood(1.0) < likelihood(best) { best } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames whose logits are T times too large for how often the negative is right.
    fn frames(temperature: f64) -> Vec<f32> {
        let mut frames = Vec::new();
        for n in 0..4000u32 {
            // The true probability of the negative, even over 0.02 to 0.98.
            let right = 0.02 + 0.96 * f64::from(n) / 4000.0;
            let logit = temperature * (right / (1.0 - right)).ln();
            let p = 1.0 / (1.0 + (-logit).exp());
            #[expect(clippy::cast_possible_truncation, reason = "as it is kept")]
            frames.extend([(1.0 - p) as f32, p as f32]);
        }
        frames
    }

    #[test]
    fn a_scene_that_the_negatives_win_is_left_alone() {
        let sure: Vec<f32> = [0.1, 0.9].repeat(50);
        assert!((of_negatives(&sure, 2, 1) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn sure_mistakes_flatten_until_they_cost_no_more_than_what_is_right() {
        // One frame in five is as sure of a label as the others are of the negative.
        let mut frames: Vec<f32> = [0.0001, 0.9999].repeat(80);
        frames.extend([0.9999, 0.0001].repeat(20));
        let temperature = of_negatives(&frames, 2, 1);
        // There the negative has 4/5: ln 9999 / T = ln 4.
        assert!((temperature - 9999f64.ln() / 4f64.ln()).abs() < 0.05, "{temperature}");
    }

    #[test]
    fn a_scene_that_no_negative_describes_goes_to_the_end() {
        assert!(99.0 < of_negatives(&[0.9, 0.1].repeat(50), 2, 1));
        // Half right, half wrong, evenly: nothing is known.
        assert!(99.0 < of_negatives(&frames(3.0), 2, 1));
    }

    #[test]
    fn zeros_are_no_trouble() {
        let temperature = of_negatives(&[1.0, 0.0, 0.0, 1.0], 2, 1);
        assert!(temperature.is_finite() && 1.0 <= temperature);
    }
}
