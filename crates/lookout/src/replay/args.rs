//! The command line of `lookout replay`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use crate::cli::{ConfigArgs, parse_key_value, parse_rate};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lookout replay yard --config lookout.toml
  lookout replay yard.mjpeg --fps 2 --config lookout.toml --camera yard --html yard.html
  lookout replay yard --config lookout.toml --set decision.enter=0.6
  lookout replay yard --config lookout.toml --compare decision.dwell_s=5 \\
      --compare 'decision.smoothing_s=0; decision.dwell_s=0; decision.cooldown_s=0'

A recording is a folder of pictures, taken in the order of their names at --fps; a folder with
a table frames.tsv, headed file, seconds and, where it is known, truth; or a Motion-JPEG file,
as `ffmpeg -i clip.mp4 -r 2 -c:v mjpeg clip.mjpeg` makes one, and beside it clip.tsv, headed
seconds and truth, each row holding until the next. Upper case in headings does not matter,
columns of other headings are told and passed over, and no row has more cells than there are
headings. A truth is the id, the name or an alias of a class, the latter two with upper case
aside, `none` where no label is right, or empty where nobody said.

Each frame is decided on by the labels and rules of one camera, as `run` would have: what comes
sooner than its max_fps is left out, what was taught counts, nothing is published. A frame that
cannot be read is reported and the rest goes on; the exit code is then 1. --html replaces a
page that replay wrote, and no other file.")]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// The camera whose labels and rules decide [default: the only one]
    #[arg(long, value_name = "ID")]
    pub(crate) camera: Option<String>,
    /// Frames a second of a recording that does not say when they were taken [default: 1]
    #[arg(long, value_name = "N", value_parser = parse_rate)]
    pub(crate) fps: Option<f64>,
    /// Decide likewise with other settings, KEY=VALUE with `;` between several; may be repeated
    #[arg(long, value_name = "SETTINGS")]
    pub(crate) compare: Vec<Compare>,
    /// Seconds before and after an announcement in which the label may be right for it to be no false alarm
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = parse_seconds)]
    pub(crate) tolerance: f64,
    /// Write a page with the frames that decided; it needs no other file
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// One JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// A folder of pictures or a Motion-JPEG file
    #[arg(value_name = "RECORDING")]
    pub(crate) recording: PathBuf,
}

/// Settings to decide by beside those of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Compare {
    /// As written.
    pub(crate) text: String,
    pub(crate) set: Vec<(String, String)>,
}

impl FromStr for Compare {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let set = text.split(';').map(|it| parse_key_value(it.trim())).collect::<Result<_, _>>()?;
        Ok(Self { text: text.trim().to_owned(), set })
    }
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|it| (0.0..=86_400.0).contains(it));
    seconds.ok_or_else(|| "must be a number from 0 to 86400".to_owned())
}
