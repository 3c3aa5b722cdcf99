//! From index candidates to the captions that count.

use std::collections::HashSet;

use crate::Embedding;

/// An index entry near a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The caption.
    pub text: String,
    /// Its embedding, in the space of the image embeddings.
    pub embedding: Embedding,
    /// Cosine between the query and the entry's key.
    pub key_similarity: f64,
}

/// A caption that takes part in the decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Retrieved {
    /// The caption.
    pub text: String,
    /// Its embedding.
    pub embedding: Embedding,
    /// Cosine between image embedding and caption embedding, within −1 to 1.
    pub similarity: f64,
}

/// How captions are chosen among candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    /// K, the captions kept at most.
    pub n_captions: usize,
    /// By the cosine of the caption's own embedding to the picture, as X-MoRe has it; otherwise in the
    /// candidates' order, that of their keys. For a text-only bank both are the same.
    pub rerank: bool,
    /// Of captions that are equal after trimming and case folding only the best is kept.
    pub dedupe: bool,
}

impl Selection {
    /// X-MoRe's: the best `n_captions` different ones after re-ranking.
    pub fn best(n_captions: usize) -> Self {
        Self { n_captions, rerank: true, dedupe: true }
    }
}

/// Chooses captions among `candidates`, the best first. Equal cosines keep the candidates' order.
pub fn choose(image: &Embedding, candidates: Vec<Candidate>, by: Selection) -> Vec<Retrieved> {
    let mut ranked: Vec<Retrieved> = candidates
        .into_iter()
        .map(|Candidate { text, embedding, .. }| {
            let similarity = image.cosine(&embedding);
            Retrieved { text, embedding, similarity }
        })
        .collect();
    if by.rerank {
        ranked.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
    }
    if by.dedupe {
        let mut seen = HashSet::new();
        ranked.retain(|it| seen.insert(it.text.trim().to_lowercase()));
    }
    ranked.truncate(by.n_captions);
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidate(text: &str, angle: f32, key_similarity: f64) -> Candidate {
        let embedding = Embedding::normalize(vec![angle.cos(), angle.sin()]).unwrap();
        Candidate { text: text.to_owned(), embedding, key_similarity }
    }

    #[test]
    fn ranks_by_caption_not_by_key_and_drops_duplicates() {
        let image = Embedding::normalize(vec![1.0, 0.0]).unwrap();
        let candidates = vec![
            candidate("a far caption with a near key", 1.0, 0.9),
            candidate("A Cat. ", 0.5, 0.8),
            candidate("a cat.", 0.2, 0.1),
            candidate("a dog", 0.3, 0.2),
        ];
        let texts = |selection| -> Vec<String> {
            let kept = choose(&image, candidates.clone(), selection);
            kept.into_iter().map(|it| it.text).collect()
        };
        let best = Selection::best(4);
        assert_eq!(texts(best), ["a cat.", "a dog", "a far caption with a near key"]);
        let repeated = Selection { dedupe: false, n_captions: 3, ..best };
        assert_eq!(texts(repeated), ["a cat.", "a dog", "A Cat. "]);
        let by_key = Selection { rerank: false, ..best };
        assert_eq!(texts(by_key), ["a far caption with a near key", "A Cat. ", "a dog"]);
        let kept = choose(&image, candidates, best);
        assert!((kept[0].similarity - f64::from(0.2f32.cos())).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn keeps_the_best_k_whatever_the_order(
            angles in prop::collection::vec(0.0f32..3.0, 0..40),
            k in 0usize..20,
        ) {
            let image = Embedding::normalize(vec![1.0, 0.0]).unwrap();
            let forward: Vec<Candidate> =
                angles.iter().enumerate().map(|(i, a)| candidate(&i.to_string(), *a, 0.0)).collect();
            let backward = forward.iter().rev().cloned().collect();
            let by = Selection::best(k);
            let (a, b) = (choose(&image, forward, by), choose(&image, backward, by));
            let similarities = |it: &[Retrieved]| it.iter().map(|r| r.similarity).collect::<Vec<_>>();
            prop_assert_eq!(a.len(), k.min(angles.len()));
            prop_assert_eq!(similarities(&a), similarities(&b));
            prop_assert!(a.is_sorted_by(|x, y| x.similarity >= y.similarity));
        }
    }
}
