//! What an evaluation is made on: read, refused, and damaged at every byte.

use std::fs;
use std::os::unix::{fs::symlink, net::UnixListener};
use std::path::Path;

use half::f16;
use tempfile::TempDir;

use super::{chain, pictures};
use crate::{EmbeddingSet, ImageTruth, LabelledPicture, SourceError};

fn npy(rows: &[[f32; 2]], is_half: bool) -> Vec<u8> {
    let descr = if is_half { "<f2" } else { "<f4" };
    let shape = format!("({}, 2)", rows.len());
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend(header.as_bytes());
    for value in rows.iter().flatten() {
        match is_half {
            true => bytes.extend(f16::from_f32(*value).to_le_bytes()),
            false => bytes.extend(value.to_le_bytes()),
        }
    }
    bytes
}

/// A sound set of 3 pictures, 2 classes and 2 captions.
fn set() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let files: [(&str, Vec<u8>); 7] = [
        ("set.json", br#"{"space": "s", "logit_scale": 100, "note": [1]}"#.to_vec()),
        ("images.npy", npy(&[[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]], true)),
        ("classes.npy", npy(&[[1.0, 0.0], [0.0, 1.0]], false)),
        ("classes.txt", b"cell phone\ncat\n".to_vec()),
        ("captions.npy", npy(&[[1.0, 1.0], [-1.0, 0.0]], true)),
        ("captions.txt", b"a phone\r\n\r\n".to_vec()),
        (
            "truth.tsv",
            b"\xef\xbb\xbfrow\tclasses\town_captions\n0\tcat|cell phone\t1|0\n\n2\t\t\n1\t\t\n"
                .to_vec(),
        ),
    ];
    for (name, contents) in files {
        fs::write(folder.path().join(name), contents).unwrap();
    }
    folder
}

#[test]
fn a_set_is_read_and_its_rows_are_made_unit() {
    let folder = set();
    let set = EmbeddingSet::read(folder.path()).unwrap();
    assert_eq!(set.classes, ["cell phone", "cat"]);
    assert_eq!(set.captions, ["a phone", ""]);
    assert_eq!((set.space.as_str(), set.scales.image.get()), ("s", 100.0));
    assert_eq!((set.scales.caption.get(), set.scales.bias), (100.0, None));
    let rows: Vec<&[f32]> = set.images.iter().map(lookout_core::Embedding::as_slice).collect();
    assert_eq!(rows, [[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]);
    assert_eq!((set.class_embeddings.len(), set.caption_embeddings.len()), (2, 2));
    let first = ImageTruth { classes: vec![1, 0], own_captions: vec![1, 0] };
    assert_eq!(set.truth, [first, ImageTruth::default(), ImageTruth::default()]);

    let about = r#"{"space": "s", "logit_scale": 10, "caption_logit_scale": 20, "logit_bias": -3}"#;
    fs::write(folder.path().join("set.json"), about).unwrap();
    let scales = EmbeddingSet::read(folder.path()).unwrap().scales;
    assert_eq!((scales.image.get(), scales.caption.get()), (10.0, 20.0));
    assert_eq!(scales.bias.map(|it| it.get()), Some(-3.0));
}

#[test]
fn what_does_not_fit_is_told_with_file_and_row() {
    let nan = npy(&[[1.0, 0.0], [f32::NAN, 0.0]], false);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        (
            "set.json",
            b"{}".to_vec(),
            "set.json: missing field `space` at line 1 column 2; it must be an object with `space`, a text, and `logit_scale`, a number",
        ),
        (
            "set.json",
            b" [\"s\", 100, null, null]".to_vec(),
            "set.json: got a list; it must be an object with `space`",
        ),
        (
            "set.json",
            b"7".to_vec(),
            "set.json: invalid type: integer `7`, expected an object at line 1 column 1; it must",
        ),
        (
            "set.json",
            br#"{"space": 7}"#.to_vec(),
            "expected a string at line 1 column 11; it must be an object with",
        ),
        (
            "set.json",
            br#"{"space": "s", "logit_scale": 0}"#.to_vec(),
            "set.json: `logit_scale` must be a number from 0.001 to 1000000, got 0",
        ),
        ("images.npy", npy(&[], false), "images.npy: there must be at least 1 row, got 0"),
        ("captions.npy", nan, "captions.npy: row 1: embedding entry 0 is NaN"),
        ("classes.npy", npy(&[[0.0, 0.0]; 2], true), "classes.npy: row 0: embedding of 2 entries"),
        (
            "captions.npy",
            npy(&[[1.0, 0.0]], true),
            "captions.txt: captions.npy has 1 rows, and here are 2 lines",
        ),
        (
            "classes.txt",
            b"cat\ncat\n".to_vec(),
            "classes.txt, line 2: class \"cat\" stands in line 1",
        ),
        ("classes.txt", b"cat\n \n".to_vec(), "classes.txt, line 2: a class must have a name"),
        ("classes.txt", b"a|b\ncat\n".to_vec(), "classes.txt, line 1: a class must have a name"),
        (
            "classes.txt",
            b"cat\na \xff\n".to_vec(),
            "classes.txt, line 2: the file must be UTF-8, got the byte 0xff",
        ),
        (
            "truth.tsv",
            b"row\tclasses\town_captions\n0\tcat\t\n1\t\xe4\t\n".to_vec(),
            "truth.tsv, line 3: the file must be UTF-8, got the byte 0xe4",
        ),
        (
            "truth.tsv",
            b"row\tclasses\town_captions\n0\tcat\n".to_vec(),
            "truth.tsv, line 2: a line must have 3 cells, as the headings, got 2",
        ),
        (
            "truth.tsv",
            b"row\tclasses\n".to_vec(),
            "line 1: there must be a column headed `own_captions`",
        ),
        (
            "truth.tsv",
            b"row\tclasses\town_captions\n0\tdog\t\n".to_vec(),
            "truth.tsv, line 2: \"dog\" is no class of classes.txt",
        ),
        (
            "truth.tsv",
            b"row\tclasses\town_captions\n3\tcat\t\n".to_vec(),
            "truth.tsv, line 2: row must be 0 to 2, got \"3\"",
        ),
        (
            "truth.tsv",
            b"row\tclasses\town_captions\n0\tcat\t2\n".to_vec(),
            "truth.tsv, line 2: own_captions must be 0 to 1, got \"2\"",
        ),
        (
            "truth.tsv",
            b"row\tclasses\town_captions\n0\tcat\t\n0\tcat\t\n".to_vec(),
            "truth.tsv, line 3: row 0 stands in an earlier line already",
        ),
        (
            "truth.tsv",
            b"row\tclasses\town_captions\n0\tcat\t\n2\t\t\n".to_vec(),
            "truth.tsv: row 1 of images.npy must have a line, and has none",
        ),
    ];
    for (file, contents, expected) in cases {
        let folder = set();
        fs::write(folder.path().join(file), contents).unwrap();
        let error = chain(&EmbeddingSet::read(folder.path()).unwrap_err());
        assert!(error.contains(expected), "no {expected:?} in {error}");
    }
    let folder = set();
    let header = b"{'descr': '<f2', 'fortran_order': False, 'shape': (2, 1), }\n";
    let length = u8::try_from(header.len()).unwrap();
    let bytes = [b"\x93NUMPY\x01\x00", &[length, 0][..], header, &[0, 60, 0, 60]].concat();
    fs::write(folder.path().join("captions.npy"), bytes).unwrap();
    let error = EmbeddingSet::read(folder.path()).unwrap_err();
    assert!(matches!(error, SourceError::Dimension { got: 1, expected: 2, .. }), "{error}");
}

