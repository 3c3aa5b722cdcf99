//! The weighting `pooled`: captions have a say as far as they describe the picture better than the
//! labels do, and of what they say only that counts which captions at large do not say.
//!
//! X-MoRe's weights go by entropy alone, and a bank of the wrong domain has captions that are sure
//! and wrong. What tells such a bank is the cosine to the picture, against that of the labels
//! themselves; and that its captions, whatever was retrieved, all lean to the same classes. How the
//! constants were chosen, and what else was tried: `models/README.md`, section "Weightings".

use crate::{ClassEmbeddings, ClassifyError, Distribution, Retrieved, Scales};

/// The exponent of the captions' distribution in the pool; the picture's is 1.
const SAY: f64 = 0.15;
/// By how many nats a caption must describe the picture better than the nearest class does to be
/// trusted by half.
const HALF_TRUSTED_NATS: f64 = 2.0;
/// Over how many nats trust changes.
const TRUST_WIDTH_NATS: f64 = 2.0;
/// How much of what captions at large say of a class is taken off. The rest stays, for a bank of the
/// right domain tells what is frequent there.
const LEANING: f64 = 0.5;

/// Captions fused with the picture.
pub(crate) struct Pooled {
    /// What the captions say, those more that describe the picture better.
    pub(crate) captions: Distribution,
    /// Picture and captions together.
    pub(crate) fused: Distribution,
    /// The captions' share of the exponents, within 0 to 1.
    pub(crate) weight: f64,
}

