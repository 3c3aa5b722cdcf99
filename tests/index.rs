//! The caption index over stored embeddings of real captions and pictures.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use lookout_core::Embedding;
use lookout_index::{Index, IndexBuilder, SearchMethod};
use sha2::{Digest, Sha256};

use crate::support::run;

const DIMENSION: usize = 384;
/// Of the files that these 500 entries give, each for a way of searching. They change with the format,
/// the builder's constants, fsst-rs or instant-distance, and then the index that ships has to be built
/// again.
const INDEX_SHA256: [(SearchMethod, &str); 2] = [
    (SearchMethod::Exhaustive, "36db02e0665b80db4e83afec00cb2e465775e5343877576b60d14b1208712af9"),
    (SearchMethod::Graph, "f2bde9bb2e5573897b58c2d16450edd379153c808d8d5137406b12e37e9c5537"),
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("index-fixture").join(name)
}

fn embeddings(name: &str) -> Vec<Embedding> {
    let bytes = fs::read(fixture(name)).unwrap();
    let row = |row: &[u8]| {
        let integers = row.chunks_exact(2).map(|it| i16::from_le_bytes([it[0], it[1]]));
        Embedding::normalize(integers.map(f32::from).collect()).unwrap()
    };
    bytes.chunks_exact(DIMENSION * 2).map(row).collect()
}

fn captions() -> Vec<String> {
    let table = fs::read_to_string(fixture("captions.tsv")).unwrap();
    table.lines().skip(1).map(|it| it.split('\t').nth(1).unwrap().to_owned()).collect()
}

fn build(path: &Path, method: SearchMethod) {
    let (captions, embeddings) = (captions(), embeddings("captions.i16"));
    assert_eq!((captions.len(), embeddings.len()), (500, 500));
    let mut builder = IndexBuilder::new("starter-2", DIMENSION).unwrap().search_by(method);
    for (text, embedding) in captions.iter().zip(&embeddings) {
        builder.push(text, embedding, None).unwrap();
    }
    builder.write(path, &|_, _| ()).unwrap();
}

// The order of insertion is drawn from a generator that differs on 32-bit machines.
#[cfg(target_pointer_width = "64")]
#[test]
fn stored_embeddings_give_the_same_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("test.lidx");
    for (method, expected) in INDEX_SHA256 {
        build(&path, method);
        let hash = Sha256::digest(fs::read(&path).unwrap());
        let hash: String = hash.iter().map(|it| format!("{it:02x}")).collect();
        assert_eq!(hash, expected, "{method:?}");
    }
}

/// Against an exhaustive search in f64, for pictures and for captions as queries.
#[test]
fn finds_what_exhaustive_search_finds() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("test.lidx");
    for (method, _) in INDEX_SHA256 {
        build(&path, method);
        let index = Index::open(&path).unwrap();
        index.verify_all().unwrap();
        check_recall(&index);
    }
}

fn check_recall(index: &Index) {
    let captions = embeddings("captions.i16");
    let texts = self::captions();
    for (name, queries) in
        [("pictures", embeddings("pictures.i16")), ("captions", captions.clone())]
    {
        let mut n_found = 0;
        for query in &queries {
            let mut exact: Vec<usize> = (0..captions.len()).collect();
            exact.sort_by(|a, b| {
                query.cosine(&captions[*b]).total_cmp(&query.cosine(&captions[*a]))
            });
            let found = index.search(query, 16).unwrap();
            let found: HashSet<&str> = found.iter().map(|it| it.text.as_str()).collect();
            n_found += exact[..16].iter().filter(|it| found.contains(texts[**it].as_str())).count();
        }
        let recall = n_found as f64 / (16 * queries.len()) as f64;
        assert!(recall >= 0.98, "{name}: recall@16 is {recall:.4} over {} queries", queries.len());
    }
}

#[test]
fn a_caption_without_tokens_is_left_out_like_other_faulty_rows() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let build = |captions: &str, output: &str, batch: &str| {
        fs::write(at("captions.tsv"), captions).unwrap();
        let (captions, output) = (at("captions.tsv"), at(output));
        run(&["index", "build", &captions, "--output", &output, "--batch", batch])
    };
    let clean = build("a cat\na dog\na bus\n", "clean.lidx", "2");
    assert_eq!(clean.code, Some(0), "{}", clean.stderr);
    for batch in ["1", "2", "8"] {
        let rows = "a cat\n\u{200b}\n\n\u{200b}\u{200b}\na dog\nA CAT\na bus\n";
        let built = build(rows, "own.lidx", batch);
        assert_eq!(built.code, Some(0), "{}", built.stderr);
        let told = "3 rows left out:\n\
                    lookout:     captions.tsv:2: has nothing that the model reads\n\
                    lookout:     captions.tsv:4: has nothing that the model reads\n\
                    lookout:     captions.tsv:6: repeats an earlier one\n";
        assert!(built.stderr.ends_with(told), "{}", built.stderr);
        let same = fs::read(at("own.lidx")).unwrap() == fs::read(at("clean.lidx")).unwrap();
        assert!(same, "batches of {batch}");
    }
    build("\u{200b}\n", "none.lidx", "8").failed(
        1,
        &["no usable caption in 1 row", "captions.tsv:1: has nothing that the model reads"],
    );
    assert!(!dir.path().join("none.lidx").exists());
}

#[test]
fn a_folder_that_cannot_be_written_is_found_before_the_work() {
    let dir = tempfile::tempdir().unwrap();
    let captions = dir.path().join("captions.tsv");
    fs::write(&captions, "a cat\n").unwrap();
    // Nobody, not even root, makes files there; and no model is opened before that is told.
    let args = ["--output", "/proc/captions.lidx", "--model", "no/model"];
    let built = run(&[&["index", "build", captions.to_str().unwrap()], &args[..]].concat());
    built.failed(1, &["cannot write /proc/captions.lidx"]);
}
