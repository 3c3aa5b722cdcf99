//! The banks that are measured, and what an exhaustive search of floats finds in them.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use lookout_core::Embedding;

use crate::source::{Rows, Source};

/// Queries of a bank, at most.
const MAX_QUERIES: usize = 256;
/// Results that recall is taken of.
pub(crate) const K: usize = 16;

/// A bank by its name: `captions:N`, `pairs:N`, or a folder of real embeddings.
pub(crate) struct Bank {
    pub(crate) name: String,
    kind: Kind,
}

enum Kind {
    /// Synthetic captions, searched by real pictures.
    Captions(usize, Source),
    /// Synthetic pairs, searched by real pictures.
    Pairs(usize, Source),
    Real {
        captions: Rows,
        texts: Vec<String>,
        pictures: Rows,
    },
}

impl Bank {
    pub(crate) fn open(root: &Path, embeddings: Option<&Path>, name: &str) -> anyhow::Result<Self> {
        let texts = root.join("models/starter/captions.tsv");
        let source = || match embeddings {
            None => Source::starter(root, &texts),
            Some(folder) => {
                let sets = ["cifar500-b32-namesbank", "flickr100-b32"];
                Source::read(&sets.map(|it| folder.join(it)), &texts)
            }
        };
        let number = |n: &str| n.parse().with_context(|| format!("{name}: no number"));
        let kind = match name.split_once(':') {
            Some(("captions", n)) => Kind::Captions(number(n)?, source()?),
            Some(("pairs", n)) => Kind::Pairs(number(n)?, source()?),
            Some(("real", folder)) => {
                let (captions, texts, pictures) = Rows::read_set(&PathBuf::from(folder))?;
                Kind::Real { captions, texts, pictures }
            }
            _ => bail!("{name}: no such bank"),
        };
        Ok(Self { name: name.to_owned(), kind })
    }

    pub(crate) fn n(&self) -> usize {
        match &self.kind {
            Kind::Captions(n, _) | Kind::Pairs(n, _) => *n,
            Kind::Real { captions, .. } => captions.n(),
        }
    }

    pub(crate) fn dimension(&self) -> usize {
        match &self.kind {
            Kind::Captions(_, source) | Kind::Pairs(_, source) => source.captions.dimension,
            Kind::Real { captions, .. } => captions.dimension,
        }
    }

    /// Text, caption embedding and, for pairs, key.
    pub(crate) fn entry(&self, idx: usize) -> anyhow::Result<(String, Vec<f32>, Option<Vec<f32>>)> {
        Ok(match &self.kind {
            Kind::Captions(_, source) => {
                let (text, caption) = source.entry(idx as u64);
                (text, caption, None)
            }
            Kind::Pairs(_, source) => {
                let (text, caption) = source.entry(idx as u64);
                (text, caption, Some(source.picture(idx as u64)))
            }
            Kind::Real { captions, texts, .. } => {
                (texts[idx].clone(), captions.row(idx).to_vec(), None)
            }
        })
    }

    /// Pictures to search by, spread over all.
    pub(crate) fn queries(&self) -> anyhow::Result<Vec<Embedding>> {
        let pictures = match &self.kind {
            Kind::Captions(_, source) | Kind::Pairs(_, source) => &source.pictures,
            Kind::Real { pictures, .. } => pictures,
        };
        let step = pictures.n().div_ceil(MAX_QUERIES).max(1);
        (0..pictures.n()).step_by(step).map(|idx| pictures.embedding(idx)).collect()
    }

    /// The texts of the nearest [`K`] entries of every query, by floats.
    pub(crate) fn exact(&self, queries: &[Embedding]) -> anyhow::Result<Vec<Vec<String>>> {
        let mut nearest: Vec<Vec<(f32, usize)>> = vec![Vec::new(); queries.len()];
        for idx in 0..self.n() {
            let (_, caption, key) = self.entry(idx)?;
            let key = key.unwrap_or(caption);
            for (query, nearest) in queries.iter().zip(&mut nearest) {
                let similarity = dot(query.as_slice(), &key);
                if nearest.len() == K && similarity <= nearest[K - 1].0 {
                    continue;
                }
                nearest.truncate(K - 1);
                let place = nearest.partition_point(|it| it.0 >= similarity);
                nearest.insert(place, (similarity, idx));
            }
        }
        let texts = |it: Vec<(f32, usize)>| -> anyhow::Result<Vec<String>> {
            it.into_iter().map(|it| Ok(self.entry(it.1)?.0)).collect()
        };
        nearest.into_iter().map(texts).collect()
    }
}

/// Eight sums, so that the compiler adds eight at once.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; 8];
    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        for idx in 0..8 {
            sums[idx] += a[idx] * b[idx];
        }
    }
    sums.iter().sum()
}
