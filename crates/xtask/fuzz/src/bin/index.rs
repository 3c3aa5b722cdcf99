//! An index file. The first byte says how it is repaired: not at all, its checksums, or its lengths too.
#![no_main]

use std::fs;

use fuzz::index_file::{repair_checksums, repair_layout, seeds, vector};
use fuzz::{begin, check_error, folder};
use libfuzzer_sys::fuzz_target;
use lookout_index::{DEFAULT_CANDIDATES, Hit, Index};

fuzz_target!(init: begin(seeds), |input: &[u8]| {
    let Some((mode, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    match mode % 3 {
        0 => (),
        1 => repair_checksums(&mut bytes),
        _ => {
            repair_layout(&mut bytes);
            repair_checksums(&mut bytes);
        }
    }
    let path = folder().join("index.lidx");
    fs::write(&path, &bytes).expect("the file can be written");
    let index = match Index::open(&path) {
        Ok(it) => it,
        Err(error) => return check_error(&error),
    };
    let info = index.info();
    assert_eq!(info.file_bytes, bytes.len() as u64);
    let verified = index.verify_all();
    if let Err(error) = &verified {
        check_error(error);
    }
    for seed in 0..2 {
        let query = vector(info.dimension, seed);
        let mut hits = Vec::new();
        for n_candidates in [0, 1, DEFAULT_CANDIDATES] {
            match index.nearest(&query, n_candidates, &mut hits) {
                Ok(()) => {
                    assert!(hits.len() <= n_candidates.min(info.n_entries));
                    assert!(hits.iter().all(|it| it.entry < info.n_entries));
                    assert!(hits.iter().all(|it| it.key_similarity.abs() < 1.01));
                    let falls = |it: &[Hit; 2]| it[0].key_similarity >= it[1].key_similarity;
                    assert!(hits.array_windows().all(falls));
                }
                Err(error) => {
                    assert!(verified.is_err(), "{error}");
                    check_error(&error);
                }
            }
        }
        match index.search(&query, DEFAULT_CANDIDATES) {
            Ok(candidates) => assert!(candidates.len() <= info.n_entries),
            Err(error) => {
                assert!(verified.is_err(), "{error}");
                check_error(&error);
            }
        }
    }
    assert!(index.search(&vector(info.dimension + 1, 0), 1).is_err());
});
