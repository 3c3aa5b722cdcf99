//! Seeds of files of lessons, and repairs that let altered ones past checksums.

use lookout_core::Embedding;
use lookout_index::{Lesson, Lessons, TaughtWriter};

use crate::{folder, put, u32_at};

/// The embedding space that the target asks for.
pub const SPACE: &str = "fuzz-1";
/// Its dimension.
pub const DIMENSION: usize = 3;

const HEADER_CHECKSUM: usize = 84;
const HEADER: usize = HEADER_CHECKSUM + 4;
const HEAD: usize = 20;
/// Kind and time.
const BODY_START: usize = 9;

/// A unit vector along a dimension.
pub fn axis(which: usize) -> Embedding {
    let mut values = vec![0.0; DIMENSION];
    values[which % DIMENSION] = 1.0;
    Embedding::from_unit(values).expect("it has unit length")
}

/// Files with none, some and undone lessons.
pub fn seeds() -> Vec<Vec<u8>> {
    let path = folder().join("seed.taught");
    let _ = std::fs::remove_file(&path);
    let mut files = Vec::new();
    for step in 0..6 {
        let mut writer = TaughtWriter::open(&path, SPACE, DIMENSION, &|| ()).expect("it can be opened");
        match step {
            0 => (),
            3 | 5 => drop(writer.undo(None, Some(7)).expect("there is one")),
            _ => {
                let keys = (0..step).map(axis).collect();
                writer.teach("a cat ☃", axis(step), keys, Some(1)).expect("it is taken");
            }
        }
        files.push(std::fs::read(&path).expect("it can be read"));
    }
    let with_mode = |it: &Vec<u8>| [0, 1, 2].map(|mode| [&[mode], it.as_slice()].concat());
    files.iter().flat_map(with_mode).collect()
}

/// Makes the checksums of header and records fit, up to the first record that goes beyond the file;
/// and, if `numbers` says so, their marks and numbers, and the length of the last.
pub fn repair(bytes: &mut [u8], numbers: bool) {
    if bytes.len() < HEADER {
        return;
    }
    let checksum = crc32fast::hash(&bytes[..HEADER_CHECKSUM]).to_le_bytes();
    put(bytes, HEADER_CHECKSUM, checksum);
    let mut at = HEADER;
    for number in 1u32.. {
        let Some(rest) = bytes.get_mut(at..).filter(|it| HEAD + BODY_START <= it.len()) else {
            return;
        };
        let most = rest.len() - HEAD;
        let mut length = u32_at(rest, 8) as usize;
        if numbers {
            put(rest, 0, b"LSSN");
            put(rest, 4, number.to_le_bytes());
            length = length.min(most);
            put(rest, 8, u32::try_from(length).expect("inputs are small").to_le_bytes());
        }
        if most < length {
            return;
        }
        let checksum = crc32fast::hash(&rest[HEAD..HEAD + length]).to_le_bytes();
        put(rest, 12, checksum);
        let checksum = crc32fast::hash(&rest[..HEAD - 4]).to_le_bytes();
        put(rest, HEAD - 4, checksum);
        at += HEAD + length;
    }
}

/// What the file holds.
pub fn lessons(it: &Lessons) -> Vec<Lesson> {
    it.lessons().to_vec()
}
