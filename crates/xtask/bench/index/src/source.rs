//! Embeddings to measure with: real ones, and as many synthetic ones as are wanted.
//!
//! Synthetic vectors imitate what makes CLIP's space hard to search. Each is the mean of the real
//! captions plus a difference from it that is mixed of two real captions' and of a random combination
//! of many. So the cone, the few large dimensions, the gap to the images that are searched for (which are
//! real), the clusters and the hubs are the model's own; what is invented is what lies between. The mix
//! leans to few captions, so that clusters stand close together and are of very different size.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use half::f16;
use lookout_core::Embedding;

/// Real captions that a synthetic one's random part is combined of.
const NOISE_ROWS: usize = 64;
/// Share of the difference's squared length that is random.
const NOISE: f32 = 0.4;

/// Rows of one length.
pub(crate) struct Rows {
    pub(crate) dimension: usize,
    pub(crate) values: Vec<f32>,
}

impl Rows {
    pub(crate) fn n(&self) -> usize {
        self.values.len() / self.dimension
    }

    pub(crate) fn row(&self, idx: usize) -> &[f32] {
        &self.values[idx * self.dimension..(idx + 1) * self.dimension]
    }

    pub(crate) fn embedding(&self, idx: usize) -> anyhow::Result<Embedding> {
        Ok(Embedding::normalize(self.row(idx).to_vec())?)
    }

    /// Reads a two-dimensional little-endian `.npy` file of half-precision numbers.
    fn read_npy(path: &Path) -> anyhow::Result<Self> {
        let read = || -> anyhow::Result<Self> {
            let bytes = fs::read(path)?;
            let length = bytes.get(8..10).context("too short")?;
            let (header, data) = bytes[10..]
                .split_at_checked(u16::from_le_bytes([length[0], length[1]]).into())
                .context("too short")?;
            let header = std::str::from_utf8(header)?;
            ensure!(bytes.starts_with(b"\x93NUMPY\x01"), "not NPY version 1");
            ensure!(
                header.contains("'<f2'") && header.contains("'fortran_order': False"),
                "{header}"
            );
            let (_, shape) = header.split_once("'shape': (").context("no shape")?;
            let (shape, _) = shape.split_once(')').context("no shape")?;
            let (n, dimension) = shape.split_once(", ").context("not two dimensions")?;
            let (n, dimension): (usize, usize) = (n.parse()?, dimension.parse()?);
            ensure!(data.len() == n * dimension * 2, "{} bytes of data", data.len());
            let values = data.chunks_exact(2).map(|it| f16::from_le_bytes([it[0], it[1]]).to_f32());
            Ok(Self { dimension, values: values.collect() }.normalized())
        };
        read().with_context(|| path.display().to_string())
    }

    /// A folder of real embeddings, with its texts: `captions.npy`, `captions.txt` and `images.npy`, or
    /// `captions.jsonl` and `pictures.jsonl` as `lookout embed --json` prints them.
    pub(crate) fn read_set(folder: &Path) -> anyhow::Result<(Self, Vec<String>, Self)> {
        let captions = folder.join("captions.jsonl");
        if captions.exists() {
            let (captions, texts) = Self::read_jsonl(&captions)?;
            return Ok((captions, texts, Self::read_jsonl(&folder.join("pictures.jsonl"))?.0));
        }
        let texts = fs::read_to_string(folder.join("captions.txt"))?;
        let captions = Self::read_npy(&folder.join("captions.npy"))?;
        let texts: Vec<String> = texts.lines().map(str::to_owned).collect();
        ensure!(
            texts.len() == captions.n(),
            "{}: captions.txt and captions.npy differ",
            folder.display()
        );
        Ok((captions, texts, Self::read_npy(&folder.join("images.npy"))?))
    }

    fn read_jsonl(path: &Path) -> anyhow::Result<(Self, Vec<String>)> {
        #[derive(serde::Deserialize)]
        struct Line {
            input: String,
            embedding: Vec<f32>,
        }
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let (mut values, mut inputs, mut dimension) = (Vec::new(), Vec::new(), 0);
        for line in text.lines() {
            let line: Line = serde_json::from_str(line)?;
            dimension = line.embedding.len();
            values.extend(line.embedding);
            inputs.push(line.input);
        }
        ensure!(values.len() == inputs.len() * dimension, "{}: lengths differ", path.display());
        Ok((Self { dimension, values }, inputs))
    }

    /// Reads rows of 16-bit integers, as `tests/index-fixture` has them.
    fn read_i16(path: &Path, dimension: usize) -> anyhow::Result<Self> {
        let bytes = fs::read(path).with_context(|| path.display().to_string())?;
        let values = bytes.chunks_exact(2).map(|it| i16::from_le_bytes([it[0], it[1]]).into());
        Ok(Self { dimension, values: values.collect() }.normalized())
    }

    fn normalized(mut self) -> Self {
        for row in self.values.chunks_exact_mut(self.dimension) {
            scale_to(row, 1.0);
        }
        self
    }
}

