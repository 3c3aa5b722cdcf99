//! A file of lessons, read and written on. The first byte says how it is repaired: not at all, its
//! checksums, or marks and numbers of its records too.
#![no_main]

use std::fs;

use fuzz::lesson_file::{DIMENSION, SPACE, axis, lessons, repair, seeds};
use fuzz::{begin, check_error, folder};
use libfuzzer_sys::fuzz_target;
use lookout_core::{Embedding, Reach};
use lookout_index::{IndexError, Lessons, MAX_KEYS, MAX_LESSONS, TaughtWriter};

/// From the corners of a cube.
fn reach() -> Reach {
    let corner = |it: usize| {
        let sign = |bit: usize| if it >> bit & 1 == 0 { 1.0 } else { -1.0 };
        Embedding::normalize((0..DIMENSION).map(sign).collect()).expect("it has a length")
    };
    let pictures: Vec<_> = (0..Reach::MIN_PICTURES).map(corner).collect();
    Reach::beyond(&pictures).expect("they differ")
}

fuzz_target!(init: begin(seeds), |input: &[u8]| {
    let Some((mode, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    match mode % 3 {
        0 => (),
        mode => repair(&mut bytes, mode == 2),
    }
    let path = folder().join("lessons.taught");
    fs::write(&path, &bytes).expect("the file can be written");
    let open = || Lessons::open(&path, SPACE, DIMENSION, reach());
    let read = open();
    let writer = TaughtWriter::open(&path, SPACE, DIMENSION, &|| ());
    assert_eq!(fs::read(&path).expect("it is there"), bytes, "opening changes nothing");
    let (before, mut writer) = match (read, writer) {
        (Ok(read), Ok(writer)) => (read, writer),
        (Err(read), Err(write)) => {
            assert_eq!(read.to_string(), write.to_string());
            return check_error(&read);
        }
        (read, write) => panic!("{:?} to read, {:?} to write", read.err(), write.err()),
    };
    let recalled = before.recall(&axis(0));
    assert!(recalled.iter().all(|it| 0.0 < it.reach && it.reach <= 1.0));
    let n_torn = before.torn_bytes();
    let before = lessons(&before);
    assert_eq!(before, writer.lessons());
    for it in &before {
        assert!((1..=MAX_KEYS).contains(&it.keys.len()) && !it.caption.is_empty());
        assert!(it.keys.iter().chain([&it.embedding]).all(|it| it.dimension() == DIMENSION));
    }
    assert!(before.is_sorted_by(|a, b| a.number < b.number));
    let number = match writer.teach("after", axis(1), vec![axis(0), axis(2)], Some(3)) {
        Ok(it) => it,
        Err(IndexError::TaughtFull { .. }) => {
            assert_eq!(before.len(), MAX_LESSONS);
            return;
        }
        Err(error) => panic!("{error}"),
    };
    drop(writer);
    let after = open().expect("it was read before");
    assert_eq!(after.torn_bytes(), 0);
    let Some((taught, earlier)) = after.lessons().split_last() else { panic!("it was taught") };
    assert_eq!(earlier, before);
    assert_eq!((taught.number, taught.caption.as_str()), (number, "after"));
    assert_eq!((&taught.embedding, taught.keys.as_slice()), (&axis(1), &[axis(0), axis(2)][..]));
    assert!(after.recall(&axis(0)).iter().any(|it| it.number == u64::from(number)));
    let grown = fs::read(&path).expect("it is there");
    assert!(grown.starts_with(&bytes[..bytes.len() - n_torn]), "records stay where they are");
    let mut writer = TaughtWriter::open(&path, SPACE, DIMENSION, &|| ()).expect("it was opened before");
    assert_eq!(writer.undo(None, None).expect("it is in force").number, number);
    assert_eq!(lessons(&open().expect("it was read before")), before);
});
