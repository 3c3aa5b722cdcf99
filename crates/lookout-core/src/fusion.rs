//! Confidence-weighted fusion of image and caption distributions (X-MoRe, section 3.3).

use std::num::NonZeroU64;

use crate::Distribution;

/// How picture and captions are fused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weighting {
    /// By the confidences of this frame alone, α : β. The same frame always gives the same
    /// answer.
    Memoryless,
    /// By each confidence relative to its own mean so far, α/ᾱ : β/β̄. With
    /// [`Window::Unbounded`] this is the authors' running form.
    History(Window),
    /// Captions are heard as far as they describe the picture better than the labels do, and add to
    /// its logits; the formula stands in `pooling.rs`. The same frame always gives the same answer.
    Pooled,
}

/// How far back the means of [`Weighting::History`] reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// An exponentially weighted mean over about this many frames.
    Frames(NonZeroU64),
    /// The mean of all frames.
    Unbounded,
}

/// The share of each modality in the fused distribution; each within 0 to 1, together 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// Of the image distribution.
    pub image: f64,
    /// Of the caption distribution.
    pub captions: f64,
}

/// What [`Weighting::History`] remembers: the means of both confidences over `n_frames`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Means {
    /// Frames with captions seen so far.
    pub n_frames: u64,
    /// Mean image confidence.
    pub image: f64,
    /// Mean caption confidence.
    pub captions: f64,
}

/// Fuses the frames of one stream in order, by confidence.
#[derive(Clone, Debug)]
pub struct Fuser {
    history: Option<Window>,
    means: Means,
}

impl Fuser {
    /// Starts without a past. `history` is how far weights look back; `None`: by each frame alone.
    pub fn new(history: Option<Window>) -> Self {
        Self { history, means: Means::default() }
    }

    /// Goes on from a history that an earlier run had with the same classes and weighting.
    pub fn go_on_from(&mut self, means: Means) {
        self.means = means;
    }

    /// The means so far. All zero without history.
    pub fn means(&self) -> Means {
        self.means
    }

    /// Fuses one frame. A frame without captions takes the image distribution and changes no
    /// mean. The means include the frame itself: m_t = m_{t−1} + (x_t − m_{t−1}) / min(t, window).
    /// A confidence whose mean is zero weighs nothing; two weights of zero count equally.
    pub fn fuse(
        &mut self,
        image: &Distribution,
        captions: Option<&Distribution>,
    ) -> (Distribution, Weights) {
        let Some(captions) = captions else {
            return (image.clone(), Weights { image: 1.0, captions: 0.0 });
        };
        let (alpha, beta) = (image.confidence(), captions.confidence());
        let weights = match self.history {
            None => share(alpha, beta),
            Some(window) => {
                self.means = self.means.with(window, alpha, beta);
                share(ratio(alpha, self.means.image), ratio(beta, self.means.captions))
            }
        };
        (image.mix(captions, weights.captions), weights)
    }
}

impl Means {
    fn with(self, window: Window, alpha: f64, beta: f64) -> Self {
        let n_frames = self.n_frames.saturating_add(1);
        let n = match window {
            Window::Frames(window) => n_frames.min(window.get()),
            Window::Unbounded => n_frames,
        };
        #[expect(clippy::cast_precision_loss, reason = "a mean over 2^52 frames cannot tell")]
        let step = |mean: f64, x: f64| mean + (x - mean) / n as f64;
        Self { n_frames, image: step(self.image, alpha), captions: step(self.captions, beta) }
    }
}

fn ratio(confidence: f64, mean: f64) -> f64 {
    if mean <= 0.0 { 0.0 } else { confidence / mean }
}

