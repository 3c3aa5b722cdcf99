//! Whole files: what is written is found again, and what was changed is refused.

use std::fs;
use std::path::{Path, PathBuf};

use lookout_core::Embedding;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::format::{HEADER_BYTES, is_space_id, u32_at};
use crate::graph::{self, Graph};
use crate::kernel::Kernel;
use crate::search::Scratch;
use crate::vectors::{Vectors, quantize_query};
use crate::{
    CaptionFault, DEFAULT_CANDIDATES, Index, IndexBuilder, IndexError, SearchMethod, Section,
};

const DIMENSION: usize = 8;
const HEADER_CHECKSUM: usize = HEADER_BYTES - 4;

/// Unit vectors that are far from one another.
fn embedding(seed: usize) -> Embedding {
    let values = (0..DIMENSION).map(|idx| ((seed * 7 + idx * idx * 13 + 5) as f32).sin());
    Embedding::normalize(values.collect()).unwrap()
}

fn build(path: &Path, n_entries: usize, own_keys: bool, method: SearchMethod) {
    let mut builder = IndexBuilder::new("test-1", DIMENSION).unwrap().search_by(method);
    for entry in 0..n_entries {
        let key = own_keys.then(|| embedding(1000 + entry));
        builder.push(&format!("caption {entry}"), &embedding(entry), key.as_ref()).unwrap();
    }
    builder.write(path, &|_, _| ()).unwrap();
}

/// A folder with an index that has a graph, and its bytes.
fn built(n_entries: usize, own_keys: bool) -> (TempDir, PathBuf, Vec<u8>) {
    built_by(n_entries, own_keys, SearchMethod::Graph)
}

fn built_by(n_entries: usize, own_keys: bool, method: SearchMethod) -> (TempDir, PathBuf, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("test.lidx");
    build(&path, n_entries, own_keys, method);
    let bytes = fs::read(&path).unwrap();
    (dir, path, bytes)
}

fn section_of(bytes: &[u8], section: Section) -> std::ops::Range<usize> {
    let row = 144 + section.row() * 20;
    let (offset, length) = (u32_at(bytes, row) as usize, u32_at(bytes, row + 8) as usize);
    offset..offset + length
}

/// Makes every checksum right again after a change.
fn reseal(bytes: &mut [u8]) {
    for section in Section::STORED {
        let checksum = crc32fast::hash(&bytes[section_of(bytes, section)]);
        let at = 144 + section.row() * 20 + 16;
        bytes[at..at + 4].copy_from_slice(&checksum.to_le_bytes());
    }
    reseal_header(bytes);
}

fn reseal_header(bytes: &mut [u8]) {
    let checksum = crc32fast::hash(&bytes[..HEADER_CHECKSUM]);
    bytes[HEADER_CHECKSUM..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
}

fn open_bytes(path: &Path, bytes: &[u8]) -> Result<Index, IndexError> {
    fs::write(path, bytes).unwrap();
    Index::open(path)
}

fn refusal(path: &Path, bytes: &[u8]) -> IndexError {
    match open_bytes(path, bytes) {
        Ok(_) => panic!("opened"),
        Err(error) => error,
    }
}

/// Captions are often sorted by topic, and the center is of the first ones alone.
#[test]
fn the_mean_of_captions_is_of_the_whole_index() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sorted.lidx");
    for own_keys in [false, true] {
        let mut builder =
            IndexBuilder::new("test-1", 2).unwrap().search_by(SearchMethod::Exhaustive);
        let axis = |is_second: bool| {
            let values = if is_second { vec![0.0, 1.0] } else { vec![1.0, 0.0] };
            Embedding::normalize(values).unwrap()
        };
        let n = 10_000;
        for entry in 0..n {
            let key = own_keys.then(|| axis(false));
            builder.push("a caption", &axis(n / 2 <= entry), key.as_ref()).unwrap();
        }
        builder.write(&path, &|_, _| ()).unwrap();
        let mean = Index::open(&path).unwrap().caption_mean();
        assert!(mean.iter().all(|it| (it - 0.5).abs() < 0.01), "{mean:?}");
    }
}

