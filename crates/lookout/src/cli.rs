//! The command line, exactly as the user may write it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use lookout_capture::{FrameSize, StreamFormat};
use lookout_core::{Device, Id};
use lookout_sources::Kind;

use crate::eval::EvalArgs;
use crate::replay::ReplayArgs;

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
    Run(ConfigArgs),
    /// Check a configuration and all it names; exit code 78 and the list if anything is wrong
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

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  lookout check --config /etc/lookout/lookout.toml
  LOOKOUT__MQTT__HOST=broker.lan lookout run --config lookout.toml
  lookout run --config lookout.toml --set mqtt.port=8883 --set cameras.yard.max_fps=0.5
  kill -HUP PID       `run` takes other labels and rules from the file, without a restart")]
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
#[command(after_help = "\
Examples:
  lookout calibrate --config lookout.toml --for 10m
  lookout calibrate --config lookout.toml --camera yard --for 2h --false-alarms-a-day 0.2
  lookout calibrate --config lookout.toml --camera yard --from recordings/yard
  lookout calibrate --config lookout.toml --show

Keep what the labels mean out of the picture meanwhile. For each label the cosine's middle and
deviation on the scene are learned, and the height above it that noise passes no more often than
the rate allows. That height is an extrapolation from the recorded time to a day: it knows nothing
of what that time did not have, such as nightfall, rain or the headlights of a car. Calibrate once
by day and for long, and again when the camera was moved, or when max_fps, [gate] or smoothing_s
were changed: frames count as the daemon would have them, so a still scene that the gate skips needs
more time.

A device that a running daemon holds, /dev/video0, cannot be opened twice: stop the daemon first
(systemctl stop lookout). Cameras of the network can mostly be watched by both.

A frame of a recording that cannot be used is told and left out; the exit code is then 1.

Ctrl-C ends early and keeps what is enough. The file is the configuration's `calibration`; a running
daemon takes it up with SIGHUP. Other cameras in it stay as they are.")]
pub(crate) struct CalibrateArgs {
    /// The configuration, TOML
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Set one key over file and environment; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_key_value)]
    pub(crate) set: Vec<(String, String)>,
    /// Where the model runs, over `encoder.device`
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<Device>,
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
    /// The file to write, or to show [default: `calibration` of the configuration]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Print what is calibrated, and do nothing
    #[arg(long, conflicts_with_all = ["from", "time", "false_alarms_a_day"])]
    pub(crate) show: bool,
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

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lookout teach --config lookout.toml --caption 'open garage' a.jpg b.jpg
  lookout teach --config lookout.toml --list
  lookout teach --config lookout.toml --undo      the last lesson; --undo 3: lesson 3
  lookout teach --index captions.lidx --export > lessons.jsonl

A picture near a taught one is of the same scene, and what was said holds for it too. Say it in
the words of your labels or negatives; with --config the answer tells what they make of it.
Where a scene has several states, teach each: an open door and a shut one look alike, and the
nearer decides. A running daemon takes it up with its next frame.

Lessons lie in one file, beside the caption index unless the configuration or --taught names
another.")]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(crate) struct TeachArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    /// The configuration whose model, index and labels are used
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "index"])]
    pub(crate) config: Option<PathBuf>,
    /// The caption index whose lessons are meant [default: captions.lidx in the model's folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) index: Option<PathBuf>,
    /// The file of lessons [default: beside the index, with `.taught` added to its name]
    #[arg(long, value_name = "FILE")]
    pub(crate) taught: Option<PathBuf>,
    /// What the pictures show, in the words of your labels
    #[arg(long, value_name = "TEXT", group = "what", requires = "pictures")]
    pub(crate) caption: Option<String>,
    /// List the lessons in force
    #[arg(long, group = "what")]
    pub(crate) list: bool,
    /// Undo the last lesson, or the one of this number
    #[arg(long, value_name = "NUMBER", group = "what", num_args = 0..=1)]
    #[expect(clippy::option_option, reason = "the flag, and its value")]
    pub(crate) undo: Option<Option<u32>>,
    /// Print the lessons in force with their embeddings, one JSON object a line
    #[arg(long, group = "what")]
    pub(crate) export: bool,
    /// One JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// Pictures of one scene, at most 25
    #[arg(value_name = "PICTURE", conflicts_with_all = ["list", "undo", "export"])]
    pub(crate) pictures: Vec<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lookout embed --json picture.jpg
  lookout embed --text 'a cat on a sofa' --text 'a dog'")]
