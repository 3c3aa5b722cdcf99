//! Where a tower's model runs: one small interface, one file for each way to fill it.
//!
//! A [`Runtime`] makes a [`Model`] from a file of a bundle and the [`Signature`] that the manifest
//! gives it. What a [`Session`] returns is checked and normalized here, so that a runtime does
//! nothing but multiply.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "ort")]
mod ort;
pub(crate) mod sizes;
pub(crate) mod tract;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lookout_core::{Device, Embedding};
use lookout_kernels::Isa;

use crate::bundle::BundleEntry;
use crate::error::chain;
use crate::{Bundle, EncoderError};

/// What loads models. It is shared by everything that it loads.
pub(crate) trait Backend: Send + Sync {
    /// Loads `file` if it has its hash. Fails unless it takes the inputs and gives the
    /// output of `signature`.
    fn load(
        &self,
        file: BundleEntry,
        signature: &Signature,
    ) -> Result<Box<dyn Session>, EncoderError>;

    /// The device and the library, for people.
    fn describe(&self) -> String;

    /// How many rows a run should have where many are at hand.
    fn batch(&self) -> usize;
}

/// A loaded model with fixed shapes.
pub(crate) trait Session: Send {
    /// Runs the model on one value for each input of its signature, in their order and of their
    /// lengths. Returns the output row by row.
    fn run(&mut self, inputs: &[Input<'_>]) -> Result<Vec<f32>, EncoderError>;

    /// What computes it, kernels included where they are known; for people.
    fn describe(&self) -> String;

    /// How far, in radians, its embeddings may turn from what the file's weights say because it
    /// rounds activations.
    fn noise(&self) -> f64 {
        0.0
    }
}

/// What a model must take and give. The first axis of everything counts rows: pictures or texts.
#[derive(Clone, Debug)]
pub(crate) struct Signature {
    pub(crate) inputs: Vec<InputSpec>,
    /// Name of the output, `rows` rows of `dimension` numbers.
    pub(crate) output: String,
    pub(crate) dimension: usize,
    /// Rows of one run; at least 1.
    pub(crate) rows: usize,
    /// Whether activations have outliers that 8 bits would drown.
    pub(crate) has_outliers: bool,
    /// The largest token id that the first input may hold, where it holds such.
    pub(crate) largest_id: Option<u32>,
}

/// One input of a [`Signature`].
#[derive(Clone, Debug)]
pub(crate) struct InputSpec {
    pub(crate) name: String,
    pub(crate) kind: InputKind,
    /// Shape with the rows in front.
    pub(crate) shape: Vec<usize>,
}

/// The type of an input's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InputKind {
    F32,
    I64,
}

/// The values of one input, the last axis fastest.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Input<'a> {
    F32(&'a [f32]),
    I64(&'a [i64]),
}

/// The place where towers run. Clones are the same place.
#[derive(Clone)]
pub struct Runtime {
    backend: Arc<dyn Backend>,
    fallback: Option<String>,
}

/// Rows of a run on a GPU: enough to keep it busy, and 38 MB of pictures of 224 by 224 px.
#[cfg(any(feature = "cuda", feature = "ort"))]
const GPU_BATCH: usize = 64;

impl Runtime {
    /// The CPU, one thread, with the fastest kernels that it can run.
    pub fn cpu() -> Self {
        Self::cpu_with(Isa::detect())
    }

    /// The CPU with the kernels of one instruction set, for comparisons.
    pub fn cpu_with(isa: Isa) -> Self {
        Self { backend: Arc::new(cpu::Cpu(isa)), fallback: None }
    }

    /// Opens `device`. Where [`Device::Auto`] finds no GPU that can be used,
    /// [`Self::fallback`] says why.
    pub fn open(device: Device) -> Result<Self, EncoderError> {
        choose(device, open_cuda, open_ort)
    }

    /// Why [`Device::Auto`] is the CPU; `None` where it is not, or where the device was named.
    pub fn fallback(&self) -> Option<&str> {
        self.fallback.as_deref()
    }

    /// How many inputs a run should have where many are at hand; at least 1.
    pub fn batch(&self) -> usize {
        self.backend.batch()
    }

    /// The device and the library, for people.
    pub fn describe(&self) -> String {
        self.backend.describe()
    }

    /// Loads the file `name` of `bundle`.
    pub(crate) fn load(
        &self,
        bundle: &Bundle,
        name: &str,
        signature: Signature,
    ) -> Result<Model, EncoderError> {
        let file = bundle.entry(name);
        let path = file.path.clone();
        let session = self.backend.load(file, &signature)?;
        Ok(Model { path, session, signature })
    }
}

type Opened = Result<Arc<dyn Backend>, EncoderError>;

fn choose(
    device: Device,
    cuda: impl FnOnce() -> Opened,
    ort: impl FnOnce(Device) -> Opened,
) -> Result<Runtime, EncoderError> {
    let backend = match device {
        Device::Cpu => return Ok(Runtime::cpu()),
        Device::Auto => match cuda() {
            Ok(backend) => backend,
            Err(error) => {
                return Ok(Runtime { fallback: Some(chain(&error)), ..Runtime::cpu() });
            }
        },
        Device::Cuda => cuda()?,
        Device::OrtCpu | Device::OrtCuda | Device::OrtTensorRt => ort(device)?,
    };
    Ok(Runtime { backend, fallback: None })
}

#[cfg(feature = "cuda")]
fn open_cuda() -> Opened {
    Ok(Arc::new(cuda::Cuda::open()?))
}

#[cfg(not(feature = "cuda"))]
fn open_cuda() -> Opened {
    Err(EncoderError::NotBuilt { device: Device::Cuda, feature: "cuda" })
}

#[cfg(feature = "ort")]
fn open_ort(device: Device) -> Opened {
    Ok(Arc::new(ort::Ort::open(device)?))
}

#[cfg(not(feature = "ort"))]
fn open_ort(device: Device) -> Opened {
    Err(EncoderError::NotBuilt { device, feature: "ort" })
}

/// A loaded tower: fixed inputs to embeddings.
pub(crate) struct Model {
    path: PathBuf,
    session: Box<dyn Session>,
    signature: Signature,
}

impl Model {
    /// Rows of one run.
    pub(crate) fn rows(&self) -> usize {
        self.signature.rows
    }

    /// What computes it, for people.
    pub(crate) fn describe(&self) -> String {
        self.session.describe()
    }

    /// How far, in radians, an embedding may be off.
    pub(crate) fn noise(&self) -> f64 {
        self.session.noise()
    }

    /// The embeddings of the first `n` rows; `of` says what that of a row is of.
    pub(crate) fn run(
        &mut self,
        inputs: &[Input<'_>],
        n: usize,
        of: impl Fn(usize) -> String,
    ) -> Result<Vec<Embedding>, EncoderError> {
        let Signature { dimension, rows, .. } = self.signature;
        let values = self.session.run(inputs)?;
        if values.len() != rows * dimension {
            let (path, got) = (self.path.clone(), vec![values.len()]);
            return Err(EncoderError::OutputShape { path, expected: dimension, got });
        }
        let embedding = |(idx, row): (usize, &[f32])| {
            let path = || self.path.clone();
            Embedding::normalize(row.to_vec()).map_err(|source| EncoderError::Output {
                path: path(),
                of: of(idx),
                source,
            })
        };
        values.chunks_exact(dimension).take(n).enumerate().map(embedding).collect()
    }
}

/// Fills `values`, which hold `n` rows, up to `rows` with copies of the last one.
pub(crate) fn repeat_last<T: Clone>(values: &mut Vec<T>, n: usize, rows: usize) {
    let start = values.len() - values.len() / n;
    let last = values[start..].to_vec();
    for _ in n..rows {
        values.extend_from_slice(&last);
    }
}

/// Runs `body`, which handles outside bytes in a library that may panic on them.
pub(crate) fn guard<T>(
    path: &Path,
    action: &'static str,
    body: impl FnOnce() -> T,
) -> Result<T, EncoderError> {
    caught(body).map_err(|message| EncoderError::Panicked {
        path: path.to_owned(),
        action,
        message,
    })
}

/// Runs `body`; a panic in it becomes an error with its message.
fn caught<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    // Nothing that `body` changes outlives a panic: what it makes is dropped with it.
    catch_unwind(AssertUnwindSafe(body)).map_err(|panic| panic_message(panic.as_ref()))
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device that is there.
    struct Fake;

    impl Backend for Fake {
        fn load(&self, _: BundleEntry, _: &Signature) -> Result<Box<dyn Session>, EncoderError> {
            Err(EncoderError::NotBuilt { device: Device::Auto, feature: "none" })
        }

        fn describe(&self) -> String {
            "fake".to_owned()
        }

        fn batch(&self) -> usize {
            7
        }
    }

    fn there() -> Opened {
        Ok(Arc::new(Fake))
    }

    fn missing(device: Device) -> Opened {
        let source = std::io::Error::other("no driver").into();
        Err(EncoderError::Device { device, advice: "install it", source })
    }

    #[test]
    fn auto_takes_the_gpu_or_says_why_not() {
        let runtime = choose(Device::Auto, there, missing).unwrap();
        assert_eq!((runtime.describe().as_str(), runtime.batch()), ("fake", 7));
        assert_eq!(runtime.fallback(), None);

        let runtime = choose(Device::Auto, || missing(Device::Cuda), |_| there()).unwrap();
        assert_eq!(
            (runtime.describe().as_str(), runtime.batch()),
            (Runtime::cpu().describe().as_str(), 1)
        );
        assert_eq!(
            runtime.fallback(),
            Some("device \"cuda\" cannot be used; install it, or choose device \"cpu\": no driver")
        );
    }

    #[test]
    fn a_device_that_was_named_is_taken_or_an_error() {
        let runtime = choose(Device::Cuda, there, missing).unwrap();
        assert_eq!((runtime.describe().as_str(), runtime.fallback()), ("fake", None));
        let error = choose(Device::Cuda, || missing(Device::Cuda), |_| there()).err().unwrap();
        assert!(matches!(error, EncoderError::Device { device: Device::Cuda, .. }), "{error}");
        assert_eq!(error.disposition(), lookout_core::Disposition::Fatal);

        for device in [Device::OrtCpu, Device::OrtCuda, Device::OrtTensorRt] {
            assert!(choose(device, || missing(device), |_| there()).is_ok(), "{device}");
            let error = choose(device, there, missing).err().unwrap();
            let is_it = matches!(error, EncoderError::Device { device: it, .. } if it == device);
            assert!(is_it, "{device}: {error}");
        }
    }

    #[test]
    fn the_cpu_probes_nothing() {
        let panics = || -> Opened { panic!("probed") };
        let runtime = choose(Device::Cpu, panics, |_| panic!("probed")).unwrap();
        assert_eq!(
            (runtime.describe().as_str(), runtime.fallback()),
            (Runtime::cpu().describe().as_str(), None)
        );
    }

    #[cfg(not(all(feature = "cuda", feature = "ort")))]
    #[test]
    fn what_was_left_out_names_the_feature() {
        for (device, feature, is_there) in [
            (Device::Cuda, "cuda", cfg!(feature = "cuda")),
            (Device::OrtCpu, "ort", cfg!(feature = "ort")),
        ] {
            if !is_there {
                let error = Runtime::open(device).err().unwrap().to_string();
                let advice = format!(
                    "this program was built without support for device \"{device}\"; build it \
                     with `cargo build --release --locked -p lookout --features {feature}`, or \
                     choose device \"cpu\""
                );
                assert_eq!(error, advice);
            }
        }
    }

    #[test]
    fn a_short_run_repeats_its_last_row() {
        let mut values = vec![1, 2, 3, 4];
        repeat_last(&mut values, 2, 4);
        assert_eq!(values, [1, 2, 3, 4, 3, 4, 3, 4]);
        repeat_last(&mut values, 4, 4);
        assert_eq!(values.len(), 8);
    }
}