#[test]
fn finds_captions_again() {
    let methods = [SearchMethod::Exhaustive, SearchMethod::Graph];
    let cases = [1, 2, 40, 400].into_iter().flat_map(|n| methods.map(|it| (n, it)));
    for (n_entries, method) in cases {
        let (_dir, path, bytes) = built_by(n_entries, false, method);
        let index = Index::open(&path).unwrap();
        index.verify_all().unwrap();
        let info = index.info();
        assert_eq!(info.method, method);
        assert_eq!(info.ef_search, if method == SearchMethod::Graph { 288 } else { 0 });
        assert_eq!((info.n_entries, info.dimension, info.own_keys), (n_entries, DIMENSION, false));
        assert_eq!((info.space.as_str(), info.file_bytes), ("test-1", bytes.len() as u64));
        let in_sections: u64 = info.section_bytes.iter().map(|it| it.1).sum();
        assert_eq!(HEADER_BYTES as u64 + in_sections, info.file_bytes);
        for entry in 0..n_entries {
            let query = embedding(entry);
            let found = index.search(&query, 10).unwrap();
            assert_eq!(found.len(), n_entries.min(10));
            assert_eq!(found[0].text, format!("caption {entry}"));
            assert!((found[0].key_similarity - 1.0).abs() < 1e-3);
            assert!(query.cosine(&found[0].embedding) > 0.999);
            assert!(found.is_sorted_by(|a, b| a.key_similarity >= b.key_similarity));
        }
    }
}

#[test]
fn searches_keys_and_gives_captions() {
    let (_dir, path, _) = built(40, true);
    let index = Index::open(&path).unwrap();
    index.verify_all().unwrap();
    assert!(index.info().own_keys);
    for entry in 0..40 {
        let found = index.search(&embedding(1000 + entry), 3).unwrap();
        assert_eq!(found[0].text, format!("caption {entry}"));
        assert!(found[0].key_similarity > 0.999);
        assert!(found[0].embedding.cosine(&embedding(entry)) > 0.999);
        assert!(found[0].embedding.cosine(&embedding(1000 + entry)) < 0.999);
    }
}

#[test]
fn gives_as_many_as_it_was_opened_for() {
    let (_dir, path, _) = built(400, false);
    let index = Index::open_for(&path, 300).unwrap();
    assert_eq!(index.search(&embedding(0), 300).unwrap().len(), 300);
    assert!(index.search(&embedding(0), 0).unwrap().is_empty());
    let index = Index::open(&path).unwrap();
    assert_eq!(index.search(&embedding(0), DEFAULT_CANDIDATES).unwrap().len(), DEFAULT_CANDIDATES);
    let message = index.search(&embedding(0), 129).unwrap_err().to_string();
    assert_eq!(
        message,
        "at most 128 candidates can be asked for, got 129; open the index for more"
    );
    let other = Embedding::normalize(vec![1.0; 9]).unwrap();
    let message = index.search(&other, 1).unwrap_err().to_string();
    assert_eq!(message, "the query has 9 dimensions, the index holds 8");
    assert!(Index::open_for(&path, usize::MAX).is_ok());
}

/// Kinds of embeddings are stored around a center each; here it is found before the last entry.
#[test]
fn later_entries_are_stored_like_the_first() {
    let (_dir, path, _) = built_by(4200, true, SearchMethod::Exhaustive);
    let index = Index::open(&path).unwrap();
    for entry in [0, 4095, 4096, 4199] {
        let found = index.search(&embedding(1000 + entry), 128).unwrap();
        let own = found.iter().find(|it| it.text == format!("caption {entry}")).unwrap();
        assert!(own.key_similarity > 0.999 && own.embedding.cosine(&embedding(entry)) > 0.999);
    }
}

#[test]
fn the_same_entries_give_the_same_bytes() {
    let (_dir, _, once) = built(400, true);
    let (_dir, _, again) = built(400, true);
    assert!(once == again);
    let (_dir, _, other) = built(399, true);
    assert!(once != other);
}

#[test]
fn reports_progress_up_to_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let calls = std::sync::Mutex::new(Vec::new());
    let builder = IndexBuilder::new("test-1", DIMENSION).unwrap();
    let mut builder = builder.search_by(SearchMethod::Graph);
    for entry in 0..200 {
        builder.push("a caption", &embedding(entry), None).unwrap();
    }
    let progress = |done, total| calls.lock().unwrap().push((done, total));
    builder.write(&dir.path().join("test.lidx"), &progress).unwrap();
    let calls = calls.into_inner().unwrap();
    assert_eq!(calls, [(64, 200), (128, 200), (192, 200), (200, 200)]);
}

#[test]
fn names_both_spaces() {
    let (_dir, path, _) = built(2, false);
    let index = Index::open(&path).unwrap();
    index.check_space("test-1", 8).unwrap();
    let message = index.check_space("other-2", 8).unwrap_err().to_string();
    assert!(message.contains("`test-1`") && message.contains("`other-2`"), "{message}");
    assert!(index.check_space("test-1", 9).unwrap_err().to_string().contains("with 9;"));
}

