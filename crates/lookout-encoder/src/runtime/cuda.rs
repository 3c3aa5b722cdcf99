//! tract on an NVIDIA GPU, in float. Driver and CUDA libraries are loaded when the device is
//! opened; tract compiles its kernels for the GPU at hand then and caches them on disk.

use std::io::Cursor;

use lookout_core::Device;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{
    Runtime as TractRuntime, TractErrorContext, runtime_for_name,
};

use crate::bundle::{BundleEntry, BundleFile};
use crate::error::{LOAD, model_error};
use crate::runtime::tract::{self, TractSession};
use crate::runtime::{Backend, GPU_BATCH, Session, Signature, caught, guard, sizes};
use crate::{BoxError, EncoderError};

const ADVICE: &str = "install the NVIDIA driver (580 or later), the CUDA 13 toolkit and cuDNN 9";

/// The first GPU.
pub(crate) struct Cuda {
    runtime: &'static dyn TractRuntime,
}

impl Cuda {
    /// Finds driver, libraries and GPU, and compiles the kernels unless they are cached.
    pub(crate) fn open() -> Result<Self, EncoderError> {
        let opened = caught(|| {
            let runtime = runtime_for_name("cuda")?.context("tract has no runtime `cuda`")?;
            let kernels = tract_cuda::kernels::cubin_dir();
            if !kernels.exists() {
                // A warning, because those are what every verb shows.
                let kernels = kernels.display();
                tracing::warn!(%kernels, "The GPU's kernels are compiled once: about a minute.");
            }
            // Driver and libraries are there; only a stream tells whether they work together.
            tract_cuda::with_cuda_stream(|stream| Ok(stream.synchronize()?))?;
            TractResult::Ok(runtime)
        });
        let source: BoxError = match opened {
            Ok(Ok(runtime)) => return Ok(Self { runtime }),
            Ok(Err(error)) => error.into(),
            Err(panic) => panic.into(),
        };
        Err(EncoderError::Device { device: Device::Cuda, advice: ADVICE, source })
    }
}

impl Backend for Cuda {
    fn load(
        &self,
        file: BundleEntry,
        signature: &Signature,
    ) -> Result<Box<dyn Session>, EncoderError> {
        let BundleFile { path, bytes } = file.read()?;
        let runnable = guard(&path, LOAD, || {
            // Decluttering turns the int8 weights into float constants.
            let model = read(bytes, signature)?.into_typed()?.into_decluttered()?;
            self.runtime.prepare(model).context("device \"cpu\" may be able to run it")
        })?;
        let runnable = runnable.map_err(|err| model_error(&path, LOAD, err))?;
        let session = TractSession::new(&path, signature, self.describe(), runnable)?;
        Ok(Box::new(session))
    }

    fn describe(&self) -> String {
        "tract on the first CUDA GPU".to_owned()
    }

    fn batch(&self) -> usize {
        GPU_BATCH
    }
}

/// Reads an ONNX file as a model with the inputs, in their order and shapes, and the output of
/// `signature`.
fn read(bytes: Vec<u8>, signature: &Signature) -> TractResult<InferenceModel> {
    // Files that name their batch dimension cannot be pinned to a number of rows while the shapes
    // written beside the graph are believed.
    let onnx = tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
    let mut model = onnx.model_for_read(&mut Cursor::new(bytes))?;
    tract::select(&mut model, signature)?;
    sizes::check_growth(&model)?;
    Ok(model)
}
