//! The files that an import reads, by name: for whoever brings them from elsewhere.

use std::path::Path;

use super::json;
use super::source::{MAX_README_BYTES, MAX_TOKENIZER_BYTES};
use crate::EncoderError;
use crate::onnx::{MAX_FILE_BYTES, MAX_OUTSIDE_BYTES, OnnxFile};

pub(crate) const IMAGE_TOWERS: [&str; 5] = [
    "vision_model.onnx",
    "onnx/vision_model.onnx",
    "visual.onnx",
    "onnx/visual.onnx",
    "visual/model.onnx",
];
pub(crate) const TEXT_TOWERS: [&str; 5] = [
    "text_model.onnx",
    "onnx/text_model.onnx",
    "textual.onnx",
    "onnx/textual.onnx",
    "textual/model.onnx",
];
pub(crate) const BOTH_TOWERS: [&str; 2] = ["model.onnx", "onnx/model.onnx"];
/// Of these, two tensors are read.
pub(crate) const WEIGHTS: [&str; 2] = ["open_clip_model.safetensors", "model.safetensors"];
pub(crate) const TOKENIZER_FOLDERS: [&str; 2] = ["", "textual/"];

/// What an import reads of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportFiles {
    /// To be there whole.
    pub whole: Vec<WantedFile>,
    /// Those of `whole` that are ONNX graphs, which may have [`external_data`].
    pub towers: Vec<String>,
    /// Safetensors files of which [`ImportFiles::TENSORS`] suffice.
    pub weights: Vec<String>,
    /// What an import needs and the repository has not, for people.
    pub missing: Vec<String>,
    /// What stays unread because another file has the same role.
    pub passed_over: Vec<String>,
}

/// A file to bring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedFile {
    /// With slashes, below the repository's top folder or the graph's.
    pub path: String,
    /// An import reads no larger one.
    pub max_bytes: u64,
}

impl ImportFiles {
    /// The tensors that an import reads of a safetensors file.
    pub const TENSORS: [&str; 2] = ["logit_scale", "logit_bias"];

    /// Picks from `listing`, the paths of a repository.
    #[must_use]
    pub fn of(listing: &[&str]) -> Self {
        let mut files = Self {
            whole: Vec::new(),
            towers: Vec::new(),
            weights: Vec::new(),
            missing: Vec::new(),
            passed_over: Vec::new(),
        };
        let has = |path: &str| listing.contains(&path);
        let mut take = |path: &str, max_bytes: u64| {
            if has(path) {
                files.whole.push(WantedFile { path: path.to_owned(), max_bytes });
            }
            has(path)
        };
        if !take("open_clip_config.json", json::MAX_BYTES) {
            if !take("config.json", json::MAX_BYTES) {
                files.missing.push("config.json or open_clip_config.json".to_owned());
            }
            take("preprocessor_config.json", json::MAX_BYTES);
            take("visual/preprocess_cfg.json", json::MAX_BYTES);
        }
        take("README.md", MAX_README_BYTES);
        for folder in TOKENIZER_FOLDERS {
            take(&format!("{folder}tokenizer_config.json"), json::MAX_BYTES);
        }
        let mut first = |name: &str| {
            let paths = TOKENIZER_FOLDERS.iter().map(|it| format!("{it}{name}"));
            paths.into_iter().any(|it| take(&it, MAX_TOKENIZER_BYTES))
        };
        if !first("tokenizer.json") {
            if first("merges.txt") {
                first("vocab.json");
            } else {
                files.missing.push("tokenizer.json or merges.txt".to_owned());
            }
        }
        for names in [&IMAGE_TOWERS, &TEXT_TOWERS] {
            let mut there = names.iter().chain(&BOTH_TOWERS).filter(|it| has(it));
            let Some(tower) = there.next().map(|it| (*it).to_owned()) else {
                files.missing.push(format!("{} or model.onnx", names[..4].join(", ")));
                continue;
            };
            let others = there.filter(|it| names.contains(it) || !names.contains(&&*tower));
            files.passed_over.extend(others.map(|it| (*it).to_owned()));
            if !files.towers.contains(&tower) {
                let (path, max_bytes) = (tower.clone(), MAX_FILE_BYTES);
                files.whole.push(WantedFile { path, max_bytes });
                files.towers.push(tower);
            }
        }
        files.passed_over.sort();
        files.passed_over.dedup();
        files.weights.extend(WEIGHTS.iter().filter(|it| has(it)).map(|it| (*it).to_owned()));
        files
    }
}

/// The files beside the ONNX file at `path` that it has tensors in.
pub fn external_data(path: &Path) -> Result<Vec<WantedFile>, EncoderError> {
    let wanted = |path| WantedFile { path, max_bytes: MAX_OUTSIDE_BYTES };
    Ok(OnnxFile::outside_names(path)?.into_iter().map(wanted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(listing: &[&str]) -> (Vec<String>, ImportFiles) {
        let files = ImportFiles::of(listing);
        (files.whole.iter().map(|it| it.path.clone()).collect(), files)
    }

    #[test]
    fn only_what_an_import_reads_is_picked() {
        let (whole, files) = picked(&[
            ".gitattributes",
            "README.md",
            "config.json",
            "flax_model.msgpack",
            "merges.txt",
            "model.safetensors",
            "onnx/model.onnx",
            "onnx/text_model.onnx",
            "onnx/text_model_quantized.onnx",
            "onnx/vision_model.onnx",
            "preprocessor_config.json",
            "pytorch_model.bin",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.json",
        ]);
        assert_eq!(
            whole,
            [
                "config.json",
                "preprocessor_config.json",
                "README.md",
                "tokenizer_config.json",
                "tokenizer.json",
                "onnx/vision_model.onnx",
                "onnx/text_model.onnx",
            ]
        );
        assert_eq!(files.towers, ["onnx/vision_model.onnx", "onnx/text_model.onnx"]);
        assert_eq!(files.weights, ["model.safetensors"]);
        assert!(files.missing.is_empty() && files.passed_over.is_empty(), "{files:?}");
    }

    #[test]
    fn other_layouts() {
        let (whole, files) = picked(&[
            "config.json",
            "textual/merges.txt",
            "textual/model.onnx",
            "textual/vocab.json",
            "textual/tokenizer_config.json",
            "visual/model.onnx",
            "visual/preprocess_cfg.json",
        ]);
        assert_eq!(whole.len(), 7, "{whole:?}");
        assert!(files.missing.is_empty());

        let (whole, files) = picked(&["open_clip_config.json", "model.onnx", "tokenizer.json"]);
        assert_eq!(whole, ["open_clip_config.json", "tokenizer.json", "model.onnx"]);
        assert_eq!(files.towers, ["model.onnx"]);

        let (_, files) = picked(&[
            "config.json",
            "model.onnx",
            "onnx/vision_model.onnx",
            "onnx/model.onnx",
            "tokenizer.json",
            "vision_model.onnx",
        ]);
        assert_eq!(files.towers, ["vision_model.onnx", "model.onnx"]);
        assert_eq!(files.passed_over, ["onnx/model.onnx", "onnx/vision_model.onnx"]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let (_, files) = picked(&["README.md", "model.safetensors"]);
        let missing = files.missing.join("; ");
        for part in ["config.json", "tokenizer.json", "vision_model.onnx", "text_model.onnx"] {
            assert!(missing.contains(part), "{missing}");
        }
    }
}
