//! A table of caption embeddings beside valid image embeddings and captions.
#![no_main]

use std::fs;

use fuzz::{begin, folder, oracle, source};
use libfuzzer_sys::fuzz_target;
use lookout_sources::Spec;

const SEEDS: [&str; 8] = [
    "clip-retrieval/text_emb/text_emb_0.npy",
    "clip-retrieval/img_emb/img_emb_0.npy",
    "flat/text_emb_00.npy",
    "refused/big-endian.npy",
    "refused/double.npy",
    "refused/fortran.npy",
    "refused/object.npy",
    "refused/one-dimension.npy",
];

/// As they are, and one that declares more rows than there can be.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<_> = SEEDS.map(oracle).into();
    let mut large = oracle(SEEDS[0]);
    let shape = large.windows(6).position(|it| it == b"'shape").expect("it has a shape");
    large[shape..][..36].copy_from_slice(b"'shape': (9223372036854775807, 4), }");
    seeds.push(large);
    seeds
}

fn set_up() {
    begin(seeds);
    let valid = [
        ("metadata_0.parquet", "clip-retrieval/metadata/metadata_0.parquet"),
        ("img_emb_0.npy", "clip-retrieval/img_emb/img_emb_0.npy"),
    ];
    for (name, from) in valid {
        fs::write(folder().join(name), oracle(from)).expect("the file can be written");
    }
}

fuzz_target!(init: set_up(), |input: &[u8]| {
    fs::write(folder().join("text_emb_0.npy"), input).expect("the file can be written");
    source::read(&Spec::Embeddings(folder().to_path_buf()));
});