pub(crate) struct EmbedArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    /// A text; may be repeated
    #[arg(long, value_name = "TEXT", required_unless_present = "pictures", conflicts_with = "pictures", num_args = 1..)]
    pub(crate) text: Vec<String>,
    /// One JSON object a line instead of a summary
    #[arg(long)]
    pub(crate) json: bool,
    /// Pictures
    #[arg(value_name = "PICTURE")]
    pub(crate) pictures: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IndexVerb {
    /// Build an index of captions, of pictures with captions, or of precomputed embeddings
    #[command(after_help = "\
Examples:
  lookout index build captions.tsv --output captions.lidx
  lookout index build ~/pictures --output own.lidx               # a.jpg with its captions in a.txt
  lookout index build captions_val2017.json --pictures val2017 --output coco.lidx
  lookout index build shards --output web.lidx --language eng --max-words 20 --drop-near-duplicates
  lookout index build embeddings --model models/b32 --output laion.lidx --dry-run
  lookout index build --device cuda --batch 256 captions.tsv --output captions.lidx

SOURCE, and its name for --source:
  tsv         a table .tsv or .txt with a column `caption`, or a caption a line
  pairs       a folder of pictures, each with its captions in a .txt of its name, one a line
  coco        COCO captions .json; --pictures is the folder of the pictures
  webdataset  a .tar, or a folder of them, with KEY.jpg and KEY.txt or KEY.json
  embeddings  a folder of img_emb_N.npy, text_emb_N.npy or both with metadata_N.parquet, as
              clip-retrieval writes them; they must come from the model that --model names

An index of pictures finds captions by pictures that look alike; the others find them by the
captions themselves. Rows that cannot be used are counted and listed, and left out. Embedding takes
hours on a small board: what is done is kept beside the output, and the same command goes on after a
kill or a power cut. --dry-run tells beforehand what an index will take.")]
    Build(IndexBuildArgs),
    /// Check a whole index and describe it
    #[command(after_help = "Example:\n  lookout index info models/starter/captions.lidx")]
    Info(IndexInfoArgs),
    /// The captions nearest to a picture
    #[command(
        after_help = "Example:\n  lookout index search --count 5 picture.jpg\n\nIn order of their keys; the number before each is the caption's own cosine to the picture."
    )]
    Search(IndexSearchArgs),
}

#[derive(Debug, Args)]
pub(crate) struct IndexBuildArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    /// Captions, or pictures, embedded at once [default: 1 on a CPU, 64 on a GPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) batch: Option<u16>,
    /// The index to write; an index of that name is replaced when the new one is complete
    #[arg(long, short, value_name = "FILE", required_unless_present = "dry_run")]
    pub(crate) output: Option<PathBuf>,
    /// What SOURCE is: tsv, pairs, coco, webdataset or embeddings [default: what its name and contents
    /// say]
    #[arg(long = "source", value_name = "KIND")]
    pub(crate) kind: Option<Kind>,
    /// Folder of the pictures that COCO captions name
    #[arg(long, value_name = "DIR")]
    pub(crate) pictures: Option<PathBuf>,
    /// Throw away what a build that was killed has embedded
    #[arg(long)]
    pub(crate) restart: bool,
    /// Add the captions that were taught, from a file that `teach` made; in an index of pictures, each
    /// of their views
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    pub(crate) with_taught: Option<PathBuf>,
    /// Read and filter the source, encode nothing, and tell what the index would take
    #[arg(long, conflicts_with = "restart")]
    pub(crate) dry_run: bool,
    /// One JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// The captions, with or without pictures
    #[arg(value_name = "SOURCE")]
    pub(crate) source: PathBuf,
    #[command(flatten)]
    pub(crate) filters: FilterArgs,
}

