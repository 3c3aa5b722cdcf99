//! Accuracy, calibration, and known against unknown.

use lookout_core::Distribution;

/// Bins of [`calibration_error`].
pub const CALIBRATION_BINS: usize = 15;

/// How many classes are ahead of the best of the `right` ones: 0 where one of them is on top, below
/// k where one is among the first k. Of equal classes the first in class order is ahead, as in
/// [`Distribution::top`]. `None` without a right class, or where one is not in the distribution.
pub fn rank(distribution: &Distribution, right: &[usize]) -> Option<usize> {
    let p = distribution.probabilities();
    if right.iter().any(|it| p.len() <= *it) {
        return None;
    }
    let ahead = |of: usize| {
        let is_ahead = |it: &usize| p[of] < p[*it] || (p[of] <= p[*it] && *it < of);
        (0..p.len()).filter(is_ahead).count()
    };
    right.iter().map(|it| ahead(*it)).min()
}

/// The share of `hits` that are true, 0 to 1; `None` without any.
pub fn share(hits: impl IntoIterator<Item = bool>) -> Option<f64> {
    let (mut n, mut hit) = (0u32, 0u32);
    for it in hits {
        n += 1;
        hit += u32::from(it);
    }
    (0 < n).then(|| f64::from(hit) / f64::from(n))
}

/// Expected calibration error, 0 to 1, of answers with their scores, 0 to 1, and whether they were
/// right; `None` without any.
///
/// Scores fall into [`CALIBRATION_BINS`] bins of equal width, an edge into the upper one. The error
/// is the mean of |share of right answers − mean score| of the bins, weighted by their answers
/// (Guo, Pleiss, Sun, Weinberger, On Calibration of Modern Neural Networks, 2017, equation 3). It is
/// biased upwards where answers are few: perfectly calibrated scores of 100 pictures come out at some
/// 0.1.
pub fn calibration_error(answers: &[(f64, bool)]) -> Option<f64> {
    let mut bins = [(0.0, 0.0); CALIBRATION_BINS];
    for (score, is_right) in answers {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a score is within 0 to 1"
        )]
        let bin = (score * CALIBRATION_BINS as f64) as usize;
        let (sum, right) = &mut bins[bin.min(CALIBRATION_BINS - 1)];
        *sum += score;
        *right += f64::from(u8::from(*is_right));
    }
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let n = answers.len() as f64;
    (!answers.is_empty()).then(|| bins.iter().map(|it| (it.0 - it.1).abs()).sum::<f64>() / n)
}

