//! The numeric kernels of the encoder: what costs time, and the only unsafe code beside it.
//!
//! Everything here works on plain slices and knows no model format. An [`Isa`] chooses the
//! machine code; one that this machine cannot run cannot be made, so every function that takes
//! one is safe to call. Integer kernels are exact; they differ in how finely they take their inputs
//! ([`Weights::steps`]). The float parts may differ in the last bits, because some sets fuse
//! multiply and add.
//!
//! Shapes are row-major. A *row* is one token or one pixel, its entries are channels.

#![expect(
    unsafe_code,
    reason = "vector instructions have no safe form; each block says why it is sound"
)]
#![warn(missing_docs)]

mod activation;
mod attention;
mod conv;
mod fit;
mod gemm;
mod isa;
mod lanes;
mod norm;
mod quantize;
mod weights;

pub use activation::Activation;
pub use attention::{Attention, Heads};
pub use conv::{Depthwise, FloatConv, Patches, Shape, Window};
pub use gemm::{Output, multiply};
pub use isa::Isa;
pub use norm::layer_norm;
pub use quantize::Rows;
pub use weights::{Layout, Weights, WeightsError};
