//! Captions beside as many embeddings. If the first byte is odd, the end of the file, which says how long
//! the footer is, is right.
#![no_main]

use std::fs::{self, File};

use fuzz::{begin, folder, oracle, put, source};
use libfuzzer_sys::fuzz_target;
use lookout_sources::{SourceError, Spec};

const SEEDS: [&str; 11] = [
    "clip-retrieval/metadata/metadata_0.parquet",
    "clip-retrieval/metadata/metadata_1.parquet",
    "clip-retrieval/metadata/metadata_10.parquet",
    "flat/metadata_00.parquet",
    "flat/metadata_01.parquet",
    "flat/metadata_02.parquet",
    "refused/delta.parquet",
    "refused/gzip.parquet",
    "refused/list.parquet",
    "refused/no-caption.parquet",
    "refused/number.parquet",
];
const TAIL: usize = 8;

/// As they are, and as body and footer with the footer's length before them.
fn seeds() -> Vec<Vec<u8>> {
    let both = |name| {
        let file = oracle(name);
        let (rest, tail) = file.split_at(file.len() - TAIL);
        let footer = fuzz::u32_at(tail, 0) as u16;
        [[&[0], &file[..]].concat(), [&[1], &footer.to_le_bytes()[..], rest].concat()]
    };
    SEEDS.into_iter().flat_map(both).collect()
}

/// Writes embeddings of one dimension, all zeros, without taking room on the disk.
fn write_rows(n_rows: u64) -> Option<()> {
    let header = format!("{{'descr': '<f2', 'fortran_order': False, 'shape': ({n_rows}, 1), }}");
    let mut start = [b' '; 128];
    put(&mut start, 0, b"\x93NUMPY\x01\0\x76\0");
    put(&mut start, 10, header);
    let path = folder().join("img_emb_0.npy");
    fs::write(&path, start).ok()?;
    let length = n_rows.checked_mul(2)?.checked_add(128)?;
    File::options().write(true).open(path).ok()?.set_len(length).ok()
}

fn set_up() {
    begin(seeds);
    write_rows(4).expect("the file can be written");
}

fuzz_target!(init: set_up(), |input: &[u8]| {
    let bytes = match input {
        [mode, low, high, rest @ ..] if mode % 2 == 1 => {
            let footer = u32::from(u16::from_le_bytes([*low, *high]));
            [rest, &footer.to_le_bytes(), b"PAR1"].concat()
        }
        [_, rest @ ..] => rest.to_vec(),
        [] => return,
    };
    fs::write(folder().join("metadata_0.parquet"), bytes).expect("the file can be written");
    let spec = Spec::Embeddings(folder().to_path_buf());
    if let Some(SourceError::Counts { expected, .. }) = source::read(&spec)
        && write_rows(expected).is_some()
    {
        source::read(&spec);
    }
});
