//! What is read, in which order, and from where again.

use lookout_core::Embedding;

use super::*;
use crate::{Gives, Position, Unit};

fn lines(spec: &Spec, folder: &Path) -> Vec<String> {
    read(spec).unwrap().0.iter().map(|it| line(it, folder)).collect()
}

/// As `vector` in the oracle.
fn vector(row: u64, of: u64) -> Embedding {
    let value = |column: u64| u16::try_from((row * 7 + column * 3 + of) % 11 + 1).unwrap();
    Embedding::normalize((0..4).map(|it| f32::from(value(it))).collect()).unwrap()
}

#[test]
fn embeddings_come_with_their_captions() {
    let spec = Spec::Embeddings(oracle("clip-retrieval"));
    let source = Source::open(&spec).unwrap();
    assert_eq!(source.gives(), Gives::Embeddings { dimension: 4, image: true, caption: true });
    assert_eq!((source.progress().total, source.progress().unit), (15, Unit::Rows));
    let (rows, tally) = read(&spec).unwrap();
    assert_eq!((rows.len(), tally.n_bad()), (15, 1));
    let shards =
        [(0, "metadata_0.parquet"), (7, "metadata_1.parquet"), (12, "metadata_10.parquet")];
    for (n, row) in (0..).zip(&rows) {
        let (begin, shard) = shards.iter().rfind(|it| it.0 <= n).unwrap();
        let expected = Position { shard: (*shard).to_owned(), row: n - begin };
        match row {
            Ok(entry) => {
                assert_eq!(entry.position, expected);
                assert_eq!(entry.caption, format!("caption {n}"));
                let (image, caption) = (Some(vector(n, 0)), Some(vector(n, 5)));
                assert_eq!(entry.content, Content::Embeddings { image, caption });
            }
            Err(bad) => {
                assert_eq!(bad.to_string(), "metadata_0.parquet:5: has no caption");
                assert_eq!(n, 5);
            }
        }
    }
}

#[test]
fn parquet_is_read_as_others_write_it_too() {
    let spec = Spec::Embeddings(oracle("flat"));
    let gives = Source::open(&spec).unwrap().gives();
    assert_eq!(gives, Gives::Embeddings { dimension: 4, image: false, caption: true });
    let (rows, tally) = read(&spec).unwrap();
    assert_eq!((rows.len(), tally.n_bad()), (18, 1));
    for (n, row) in (0..).zip(&rows).filter(|it| it.0 != 5) {
        let entry = row.as_ref().unwrap();
        assert_eq!(entry.position.to_string(), format!("metadata_0{}.parquet:{}", n / 6, n % 6));
        assert_eq!(entry.caption, format!("caption {n}"));
        let content = Content::Embeddings { image: None, caption: Some(vector(n, 5)) };
        assert_eq!(entry.content, content);
    }
}

#[test]
fn vectors_without_a_direction_are_bad_rows() {
    let folder = copy("flat");
    let path = folder.path().join("text_emb_00.npy");
    let mut bytes = fs::read(&path).unwrap();
    let begin = bytes.len() - 6 * 8;
    bytes[begin..begin + 8].fill(0);
    // A half-precision NaN.
    bytes[begin + 8..begin + 10].copy_from_slice(&[0x00, 0x7e]);
    fs::write(&path, bytes).unwrap();
    let lines = lines(&Spec::Embeddings(folder.path().to_path_buf()), folder.path());
    assert!(lines[0].contains("metadata_00.parquet:0: text_emb_00.npy: "), "{}", lines[0]);
    assert!(lines[0].contains("zero norm"), "{}", lines[0]);
    assert!(lines[1].contains("embedding entry 0 is NaN"), "{}", lines[1]);
    assert!(lines[2].contains("caption 2"), "{}", lines[2]);
}

#[test]
fn samples_of_a_webdataset_are_put_together() {
    let folder = oracle("webdataset");
    let lines = lines(&Spec::WebDataset(folder.clone()), &folder);
    let expected = [
        "00000.tar:0: caption 0 | picture 0",
        "00000.tar:1: caption 1 | picture 1",
        "00000.tar:2: caption 2 | picture 2",
        "00001.tar:0: caption 3 | picture 3",
        "00001.tar:1: caption 4 | picture 4",
        "00001.tar:2: has no picture",
        "00001.tar:3: has no caption",
        "00001.tar:4: has several pictures",
        "00001.tar:5: has no caption",
        "00001.tar:6: broken.json: EOF while parsing an object at line 1 column 15",
        "00001.tar:7: caption 9 | picture 9",
    ];
    assert_eq!(lines, expected);
    let one = folder.join("00000.tar");
    assert_eq!(self::lines(&Spec::WebDataset(one), &folder), expected[..3]);
}