/// Captions, pictures to search them by, and text.
pub(crate) struct Source {
    pub(crate) captions: Rows,
    pub(crate) pictures: Rows,
    center: Vec<f32>,
    /// Real captions, whose halves make synthetic ones.
    texts: Vec<String>,
}

impl Source {
    /// One folder of `captions.npy` and `pictures` of several, of one model.
    pub(crate) fn read(folders: &[impl AsRef<Path>], texts: &Path) -> anyhow::Result<Self> {
        let mut captions: Option<Rows> = None;
        let mut pictures: Option<Rows> = None;
        for folder in folders {
            for (file, rows) in [("captions.npy", &mut captions), ("images.npy", &mut pictures)] {
                let path = folder.as_ref().join(file);
                let read = Rows::read_npy(&path)?;
                match rows {
                    None => *rows = Some(read),
                    Some(it) if it.dimension == read.dimension => it.values.extend(read.values),
                    Some(_) => bail!("{}: another dimension than the others", path.display()),
                }
            }
        }
        let (Some(captions), Some(pictures)) = (captions, pictures) else { bail!("no folder") };
        Self::new(captions, pictures, texts)
    }

    /// The starter's stored embeddings, for who has no others.
    pub(crate) fn starter(root: &Path, texts: &Path) -> anyhow::Result<Self> {
        let at = |name| root.join("tests/index-fixture").join(name);
        let captions = Rows::read_i16(&at("captions.i16"), 384)?;
        Self::new(captions, Rows::read_i16(&at("pictures.i16"), 384)?, texts)
    }

    fn new(captions: Rows, pictures: Rows, texts: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(texts).with_context(|| texts.display().to_string())?;
        let texts = text.lines().skip(1).filter_map(|it| it.split('\t').nth(1));
        let texts = texts.map(str::to_owned).collect();
        let mut center = vec![0.0; captions.dimension];
        for row in captions.values.chunks_exact(captions.dimension) {
            center.iter_mut().zip(row).for_each(|(sum, it)| *sum += it / captions.n() as f32);
        }
        Ok(Self { captions, pictures, center, texts })
    }

    /// Synthetic entry `idx`: the same for the same number.
    pub(crate) fn entry(&self, idx: u64) -> (String, Vec<f32>) {
        let mut random = fastrand::Rng::with_seed(idx.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let vector = self.mix(&self.captions, &mut random);
        let [head, tail] = [(); 2].map(|()| &self.texts[random.usize(..self.texts.len())]);
        let half = |text: &str| text.split(' ').count().div_ceil(2);
        let head: Vec<&str> = head.split(' ').take(half(head)).collect();
        let tail: Vec<&str> = tail.split(' ').skip(half(tail)).collect();
        ([head, tail].concat().join(" "), vector)
    }

    /// A synthetic picture's embedding, for pairs.
    pub(crate) fn picture(&self, idx: u64) -> Vec<f32> {
        let mut random = fastrand::Rng::with_seed(!idx.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut noise = self.mix(&self.captions, &mut random);
        noise.iter_mut().zip(&self.center).for_each(|(it, center)| *it -= center);
        let picture = self.pictures.row(random.usize(..self.pictures.n()));
        let mut out: Vec<f32> = picture.iter().zip(&noise).map(|(a, b)| a + 0.5 * b).collect();
        scale_to(&mut out, 1.0);
        out
    }

    fn mix(&self, rows: &Rows, random: &mut fastrand::Rng) -> Vec<f32> {
        let difference = |random: &mut fastrand::Rng| -> Vec<f32> {
            // The square leans to the first rows: a few captions have much company.
            let place = random.f32();
            let idx = ((place * place * rows.n() as f32) as usize).min(rows.n() - 1);
            rows.row(idx).iter().zip(&self.center).map(|(it, center)| it - center).collect()
        };
        let first = difference(random);
        let second = difference(random);
        let length = norm(&first);
        let share = 0.5 + 0.5 * random.f32();
        let mut signal: Vec<f32> =
            first.iter().zip(&second).map(|(a, b)| share * a + (1.0 - share) * b).collect();
        scale_to(&mut signal, length * (1.0 - NOISE).sqrt());
        let mut noise = vec![0.0; rows.dimension];
        for _ in 0..NOISE_ROWS {
            let idx = random.usize(..rows.n());
            // A sum of uniform numbers is near enough to a normal one.
            let weight: f32 = (0..4).map(|_| random.f32() - 0.5).sum();
            for ((sum, it), center) in noise.iter_mut().zip(rows.row(idx)).zip(&self.center) {
                *sum += weight * (it - center);
            }
        }
        scale_to(&mut noise, length * NOISE.sqrt());
        let parts = self.center.iter().zip(&signal).zip(&noise);
        let mut out: Vec<f32> = parts.map(|((center, a), b)| center + a + b).collect();
        scale_to(&mut out, 1.0);
        out
    }
}

fn norm(row: &[f32]) -> f32 {
    row.iter().map(|it| it * it).sum::<f32>().sqrt()
}

fn scale_to(row: &mut [f32], length: f32) {
    let factor = length / norm(row).max(f32::MIN_POSITIVE);
    row.iter_mut().for_each(|it| *it *= factor);
}
