//! The embeddings of a source's entries: those that it has, and those that a model computes.

use anyhow::{Context, bail};
use lookout_capture::{PictureLimits, decode_picture, read_picture};
use lookout_core::Embedding;
use lookout_encoder::{Bundle, EncoderError, Golden, ImageTower, Runtime, TextTower};
use lookout_sources::{Content, Entry, Gives, Picture};

use crate::engine;

/// Most bytes of decoded pictures that wait for a batch to be full.
const MAX_WAITING_BYTES: usize = 512 << 20;

/// What is to be computed for a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    pub(super) image_tower: bool,
    pub(super) text_tower: bool,
    /// Whether entries are found by pictures.
    pub(super) own_keys: bool,
}

impl Needs {
    /// Errs when precomputed embeddings cannot be of the model's space.
    pub(super) fn of(gives: Gives, bundle: &Bundle) -> anyhow::Result<Self> {
        Ok(match gives {
            Gives::Captions => Self { image_tower: false, text_tower: true, own_keys: false },
            Gives::Pictures => Self { image_tower: true, text_tower: true, own_keys: true },
            Gives::Embeddings { dimension, image, caption } => {
                if dimension != bundle.dimension() {
                    bail!(
                        "the embeddings have {dimension} dimensions, those of model {} (space {}) \
                         have {}; name with --model the model that they were computed with",
                        bundle.dir().display(),
                        bundle.space(),
                        bundle.dimension()
                    );
                }
                Self { image_tower: false, text_tower: !caption, own_keys: image }
            }
        })
    }

    /// Whether a model is run at all.
    pub(super) fn any(self) -> bool {
        self.image_tower || self.text_tower
    }
}

/// What an entry is stored with.
pub(super) struct Vectors {
    pub(super) caption: Embedding,
    /// The picture's, where entries are found by pictures.
    pub(super) key: Option<Embedding>,
}

/// What a model makes of something, or why that cannot be used.
type Encoded = Result<Embedding, String>;

/// The towers that a source needs.
pub(super) struct Encoder {
    image: Option<ImageTower>,
    text: Option<TextTower>,
    batch: usize,
    limits: PictureLimits,
    /// The last picture: captions of one follow each other.
    last: Option<(Picture, Encoded)>,
}

impl Encoder {
    /// Loads the towers, each for `batch` inputs a run, and checks that this machine computes their
    /// golden embeddings. Without a runtime there are none.
    pub(super) fn load(
        bundle: &Bundle,
        runtime: Option<&Runtime>,
        needs: Needs,
        batch: usize,
    ) -> anyhow::Result<Self> {
        let (mut image, mut text, limits) = (None, None, engine::limits(bundle));
        let Some(runtime) = runtime else {
            return Ok(Self { image, text, batch, limits, last: None });
        };
        let hint = || match batch {
            1 => "the model cannot be used".to_owned(),
            _ => {
                format!("for batches of {batch}; a model that takes one at a time needs --batch 1")
            }
        };
        if needs.image_tower {
            let mut tower = ImageTower::load_on(bundle, runtime, batch).with_context(hint)?;
            let golden = Golden::open(bundle)?;
            for check in
                golden.check_pictures(&mut tower, usize::MAX, |it| Ok(engine::read(it)?))?
            {
                check.ensure()?;
            }
            image = Some(tower);
        }
        if needs.text_tower {
            let mut tower = TextTower::load_on(bundle, runtime, batch).with_context(hint)?;
            for check in Golden::open(bundle)?.check_texts(&mut tower, usize::MAX)? {
                check.ensure()?;
            }
            text = Some(tower);
        }
        Ok(Self { image, text, batch, limits, last: None })
    }

    /// The vectors of each entry, or why it cannot be used. Errs when the model fails.
    pub(super) fn encode(
        &mut self,
        entries: &[Entry],
    ) -> anyhow::Result<Vec<Result<Vectors, String>>> {
        let mut keys = self.keys(entries)?;
        let is_text = |(entry, key): &(&Entry, &Result<_, _>)| {
            key.is_ok() && !matches!(&entry.content, Content::Embeddings { caption: Some(_), .. })
        };
        let texts = entries.iter().zip(&keys).filter(is_text).map(|it| it.0.caption.as_str());
        let texts: Vec<&str> = texts.collect();
        let mut encoded = Vec::with_capacity(texts.len());
        if let Some(tower) = &mut self.text {
            for batch in texts.chunks(self.batch) {
                encoded.extend(each(batch, &mut |it| tower.encode_texts(it))?);
            }
        }
        let mut encoded = encoded.into_iter();
        let mut vectors = |entry: &Entry, key: Result<Option<Embedding>, String>| {
            let key = key?;
            let caption = match &entry.content {
                Content::Embeddings { caption: Some(caption), .. } => caption.clone(),
                _ => encoded.next().unwrap_or_else(|| Err("was not encoded".to_owned()))?,
            };
            Ok(Vectors { caption, key })
        };
        Ok(entries.iter().zip(keys.drain(..)).map(|(entry, key)| vectors(entry, key)).collect())
    }