#[test]
fn coco_captions_come_picture_by_picture() {
    let folder = oracle("coco");
    let lines = lines(&coco(&folder), &folder);
    let expected = [
        "captions.json:0: Two \"dogs\" ☃ | 000000000003.jpg",
        "captions.json:1: A dog | 000000000003.jpg",
        "captions.json:2: image_id 5 is not among `images`",
        "captions.json:3: A cat on a mat. | 000000000007.jpg",
        "captions.json:4: The cat sleeps | 000000000007.jpg",
        "captions.json:5: file_name \"../outside.jpg\": it must lie within the folder of pictures",
        "captions.json:6: has no caption",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_broken_annotation_costs_itself() {
    let folder = copy("coco");
    let path = folder.path().join("captions.json");
    let text = fs::read_to_string(&path).unwrap();
    let spoiled = text.replace("\"id\": 3, \"caption\"", "\"id\": 3 \"caption\"");
    assert_ne!(spoiled, text);
    fs::write(&path, spoiled).unwrap();
    let lines = lines(&coco(folder.path()), folder.path());
    assert_eq!(lines.len(), 7);
    assert!(lines[6].starts_with("captions.json:6: the annotation at byte "), "{}", lines[6]);
    assert!(lines[6].contains("expected `,` or `}`"), "{}", lines[6]);
}

#[test]
fn pictures_of_a_folder_come_by_name_with_each_caption() {
    let folder = pictures();
    let lines = lines(&Spec::Folder(folder.path().to_path_buf()), folder.path());
    let expected = [
        "a.PNG:0: a cat | a.PNG",
        "alone.jpeg: cannot read alone.txt: No such file or directory (os error 2)",
        "b.jpg:0: first of b | b.jpg",
        "b.jpg:1: second of b | b.jpg",
        "b.jpg:2: the caption has a control character",
        "b.jpg:3: last of b | b.jpg",
        "blank.jpg: has no caption",
        "more/c.webp:0: a dog | more/c.webp",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn after_any_row_a_source_goes_on_with_the_next() {
    for (_folder, spec) in all() {
        let (rows, _) = read(&spec).unwrap();
        for (n, row) in rows.iter().enumerate() {
            let position = match row {
                Ok(entry) => &entry.position,
                Err(bad) => &bad.position,
            };
            for (position, rest) in
                [(position.clone(), &rows[n..]), (position.next(), &rows[n + 1..])]
            {
                let mut source = Source::open(&spec).unwrap();
                source.resume(&position).unwrap();
                assert_eq!(drain(&mut source).0, rest, "{spec:?} at {position}");
            }
            // From a later row back again.
            let mut source = Source::open(&spec).unwrap();
            source.by_ref().take(n + 1).for_each(drop);
            source.resume(position).unwrap();
            assert_eq!(drain(&mut source).0, rows[n..], "{spec:?} back at {position}");
        }
    }
}

#[test]
fn a_position_of_another_source_is_refused() {
    for (_folder, spec) in all() {
        let mut source = Source::open(&spec).unwrap();
        let position: Position = "other:0".parse().unwrap();
        let error = source.resume(&position).unwrap_err().to_string();
        assert!(error.contains("other:0") && error.contains("begin anew"), "{error}");
    }
    for (spec, position) in [
        (Spec::Embeddings(oracle("flat")), "metadata_00.parquet:7"),
        (Spec::WebDataset(oracle("webdataset")), "00000.tar:4"),
        (coco(&oracle("coco")), "captions.json:8"),
    ] {
        let mut source = Source::open(&spec).unwrap();
        let error = source.resume(&position.parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("fewer rows"), "{error}");
    }
}

#[test]
fn the_first_bad_rows_are_listed_and_all_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    for n in 0..30 {
        fs::write(folder.path().join(format!("{n:02}.jpg")), b"").unwrap();
    }
    let (_, tally) = read(&Spec::Folder(folder.path().to_path_buf())).unwrap();
    assert_eq!((tally.n_bad(), tally.first().len()), (30, 20));
    assert!(tally.first()[19].starts_with("19.jpg: cannot read 19.txt: "), "{:?}", tally.first());
}
