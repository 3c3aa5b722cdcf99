//! tract on the CPU, on one thread, with kernels of our own where time goes.

use lookout_kernels::Isa;
use tract_onnx::prelude::*;

use crate::bundle::BundleEntry;
use crate::error::{LOAD, model_error};
use crate::runtime::tract::TractSession;
use crate::runtime::{Backend, Session, Signature, guard};
use crate::{EncoderError, fused};

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
        let runnable = guard(path, LOAD, || {
            let model = fused::model(onnx, signature, self.0)?;
            model.into_runnable().map_err(|err| model_error(path, LOAD, err))
        })??;
        let session = TractSession::new(path, signature, self.describe(), Box::new(runnable))?;
        Ok(Box::new(session))
    }

    fn describe(&self) -> String {
        format!("tract on the CPU with {} kernels", self.0)
    }

    fn batch(&self) -> usize {
        // More rows gain nothing on one thread.
        1
    }
}
