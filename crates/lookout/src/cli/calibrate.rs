//! The command line of `calibrate`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use lookout_core::Id;

use super::shared::{ConfigArgs, parse_id, parse_rate};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lookout calibrate --config lookout.toml --for 10m
  lookout calibrate --config lookout.toml --camera yard --for 2h --false-alarms-a-day 0.2
  lookout calibrate --config lookout.toml --camera yard --from recordings/yard
  lookout calibrate --config lookout.toml --camera yard --absent 'delivery van'
  lookout calibrate --config lookout.toml --show

Keep what the labels mean out of the picture meanwhile. For each label the cosine's median and
deviation on the empty scene are learned, and a bound: how far above the median it must be for
the label to be announced. It is set so that the scene alone passes it no more often than
--false-alarms-a-day. The bound is an extrapolation from the recorded time to a day: it knows
nothing of what that time did not have, such as nightfall, rain or the headlights of a car.
Calibrate once by day and for long, and again when the camera was moved, or when max_fps,
[gate] or smoothing_s were changed: frames count as the daemon would have them, so a still
scene that the gate skips needs more time.

A device that a running daemon holds, /dev/video0, cannot be opened twice: stop the daemon
first (systemctl stop lookout). Cameras of the network can mostly be watched by both.

A frame of a recording that cannot be used is told and left out; the exit code is then 1.

A label that is accepted in more than 1 % of the frames, or keeps to two levels, seems to be in
the picture and gets no bound, unless --absent says that it was not there. A scene that changes
too slowly for the time gives provisional bounds, above all that was seen.

Ctrl-C ends early and keeps what is enough. The file is the configuration's `calibration`; a
running daemon takes it up with SIGHUP. Other cameras in it stay as they are.")]
pub(crate) struct CalibrateArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// How long: 90s, 10m, 2h
    #[arg(long = "for", value_name = "TIME", default_value = "10m", value_parser = parse_time, conflicts_with = "from")]
    pub(crate) time: Duration,
    /// A recording of one camera in place of the camera: a folder of pictures, with or without
    /// frames.tsv, or a Motion-JPEG file
    #[arg(long, value_name = "RECORDING")]
    pub(crate) from: Option<PathBuf>,
    /// Frames a second of a recording that does not say [default: 1]
    #[arg(long, value_name = "FPS", requires = "from")]
    pub(crate) fps: Option<f64>,
    /// This camera alone; may be repeated [default: all that are enabled]
    #[arg(long, value_name = "ID", value_parser = parse_id)]
    pub(crate) camera: Vec<Id>,
    /// How often a day the labels of a camera may be announced of nothing, all together
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = parse_rate)]
    pub(crate) false_alarms_a_day: f64,
    /// A label that surely was not in the picture, though it may look so; may be repeated. Those of a
    /// recording whose every frame has its truth are known
    #[arg(long, value_name = "LABEL", conflicts_with = "show")]
    pub(crate) absent: Vec<String>,
    /// The file to write, or to show [default: `calibration` of the configuration]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Print what is calibrated, and do nothing
    #[arg(long, conflicts_with_all = ["from", "time", "false_alarms_a_day"])]
    pub(crate) show: bool,
}

/// `90s`, `10m` or `2h`: more than nothing, and at most seven days.
fn parse_time(text: &str) -> Result<Duration, String> {
    const RULE: &str = "must be a time such as 90s, 10m or 2h, at most 168h";
    let unit_s = match text.chars().last() {
        Some('s') => 1.0,
        Some('m') => 60.0,
        Some('h') => 3600.0,
        _ => return Err(RULE.to_owned()),
    };
    let number: f64 = text[..text.len() - 1].parse().map_err(|_| RULE.to_owned())?;
    let seconds = number * unit_s;
    match 0.0 < seconds && seconds <= 168.0 * 3600.0 {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err(RULE.to_owned()),
    }
}