    /// The embedding of each entry's picture, where it has one.
    fn keys(
        &mut self,
        entries: &[Entry],
    ) -> anyhow::Result<Vec<Result<Option<Embedding>, String>>> {
        let mut pictures: Vec<&Picture> = Vec::new();
        for entry in entries {
            if let Content::Picture(picture) = &entry.content
                && pictures.last().is_none_or(|it| *it != picture)
            {
                pictures.push(picture);
            }
        }
        let kept =
            self.last.take().filter(|it| pictures.first().is_some_and(|first| **first == it.0));
        let new = &pictures[usize::from(kept.is_some())..];
        let encoded = kept.map(|it| it.1).into_iter().chain(self.pictures(new)?);
        let mut known = pictures.iter().copied().zip(encoded).peekable();
        let mut keys = Vec::with_capacity(entries.len());
        for entry in entries {
            keys.push(match &entry.content {
                Content::Nothing => Ok(None),
                Content::Embeddings { image, .. } => Ok(image.clone()),
                Content::Picture(picture) => {
                    while known.next_if(|it| it.0 != picture).is_some() {}
                    let found = known.peek().map(|it| it.1.clone());
                    found.unwrap_or_else(|| Err("was not encoded".to_owned())).map(Some)
                }
            });
        }
        self.last = known.last().map(|(picture, encoded)| (picture.clone(), encoded));
        Ok(keys)
    }

    fn pictures(&mut self, pictures: &[&Picture]) -> anyhow::Result<Vec<Encoded>> {
        let Some(tower) = &mut self.image else { return Ok(Vec::new()) };
        let mut encoded: Vec<Encoded> = Vec::with_capacity(pictures.len());
        let mut waiting: Vec<lookout_core::Picture> = Vec::new();
        // Where what waits belongs.
        let mut places = Vec::new();
        let mut bytes = 0;
        for (n, picture) in (1..).zip(pictures) {
            match decode(picture, &self.limits) {
                Ok(picture) => {
                    places.push(encoded.len());
                    bytes += picture.rgb().len();
                    waiting.push(picture);
                    encoded.push(Err("was not encoded".to_owned()));
                }
                Err(reason) => encoded.push(Err(reason)),
            }
            if waiting.len() == self.batch || n == pictures.len() || MAX_WAITING_BYTES <= bytes {
                let new = each(&waiting, &mut |it| tower.encode_batch(it))?;
                for (place, new) in places.drain(..).zip(new) {
                    encoded[place] = new;
                }
                waiting.clear();
                bytes = 0;
            }
        }
        Ok(encoded)
    }
}

fn decode(picture: &Picture, limits: &PictureLimits) -> Result<lookout_core::Picture, String> {
    match picture {
        Picture::File(path) => read_picture(path, limits),
        Picture::Bytes(bytes) => decode_picture(bytes, "the picture", limits),
    }
    .map_err(|error| format!("{:#}", anyhow::Error::from(error)))
}

/// Runs a model over `items`, by halves where one of them is to blame for a failure, so that it costs
/// itself alone. Errs when the model is to blame.
fn each<T, R>(items: &[T], run: &mut R) -> anyhow::Result<Vec<Encoded>>
where
    R: FnMut(&[T]) -> Result<Vec<Embedding>, EncoderError>,
{
    let error = match run(items) {
        Ok(embeddings) => return Ok(embeddings.into_iter().map(Ok).collect()),
        Err(error) => error,
    };
    let reason = match error {
        EncoderError::EmptyText { .. } => "has nothing that the model reads".to_owned(),
        EncoderError::TextTooLong { .. }
        | EncoderError::Resize { .. }
        | EncoderError::Output { .. } => format!("{:#}", anyhow::Error::from(error)),
        other => return Err(other.into()),
    };
    if items.len() <= 1 {
        return Ok(vec![Err(reason)]);
    }
    let (first, second) = items.split_at(items.len() / 2);
    let mut encoded = each(first, run)?;
    encoded.extend(each(second, run)?);
    Ok(encoded)
}
