//! The command line of `classify`.

use std::path::PathBuf;

use clap::Args;
use lookout_core::Id;

use super::shared::{DeviceArgs, ModelArgs, parse_id};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lookout classify --label 'a cat' --label 'a dog' --negative 'an empty room' *.jpg
  lookout classify --labels configs/labels/coco-80.toml --json picture.jpg
  lookout classify --label person --negative 'an empty street' --image-only street.png

A bad picture is reported in its place and the rest goes on; the exit code is then 1.")]
pub(crate) struct ClassifyArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    /// Caption index [default: captions.lidx in the model's folder]
    #[arg(long, value_name = "FILE", conflicts_with = "image_only")]
    pub(crate) index: Option<PathBuf>,
    /// Use no caption index
    #[arg(long)]
    pub(crate) image_only: bool,
    /// What was taught [default: beside the index, with `.taught` added to its name]
    #[arg(long, value_name = "FILE", conflicts_with = "no_taught")]
    pub(crate) taught: Option<PathBuf>,
    /// Heed nothing that was taught
    #[arg(long)]
    pub(crate) no_taught: bool,
    /// Calibrations that `lookout calibrate` made: pictures of such a scene. Its bounds are for sigmas
    /// averaged over time; a single picture, which has none to average, passes them more often
    #[arg(long, value_name = "FILE")]
    pub(crate) calibration: Option<PathBuf>,
    /// The camera of the calibrations that is meant, where there are several
    #[arg(long, value_name = "ID", value_parser = parse_id, requires = "calibration")]
    pub(crate) camera: Option<Id>,
    /// Label set, TOML, in place of --label and --negative
    #[arg(long, value_name = "FILE", conflicts_with_all = ["label", "negative"])]
    pub(crate) labels: Option<PathBuf>,
    /// Something to report, in plain words; may be repeated
    #[arg(long, value_name = "TEXT", required_unless_present = "labels")]
    pub(crate) label: Vec<String>,
    /// Something that means none of the labels; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub(crate) negative: Vec<String>,
    /// Words for what else a picture may show, `everyday` or a file with one a line: each picture's
    /// familiarity is told too
    #[arg(long, value_name = "NAME")]
    pub(crate) bank: Option<PathBuf>,
    /// One JSON object a line instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// Pictures: JPEG, PNG, WebP, BMP or GIF
    #[arg(required = true, value_name = "PICTURE")]
    pub(crate) pictures: Vec<PathBuf>,
}