fn share(image: f64, captions: f64) -> Weights {
    let sum = image + captions;
    if sum <= 0.0 {
        return Weights { image: 0.5, captions: 0.5 };
    }
    Weights { image: image / sum, captions: captions / sum }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn distribution(n: usize) -> impl Strategy<Value = Distribution> {
        prop::collection::vec(-50f64..50.0, n).prop_map(|it| Distribution::softmax(&it).unwrap())
    }

    fn pairs() -> impl Strategy<Value = Vec<(Distribution, Distribution)>> {
        (2usize..20)
            .prop_flat_map(|n| prop::collection::vec((distribution(n), distribution(n)), 1..30))
    }

    fn histories() -> [Option<Window>; 3] {
        let window = NonZeroU64::new(3).unwrap();
        [None, Some(Window::Frames(window)), Some(Window::Unbounded)]
    }

    #[test]
    fn two_silent_modalities_count_equally() {
        let silent = Distribution::softmax(&[3.0, 3.0]).unwrap();
        for history in histories() {
            let (fused, weights) = Fuser::new(history).fuse(&silent, Some(&silent));
            assert_eq!(fused, silent);
            assert_eq!(weights, Weights { image: 0.5, captions: 0.5 });
        }
    }

    #[test]
    fn a_silent_modality_weighs_nothing() {
        let silent = Distribution::softmax(&[3.0, 3.0]).unwrap();
        let sure = Distribution::softmax(&[9.0, 0.0]).unwrap();
        for history in histories() {
            let (fused, weights) = Fuser::new(history).fuse(&silent, Some(&sure));
            assert_eq!((fused, weights.image), (sure.clone(), 0.0), "{history:?}");
        }
    }

    #[test]
    fn no_captions_leave_image_and_history_alone() {
        let image = Distribution::softmax(&[1.0, 0.0]).unwrap();
        for history in histories() {
            let mut fuser = Fuser::new(history);
            let (fused, weights) = fuser.fuse(&image, None);
            assert_eq!((fused, weights.captions), (image.clone(), 0.0));
            assert_eq!(fuser.means(), Means::default());
        }
    }

    #[test]
    fn a_window_forgets_and_unbounded_does_not() {
        let sharp = Distribution::softmax(&[9.0, 0.0]).unwrap();
        let flat = Distribution::softmax(&[0.1, 0.0]).unwrap();
        let after = |window| {
            let mut fuser = Fuser::new(Some(window));
            for image in [&flat; 50].into_iter().chain([&sharp; 50]) {
                fuser.fuse(image, Some(&sharp));
            }
            fuser.means().image
        };
        let last = sharp.confidence();
        assert!((after(Window::Frames(NonZeroU64::new(4).unwrap())) - last).abs() < 1e-5);
        let mean = (flat.confidence() + last) / 2.0;
        assert!((after(Window::Unbounded) - mean).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn fused_is_a_distribution_between_its_parts(stream in pairs()) {
            for history in histories() {
                let mut fuser = Fuser::new(history);
                for (image, captions) in &stream {
                    let (fused, weights) = fuser.fuse(image, Some(captions));
                    prop_assert!((weights.image + weights.captions - 1.0).abs() < 1e-12);
                    prop_assert!((fused.probabilities().iter().sum::<f64>() - 1.0).abs() < 1e-9);
                    for ((p, a), b) in fused.probabilities().iter()
                        .zip(image.probabilities()).zip(captions.probabilities())
                    {
                        prop_assert!(a.min(*b) - 1e-12 <= *p && *p <= a.max(*b) + 1e-12);
                    }
                }
            }
        }

        #[test]
        fn memoryless_is_symmetric_and_order_free(stream in pairs()) {
            let mut fuser = Fuser::new(None);
            for (image, captions) in stream.iter().rev() {
                let (fused, weights) = fuser.fuse(image, Some(captions));
                let (swapped, swapped_weights) =
                    Fuser::new(None).fuse(captions, Some(image));
                prop_assert!((weights.image - swapped_weights.captions).abs() < 1e-12);
                for (a, b) in fused.probabilities().iter().zip(swapped.probabilities()) {
                    prop_assert!((a - b).abs() < 1e-12);
                }
            }
        }

        #[test]
        fn a_constant_stream_weighs_both_alike(
            n in 1usize..20,
            (a, b) in (2usize..9).prop_flat_map(|n| (distribution(n), distribution(n))),
        ) {
            prop_assume!(1e-9 < a.confidence() && 1e-9 < b.confidence());
            let mut fuser = Fuser::new(Some(Window::Unbounded));
            for _ in 0..n {
                let (_, weights) = fuser.fuse(&a, Some(&b));
                prop_assert!((weights.image - 0.5).abs() < 1e-9);
            }
        }
    }
}