#[test]
fn every_truncation_is_refused() {
    for method in [SearchMethod::Exhaustive, SearchMethod::Graph] {
        let (_dir, path, bytes) = built_by(3, true, method);
        for length in 0..bytes.len() {
            let error = refusal(&path, &bytes[..length]);
            let expected = Section::STORED
                .into_iter()
                .find(|it| length >= HEADER_BYTES && length < section_of(&bytes, *it).end)
                .unwrap_or(Section::Header);
            let IndexError::Length { section, .. } = error else {
                panic!("{length} bytes: {error}")
            };
            assert_eq!(section, expected, "{length} bytes");
        }
        let longer = [bytes.as_slice(), b"x"].concat();
        assert!(refusal(&path, &longer).to_string().contains("bytes appended"));
    }
}

#[test]
fn every_flipped_bit_is_found() {
    for method in [SearchMethod::Exhaustive, SearchMethod::Graph] {
        let (_dir, path, bytes) = built_by(2, true, method);
        let query = embedding(1);
        for bit in 0..bytes.len() * 8 {
            let byte = bit / 8;
            let mut damaged = bytes.clone();
            damaged[byte] ^= 1 << (bit % 8);
            let at = Section::STORED.into_iter().find(|it| section_of(&bytes, *it).contains(&byte));
            let error = match at {
                Some(Section::KeyVectors | Section::CaptionVectors | Section::Text) => {
                    let index = open_bytes(&path, &damaged).unwrap();
                    // May fail, must not panic.
                    drop(index.search(&query, 3));
                    index.verify_all().unwrap_err()
                }
                _ => refusal(&path, &damaged),
            };
            match (byte, error) {
                (0..8, IndexError::NotAnIndex { .. }) | (8..12, IndexError::Version { .. }) => (),
                (12.., IndexError::Checksum { section, .. }) => {
                    assert_eq!(section, at.unwrap_or(Section::Header), "bit {bit}");
                }
                (_, error) => panic!("bit {bit}: {error}"),
            }
        }
    }
}

#[test]
fn wrong_values_with_right_checksums_are_refused() {
    let (_dir, path, bytes) = built(200, true);
    let n_layers = u32_at(&bytes, 20);
    assert_eq!(n_layers, 1, "the cases below count on it");
    let graph = section_of(&bytes, Section::Graph).start;
    let n_lists = 200 + u32_at(&bytes, graph);
    let lists = graph + 4 + (n_lists as usize + 1) * 4;
    let [centers, symbols, offsets] = [Section::Centers, Section::Symbols, Section::TextOffsets]
        .map(|it| section_of(&bytes, it).start);
    let end = u32::try_from(bytes.len()).unwrap();
    let cases: [(usize, u32, &str); 28] = [
        (8, 1, "has index format version 1, this program reads version 2; build the index again"),
        (8, 3, "has index format version 3, this program reads version 2"),
        (12, 0, "the dimension must be 1 to 4096, got 0"),
        (12, 4097, "the dimension must be 1 to 4096, got 4097"),
        (12, 9, "section centers needs 72 bytes, got 64"),
        (16, 0, "the number of entries must be 1 to 10000000, got 0"),
        (16, 10_000_000, "section key vectors needs 120000000 bytes, got 2400"),
        (20, 33, "the number of layers must be at most 32, got 33"),
        (20, 2, "a layer must have at least one entry and no more than the one below"),
        (24, 0x0064_0202, "the kind of keys must be 0 or 1, got 2"),
        (24, 0x0064_0101, "the quantization must be 2, got 1"),
        (24, 0x0064_0200, "section centers needs 32 bytes, got 64"),
        (28, 0, "the space id must be of"),
        (28, 65, "the space id must have at most 64 bytes, got 65"),
        (32, u32::from_le_bytes(*b"../x"), "the space id must be of"),
        (136, end + 1, "the declared length must be that of all sections"),
        (144 + 60, 0, "section key vectors: a section must begin where the one before it ends"),
        (144 + 140 + 8, u32::MAX, "section caption text: a section must end within"),
        (graph, 201, "a layer must have at least one entry and no more than the one below"),
        (graph + 4, 1, "the first list must begin at 0, got 1"),
        (graph + 8, u32::MAX, "a list of neighbors must have its length"),
        (lists, 0x0101_0141, "a list of neighbors must have its length, and at most 64"),
        (lists + 2, u32::MAX, "entry 0 of layer 0 has neighbor"),
        (centers, f32::NAN.to_bits(), "section centers: a center must be finite"),
        (centers, 2f32.to_bits(), "section centers: a center must be finite and no longer than 1"),
        (symbols, 9, "section text symbols: a symbol must have 1 to 8 bytes, got 9"),
        (symbols + 5, u32::MAX, "section text symbols: zeros must follow a symbol"),
        (offsets + 4, u32::MAX, "a caption must begin where the one before it ends"),
    ];
    for (at, value, expected) in cases {
        let mut changed = bytes.clone();
        changed[at..at + 4].copy_from_slice(&value.to_le_bytes());
        if at >= HEADER_BYTES {
            reseal(&mut changed);
        } else {
            reseal_header(&mut changed);
        }
        let message = refusal(&path, &changed).to_string();
        assert!(message.contains(expected), "{at}: {message}");
        assert!(message.contains("test.lidx"), "{message}");
    }
}

