//! The command line, exactly as the user may write it; a file for each verb.

mod calibrate;
mod capture_worker;
mod classify;
mod demo;
mod embed;
mod index;
mod labels;
mod models;
mod shared;
mod suggest;
mod teach;

use clap::{Parser, Subcommand};

use crate::eval::EvalArgs;
use crate::replay::ReplayArgs;

pub(crate) use calibrate::CalibrateArgs;
pub(crate) use capture_worker::CaptureWorkerArgs;
pub(crate) use classify::ClassifyArgs;
pub(crate) use demo::DemoArgs;
pub(crate) use embed::EmbedArgs;
pub(crate) use index::{FilterArgs, IndexBuildArgs, IndexInfoArgs, IndexSearchArgs, IndexVerb};
pub(crate) use labels::{LabelsVerb, ShowArgs, TuneArgs};
pub(crate) use models::{BenchArgs, GetArgs, ImportArgs, ModelsVerb, VerifyArgs};
pub(crate) use shared::{ConfigArgs, DeviceArgs, ModelArgs, parse_key_value, parse_rate};
pub(crate) use suggest::SuggestArgs;
pub(crate) use teach::TeachArgs;

/// Says in your own words what a camera sees. No cloud, no GPU, nothing to train.
#[derive(Debug, Parser)]
#[command(
    name = "lookout",
    version,
    arg_required_else_help = true,
    after_help = "\
Examples:
  lookout demo                                see it work, no camera or broker needed
  lookout check --config lookout.toml         what is wrong with a configuration
  lookout run --config lookout.toml           the daemon
  lookout classify --label 'a cat' --negative 'an empty room' cat.jpg

Exit codes: 0 done, 78 bad configuration or class list, 1 anything else, wrong usage included.
Log level: LOOKOUT_LOG=warn|info|debug (default: info for run and demo, warn for the rest)."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Label sample pictures with the starter model, with a broker on loopback
    Demo(DemoArgs),
    /// Watch the cameras of a configuration and publish what they show
    #[command(after_help = "\
Examples:
  lookout run --config lookout.toml
  LOOKOUT__MQTT__HOST=broker.lan lookout run --config lookout.toml
  lookout run --config lookout.toml --set mqtt.port=8883 --set cameras.yard.max_fps=0.5
  kill -HUP PID       takes other labels and rules from the file, without a restart")]
    Run(ConfigArgs),
    /// Check a configuration and all it names; exit code 78 and the list if anything is wrong
    #[command(after_help = "\
Examples:
  lookout check --config /etc/lookout/lookout.toml
  LOOKOUT__MQTT__HOST=broker.lan lookout check --config lookout.toml
  lookout check --config lookout.toml --set cameras.yard.max_fps=0.5 --device cpu

Every fault is told with its key and line. Cameras and broker are not connected to.")]
    Check(ConfigArgs),
    /// Learn what each camera's scene looks like while nothing that is looked for is there
    Calibrate(CalibrateArgs),
    /// Label pictures, with the evidence
    Classify(ClassifyArgs),
    /// Teach by example: say what a picture shows, list what was taught, undo it
    Teach(TeachArgs),
    /// Measure how good labels are, on pictures or embeddings whose classes are known
    Eval(EvalArgs),
    /// What would have happened: decide on a recording, and hold it against the truth
    Replay(ReplayArgs),
    /// Print the embeddings of pictures or texts
    Embed(EmbedArgs),
    /// Build, inspect and search caption indexes
    #[command(subcommand)]
    Index(IndexVerb),
    /// Words for labels: which of them people use, and what a model is asked
    #[command(subcommand)]
    Labels(LabelsVerb),
    /// What could be labelled here: words for what pictures show, from the caption index
    Suggest(SuggestArgs),
    /// Get, import and check models
    #[command(subcommand)]
    Models(ModelsVerb),
    /// Read one V4L2 camera and write its frames to standard output (started by `run`)
    #[command(hide = true)]
    CaptureWorker(CaptureWorkerArgs),
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory};

    use super::Cli;

    /// What is wider is wrapped once more by clap, in the middle of its lines.
    const WIDEST: usize = 100;

    fn check(verb: &Command) {
        let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
        for line in help.lines() {
            assert!(line.chars().count() <= WIDEST, "{}: {line}", verb.get_name());
        }
        verb.get_subcommands().for_each(check);
    }

    #[test]
    fn no_line_of_a_help_is_wrapped_again() {
        check(&Cli::command());
    }
}
