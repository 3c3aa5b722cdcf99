//! tract on the CPU, on one thread.

use tract_onnx::prelude::*;

use crate::EncoderError;
use crate::bundle::BundleFile;
use crate::runtime::tract::{self, TractSession};
use crate::runtime::{Backend, Session, Signature};

/// tract's kernels for the CPU at hand.
pub(crate) struct Cpu;

impl Backend for Cpu {
    fn load(
        &self,
        file: BundleFile,
        signature: &Signature,
    ) -> Result<Box<dyn Session>, EncoderError> {
        let session = TractSession::load(file, signature, self.describe(), |bytes| {
            let model = tract::read(bytes, signature)?.into_optimized()?;
            Ok(Box::new(model.into_runnable()?))
        })?;
        Ok(Box::new(session))
    }

    fn describe(&self) -> String {
        "tract on the CPU".to_owned()
    }

    fn batch(&self) -> usize {
        // More rows gain nothing on one thread.
        1
    }
}