#[test]
fn sketches_with_a_factor_that_is_no_number_are_refused() {
    let (_dir, path, mut bytes) = built_by(40, false, SearchMethod::Exhaustive);
    let sketches = section_of(&bytes, Section::Sketches).start;
    bytes[sketches..sketches + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    reseal(&mut bytes);
    let message = refusal(&path, &bytes).to_string();
    assert!(message.contains("section sketches: a sketch's factor must be finite"), "{message}");
}

#[test]
fn layers_without_a_graph_are_refused() {
    let (_dir, path, mut bytes) = built_by(3, false, SearchMethod::Exhaustive);
    bytes[20] = 1;
    reseal_header(&mut bytes);
    let message = refusal(&path, &bytes).to_string();
    assert!(message.contains("without a graph there must be no layers"), "{message}");
}

#[test]
fn upper_layers_are_checked_too() {
    let (_dir, path, bytes) = built(200, false);
    let graph = section_of(&bytes, Section::Graph);
    let size = u32_at(&bytes, graph.start);
    let last_offset = graph.start + 4 + (200 + size as usize) * 4;
    let lists = last_offset + 4;
    let [start, end] = [last_offset - 4, last_offset].map(|it| lists + u32_at(&bytes, it) as usize);
    let mut changed = bytes.clone();
    changed[start + 2..end].fill(0xff);
    reseal(&mut changed);
    match refusal(&path, &changed) {
        IndexError::Neighbor { layer: 1, entry, got, limit, .. } => {
            assert!((entry, limit) == (size - 1, size) && got >= size, "{entry} {got} {limit}");
        }
        error => panic!("{error}"),
    }
}

#[test]
fn damaged_entries_are_errors_where_they_are_met() {
    let (_dir, path, bytes) = built(3, true);
    let with = |at: usize, value: [u8; 4]| {
        let mut changed = bytes.clone();
        changed[at..at + 4].copy_from_slice(&value);
        reseal(&mut changed);
        open_bytes(&path, &changed).unwrap()
    };
    let [keys, captions, text] = [Section::KeyVectors, Section::CaptionVectors, Section::Text]
        .map(|it| section_of(&bytes, it).start);
    for (at, section) in [(keys, Section::KeyVectors), (captions, Section::CaptionVectors)] {
        for scale in [f32::NAN, f32::INFINITY, 0.0, 1.0, -0.0, 1e-39] {
            let index = with(at, scale.to_le_bytes());
            for error in [index.search(&embedding(0), 3).err(), index.verify_all().err()] {
                match error {
                    Some(IndexError::Vector { section: got, entry: 0, .. }) if got == section => (),
                    other => panic!("{section}, {scale}: {other:?}"),
                }
            }
        }
    }
    let index = with(text, [254; 4]);
    for error in [index.search(&embedding(0), 3).err(), index.verify_all().err()] {
        assert!(matches!(error, Some(IndexError::PackedText { entry: 0, .. })), "{error:?}");
    }
    // An escaped byte that begins no character.
    let end = u32_at(&bytes, section_of(&bytes, Section::TextOffsets).start + 4) as usize;
    let mut changed = bytes.clone();
    for pair in changed[text..text + end].rchunks_exact_mut(2) {
        pair.copy_from_slice(&[0xff, 0x80]);
    }
    reseal(&mut changed);
    let index = open_bytes(&path, &changed).unwrap();
    for error in [index.search(&embedding(0), 3).err(), index.verify_all().err()] {
        assert!(matches!(error, Some(IndexError::Text { entry: 0, .. })), "{error:?}");
    }
}

#[test]
fn foreign_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("foreign");
    for contents in [b"id\tcaption\n".as_slice(), &[0; 5000], b"\x89PNG\r\n\x1a\n", b"\x89LIDY"] {
        let error = refusal(&path, contents);
        assert!(matches!(error, IndexError::NotAnIndex { .. }), "{error}");
    }
    let error = Index::open(dir.path()).err().unwrap();
    assert!(matches!(error, IndexError::NotAFile { .. }), "{error}");
    let error = Index::open(&dir.path().join("gone")).err().unwrap();
    assert!(error.to_string().contains("gone"), "{error}");
}

