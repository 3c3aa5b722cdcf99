//! The command line of `demo`.

use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lookout demo
  lookout demo --frames 40 --json
  lookout demo --port 18830 &  mosquitto_sub -p 18830 -t 'lookout/#' -v")]
pub(crate) struct DemoArgs {
    /// End after this many frames, when the last publish is acknowledged
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) frames: Option<u64>,
    /// Port of the broker on 127.0.0.1; 0 takes a free one
    #[arg(long, value_name = "P", default_value_t = 0)]
    pub(crate) port: u16,
    /// One JSON object a line instead of text
    #[arg(long)]
    pub(crate) json: bool,
}
