//! Unit vectors in a model's embedding space.

/// An L2-normalized vector of one embedding space. Dimensionless; every entry is finite.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding(Box<[f32]>);

/// The values given are no direction.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EmbeddingError {
    /// Entry `index` is NaN or infinite.
    #[error("embedding entry {index} is {value}; entries must be finite")]
    NonFinite {
        /// Position of the first such entry.
        index: usize,
        /// The entry.
        value: f32,
    },
    /// All entries are zero, or there are none.
    #[error("embedding of {dimension} entries has a zero norm")]
    ZeroNorm {
        /// Number of entries.
        dimension: usize,
    },
    /// [`Embedding::from_unit`] was given something else.
    #[error("embedding has norm {norm}; it must be within 0.001 of 1")]
    NotUnit {
        /// The norm found.
        norm: f64,
    },
}

impl Embedding {
    /// Scales `values` to unit length; the norm is taken in `f64`.
    pub fn normalize(mut values: Vec<f32>) -> Result<Self, EmbeddingError> {
        let norm = norm(&values)?;
        for value in &mut values {
            #[expect(clippy::cast_possible_truncation, reason = "entries are stored as f32")]
            let scaled = (f64::from(*value) / norm) as f32;
            *value = scaled;
        }
        Ok(Self(values.into()))
    }

    /// Takes a vector that is already of unit length, to within 0.001, unchanged.
    pub fn from_unit(values: Vec<f32>) -> Result<Self, EmbeddingError> {
        let norm = norm(&values)?;
        if (norm - 1.0).abs() <= 1e-3 {
            Ok(Self(values.into()))
        } else {
            Err(EmbeddingError::NotUnit { norm })
        }
    }

    /// The normalized mean of unit vectors, as CLIP ensembles prompts.
    pub fn mean(embeddings: &[Self]) -> Result<Self, EmbeddingError> {
        let dimension = embeddings.first().map_or(0, Self::dimension);
        let mut sum = vec![0.0f64; dimension];
        for embedding in embeddings {
            for (sum, value) in sum.iter_mut().zip(embedding.as_slice()) {
                *sum += f64::from(*value);
            }
        }
        let norm = sum.iter().map(|it| it * it).sum::<f64>().sqrt();
        if norm <= f64::from(f32::MIN_POSITIVE) {
            return Err(EmbeddingError::ZeroNorm { dimension });
        }
        #[expect(clippy::cast_possible_truncation, reason = "entries are stored as f32")]
        let values: Vec<f32> = sum.iter().map(|it| (it / norm) as f32).collect();
        Ok(Self(values.into()))
    }

    /// The entries.
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }

    /// Number of entries.
    pub fn dimension(&self) -> usize {
        self.0.len()
    }

    /// Cosine of the angle to `other`, within −1 to 1 up to rounding; summed in `f64`.
    /// Both must be of one space; [`crate::Classifier`] checks dimensions before it compares.
    pub fn cosine(&self, other: &Self) -> f64 {
        debug_assert_eq!(self.dimension(), other.dimension());
        self.0.iter().zip(&other.0).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    }
}

fn norm(values: &[f32]) -> Result<f64, EmbeddingError> {
    if let Some((index, &value)) = values.iter().enumerate().find(|(_, it)| !it.is_finite()) {
        return Err(EmbeddingError::NonFinite { index, value });
    }
    let norm = values.iter().map(|it| f64::from(*it).powi(2)).sum::<f64>().sqrt();
    if norm <= f64::from(f32::MIN_POSITIVE) {
        return Err(EmbeddingError::ZeroNorm { dimension: values.len() });
    }
    Ok(norm)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_what_has_no_direction() {
        assert_eq!(Embedding::normalize(vec![]), Err(EmbeddingError::ZeroNorm { dimension: 0 }));
        assert_eq!(
            Embedding::normalize(vec![0.0; 3]),
            Err(EmbeddingError::ZeroNorm { dimension: 3 })
        );
        assert!(matches!(
            Embedding::normalize(vec![1.0, f32::NAN]),
            Err(EmbeddingError::NonFinite { index: 1, .. })
        ));
        assert_eq!(
            Embedding::from_unit(vec![2.0, 0.0]),
            Err(EmbeddingError::NotUnit { norm: 2.0 })
        );
        let opposite = [
            Embedding::normalize(vec![1.0, 0.0]).unwrap(),
            Embedding::normalize(vec![-1.0, 0.0]).unwrap(),
        ];
        assert!(Embedding::mean(&opposite).is_err());
    }

    proptest! {
        #[test]
        fn normalized_vectors_are_unit(values in prop::collection::vec(-1e30f32..1e30, 1..64)) {
            prop_assume!(values.iter().any(|it| it.abs() > 1e-30));
            let unit = Embedding::normalize(values).unwrap();
            prop_assert!((unit.cosine(&unit) - 1.0).abs() < 1e-6);
            prop_assert!(Embedding::from_unit(unit.as_slice().to_vec()).is_ok());
        }
    }
}
