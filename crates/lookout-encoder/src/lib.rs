//! Pictures and texts to embeddings: opens a model bundle and runs its towers through tract,
//! on the CPU or a GPU, or through onnxruntime.
//!
//! Everything about a model comes from its `model.toml`. This is the only crate that knows
//! these libraries; the bytes of a file reach one of them, or the tokenizer, only when their hash
//! is the one that the manifest names.

#![warn(missing_docs)]

mod bundle;
mod clean;
mod clip_bpe;
mod error;
mod fused;
mod golden;
mod image_tower;
mod import;
mod manifest;
mod onnx;
mod preprocess;
mod runtime;
mod text_tower;
mod tokens;

pub use bundle::Bundle;
pub use error::{BoxError, EncoderError, Fault};
pub use golden::{Golden, SampleCheck};
pub use image_tower::ImageTower;
pub use import::{
    ImportFiles, ImportHost, ImportOptions, ImportReport, ImportStep, TowerReport, WantedFile,
    external_data, import,
};

pub use lookout_kernels::Isa;
pub use manifest::DecisionDefaults;
pub use preprocess::{Filter, ImageRule, Layout, Resize, Rounding, preprocess, resize_and_crop};
pub use runtime::Runtime;
pub use text_tower::TextTower;
