//! How much of what a picture resembles are labels, against a bank of everyday words.
//!
//! Source: Jiang et al., Negative Label Guided OOD Detection with Pretrained Vision-Language Models
//! (ICLR 2024, arXiv 2403.20078): the sum over the labels as a share of the sum over labels and
//! *negative labels*, words that lie far from all of them. It gates, and never joins the
//! distribution over the classes.

use crate::{ClassEmbeddings, Embedding, LogitScale};

/// Words that banks are made of, and how near one of them usually is to another.
#[derive(Clone, Debug, PartialEq)]
pub struct BankWords {
    words: Vec<Embedding>,
    /// The median of the cosine to the nearest other one.
    near: f64,
}

impl BankWords {
    /// Fewest words: with fewer, a share of them says little.
    pub const MIN: usize = 50;
    /// Most words: each is compared with every other once, and with every picture.
    pub const MAX: usize = 2000;

    /// `None` for fewer than [`Self::MIN`] or more than [`Self::MAX`], or words of several dimensions.
    pub fn new(words: Vec<Embedding>) -> Option<Self> {
        let dimension = words.first()?.dimension();
        let is_usable = (Self::MIN..=Self::MAX).contains(&words.len())
            && words.iter().all(|it| it.dimension() == dimension);
        is_usable.then(|| Self { near: usual_nearness(&words), words })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Never: there are at least [`Self::MIN`].
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }
}

/// Words that lie apart from the classes of one set.
#[derive(Clone, Debug, PartialEq)]
pub struct Bank {
    words: Vec<Embedding>,
    n_labels: usize,
}

impl Bank {
    /// Of `words` those that are no nearer to any of `classes` than half of the words are to the word
    /// nearest to them: what lies nearer may mean the same, and would be counted against its own class.
    /// The first `n_labels` of `classes` are labels. `None` where fewer than [`BankWords::MIN`] are left,
    /// or the words have another dimension than the classes.
    pub fn apart_from(
        words: &BankWords,
        classes: &ClassEmbeddings,
        n_labels: usize,
    ) -> Option<Self> {
        if words.words.iter().any(|it| it.dimension() != classes.dimension()) {
            return None;
        }
        let is_apart =
            |word: &&Embedding| classes.as_slice().iter().all(|it| it.cosine(word) <= words.near);
        let words: Vec<Embedding> = words.words.iter().filter(is_apart).cloned().collect();
        (BankWords::MIN <= words.len()).then_some(Self { words, n_labels })
    }

    /// Words that were kept.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Never: there are at least [`BankWords::MIN`].
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// S = Σ_labels e^{s cos} / (Σ_classes e^{s cos} + Σ_bank e^{s cos}), within 0 to 1, for the image
    /// and its cosines to the classes, in their order, with `scale` as s. Few labels among many words
    /// make it small: it means something beside other values of the same classes and bank alone.
    pub fn familiarity(&self, image: &Embedding, cosines: &[f64], scale: LogitScale) -> f64 {
        let words = self.words.iter().map(|it| it.cosine(image));
        let all: Vec<f64> =
            cosines.iter().copied().chain(words).map(|it| scale.get() * it).collect();
        // Only differences to the greatest are exponentiated, so nothing overflows.
        let greatest = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum = |logits: &[f64]| logits.iter().map(|it| (it - greatest).exp()).sum::<f64>();
        (sum(&all[..self.n_labels.min(cosines.len())]) / sum(&all)).clamp(0.0, 1.0)
    }
}

