//! tract on the CPU, on one thread, with kernels of our own where time goes.

use lookout_kernels::Isa;
use tract_onnx::prelude::*;

use crate::bundle::BundleEntry;
use crate::error::{LOAD, model_error};
use crate::runtime::tract::TractSession;
use crate::runtime::{Backend, Session, Signature, guard};
use crate::{EncoderError, fused};

/// The angle, in radians, by which 8-bit activations may turn an embedding: cosine 0.9976. Half as
/// much again as the most that AVX2 kernels turned one of 290 pictures by (see models/README.md);
/// a wrong kernel gives another direction altogether. With 11 bits it is below 0.01, within any
/// golden bound.
const NOISE_OF_8_BITS: f64 = 0.07;

/// The kernels of one instruction set.
pub(crate) struct Cpu(pub(crate) Isa);

impl Backend for Cpu {
    fn load(
        &self,
        file: BundleEntry,
        signature: &Signature,
    ) -> Result<Box<dyn Session>, EncoderError> {
        let onnx = file.open_onnx()?;
        let path = &file.path;
        let is_coarse =
            signature.has_outliers && self.0.activation_bits() < Isa::precise().activation_bits();
        let isa = if is_coarse { Isa::precise() } else { self.0 };
        let runnable = guard(path, LOAD, || {
            let model = fused::model(onnx, signature, isa)?;
            model.into_runnable().map_err(|err| model_error(path, LOAD, err))
        })??;
        let session = TractSession::new(path, signature, describe(isa), Box::new(runnable))?;
        let noise = if isa.activation_bits() == 8 { NOISE_OF_8_BITS } else { 0.0 };
        Ok(Box::new(session.with_noise(noise)))
    }

    fn describe(&self) -> String {
        describe(self.0)
    }

    fn batch(&self) -> usize {
        // More rows gain nothing on one thread.
        1
    }
}

fn describe(isa: Isa) -> String {
    format!("tract on the CPU with {isa} kernels")
}
