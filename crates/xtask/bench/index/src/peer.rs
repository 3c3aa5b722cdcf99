//! usearch, the peer: an HNSW graph with the vectors in it, as bytes or as half-precision numbers.
//!
//! It keeps no captions, so their size and the time to read them are not counted against it. Its file is
//! mapped when searched, as ours is.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use lookout_core::Embedding;
use usearch::{Index, IndexOptions, MetricKind, ScalarKind, new_index};

use crate::bank::Bank;

/// Results that it looks for beyond those asked for, as our graph does.
const SLACK: usize = 160;

pub(crate) struct Peer {
    index: Index,
    texts: PathBuf,
    /// Read when first asked for, so that they are not counted as memory of the search.
    all_texts: OnceCell<Vec<String>>,
    dimension: usize,
    pub(crate) how: String,
}

fn options(contestant: &str, dimension: usize) -> anyhow::Result<IndexOptions> {
    let quantization = match contestant {
        "usearch-i8" => ScalarKind::I8,
        "usearch-f16" => ScalarKind::F16,
        _ => bail!("{contestant}: no such contestant"),
    };
    Ok(IndexOptions {
        dimensions: dimension,
        metric: MetricKind::Cos,
        quantization,
        ..Default::default()
    })
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path that is not UTF-8")
}

/// Puts all entries in, on one thread.
pub(crate) fn build(bank: &Bank, contestant: &str) -> anyhow::Result<Index> {
    let index = new_index(&options(contestant, bank.dimension())?)?;
    index.reserve(bank.n())?;
    for idx in 0..bank.n() {
        let (_, caption, key) = bank.entry(idx)?;
        index.add(idx as u64, &key.unwrap_or(caption))?;
    }
    Ok(index)
}

/// Writes the index, and beside it the captions that recall is counted by.
pub(crate) fn save(index: &Index, bank: &Bank, output: &Path) -> anyhow::Result<()> {
    index.save(text(output)?)?;
    let mut texts = vec![bank.dimension().to_string()];
    for idx in 0..bank.n() {
        texts.push(bank.entry(idx)?.0);
    }
    Ok(fs::write(output.with_extension("texts"), texts.join("\n"))?)
}

impl Peer {
    pub(crate) fn open(path: &Path, contestant: &str, n: usize) -> anyhow::Result<Self> {
        let texts = path.with_extension("texts");
        let mut first = String::new();
        BufReader::new(File::open(&texts)?).read_line(&mut first)?;
        let dimension = first.trim().parse()?;
        let index = new_index(&options(contestant, dimension)?)?;
        index.view(text(path)?)?;
        index.change_expansion_search(n + SLACK);
        let how = format!("{contestant}, ef {}, {}", n + SLACK, index.hardware_acceleration());
        Ok(Self { index, texts, all_texts: OnceCell::new(), dimension, how })
    }

    pub(crate) fn dimension(&self) -> usize {
        self.dimension
    }

    pub(crate) fn search(&self, query: &Embedding, n: usize) -> anyhow::Result<Vec<u64>> {
        Ok(self.index.search(query.as_slice(), n)?.keys)
    }

    /// The captions of what was found.
    pub(crate) fn texts(&self, keys: &[u64]) -> anyhow::Result<Vec<String>> {
        let texts = self.all_texts.get_or_init(|| {
            let texts = fs::read_to_string(&self.texts).unwrap_or_default();
            texts.lines().skip(1).map(str::to_owned).collect()
        });
        let text = |key: &u64| texts.get(*key as usize).cloned().context("no such caption");
        keys.iter().map(text).collect()
    }
}