/// The median over `words` of the cosine to the nearest other one.
fn usual_nearness(words: &[Embedding]) -> f64 {
    let mut nearest = vec![-1.0f64; words.len()];
    for (a, word) in words.iter().enumerate() {
        for (b, other) in words.iter().enumerate().skip(a + 1) {
            let cosine = word.cosine(other);
            nearest[a] = nearest[a].max(cosine);
            nearest[b] = nearest[b].max(cosine);
        }
    }
    nearest.sort_by(f64::total_cmp);
    nearest[nearest.len() / 2]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// On the unit circle.
    fn at(degrees: f64) -> Embedding {
        #[expect(clippy::cast_possible_truncation, reason = "embeddings are f32")]
        let values = vec![degrees.to_radians().cos() as f32, degrees.to_radians().sin() as f32];
        Embedding::normalize(values).unwrap()
    }

    fn classes() -> ClassEmbeddings {
        ClassEmbeddings::new(vec![at(0.5), at(43.0), at(80.5)]).unwrap()
    }

    /// 100 words in pairs 2 degrees from each other.
    fn words() -> Vec<Embedding> {
        (0..100).map(|it| at(f64::from(it / 2) * 7.0 + f64::from(it % 2) * 2.0)).collect()
    }

    fn bank(words: Vec<Embedding>, classes: &ClassEmbeddings) -> Option<Bank> {
        Bank::apart_from(&BankWords::new(words).unwrap(), classes, 2)
    }

    fn scale(scale: f64) -> LogitScale {
        LogitScale::from_linear(scale).unwrap()
    }

    #[test]
    fn words_nearer_to_a_class_than_words_are_to_each_other_are_left_out() {
        let bank = bank(words(), &classes()).unwrap();
        let is_near = |word: &Embedding| {
            let cosines =
                classes().as_slice().iter().map(|it| it.cosine(word)).fold(-1.0, f64::max);
            1.9f64.to_radians().cos() < cosines
        };
        let expected: Vec<Embedding> = words().into_iter().filter(|it| !is_near(it)).collect();
        assert_eq!(expected.len(), 95);
        assert_eq!(bank.words, expected);
        assert_eq!(bank.len(), expected.len());
    }

    #[test]
    fn a_bank_has_enough_words_of_its_space() {
        assert_eq!(BankWords::new(words()[..BankWords::MIN - 1].to_vec()), None);
        assert_eq!(BankWords::new(vec![at(3.0); BankWords::MAX + 1]), None);
        let mut other = words();
        other[7] = Embedding::normalize(vec![1.0, 0.0, 0.0]).unwrap();
        assert_eq!(BankWords::new(other), None);
        let of_another_space = vec![Embedding::normalize(vec![1.0, 0.0, 0.0]).unwrap(); 60];
        assert_eq!(bank(of_another_space, &classes()), None);
        // As good as all of them stand on classes.
        let on_words = ClassEmbeddings::new(words().split_off(40)).unwrap();
        assert_eq!(bank(words(), &on_words), None);
    }

    #[test]
    fn the_share_of_the_labels_in_all_there_is() {
        let bank = Bank { words: vec![at(120.0), at(180.0)], n_labels: 2 };
        let image = at(10.0);
        let cosines: Vec<f64> = classes().as_slice().iter().map(|it| it.cosine(&image)).collect();
        let e = |degrees: f64| (5.0 * degrees.to_radians().cos()).exp();
        let labels = e(9.5) + e(33.0);
        let expected = labels / (labels + e(70.5) + e(110.0) + e(170.0));
        let got = bank.familiarity(&image, &cosines, scale(5.0));
        assert!((got - expected).abs() < 1e-5, "{got} {expected}");
    }

    proptest! {
        #[test]
        fn it_is_a_share_at_any_scale_and_falls_where_the_image_leaves_the_labels(
            scale_by in 0.001..1e6f64,
            degrees in 0.0..360.0f64,
        ) {
            let bank = bank(words(), &classes()).unwrap();
            let of = |degrees: f64| {
                let image = at(degrees);
                let cosines: Vec<f64> =
                    classes().as_slice().iter().map(|it| it.cosine(&image)).collect();
                bank.familiarity(&image, &cosines, scale(scale_by))
            };
            let got = of(degrees);
            prop_assert!((0.0..=1.0).contains(&got), "{got}");
            prop_assert!(of(200.0) <= of(20.0));
        }
    }
}