/// The logarithmic opinion pool of picture and captions (Genest and Zidek, 1986),
///
/// p(c) ∝ exp(s cos(z, t_c)) · Q(c)^0.15, Q = Σ_k ω_k (r_k q_k + (1 − r_k) / C),
///
/// over the captions u_k retrieved for the picture z: ω = softmax(s cos(z, u_k)); trust r_k =
/// sigmoid((s cos(z, u_k) − s max_c cos(z, t_c) − 2) / 2); and q_k = softmax_c(s' (u_k · t_c − m_c / 2))
/// with m_c the mean of u · t_c over all captions of the bank, `leanings`. s and s' are the scales of
/// pictures and of captions, `cosines` the cos(z, t_c). A caption that is not trusted says nothing,
/// and so does a bank of which no caption is.
///
/// `None` without captions.
pub(crate) fn pool(
    classes: &ClassEmbeddings,
    scales: &Scales,
    leanings: &[f64],
    cosines: &[f64],
    retrieved: &[Retrieved],
) -> Result<Option<Pooled>, ClassifyError> {
    let scale = scales.image.get();
    let nearest = |of: &mut dyn Iterator<Item = f64>| of.fold(f64::NEG_INFINITY, f64::max);
    let nearest_class = nearest(&mut cosines.iter().copied());
    let nearest_caption = nearest(&mut retrieved.iter().map(|it| it.similarity));
    let mut captions: Option<Distribution> = None;
    // Sums of ω and of ω r, and of ω r q, over the captions so far; ω to the nearest caption's.
    let (mut sum, mut trusted) = (0.0, 0.0);
    let mut said = vec![0.0; cosines.len()];
    for it in retrieved {
        let share = (scale * (it.similarity - nearest_caption)).exp();
        // Too far for a float to tell; the nearest may come later, and a mean needs a share above 0.
        if share <= 0.0 {
            continue;
        }
        let better_nats = scale * (it.similarity - nearest_class);
        let trust = 1.0 / (1.0 + ((HALF_TRUSTED_NATS - better_nats) / TRUST_WIDTH_NATS).exp());
        let of_caption = classes.cosines("a caption embedding", &it.embedding)?;
        let beyond = of_caption.iter().zip(leanings).map(|(cosine, mean)| cosine - LEANING * mean);
        let logits: Vec<f64> = beyond.map(|it| scales.caption.get() * it).collect();
        let says = Distribution::softmax(&logits)?;
        for (said, p) in said.iter_mut().zip(says.probabilities()) {
            *said += share * trust * p;
        }
        sum += share;
        trusted += share * trust;
        captions = Some(captions.map_or_else(|| says.clone(), |it| it.mix(&says, share / sum)));
    }
    let Some(captions) = captions else { return Ok(None) };
    #[expect(clippy::cast_precision_loss, reason = "class counts are far below 2^52")]
    let silent = (1.0 - trusted / sum).max(0.0) / cosines.len() as f64;
    let logits: Vec<f64> = cosines
        .iter()
        .zip(&said)
        // Never the logarithm of 0, however sure the captions are.
        .map(|(cosine, said)| scale * cosine + SAY * (said / sum + silent).max(1e-300).ln())
        .collect();
    let say = SAY * trusted / sum;
    let fused = Distribution::softmax(&logits)?;
    Ok(Some(Pooled { captions, fused, weight: say / (1.0 + say) }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Embedding, LogitScale};

    fn axis(angle: f64) -> Embedding {
        #[expect(clippy::cast_possible_truncation, reason = "embeddings are f32")]
        let values = vec![angle.cos() as f32, angle.sin() as f32];
        Embedding::normalize(values).unwrap()
    }

    const ANGLES: [f64; 3] = [0.0, 1.0, 2.5];

    fn classes() -> ClassEmbeddings {
        ClassEmbeddings::new(ANGLES.map(axis).into()).unwrap()
    }

    fn scales() -> Scales {
        let scale = LogitScale::from_linear(20.0).unwrap();
        Scales { image: scale, caption: scale, bias: None }
    }

    /// A picture at `picture`, captions at the angles and with the similarities given.
    fn pooled(leanings: [f64; 3], picture: f64, captions: &[(f64, f64)]) -> Option<Pooled> {
        let cosines = ANGLES.map(|it| (it - picture).cos());
        let retrieved: Vec<Retrieved> = captions
            .iter()
            .map(|&(angle, similarity)| Retrieved {
                text: String::new(),
                embedding: axis(angle),
                similarity,
            })
            .collect();
        pool(&classes(), &scales(), &leanings, &cosines, &retrieved).unwrap()
    }

    fn image(picture: f64) -> Distribution {
        Distribution::softmax(&ANGLES.map(|it| 20.0 * (it - picture).cos())).unwrap()
    }

    #[test]
    fn no_captions_say_nothing() {
        assert!(pooled([0.0; 3], 0.3, &[]).is_none());
    }

    #[test]
    fn one_caption_by_hand() {
        // tests/oracle/pooled.py, the formula in numpy's f64: picture at 0.5, one caption on class 1
        // with similarity 1.0, leanings 0.1, 0.7 and 0.2.
        let it = pooled([0.1, 0.7, 0.2], 0.5, &[(1.0, 1.0)]).unwrap();
        let fused = it.fused.probabilities();
        for (got, expected) in fused.iter().zip([0.448_083_788, 0.551_916_212, 2.542e-12]) {
            assert!((got - expected).abs() < 1e-6, "{fused:?}");
        }
        assert!((it.weight - 0.076_955_605).abs() < 1e-6, "{}", it.weight);
    }

    #[test]
    fn captions_too_far_to_count_may_come_before_the_nearest() {
        let scale = LogitScale::from_linear(1000.0).unwrap();
        let scales = Scales { image: scale, caption: scale, bias: None };
        let retrieved = [(2.5, -0.5), (2.5, -0.4), (1.0, 0.9)].map(|(angle, similarity)| {
            Retrieved { text: String::new(), embedding: axis(angle), similarity }
        });
        let cosines = ANGLES.map(|it: f64| (it - 0.5).cos());
        let it = pool(&classes(), &scales, &[0.0; 3], &cosines, &retrieved).unwrap().unwrap();
        for p in it.captions.probabilities().iter().chain(it.fused.probabilities()) {
            assert!(p.is_finite(), "{:?} {:?}", it.captions, it.fused);
        }
        assert_eq!(it.captions.top().0, 1, "what the nearest says");
    }

    #[test]
    fn a_caption_that_describes_worse_than_the_labels_is_not_heard() {
        let far = pooled([0.0; 3], 0.2, &[(1.0, -0.5)]).unwrap();
        for (a, b) in far.fused.probabilities().iter().zip(image(0.2).probabilities()) {
            assert!((a - b).abs() < 1e-6);
        }
        assert!(far.weight < 1e-6 && far.captions.top().0 == 1, "said, and of no weight");
    }

    #[test]
    fn what_captions_at_large_say_is_taken_off() {
        // Between classes 0 and 1, and the bank leans to 1.
        let plain = pooled([0.0; 3], 0.5, &[(0.5, 1.5)]).unwrap();
        let leaning = pooled([0.0, 0.4, 0.0], 0.5, &[(0.5, 1.5)]).unwrap();
        let first = |it: &Pooled| it.fused.probabilities()[0];
        assert!((first(&plain) - 0.5).abs() < 1e-6 && 0.55 < first(&leaning));
    }

    proptest! {
        #[test]
        fn captions_move_a_logit_by_no_more_than_their_say(
            picture in -3.0..3.0f64,
            captions in prop::collection::vec((-3.0..3.0f64, -1.0..1.0f64), 1..20),
            leanings in prop::array::uniform3(-1.0..1.0f64),
        ) {
            let it = pooled(leanings, picture, &captions).unwrap();
            prop_assert!((0.0..=SAY).contains(&it.weight));
            prop_assert!((it.fused.probabilities().iter().sum::<f64>() - 1.0).abs() < 1e-9);
            prop_assert!((it.captions.probabilities().iter().sum::<f64>() - 1.0).abs() < 1e-9);
            // Which order the captions come in is nothing.
            let reversed: Vec<(f64, f64)> = captions.iter().rev().copied().collect();
            let other = pooled(leanings, picture, &reversed).unwrap();
            for (a, b) in it.fused.probabilities().iter().zip(other.fused.probabilities()) {
                prop_assert!((a - b).abs() < 1e-9);
            }
        }
    }
}
