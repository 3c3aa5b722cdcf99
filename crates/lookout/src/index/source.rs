//! What an index is to be built of, from the command line.

use std::path::Path;

use anyhow::{Context, bail};
use lookout_core::MAX_CAPTION_CHARS;
use lookout_sources::{FilterOptions, Filters, Kind, Spec, Unsure, WordList};

use crate::cli::{FilterArgs, IndexBuildArgs};

/// The source that `args` name, and its kind.
pub(super) fn spec(args: &IndexBuildArgs) -> anyhow::Result<(Kind, Spec)> {
    let path = &args.source;
    let kind = match args.kind {
        Some(kind) => kind,
        None => Kind::of(path).context("give --source, or another path")?,
    };
    let spec = match (kind, &args.pictures) {
        (Kind::Coco, None) => bail!(
            "{}: COCO captions name the files of a folder of pictures; give it with --pictures",
            path.display()
        ),
        (Kind::Coco, Some(pictures)) => {
            Spec::Coco { annotations: path.clone(), pictures: pictures.clone() }
        }
        (_, Some(pictures)) => bail!(
            "--pictures {} goes with COCO captions alone, and {} is taken for {kind}; say with \
             --source if it is something else",
            pictures.display(),
            path.display()
        ),
        (Kind::Tsv, None) => Spec::Tsv(path.clone()),
        (Kind::Pairs, None) => Spec::Folder(path.clone()),
        (Kind::WebDataset, None) => Spec::WebDataset(path.clone()),
        (Kind::Embeddings, None) => Spec::Embeddings(path.clone()),
    };
    Ok((kind, spec))
}

/// The filters that `args` name.
pub(super) fn filters(args: &FilterArgs) -> anyhow::Result<Filters> {
    let most = MAX_CAPTION_CHARS;
    let list = |it: &Path| WordList::read(it);
    Ok(Filters::new(FilterOptions {
        languages: args.language.clone(),
        unsure: if args.refuse_unsure { Unsure::Refuse } else { Unsure::Keep },
        chars: args.min_chars.unwrap_or(1)..=args.max_chars.unwrap_or(most),
        words: args.min_words.unwrap_or(1)..=args.max_words.unwrap_or(most),
        unwanted: args.unwanted_words.as_deref().map(list).transpose()?,
        near_duplicates: args.drop_near_duplicates,
    })?)
}