/// How well a score tells known from unknown: the share of pairs of one of each in which the known
/// has the higher score, equal scores one half (Mann and Whitney's U over the number of pairs, the
/// area under the ROC curve). 0.5 tells nothing. `None` where one side is empty or a score is NaN.
pub fn auroc(known: &[f64], unknown: &[f64]) -> Option<f64> {
    let mut scores: Vec<(f64, bool)> = known.iter().map(|it| (*it, true)).collect();
    scores.extend(unknown.iter().map(|it| (*it, false)));
    if known.is_empty() || unknown.is_empty() || scores.iter().any(|it| it.0.is_nan()) {
        return None;
    }
    scores.sort_by(|a, b| a.0.total_cmp(&b.0));
    // 0.0 and −0.0 are equal, whatever `total_cmp` says.
    let ties = scores.chunk_by(|a, b| a.0 >= b.0);
    let (mut below, mut pairs) = (0.0, 0.0);
    for tie in ties {
        let count = |of| tie.iter().filter(|it| it.1 == of).map(|_| 1.0).sum::<f64>();
        let (n_known, n_unknown) = (count(true), count(false));
        pairs += n_known * (below + n_unknown / 2.0);
        below += n_unknown;
    }
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let all = known.len() as f64 * unknown.len() as f64;
    Some(pairs / all)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn distribution(logits: &[f64]) -> Distribution {
        Distribution::softmax(logits).unwrap()
    }

    #[track_caller]
    fn close(got: Option<f64>, expected: f64) {
        assert!((got.unwrap() - expected).abs() < 1e-12, "{got:?}, not {expected}");
    }

    #[test]
    fn a_hit_is_any_right_class_and_of_equals_the_first_is_ahead() {
        let it = distribution(&[1.0, 3.0, 2.0, 2.0]);
        for (right, expected) in [
            (vec![1], Some(0)),
            (vec![2], Some(1)),
            (vec![3], Some(2)),
            (vec![0], Some(3)),
            (vec![0, 3], Some(2)),
            (vec![0, 1], Some(0)),
            (vec![], None),
            (vec![4], None),
        ] {
            assert_eq!(rank(&it, &right), expected, "{right:?}");
        }
        assert_eq!(share([true, false, true, true]), Some(0.75));
        assert_eq!(share([]), None);
    }

    #[test]
    fn calibration_by_hand() {
        // Bins of 1/15: 0.9 and 0.92 share [0.867, 0.933), 0.3 is in [0.267, 0.333).
        // |0.9 + 0.92 − 1| + |0.3 − 1| = 0.82 + 0.7, over 3.
        let answers = [(0.9, true), (0.92, false), (0.3, true)];
        close(calibration_error(&answers), 1.52 / 3.0);
        close(calibration_error(&[(1.0, true)]), 0.0);
        // One bin's errors make up for each other, two bins' do not.
        close(calibration_error(&[(0.5, true), (0.5, false)]), 0.0);
        // An edge belongs to the upper bin: 0.2 = 3/15 stands with 0.21, apart from 0.19.
        close(calibration_error(&[(0.2, true), (0.21, false), (0.19, false)]), (0.59 + 0.19) / 3.0);
        assert_eq!(calibration_error(&[]), None);
    }

    #[test]
    fn figures_of_numpy() {
        // numpy 2.4.6: x = (np.arange(40) * 37 % 41) / 41, right = np.arange(40) * 5 % 7 < 4,
        // 15 bins by np.floor(x * 15); the area by comparing all pairs of x[right] and x[~right].
        let scores = (0..40u8).map(|it| f64::from(u32::from(it) * 37 % 41) / 41.0);
        let answers: Vec<(f64, bool)> =
            scores.zip((0..40u8).map(|it| u32::from(it) * 5 % 7 < 4)).collect();
        close(calibration_error(&answers), NUMPY_ECE);
        let of = |right| -> Vec<f64> {
            answers.iter().filter(|it| it.1 == right).map(|it| it.0).collect()
        };
        close(auroc(&of(true), &of(false)), NUMPY_AUROC);
    }

    const NUMPY_ECE: f64 = 0.446_951_219_512_195_13;
    const NUMPY_AUROC: f64 = 0.414_322_250_639_386_2;

    #[test]
    fn area_by_hand() {
        close(auroc(&[0.9, 0.8], &[0.1, 0.2]), 1.0);
        close(auroc(&[0.1], &[0.2, 0.3]), 0.0);
        // Pairs: 0.5 beats 0.1 and ties with 0.5; 0.3 beats 0.1 alone.
        close(auroc(&[0.5, 0.3], &[0.5, 0.1]), 2.5 / 4.0);
        close(auroc(&[0.0], &[-0.0]), 0.5);
        assert_eq!(auroc(&[], &[0.1]), None);
        assert_eq!(auroc(&[0.1], &[]), None);
        assert_eq!(auroc(&[f64::NAN], &[0.1]), None);
    }

    /// Scores with ties.
    fn scores() -> impl Strategy<Value = Vec<f64>> {
        prop::collection::vec((0u8..=20).prop_map(|it| f64::from(it) / 20.0), 1..40)
    }

    proptest! {
        #[test]
        fn rank_agrees_with_top_and_more_right_classes_never_hurt(
            logits in prop::collection::vec(prop::sample::select(vec![0.0, 1.0, 2.0, 3.5]), 2..12),
            right in prop::collection::vec(0usize..12, 1..4),
        ) {
            let it = distribution(&logits);
            let right: Vec<usize> = right.into_iter().map(|it| it % logits.len()).collect();
            let got = rank(&it, &right).unwrap();
            prop_assert_eq!(got == 0, right.contains(&it.top().0));
            prop_assert!(got < logits.len());
            prop_assert!(got <= rank(&it, &right[..1]).unwrap());
            let mut ranks: Vec<usize> = (0..logits.len()).filter_map(|c| rank(&it, &[c])).collect();
            ranks.sort_unstable();
            prop_assert_eq!(ranks, (0..logits.len()).collect::<Vec<_>>());
        }

        #[test]
        fn calibration_is_a_share_and_order_is_irrelevant(
            answers in prop::collection::vec((0.0..=1.0f64, any::<bool>()), 1..60),
        ) {
            let got = calibration_error(&answers).unwrap();
            prop_assert!((0.0..=1.0).contains(&got));
            let backward: Vec<_> = answers.iter().rev().copied().collect();
            prop_assert!((calibration_error(&backward).unwrap() - got).abs() < 1e-9);
            // Never less than what all answers together are off by.
            let off: f64 = answers.iter().map(|it| it.0 - f64::from(u8::from(it.1))).sum();
            #[expect(clippy::cast_precision_loss, reason = "below 60")]
            let off = off.abs() / answers.len() as f64;
            prop_assert!(off <= got + 1e-9);
        }

        #[test]
        fn area_is_the_share_of_pairs(known in scores(), unknown in scores()) {
            let got = auroc(&known, &unknown).unwrap();
            let pair = |(a, b): (f64, f64)| if b < a { 1.0 } else if a < b { 0.0 } else { 0.5 };
            let pairs: Vec<f64> =
                known.iter().flat_map(|a| unknown.iter().map(|b| pair((*a, *b)))).collect();
            #[expect(clippy::cast_precision_loss, reason = "below 1600")]
            let expected = pairs.iter().sum::<f64>() / pairs.len() as f64;
            prop_assert!((got - expected).abs() < 1e-12);
            prop_assert!((auroc(&unknown, &known).unwrap() - (1.0 - got)).abs() < 1e-12);
            let bent = |it: &[f64]| it.iter().map(|it| it.powi(3)).collect::<Vec<_>>();
            prop_assert!((auroc(&bent(&known), &bent(&unknown)).unwrap() - got).abs() < 1e-12);
        }
    }
}
