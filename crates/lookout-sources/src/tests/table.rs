//! Captions in a table.

use super::*;
use crate::Fault;

fn captions(contents: &[u8]) -> Vec<String> {
    let (_folder, spec) = tsv(contents);
    let (rows, tally) = read(&spec).unwrap();
    assert_eq!(tally.n_bad(), 0, "{:?}", tally.first());
    rows.into_iter().map(|it| it.unwrap().caption).collect()
}

#[test]
fn the_caption_column_or_the_only_one_is_read() {
    let cases: [(&str, &[&str]); 5] = [
        ("id\tcaption\tlicence\n1\ta cat\tCC\n2\ta dog\tCC\n", &["a cat", "a dog"]),
        ("\u{feff}Caption\r\na cat\r\n\r\n a dog \r\n", &["a cat", "a dog"]),
        ("\u{feff}a cat", &["a cat"]),
        ("caption\ncaption\n", &["caption"]),
        ("\n\na  cat\n", &["a cat"]),
    ];
    for (contents, expected) in cases {
        assert_eq!(captions(contents.as_bytes()), expected, "{contents:?}");
    }
    for contents in ["", "\n \n", "id\tcaption\n"] {
        assert_eq!(captions(contents.as_bytes()), [""; 0], "{contents:?}");
    }
}

#[test]
fn faulty_rows_are_named_by_their_lines() {
    let mut contents = b"id\tcaption\n1\ta cat\n2\n3\t \n4\t".to_vec();
    contents.extend(b"a \xff dog\n5\tA CAT \n6\tred \x1b[31m\n7\t");
    contents.extend("x".repeat(1001).bytes());
    contents.extend(b"\n8\t");
    contents.extend("y".repeat(200_000).bytes());
    contents.extend("\n9\tM\u{c4}DCHEN\n10\tm\u{e4}dchen\n11\t".bytes());
    contents.extend("\u{e9}".repeat(1000).bytes());
    let (_folder, spec) = tsv(&contents);
    let expected = [
        (2, None),
        (3, Some(Fault::NoCaption)),
        (4, Some(Fault::NoCaption)),
        (5, Some(Fault::CaptionNotUtf8)),
        (6, Some(Fault::Repeated)),
        (7, Some(Fault::CaptionControl)),
        (8, Some(Fault::CaptionTooLong)),
        (9, Some(Fault::CaptionTooLong)),
        (10, None),
        (11, Some(Fault::Repeated)),
        (12, None),
    ];
    let rows = read(&spec).unwrap().0.into_iter();
    let got: Vec<_> = rows
        .map(|it| match it {
            Ok(it) => (it.position.row, None),
            Err(it) => (it.position.row, Some(it.fault)),
        })
        .collect();
    assert_eq!(got, expected);
}

#[test]
fn a_repeated_caption_is_found_after_a_resumption_too() {
    let (_folder, spec) = tsv(b"a cat\na dog\nA CAT\na bus\n");
    let mut source = Source::open(&spec).unwrap();
    source.resume(&"captions.tsv:2".parse().unwrap()).unwrap();
    let (rows, tally) = drain(&mut source);
    assert_eq!((rows.len(), tally.n_bad()), (3, 1));
    let error = source.resume(&"captions.tsv:6".parse().unwrap()).unwrap_err().to_string();
    assert!(error.contains("fewer rows"), "{error}");
}

#[test]
fn what_is_no_table_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path(), Path::new("/dev/zero")] {
        let error = chain(&Source::open(&Spec::Tsv(path.to_path_buf())).err().unwrap());
        assert!(error.contains("must be a regular file"), "{error}");
    }
}

#[test]
fn columns_without_a_heading_are_refused() {
    for first in ["text\turl", "\"id\"\t\"caption\"", "a cat\ta note"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("captions.tsv");
        std::fs::write(&path, format!("\u{feff}{first}\na dog\tx\n")).unwrap();
        let error = Source::open(&Spec::Tsv(path)).err().unwrap().to_string();
        let columns = first.replace('\t', ", ");
        assert!(error.contains("none is headed `caption`") && error.contains(&columns), "{error}");
    }
}
