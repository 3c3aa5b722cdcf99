//! onnxruntime, with its CPU, CUDA or TensorRT provider. The library is loaded when a device is
//! opened, from the path in `ORT_DYLIB_PATH` or where the system's loader finds it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use lookout_core::Device;
use ort::environment::Environment;
use ort::ep::{CUDA, ExecutionProviderDispatch, TensorRT};
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session as OrtModel, SessionInputValue};
use ort::value::{TensorRef, ValueType};

use crate::bundle::{BundleEntry, BundleFile};
use crate::error::{LOAD, RUN};
use crate::runtime::{Backend, GPU_BATCH, Input, InputSpec, Session, Signature, caught, guard};
use crate::{BoxError, EncoderError};

const ADVICE: &str = "set ORT_DYLIB_PATH to the libonnxruntime.so of onnxruntime 1.22 or later, \
                      such as the one in the PyPI package onnxruntime";
const ADVICE_GPU: &str = "set ORT_DYLIB_PATH to the libonnxruntime.so of onnxruntime 1.22 or \
                          later built for NVIDIA GPUs, such as the one in the PyPI package \
                          onnxruntime-gpu, and install the CUDA, cuDNN and TensorRT libraries \
                          that it names";

/// onnxruntime allows one environment a process, even after it was released.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// onnxruntime with one provider.
pub(crate) struct Ort {
    device: Device,
    environment: Environment,
}

impl Ort {
    /// Loads the library and finds out whether it has the provider of `device`.
    pub(crate) fn open(device: Device) -> Result<Self, EncoderError> {
        let opened = caught(|| {
            let ort = Self { device, environment: environment()? };
            ort.builder()?;
            Ok::<_, BoxError>(ort)
        });
        let advice = if device == Device::OrtCpu { ADVICE } else { ADVICE_GPU };
        opened.unwrap_or_else(|panic| Err(panic.into())).map_err(|source| EncoderError::Device {
            device,
            advice,
            source,
        })
    }

    fn builder(&self) -> ort::Result<SessionBuilder> {
        let builder = OrtModel::builder(&self.environment)?
            .with_intra_threads(1)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            // Otherwise DequantizeLinear + MatMul is computed with activations rounded to int8,
            // which moves the embedding.
            .with_config_entry("session.disable_quant_qdq", "1")?;
        Ok(builder.with_execution_providers(self.providers())?)
    }

    /// The providers to use, best first. What they lack runs on the CPU.
    fn providers(&self) -> Vec<ExecutionProviderDispatch> {
        let cuda = || CUDA::default().build().error_on_failure();
        match self.device {
            Device::OrtCuda => vec![cuda()],
            Device::OrtTensorRt => vec![TensorRT::default().build().error_on_failure(), cuda()],
            Device::Auto | Device::Cpu | Device::Cuda | Device::OrtCpu => Vec::new(),
        }
    }
}

fn environment() -> Result<Environment, BoxError> {
    let mut shared = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = shared.as_ref() {
        return Ok(environment.clone());
    }
    let path = std::env::var_os("ORT_DYLIB_PATH").filter(|it| !it.is_empty());
    let path = PathBuf::from(path.unwrap_or_else(|| OsString::from("libonnxruntime.so")));
    let environment = ort::init_from(path)?.with_name("lookout").with_telemetry(false).build()?;
    Ok(shared.insert(environment).clone())
}

impl Backend for Ort {
    fn load(
        &self,
        file: BundleEntry,
        signature: &Signature,
    ) -> Result<Box<dyn Session>, EncoderError> {
        let BundleFile { path, bytes } = file.read()?;
        let loaded = guard(&path, LOAD, || {
            let model = self.builder()?.commit_from_memory(&bytes)?;
            check_names(&model, signature)?;
            Ok::<_, BoxError>(model)
        })?;
        let model = loaded.map_err(|source| EncoderError::Model {
            path: path.clone(),
            action: LOAD,
            source,
        })?;
        let output = model.outputs().iter().find(|it| it.name() == signature.output);
        if let Some(ValueType::Tensor { shape, .. }) = output.map(|it| it.dtype()) {
            let got: Vec<usize> =
                shape.iter().map(|it| usize::try_from(*it).unwrap_or(signature.rows)).collect();
            if got != [signature.rows, signature.dimension] {
                let expected = signature.dimension;
                return Err(EncoderError::OutputShape { path, expected, got });
            }
        }
        Ok(Box::new(OrtSession {
            path,
            model,
            inputs: signature.inputs.clone(),
            output: signature.output.clone(),
            description: self.describe(),
        }))
    }

    fn describe(&self) -> String {
        let provider = match self.device {
            Device::OrtCuda => "with CUDA on the first GPU",
            Device::OrtTensorRt => "with TensorRT on the first GPU",
            Device::Auto | Device::Cpu | Device::Cuda | Device::OrtCpu => "on the CPU",
        };
        format!("onnxruntime {provider}")
    }

    fn batch(&self) -> usize {
        if self.device == Device::OrtCpu { 1 } else { GPU_BATCH }
    }
}

/// The model must take exactly the inputs of `signature` and have its output.
fn check_names(model: &OrtModel, signature: &Signature) -> Result<(), BoxError> {
    let mut got: Vec<&str> = model.inputs().iter().map(|it| it.name()).collect();
    let mut expected: Vec<&str> = signature.inputs.iter().map(|it| it.name.as_str()).collect();
    got.sort_unstable();
    expected.sort_unstable();
    if got != expected {
        return Err(format!("its inputs must be {expected:?}, got {got:?}").into());
    }
    let got: Vec<&str> = model.outputs().iter().map(|it| it.name()).collect();
    if !got.contains(&signature.output.as_str()) {
        let expected = &signature.output;
        return Err(format!("an output must be named {expected:?}, got {got:?}").into());
    }
    Ok(())
}

struct OrtSession {
    path: PathBuf,
    model: OrtModel,
    inputs: Vec<InputSpec>,
    output: String,
    description: String,
}

impl Session for OrtSession {
    fn run(&mut self, inputs: &[Input<'_>]) -> Result<Vec<f32>, EncoderError> {
        let (model, specs, output) = (&mut self.model, &self.inputs, &self.output);
        let values = guard(&self.path, RUN, || {
            let mut given: Vec<(&str, SessionInputValue<'_>)> = Vec::with_capacity(specs.len());
            for (input, spec) in inputs.iter().zip(specs) {
                let shape = spec.shape.as_slice();
                let value = match input {
                    Input::F32(values) => TensorRef::from_array_view((shape, *values))?.into(),
                    Input::I64(values) => TensorRef::from_array_view((shape, *values))?.into(),
                };
                given.push((&spec.name, value));
            }
            let outputs = model.run(given)?;
            let (_, values) = outputs[output.as_str()].try_extract_tensor::<f32>()?;
            ort::Result::Ok(values.to_vec())
        })?;
        values.map_err(|err: ort::Error| EncoderError::Model {
            path: self.path.clone(),
            action: RUN,
            source: err.into(),
        })
    }

    fn describe(&self) -> String {
        self.description.clone()
    }
}