#[test]
fn an_open_index_survives_its_replacement() {
    let (_dir, path, _) = built(40, false);
    let index = Index::open(&path).unwrap();
    build(&path, 3, true, SearchMethod::Exhaustive);
    index.verify_all().unwrap();
    assert_eq!(index.search(&embedding(39), 1).unwrap()[0].text, "caption 39");
    assert_eq!(Index::open(&path).unwrap().info().n_entries, 3);
}

#[test]
fn the_builder_refuses_what_cannot_be_stored() {
    let unit = embedding(0);
    let message = |error: IndexError| error.to_string();
    for space in ["", "Upper", "a b", "é", &"x".repeat(65)] {
        assert!(!is_space_id(space));
        assert!(IndexBuilder::new(space, 8).err().map(message).unwrap().contains("a-z"));
    }
    for dimension in [0, 4097] {
        let got = IndexBuilder::new("s", dimension).err().map(message).unwrap();
        assert!(got.ends_with(&format!("got {dimension}")), "{got}");
    }
    let mut builder = IndexBuilder::new("s", 8).unwrap();
    builder.push(" a cat\t", &unit, None).unwrap();
    for (text, expected) in [
        (" ", CaptionFault::Empty),
        ("a\x1bb", CaptionFault::Control),
        (&"é".repeat(1001), CaptionFault::TooLong),
    ] {
        match builder.push(text, &unit, None) {
            Err(IndexError::Caption { entry: 1, fault }) => assert_eq!(fault, expected),
            other => panic!("{text}: {other:?}"),
        }
    }
    let long = Embedding::normalize(vec![1.0; 9]).unwrap();
    let error = builder.push("a dog", &long, None).unwrap_err();
    assert!(matches!(error, IndexError::EntryDimension { entry: 1, expected: 8, got: 9 }));
    let error = builder.push("a dog", &unit, Some(&unit)).unwrap_err();
    assert!(matches!(error, IndexError::MixedKeys { entry: 1 }));
    assert_eq!(builder.n_entries(), 1);

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gone/test.lidx");
    let error = builder.write(&path, &|_, _| ()).unwrap_err();
    assert!(error.to_string().contains("gone/test.lidx"), "{error}");
    let empty = IndexBuilder::new("s", 8).unwrap().write(&path, &|_, _| ()).unwrap_err();
    assert!(matches!(empty, IndexError::NoEntries));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a graph holds, it is refused, or searched without a panic.
    #[test]
    fn any_graph_is_refused_or_searched(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let (_dir, path, mut bytes) = built(200, false);
        let graph = section_of(&bytes, Section::Graph);
        for (place, value) in changes {
            bytes[graph.start + place.index(graph.len())] = value;
        }
        reseal(&mut bytes);
        if let Ok(index) = open_bytes(&path, &bytes) {
            for seed in 0..20 {
                prop_assert!(index.search(&embedding(seed), 10).is_ok());
            }
        }
    }

    /// Also when it changes after it was opened, as when a page is read again from a bad disk.
    #[test]
    fn a_graph_that_changes_is_an_error_of_the_search(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
    ) {
        let (_dir, path, bytes) = built(200, false);
        let mut section = bytes[section_of(&bytes, Section::Graph)].to_vec();
        let vectors = &bytes[section_of(&bytes, Section::KeyVectors)];
        let graph = Graph::open(&path, &section, 200, u32_at(&bytes, 20)).unwrap();
        for (place, value) in changes {
            let place = place.index(section.len());
            section[place] = value;
        }
        let center = [0.0; DIMENSION];
        let vectors = Vectors::new(&center, vectors, Kernel::detect());
        let mut scratch = Scratch::default();
        for seed in 0..20 {
            quantize_query(&embedding(seed), &mut scratch.query);
            if let Err(bad) = graph::search(&graph, &section, &vectors, 100, &mut scratch) {
                prop_assert!(bad.error(&path).to_string().contains("section graph"));
            }
        }
    }
}
