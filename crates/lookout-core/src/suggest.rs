//! Which of some words say what a picture shows, without a vocabulary given beforehand.
//!
//! Source: Conti et al., Vocabulary-free Image Classification (`CaSED`, NeurIPS 2023, arXiv 2306.00917):
//! α softmax(s cos(image, word)) + (1 − α) softmax(s cos(captions, word)), the captions retrieved for the
//! picture as their normalized mean.

use crate::{ClassEmbeddings, ClassifyError, Distribution, Embedding, LogitScale};

/// α as published.
const IMAGE_SHARE: f64 = 0.7;

/// How well each of `words` says what the picture shows; the scores sum to 1. `captions` is the mean of
/// the captions retrieved for it. Errs on embeddings of other dimensions.
pub fn suggest(
    image: &Embedding,
    captions: &Embedding,
    words: &ClassEmbeddings,
    scale: LogitScale,
) -> Result<Distribution, ClassifyError> {
    let by_captions = words.distribution("the mean caption embedding", captions, scale)?;
    Ok(words
        .distribution("the image embedding", image, scale)?
        .mix(&by_captions, 1.0 - IMAGE_SHARE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_and_captions_are_mixed_seven_to_three() {
        let unit = |x: f32, y: f32| Embedding::normalize(vec![x, y]).unwrap();
        let words = ClassEmbeddings::new(vec![unit(1.0, 0.0), unit(0.0, 1.0)]).unwrap();
        let scale = LogitScale::from_linear(3f64.ln()).unwrap();
        // softmax(ln 3, 0) = 3/4, 1/4 for the image, and the other way round for the captions.
        let scores = suggest(&unit(1.0, 0.0), &unit(0.0, 1.0), &words, scale).unwrap();
        for (got, expected) in scores.probabilities().iter().zip([0.6, 0.4]) {
            assert!((got - expected).abs() < 1e-6, "{scores:?}");
        }
        let other = Embedding::normalize(vec![1.0; 3]).unwrap();
        assert!(suggest(&unit(1.0, 0.0), &other, &words, scale).is_err());
    }
}
