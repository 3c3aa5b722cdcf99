//! What `lookout eval` is asked.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::{DeviceArgs, ModelArgs};
use crate::failure::Failure;

/// Candidates taken where nothing else is said.
const DEFAULT_CANDIDATES: usize = lookout_index::DEFAULT_CANDIDATES;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lookout eval pictures                       pictures/cat/a.jpg, pictures/dog/b.jpg, ...
  lookout eval --labels labels.toml pictures.tsv --unknown others
  lookout eval --embeddings coco500 --embeddings cifar500 --json
  lookout eval --labels labels.toml pictures.tsv --split half --seed 7
  lookout eval --image-only pictures          the picture alone, without an index

PICTURES is a folder with a folder for each class, or a table .tsv, its columns separated by
tabs and headed `file` (relative to the table, or in a folder `pictures` beside it) and `label`
or `labels` (several, joined by |). A column `captions` (joined by ' || ') has captions of the
picture itself, which retrieval then leaves out. A picture is what is named .bmp, .gif, .jpeg,
.jpg, .png or .webp and not hidden. Each folder of a class must hold one, and none may be a
link. A link to nothing that is not named as a picture is refused, as it may stand for a
folder. Without --labels the classes are those that the pictures have. A label is a class's id,
name or alias, upper case aside.

The ways to make labels that are compared:
  names only        the picture against the bare names
  image only        the picture against all prompts, without captions
  captions only     the captions found for the picture, without the picture
  memoryless        both, as with fusion.weighting = \"memoryless\"
  running           both, as with \"history\" and fusion.window = \"unbounded\"
  windowed 256      both, as with \"history\" and fusion.window = 256
  pooled            both, as with \"pooled\", which bundles recommend
  pooled, adapting  that with adaptation = \"on\"

Of each:
  top-1, top-5      pictures whose right class is first, or among the first five
  ECE               how far scores are off as probabilities (expected calibration error): mean
                    distance of a score and the share of right ones over 15 bins; 0 is best
  AUROC             how often a known picture has a higher top score than one of --unknown;
                    0.5 is chance, 1 is best
  right, wrong      pictures that the decision accepts, each by itself, by the bundle's rules
  unkn.             pictures of --unknown that it accepts as a label
  change            top-1 less that of image only, in points, with its 95 % interval: where 95 %
                    of the changes lie when as many pictures are drawn from these again, many
                    times over (paired bootstrap)

Confusions are of the last way shown that does not adapt. A picture with several right classes
counts there under the one that scores highest.

--embeddings FOLDER takes embeddings of any model instead: images.npy, classes.npy,
captions.npy (float16 or float32), classes.txt, captions.txt, truth.tsv (row, classes,
own_captions) and set.json (space, logit_scale). The search is exact there.

A picture with several labels is right when any of them is on top. Where a picture's truth is a
negative, any negative on top is right: the state would be `none`. Pictures without a label are
not scored. Variants with a history depend on the order, which is that of the file or of the
names; pictures of --unknown come last. Nothing that was taught takes part.

Settings may be chosen by the figures `chosen on` of --split half; those `reported on` are for
telling. Of fewer than 6 pictures, or where fewer differ all in favor of one way, nothing is
called better or worse.

A picture that cannot be read is listed and left out, a link to nothing or a pipe among them;
the exit code is then 1.")]
pub(crate) struct EvalArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    /// Caption index [default: captions.lidx in the model's folder]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["embeddings", "image_only"])]
    pub(crate) index: Option<PathBuf>,
    /// Use no caption index: only the ways that read none
    #[arg(long, conflicts_with_all = ["embeddings", "captions", "candidates"])]
    pub(crate) image_only: bool,
    /// Label set, TOML [default: the classes that the pictures have]
    #[arg(long, value_name = "FILE", conflicts_with = "embeddings")]
    pub(crate) labels: Option<PathBuf>,
    /// Count labels of pictures that are no class, and go on
    #[arg(long, requires = "labels", conflicts_with = "embeddings")]
    pub(crate) skip_unmatched: bool,
    /// A set of embeddings, in place of PICTURES; may be repeated
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["pictures", "model"])]
    pub(crate) embeddings: Vec<PathBuf>,
    /// Pictures that show none of the classes: a folder or a table, or with --embeddings another set
    #[arg(long, value_name = "SOURCE")]
    pub(crate) unknown: Option<PathBuf>,
    /// Captions that count (K), 1 to 256 [default: the bundle's; with --embeddings 16]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) captions: Option<u16>,
    /// Candidates taken from the index (N), 1 to 4096, at least K [default: 128, or K if that is more]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) candidates: Option<u16>,
    /// Report the halves of a set apart; a picture's half follows from --seed and its name
    #[arg(long, value_name = "HOW")]
    pub(crate) split: Option<Split>,
    /// Seed of halves and resampling
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// One JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// Pictures whose classes are known: a folder or a table
    #[arg(value_name = "PICTURES", required_unless_present = "embeddings")]
    pub(crate) pictures: Option<PathBuf>,
}

/// How a set is split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Split {
    /// Into two, one to choose settings on and one to report
    Half,
}

/// How many captions are taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    /// K, kept after re-ranking.
    pub(crate) captions: usize,
    /// N, taken from the index.
    pub(crate) candidates: usize,
}

impl EvalArgs {
    /// What cannot be said of a single argument.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match (self.captions, self.candidates) {
            (Some(k), Some(n)) if n < k => Err(Failure::Config(vec![format!(
                "--candidates must be at least --captions ({k}), got {n}"
            )])),
            _ => Ok(()),
        }
    }

    /// K and N, where the bundle or the format has `captions` as K.
    pub(crate) fn counts(&self, captions: usize) -> Result<Counts, Failure> {
        let captions = self.captions.map_or(captions, usize::from);
        let candidates = self.candidates.map_or(DEFAULT_CANDIDATES.max(captions), usize::from);
        if candidates < captions {
            return Err(Failure::Config(vec![format!(
                "--candidates must be at least the {captions} captions that count, got {candidates}"
            )]));
        }
        Ok(Counts { captions, candidates })
    }

    pub(crate) fn is_split(&self) -> bool {
        self.split == Some(Split::Half)
    }
}
