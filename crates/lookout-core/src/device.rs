//! Where models run, as a user names it.

use std::fmt;
use std::str::FromStr;

/// A device, and the library that drives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// An NVIDIA GPU where one can be used, the CPU otherwise.
    #[default]
    Auto,
    /// The CPU, by tract.
    Cpu,
    /// The first NVIDIA GPU, by tract.
    Cuda,
    /// The CPU, by onnxruntime.
    OrtCpu,
    /// The first NVIDIA GPU, by onnxruntime.
    OrtCuda,
    /// The first NVIDIA GPU, by TensorRT within onnxruntime.
    OrtTensorRt,
}

/// The text given is no [`Device`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("device must be {rule}, got {0:?}", rule = Device::RULE)]
pub struct UnknownDevice(pub String);

impl Device {
    /// Every device.
    pub const ALL: [Self; 6] =
        [Self::Auto, Self::Cpu, Self::Cuda, Self::OrtCpu, Self::OrtCuda, Self::OrtTensorRt];

    /// What a name may be; completes "must be ...".
    pub const RULE: &str =
        "\"auto\", \"cpu\", \"cuda\", \"ort-cpu\", \"ort-cuda\" or \"ort-tensorrt\"";

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::OrtCpu => "ort-cpu",
            Self::OrtCuda => "ort-cuda",
            Self::OrtTensorRt => "ort-tensorrt",
        }
    }
}

impl FromStr for Device {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        let found = Self::ALL.into_iter().find(|it| it.name() == text);
        found.ok_or_else(|| UnknownDevice(text.to_owned()))
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_rule_agree() {
        for device in Device::ALL {
            assert_eq!(device.name().parse(), Ok(device));
            assert!(Device::RULE.contains(&format!("\"{device}\"")), "{device}");
        }
        let error = "gpu".parse::<Device>().unwrap_err().to_string();
        assert!(error.ends_with("or \"ort-tensorrt\", got \"gpu\""), "{error}");
        assert!("CPU".parse::<Device>().is_err());
    }
}
