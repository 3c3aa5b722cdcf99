//! WebDataset shards: tar files in which the members `KEY.jpg` and `KEY.txt` or `KEY.json` follow
//! each other.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::SourceError;
use crate::caption::{MAX_CAPTION_BYTES, caption};
use crate::entry::{BadRow, Content, Entry, Fault, Picture, Position, Row};
use crate::files::{is_picture_ending, list, plain_name};
use crate::source::{Gives, Progress, Reader, Unit};
use crate::tar::{Member, Tar};

/// A larger picture is passed over; what reads picture files has the same bound.
const MAX_PICTURE_BYTES: u64 = 64 << 20;
const MAX_JSON_BYTES: u64 = 1 << 20;

/// Gives the samples of the shards, by their names' bytes. A row is a sample: the members next to
/// each other whose names are equal up to the first dot after the last slash.
pub(crate) struct WebDataset {
    shards: Vec<Shard>,
    next: usize,
    open: Option<Open>,
    n_rows: u64,
}

struct Shard {
    path: PathBuf,
    name: String,
    /// Bytes of the shards before it, and its own.
    before: u64,
    bytes: u64,
}

struct Open {
    tar: Tar,
    row: u64,
    /// The first member of the next sample.
    ahead: Option<Member>,
}

/// What a sample has that matters.
#[derive(Default)]
struct Sample {
    picture: Option<Member>,
    n_pictures: u64,
    text: Option<Member>,
    json: Option<Member>,
}

/// What img2dataset writes beside a picture, and much more that is not looked at.
#[derive(Deserialize)]
struct Described {
    caption: Option<String>,
}

impl WebDataset {
    /// Takes a tar file, or the files of a folder that end in `.tar`.
    pub(crate) fn open(path: &Path) -> Result<Self, SourceError> {
        let unreadable = |source| SourceError::Read { path: path.to_path_buf(), source };
        let is_folder = fs::metadata(path).map_err(unreadable)?.is_dir();
        let is_tar = |it: &PathBuf| it.extension().is_some_and(|it| it == "tar");
        let mut paths = if is_folder { list(path)? } else { vec![path.to_path_buf()] };
        paths.retain(is_tar);
        let mut shards = Vec::new();
        let mut before = 0;
        for path in paths {
            let (_, bytes) = crate::files::open(&path)?;
            let name = path.file_name().and_then(plain_name).map(str::to_owned);
            let name = name.ok_or_else(|| SourceError::Name { path: path.clone() })?;
            shards.push(Shard { path, name, before, bytes });
            before += bytes;
        }
        if shards.is_empty() {
            let expected = if is_folder {
                "file that ends in .tar"
            } else {
                "tar file; its name must end in .tar"
            };
            return Err(SourceError::Nothing { path: path.to_path_buf(), expected });
        }
        // What is no tar file at all is found out before the work.
        if let [shard] = &shards[..] {
            let mut tar = Tar::open(&shard.path).map_err(unreadable)?;
            tar.next().map_err(|reason| {
                let source = std::io::Error::new(std::io::ErrorKind::InvalidData, reason);
                SourceError::Read { path: shard.path.clone(), source }
            })?;
        }
        Ok(Self { shards, next: 0, open: None, n_rows: 0 })
    }
}

impl Open {
    fn new(path: &Path) -> Result<Self, String> {
        let tar = Tar::open(path).map_err(|error| format!("cannot be read: {error}"))?;
        Ok(Self { tar, row: 0, ahead: None })
    }

    /// The next sample, and its number; `None` at the end.
    fn sample(&mut self) -> Result<Option<Sample>, String> {
        let mut found: Option<(Vec<u8>, Sample)> = None;
        loop {
            let member = match self.ahead.take() {
                Some(member) => member,
                None => match self.tar.next()? {
                    Some(member) => member,
                    None => return Ok(found.map(|it| it.1)),
                },
            };
            let Some((key, ending)) = split(&member.name) else { continue };
            if found.as_ref().is_some_and(|it| it.0 != key) {
                self.ahead = Some(member);
                return Ok(found.map(|it| it.1));
            }
            let ending = String::from_utf8_lossy(ending).into_owned();
            let sample = &mut found.get_or_insert_with(|| (key.to_vec(), Sample::default())).1;
            if is_picture_ending(&ending) {
                sample.n_pictures += 1;
                sample.picture = Some(member);
            } else if ending.eq_ignore_ascii_case("txt") {
                sample.text = Some(member);
            } else if ending.eq_ignore_ascii_case("json") {
                sample.json = Some(member);
            }
        }
    }

