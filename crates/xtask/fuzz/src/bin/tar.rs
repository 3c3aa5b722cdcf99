//! A WebDataset shard. If the first byte is odd, the checksums of its headers are right.
#![no_main]

use std::fs;

use fuzz::{begin, folder, oracle, put, source};
use libfuzzer_sys::fuzz_target;
use lookout_sources::Spec;

const BLOCK: usize = 512;
const CHECKSUM: usize = 148;
const SIZE: usize = 124;
const KIND: usize = 156;

/// The shards up to their end marks, their first members, and a size in an extension header.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for name in ["webdataset/00000.tar", "webdataset/00001.tar"] {
        let file = oracle(name);
        let end = file.iter().rposition(|it| *it != 0).map_or(0, |it| it.next_multiple_of(BLOCK));
        let whole = [&file[..end], &[0; 2 * BLOCK]].concat();
        seeds.extend([0, 1].map(|mode| [&[mode], &whole[..]].concat()));
        let part = &file[..end.min(4 * BLOCK)];
        seeds.push([&[1], part, &[0; BLOCK]].concat());
    }
    let mut pax = vec![0; 6 * BLOCK];
    put(&mut pax, 0, b"pax");
    put(&mut pax, SIZE, b"00000000013");
    put(&mut pax, KIND, b"x");
    put(&mut pax, BLOCK, b"11 size=10\n");
    put(&mut pax, 2 * BLOCK, b"a.txt");
    put(&mut pax, 2 * BLOCK + SIZE, b"00000000000");
    put(&mut pax, 2 * BLOCK + KIND, b"0");
    put(&mut pax, 3 * BLOCK, b"some words");
    let mut large = pax.clone();
    put(&mut large, SIZE, b"00000000035");
    put(&mut large, BLOCK, b"29 size=18446744073709551104\n");
    seeds.extend([pax, large].map(|it| [&[1], &it[..]].concat()));
    seeds
}

fn repair(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(header) = bytes.get_mut(at..at + BLOCK).filter(|it| it.iter().any(|it| *it != 0))
    {
        put(header, CHECKSUM, [b' '; 8]);
        let sum: u32 = header.iter().map(|it| u32::from(*it)).sum();
        put(header, CHECKSUM, format!("{sum:06o}\0"));
        let size = str::from_utf8(&header[SIZE..SIZE + 11]).ok();
        let size = size.and_then(|it| usize::from_str_radix(it, 8).ok()).unwrap_or(0);
        at = at.saturating_add(BLOCK).saturating_add(size.next_multiple_of(BLOCK));
        if bytes.len() < at {
            return;
        }
    }
}

fuzz_target!(init: begin(seeds), |input: &[u8]| {
    let Some((mode, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if mode % 2 == 1 {
        repair(&mut bytes);
    }
    let path = folder().join("0.tar");
    fs::write(&path, bytes).expect("the file can be written");
    source::read(&Spec::WebDataset(path));
});
