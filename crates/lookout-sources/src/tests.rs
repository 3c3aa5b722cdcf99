//! Sources as other programs write them (`tests/oracle/sources.py`), read, gone on with, and
//! damaged at every byte.

mod damage;
mod evaluation;
mod reading;
mod refused;
mod table;

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::{Content, Entry, Picture, Row, Source, SourceError, Spec, Tally};

fn oracle(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/oracle/sources").join(name)
}

/// A copy that may be spoiled.
fn copy(name: &str) -> TempDir {
    fn copy_into(from: &Path, to: &Path) {
        for entry in fs::read_dir(from).unwrap() {
            let from = entry.unwrap().path();
            let to = to.join(from.file_name().unwrap());
            if from.is_dir() {
                fs::create_dir(&to).unwrap();
                copy_into(&from, &to);
            } else {
                fs::copy(&from, &to).unwrap();
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    copy_into(&oracle(name), folder.path());
    folder
}

/// Pictures `a.jpg` to `d.png` in folders, some with captions.
fn pictures() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("more/.hidden")).unwrap();
    let files: [(&str, &[u8]); 11] = [
        ("b.jpg", b"picture b"),
        ("b.txt", b"first of b\r\n\r\n  second   of b \nred \x1b[31m\nlast of b"),
        ("a.PNG", b"picture a"),
        ("a.txt", b"\xef\xbb\xbfa cat\n"),
        ("blank.jpg", b""),
        ("blank.txt", b" \n\n"),
        ("alone.jpeg", b""),
        ("readme.txt", b"no picture has my name"),
        ("more/c.webp", b"picture c"),
        ("more/c.txt", b"a dog"),
        ("more/.hidden/x.jpg", b""),
    ];
    for (name, contents) in files {
        fs::write(folder.path().join(name), contents).unwrap();
    }
    folder
}

fn coco(folder: &Path) -> Spec {
    Spec::Coco { annotations: folder.join("captions.json"), pictures: folder.to_path_buf() }
}

fn tsv(contents: &[u8]) -> (TempDir, Spec) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("captions.tsv");
    fs::write(&path, contents).unwrap();
    (folder, Spec::Tsv(path))
}

/// Every kind of source, with where its files are.
fn all() -> Vec<(TempDir, Spec)> {
    type Kind = fn(PathBuf) -> Spec;
    let kinds: [(&str, Kind); 4] = [
        ("clip-retrieval", Spec::Embeddings),
        ("flat", Spec::Embeddings),
        ("webdataset", Spec::WebDataset),
        ("coco", |it| coco(&it)),
    ];
    let mut all: Vec<_> = kinds
        .into_iter()
        .map(|(name, spec)| {
            let folder = copy(name);
            let spec = spec(folder.path().to_path_buf());
            (folder, spec)
        })
        .collect();
    let folder = pictures();
    let spec = Spec::Folder(folder.path().to_path_buf());
    all.push((folder, spec));
    all.push(tsv(b"id\tcaption\n1\ta cat\n2\n\n3\tA CAT\n4\ta dog\tx\r\n5\ta \xff\n6\ta bus"));
    all
}

/// A row as one line: its place, and what it has or why it is bad.
fn line(row: &Row, folder: &Path) -> String {
    let Entry { position, caption, content } = match row {
        Ok(entry) => entry,
        Err(bad) => return bad.to_string().replace(&*folder.to_string_lossy(), "FOLDER"),
    };
    let content = match content {
        Content::Nothing => "-".to_owned(),
        Content::Picture(Picture::File(path)) => {
            path.strip_prefix(folder).unwrap().display().to_string()
        }
        Content::Picture(Picture::Bytes(bytes)) => {
            String::from_utf8_lossy(&bytes[3..bytes.len() - 3]).into_owned()
        }
        Content::Embeddings { image, caption } => {
            let shown = |it: &lookout_core::Embedding| format!("{:.3?}", it.as_slice());
            let shown = |it: &Option<_>| it.as_ref().map_or("-".to_owned(), shown);
            format!("{} {}", shown(image), shown(caption))
        }
    };
    format!("{position}: {caption} | {content}")
}

/// Everything a source gives.
fn drain(source: &mut Source) -> (Vec<Row>, Tally) {
    let (mut rows, mut tally) = (Vec::new(), Tally::default());
    let mut before = source.progress();
    for row in source.by_ref() {
        if let Err(bad) = &row {
            tally.leave_out(bad);
        }
        rows.push(row);
        assert!(rows.len() < 10_000, "a small source must end");
    }
    let after = source.progress();
    assert_eq!(after.rows - before.rows, rows.len() as u64);
    assert_eq!((after.done, after.unit), (after.total, before.unit));
    before = after;
    assert!(source.next().is_none());
    assert_eq!(source.progress(), before);
    (rows, tally)
}

fn read(spec: &Spec) -> Result<(Vec<Row>, Tally), SourceError> {
    Source::open(spec).map(|mut it| drain(&mut it))
}

/// An error with its causes.
fn chain(error: &SourceError) -> String {
    let cause = std::error::Error::source(error).map(|it| format!(": {it}"));
    format!("{error}{}", cause.unwrap_or_default())
}