#[test]
fn no_damage_of_a_set_panics() {
    let folder = set();
    let mut n_refused = 0;
    for file in fs::read_dir(folder.path()).unwrap() {
        let path = file.unwrap().path();
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x55;
            for spoiled in [&flipped, &whole[..at]] {
                fs::write(&path, spoiled).unwrap();
                n_refused += usize::from(EmbeddingSet::read(folder.path()).is_err());
            }
        }
        fs::write(&path, whole).unwrap();
    }
    assert!(EmbeddingSet::read(folder.path()).is_ok() && 500 < n_refused, "{n_refused}");
}

fn shown(it: &LabelledPicture, folder: &Path) -> String {
    let path = it.path.strip_prefix(folder).unwrap_or(&it.path).display();
    format!("{} {path} {:?} {:?}", it.name, it.labels, it.captions)
}

#[test]
fn pictures_are_labelled_by_their_folders() {
    let folder = pictures();
    fs::create_dir_all(folder.path().join("more/deep")).unwrap();
    fs::write(folder.path().join("more/deep/d.jpg"), "").unwrap();
    let all = LabelledPicture::read_all(folder.path()).unwrap();
    let lines: Vec<String> = all.iter().map(|it| shown(it, folder.path())).collect();
    let expected = [
        "a.PNG a.PNG [] []",
        "alone.jpeg alone.jpeg [] []",
        "b.jpg b.jpg [] []",
        "blank.jpg blank.jpg [] []",
        "more/c.webp more/c.webp [\"more\"] []",
        "more/deep/d.jpg more/deep/d.jpg [\"more\"] []",
    ];
    assert_eq!(lines, expected);
    let at = |name: &str| folder.path().join(name);
    symlink("nothing", at("more/gone.jpg")).unwrap();
    let _socket = UnixListener::bind(at("more/socket.png")).unwrap();
    fs::create_dir_all(at("more/old")).unwrap();
    let all = LabelledPicture::read_all(folder.path()).unwrap();
    let names: Vec<&str> = all[4..].iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["more/c.webp", "more/deep/d.jpg", "more/gone.jpg", "more/socket.png"]);
    for (folders, links, expected) in [
        (
            vec!["cat", "dog/old"],
            vec![],
            "would leave its class out; put one in, or remove it: cat, dog",
        ),
        (
            vec!["cat"],
            vec!["pets", "more/others"],
            "the folder itself in the place of each link: more/others, pets",
        ),
    ] {
        folders.iter().for_each(|it| fs::create_dir_all(at(it)).unwrap());
        links.iter().for_each(|it| symlink("/", at(it)).unwrap());
        let error = LabelledPicture::read_all(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with(expected), "no {expected:?} in {error}");
    }
    let empty = tempfile::tempdir().unwrap();
    let error = LabelledPicture::read_all(empty.path()).unwrap_err();
    assert!(matches!(error, SourceError::Nothing { .. }), "{error}");
    let error = LabelledPicture::read_all(&empty.path().join("none")).unwrap_err();
    assert!(matches!(error, SourceError::Read { .. }), "{error}");
}