/// Which captions of a source are wanted.
#[derive(Debug, Args)]
#[command(next_help_heading = "Filters")]
pub(crate) struct FilterArgs {
    /// Keep captions of this language alone, by its ISO 639-3 code such as eng; may be repeated
    #[arg(long, value_name = "CODE")]
    pub(crate) language: Vec<String>,
    /// Leave out captions whose language is not sure too, as of many short ones
    #[arg(long, requires = "language")]
    pub(crate) refuse_unsure: bool,
    /// Fewest words of a caption
    #[arg(long, value_name = "N")]
    pub(crate) min_words: Option<usize>,
    /// Most words
    #[arg(long, value_name = "N")]
    pub(crate) max_words: Option<usize>,
    /// Fewest characters of a caption
    #[arg(long, value_name = "N")]
    pub(crate) min_chars: Option<usize>,
    /// Most characters, up to 1000
    #[arg(long, value_name = "N")]
    pub(crate) max_chars: Option<usize>,
    /// Leave out captions with a word or phrase of this list, one a line, # begins a comment
    #[arg(long, value_name = "FILE")]
    pub(crate) unwanted_words: Option<PathBuf>,
    /// Leave out a caption with the words of an earlier one, upper case and punctuation aside
    #[arg(long)]
    pub(crate) drop_near_duplicates: bool,
}