    fn read(&self, sample: &Sample) -> Result<(String, Picture), Fault> {
        let read = |member: &Member| {
            let file = String::from_utf8_lossy(&member.name).escape_debug().to_string();
            self.tar.read(member).map_err(|it| Fault::Unreadable { file, reason: it.to_string() })
        };
        let picture = sample.picture.as_ref().ok_or(Fault::NoPicture)?;
        if sample.n_pictures > 1 {
            return Err(Fault::ManyPictures);
        }
        if picture.size > MAX_PICTURE_BYTES {
            let (got, limit) = (picture.size, MAX_PICTURE_BYTES);
            return Err(Fault::PictureTooLarge { got, limit });
        }
        let caption = match (&sample.text, &sample.json) {
            (Some(text), _) if text.size > MAX_CAPTION_BYTES as u64 => {
                return Err(Fault::CaptionTooLong);
            }
            (Some(text), _) => caption(&read(text)?)?,
            (None, Some(json)) => {
                let place = || String::from_utf8_lossy(&json.name).escape_debug().to_string();
                if json.size > MAX_JSON_BYTES {
                    let reason = format!("it has more than {MAX_JSON_BYTES} bytes");
                    return Err(Fault::Json { place: place(), reason });
                }
                let described: Described = serde_json::from_slice(&read(json)?)
                    .map_err(|it| Fault::Json { place: place(), reason: it.to_string() })?;
                caption(described.caption.ok_or(Fault::NoCaption)?.as_bytes())?
            }
            (None, None) => return Err(Fault::NoCaption),
        };
        Ok((caption, Picture::Bytes(read(picture)?.into())))
    }
}

impl Reader for WebDataset {
    fn next(&mut self) -> Option<Row> {
        loop {
            let shard = self.shards.get(self.next)?;
            let row = self.open.as_ref().map_or(0, |it| it.row);
            let position = Position { shard: shard.name.clone(), row };
            let opened = match self.open.take() {
                Some(open) => Ok(open),
                None => Open::new(&shard.path),
            };
            let sampled = opened.and_then(|mut open| Ok((open.sample()?, open)));
            let row = match sampled {
                Ok((None, _)) => {
                    self.next += 1;
                    continue;
                }
                Ok((Some(sample), mut open)) => {
                    open.row += 1;
                    let read = open.read(&sample);
                    self.open = Some(open);
                    match read {
                        Ok((caption, picture)) => {
                            Ok(Entry { position, caption, content: Content::Picture(picture) })
                        }
                        Err(fault) => Err(BadRow { position, fault }),
                    }
                }
                Err(reason) => {
                    self.next += 1;
                    Err(BadRow { position, fault: Fault::Damaged { reason, lost: None } })
                }
            };
            self.n_rows += 1;
            return Some(row);
        }
    }

    fn resume(&mut self, row: u64, shard: &str) -> Result<(), &'static str> {
        let place = self.shards.iter().position(|it| it.name == shard);
        self.next = place.ok_or("there is no such shard")?;
        let mut open = match Open::new(&self.shards[self.next].path) {
            Ok(open) => open,
            // That was the row before.
            Err(_) if row == 1 => {
                self.next += 1;
                self.open = None;
                return Ok(());
            }
            Err(_) => return Err("the shard cannot be read"),
        };
        while open.row < row {
            match open.sample() {
                Ok(Some(_)) => open.row += 1,
                // Its damage was the row before.
                Err(_) if open.row + 1 == row => {
                    self.next += 1;
                    self.open = None;
                    return Ok(());
                }
                Ok(None) | Err(_) => return Err("the shard has fewer rows"),
            }
        }
        self.open = Some(open);
        Ok(())
    }

    fn progress(&self) -> Progress {
        let total = self.shards.last().map_or(0, |it| it.before + it.bytes);
        let done = self.shards.get(self.next).map_or(total, |it| {
            it.before + self.open.as_ref().map_or(0, |it| it.tar.position()).min(it.bytes)
        });
        Progress { rows: self.n_rows, done, total, unit: Unit::Bytes }
    }

    fn gives(&self) -> Gives {
        Gives::Pictures
    }

    fn inputs(&self) -> Box<dyn Iterator<Item = PathBuf> + '_> {
        Box::new(self.shards.iter().map(|it| it.path.clone()))
    }
}

/// Key and ending of a member's name; `None` for hidden files and what has no ending.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let base = name.iter().rposition(|it| *it == b'/').map_or(0, |it| it + 1);
    let dot = name[base..].iter().position(|it| *it == b'.')?;
    (dot != 0).then(|| (&name[..base + dot], &name[base + dot + 1..]))
}