#[test]
fn a_link_that_leads_nowhere_may_be_a_class() {
    let folder = pictures();
    let at = |name: &str| folder.path().join(name);
    let links =
        [("/nowhere/bird", "bird"), ("loop", "loop"), ("gone", "more/old"), ("gone", "gone.jpg")];
    links.iter().for_each(|it| symlink(it.0, at(it.1)).unwrap());
    // No folder was ever meant by these.
    symlink("gone", at(".hidden")).unwrap();
    symlink("readme.txt", at("notes")).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    let error = LabelledPicture::read_all(folder.path()).unwrap_err().to_string();
    let expected = "a link that leads nowhere may stand for a folder of pictures; put the folder there, or \
                    remove the link: bird, loop, more/old";
    assert!(error.ends_with(expected), "{error}");
    links[..3].iter().for_each(|it| fs::remove_file(at(it.1)).unwrap());
    let all = LabelledPicture::read_all(folder.path()).unwrap();
    let names: Vec<&str> = all.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names[3..], ["blank.jpg", "gone.jpg", "more/c.webp"]);
}

#[test]
fn pictures_are_labelled_by_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pictures.tsv");
    let read = |text: &str| {
        fs::write(&path, text).unwrap();
        LabelledPicture::read_all(&path)
    };
    let all = read(
        "id\tLabels\tfile\tlabel\tcaptions\n\
         1\tcat| dog |\ta.jpg\tdog\tA cat. || a dog|s || \n\
         2\t\tsub/b.jpg\n\n\
         3\t\t/c.jpg\ta|b\t\r\n",
    );
    let lines: Vec<String> = all.unwrap().iter().map(|it| shown(it, folder.path())).collect();
    let expected = [
        r#"a.jpg a.jpg ["dog", "cat"] ["A cat.", "a dog|s"]"#,
        "sub/b.jpg sub/b.jpg [] []",
        r#"/c.jpg /c.jpg ["a|b"] []"#,
    ];
    assert_eq!(lines, expected);
    fs::create_dir(folder.path().join("pictures")).unwrap();
    fs::write(folder.path().join("pictures/d.jpg"), "").unwrap();
    let below = read("file\nd.jpg\n").unwrap();
    assert_eq!(shown(&below[0], folder.path()), r#"d.jpg pictures/d.jpg [] []"#);
    for (text, expected) in [
        (
            "",
            "pictures.tsv, line 1: there must be a column headed `file`, with tabs between columns, got \"\"",
        ),
        ("a.jpg\tcat\n", "column headed `file`, with tabs between columns, got \"a.jpg, cat\""),
        ("file\n", "holds no picture below its headings"),
        ("label\tfile\ncat\t\n", "pictures.tsv, line 2: `file` must name a picture, got \"\""),
        (
            "label\tfile\ncat\n",
            "pictures.tsv, line 2: a line must have 2 cells, as the headings, got 1",
        ),
        (
            "file\tlabel\na.jpg\tcat\tdog\n",
            "line 2: a line must have 1 to 2 cells, as the headings, got 3",
        ),
        ("file\tlabel\tLabel\n", "line 1: one column must be headed `label`, got columns 2 and 3"),
        ("file\tid\tfile\n", "line 1: one column must be headed `file`, got columns 1 and 3"),
        ("file\na\x1b.jpg\n", "line 2: `file` must name a picture, got \"a\\u{1b}.jpg\""),
        ("file\na.jpg\n\na.jpg\n", "pictures.tsv, line 4: \"a.jpg\" stands in line 2 already"),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(expected), "no {expected:?} in {error}");
    }
}