#[derive(Debug, Args)]
pub(crate) struct IndexInfoArgs {
    /// One JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// The index
    #[arg(value_name = "INDEX")]
    pub(crate) index: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct IndexSearchArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    /// Caption index [default: captions.lidx in the model's folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) index: Option<PathBuf>,
    /// How many captions
    #[arg(long, short = 'n', value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) count: u16,
    /// One JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// The picture
    #[arg(value_name = "PICTURE")]
    pub(crate) picture: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LabelsVerb {
    /// Which of a class's words people use, by how often the captions of an index have them
    #[command(after_help = "\
Examples:
  lookout labels tune --labels labels.toml
  lookout labels tune --labels labels.toml --index own.lidx --output tuned.toml

For each class its name and aliases are counted as whole words, plural or not, in the captions. The
word that is used most is advised as its name, words that are hardly used to be dropped. A word may
be used for another thing than yours: an example stands beside each. Captions cannot vouch for a
class of which they have no word. --output writes the label set as advised; ids stay.")]
    Tune(TuneArgs),
    /// The texts that stand for each class
    #[command(after_help = "Example:\n  lookout labels show --labels labels.toml")]
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TuneArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// The label set, TOML
    #[arg(long, value_name = "FILE")]
    pub(crate) labels: PathBuf,
    /// Caption index [default: captions.lidx in the model's folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) index: Option<PathBuf>,
    /// Write the label set as advised; the file must not be there
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Replace the file at --output, which may be the label set itself
    #[arg(long, requires = "output")]
    pub(crate) force: bool,
    /// One JSON object a line, a class each, instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// The label set, TOML
    #[arg(long, value_name = "FILE")]
    pub(crate) labels: PathBuf,
    /// One JSON object a line, a class each, instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lookout suggest picture.jpg
  lookout suggest --count 20 frames/
  lookout suggest --config lookout.toml frames/*.jpg
  lookout suggest --json picture.jpg

Words are taken from the captions that the index has for the pictures, so they are only as good as
those. The list after the table can be pasted into a configuration. A bad picture is reported and the
rest goes on; the exit code is then 1.")]
pub(crate) struct SuggestArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    /// The configuration whose model and index are used
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "index"])]
    pub(crate) config: Option<PathBuf>,
    /// Set one key over file and environment; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_key_value, requires = "config")]
    pub(crate) set: Vec<(String, String)>,
    /// Caption index [default: captions.lidx in the model's folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) index: Option<PathBuf>,
    /// How many words
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) count: u16,
    /// One JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// Pictures, or folders of them
    #[arg(required = true, value_name = "PICTURE|DIR")]
    pub(crate) pictures: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelsVerb {
    /// Check a bundle's files and its embeddings against another runtime's
    #[command(
        after_help = "Examples:\n  lookout models verify\n  lookout models verify models/other\n  lookout models verify --device cuda"
    )]
    Verify(VerifyArgs),
    /// Fetch from a model hub the files that `models import` reads
    #[command(after_help = "\
Examples:
  lookout models get OWNER/clip-vit-base-patch32
  lookout models get OWNER/siglip --revision v2 --output ~/hub/siglip
  lookout models get OWNER/gated --token-file ~/.config/hub-token
  lookout models get OWNER/clip --endpoint https://hub.example.org

Graphs, tokenizer, configuration and README are fetched, and of the weights the logit scale alone.
A download that was interrupted goes on when the command is run again. A file is kept only if its hash
is the one that the hub lists. The environment variable HF_ENDPOINT names another hub where --endpoint
does not; HTTPS_PROXY and NO_PROXY are heeded. A token is read from a file alone, and goes to the hub's
own host alone. The command to run next is printed at the end.")]
    Get(GetArgs),
    /// Make a bundle with int8 weights from a folder of float ONNX exports
    #[command(after_help = "\
Examples:
  lookout models import ~/hub/clip-vit-base-patch32 --output models/b32 --logit-scale 100
  lookout models import siglip --output models/siglip --license Apache-2.0

The folder is one of a model hub: CLIP, TinyCLIP, MobileCLIP or SigLIP as transformers or open_clip
write them (vision_model.onnx, text_model.onnx, tokenizer.json, preprocessor_config.json, config.json
or open_clip_config.json). Preprocessing and scale come from its files; what they say and this
program cannot do is an error. The bundle is compared with the float files before it is put in its
place.")]
    Import(ImportArgs),
    /// Measure how fast this machine runs a bundle's image tower
    #[command(after_help = "\
Examples:
  lookout models bench
  lookout models bench models/other --pictures 200
  lookout models bench --kernels portable

Time is the process's CPU time for one picture, decoding and resizing left out.")]
    Bench(BenchArgs),
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Pictures to run, after one that does not count
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) pictures: u32,
    /// Kernels to use, such as avx2 or portable [default: the fastest here]
    #[arg(long, value_name = "SET")]
    pub(crate) kernels: Option<String>,
    /// Take numbers of pictures from standard input, one a line, and answer each with the CPU times as
    /// JSON; for measuring in turns with another program
    #[arg(long, conflicts_with = "pictures")]
    pub(crate) paced: bool,
    /// One JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// Folder of the bundle [default: the starter bundle that came with the program]
    #[arg(value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Branch, tag or commit
    #[arg(long, value_name = "REV", default_value = "main")]
    pub(crate) revision: String,
    /// Folder to fetch into, made if it is not there [default: the repository's name without owner]
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Address of the hub [default: HF_ENDPOINT, else the public hub at huggingface.co]
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    /// File with an access token, for private and gated repositories
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Replace files in the folder that are not the hub's
    #[arg(long)]
    pub(crate) force: bool,
    /// Print nothing but errors
    #[arg(long, short, conflicts_with = "json")]
    pub(crate) quiet: bool,
    /// One JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// The repository, such as OWNER/NAME
    #[arg(value_name = "REPO")]
    pub(crate) repo: String,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The bundle's folder to be
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Replace the bundle that stands there
    #[arg(long)]
    pub(crate) force: bool,
    /// Name of the embedding space [default: the folder's name and a part of the weights' hash]
    #[arg(long, value_name = "ID")]
    pub(crate) space: Option<String>,
    /// Terms of the model's use [default: `license` in the head of README.md]
    #[arg(long, value_name = "TEXT")]
    pub(crate) license: Option<String>,
    /// Where the model comes from [default: the folder's name]
    #[arg(long, value_name = "TEXT")]
    pub(crate) origin: Option<String>,
    /// Factor from cosine to logit, linear [default: from the weights' file or the whole graph]
    #[arg(long, value_name = "X")]
    pub(crate) logit_scale: Option<f64>,
    /// Term of the logit, for SigLIP [default: from the weights' file or the whole graph]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) logit_bias: Option<f64>,
    /// Folder of sample pictures, copied into the bundle [default: 12 of the starter's]
    #[arg(long, value_name = "DIR")]
    pub(crate) pictures: Option<PathBuf>,
    /// A sample text, in place of the built-in ones; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub(crate) text: Vec<String>,
    /// One JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// The folder, as a hub holds it
    #[arg(value_name = "FOLDER")]
    pub(crate) source: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    /// One JSON object a line instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// Folder of the bundle [default: the starter bundle that came with the program]
    #[arg(value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CaptureWorkerArgs {
    /// /dev/videoN, or a link to one
    #[arg(long)]
    pub(crate) device: PathBuf,
    /// WIDTHxHEIGHT
    #[arg(long)]
    pub(crate) size: FrameSize,
    /// mjpeg or yuyv
    #[arg(long)]
    pub(crate) format: StreamFormat,
    /// Frames a second
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=240))]
    pub(crate) fps: u32,
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

fn parse_id(text: &str) -> Result<Id, String> {
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
