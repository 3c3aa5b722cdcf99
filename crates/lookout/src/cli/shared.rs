//! What several verbs are told, and how values are read.

use std::path::PathBuf;

use clap::Args;
use lookout_core::{Device, Id};

#[derive(Clone, Debug, Args)]
pub(crate) struct ConfigArgs {
    /// The configuration, TOML
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Set one key over file and environment; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_key_value)]
    pub(crate) set: Vec<(String, String)>,
    /// Where the model runs, over `encoder.device`: auto, cpu, cuda, ort-cpu, ort-cuda or
    /// ort-tensorrt
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<Device>,
}

#[derive(Debug, Args)]
pub(crate) struct DeviceArgs {
    /// Where the model runs: auto (an NVIDIA GPU if there is one that this build can use), cpu,
    /// cuda, ort-cpu, ort-cuda or ort-tensorrt
    #[arg(long, value_name = "DEVICE", default_value_t)]
    pub(crate) device: Device,
}

#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// Folder of the model bundle [default: the starter bundle that came with the program]
    #[arg(long, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
}

/// Which model and index: those of a configuration, or named.
#[derive(Debug, Args)]
pub(crate) struct SourceArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    /// The configuration whose model, index and labels are used
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "index"])]
    config: Option<PathBuf>,
    /// Set one key over file and environment; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_key_value, requires = "config")]
    set: Vec<(String, String)>,
    /// Caption index [default: captions.lidx in the model's folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) index: Option<PathBuf>,
}

impl SourceArgs {
    /// What says which configuration, if one is named.
    pub(crate) fn config(&self) -> Option<ConfigArgs> {
        let config = self.config.clone()?;
        Some(ConfigArgs { config, set: self.set.clone(), device: None })
    }
}

pub(super) fn parse_id(text: &str) -> Result<Id, String> {
    Id::new(text).map_err(|it| it.to_string())
}

pub(crate) fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|it| (1e-3..=1e3).contains(it));
    rate.ok_or_else(|| "must be a number from 0.001 to 1000".to_owned())
}

pub(crate) fn parse_key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("must be KEY=VALUE, such as mqtt.port=1883".to_owned()),
    }
}
