//! Power cuts, damage and order of a file of lessons.

use std::fs;

use lookout_core::{Embedding, Reach};
use proptest::prelude::*;

use super::read::{Contents, parse};
use super::record::{HEADER_BYTES, MAX_RECORD_BYTES, Record, encode, header};
use super::*;

const SPACE: &str = "test-1";

fn axis(angle: f32) -> Embedding {
    Embedding::normalize(vec![angle.cos(), angle.sin(), 0.0]).unwrap()
}

/// Begins to count at a cosine of cos 0.3.
fn reach() -> Reach {
    let at = |it: u16| axis(f32::from(it) * 0.3);
    Reach::beyond(&(0..8).map(at).collect::<Vec<_>>()).unwrap()
}

fn lessons(path: &Path) -> Result<Lessons, IndexError> {
    Lessons::open(path, SPACE, 3, reach())
}

fn writer(path: &Path) -> TaughtWriter {
    TaughtWriter::open(path, SPACE, 3, &|| ()).unwrap()
}

fn captions(it: &[Lesson]) -> Vec<&str> {
    it.iter().map(|it| it.caption.as_str()).collect()
}

/// A file of four records, with what holds after each of them, and where each ends.
fn taught(path: &Path) -> (Vec<u8>, Vec<(usize, Vec<String>)>) {
    let mut ends = Vec::new();
    for step in 0..4u8 {
        let mut writer = writer(path);
        match step {
            2 => drop(writer.undo(Some(1), Some(5)).unwrap()),
            _ => {
                let keys = vec![axis(f32::from(step)), axis(f32::from(step) + 0.1)];
                writer.teach(&format!("scene {step}"), axis(1.0), keys, Some(7)).unwrap();
            }
        }
        let holds = writer.lessons().iter().map(|it| it.caption.clone()).collect();
        ends.push((fs::read(path).unwrap().len(), holds));
    }
    (fs::read(path).unwrap(), ends)
}

#[test]
fn lessons_are_learned_undone_and_recalled() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.lidx.taught");
    let mut running = lessons(&path).unwrap();
    assert!(running.lessons().is_empty() && !running.refresh().unwrap());
    let mut taught = writer(&path);
    assert_eq!(
        taught.teach(" door open ", axis(0.5), vec![axis(0.0), axis(2.0)], Some(9)).unwrap(),
        1
    );
    assert_eq!(taught.teach("door shut", axis(0.6), vec![axis(1.0)], None).unwrap(), 2);
    assert!(running.refresh().unwrap() && !running.refresh().unwrap());
    let [open, shut] = running.lessons() else { panic!() };
    assert_eq!((open.number, open.taught_at, open.caption.as_str()), (1, Some(9), "door open"));
    assert_eq!((shut.number, shut.taught_at, shut.keys.len()), (2, None, 1));
    // By the nearest key; what is out of reach is not recalled.
    let recalled = running.recall(&axis(1.9));
    let [it] = recalled.as_slice() else { panic!("{recalled:?}") };
    assert_eq!((it.number, it.text.as_str()), (1, "door open"));
    assert!((it.similarity - 0.1f64.cos()).abs() < 1e-6, "{it:?}");
    assert!((it.reach - reach().weight(it.similarity)).abs() < 1e-12 && 0.0 < it.reach);
    assert!(running.recall(&axis(-1.0)).is_empty());

    drop(taught);
    let mut taught = writer(&path);
    assert_eq!(taught.undo(Some(1), None).unwrap().caption, "door open");
    assert!(matches!(
        taught.undo(Some(1), None),
        Err(IndexError::NoSuchLesson { number: Some(1), .. })
    ));
    assert_eq!(taught.undo(None, None).unwrap().number, 2);
    assert!(matches!(taught.undo(None, None), Err(IndexError::NoSuchLesson { number: None, .. })));
    assert_eq!(taught.teach("door ajar", axis(0.6), vec![axis(1.0)], None).unwrap(), 5);
    assert!(running.refresh().unwrap());
    assert_eq!(captions(running.lessons()), ["door ajar"]);
    fs::remove_file(&path).unwrap();
    assert!(running.refresh().unwrap() && running.lessons().is_empty());
}

#[test]
fn what_cannot_be_taught_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let mut it = writer(&path);
    let before = fs::read(&path).unwrap();
    let one = || vec![axis(0.0)];
    let flat = Embedding::normalize(vec![1.0]).unwrap();
    let teach = |it: &mut TaughtWriter, text: &str, caption: Embedding, keys| {
        it.teach(text, caption, keys, None).unwrap_err().to_string()
    };
    assert!(teach(&mut it, " ", axis(0.0), one()).contains("empty"));
    assert!(teach(&mut it, "a\u{1b}b", axis(0.0), one()).contains("control"));
    assert!(teach(&mut it, &"x".repeat(1001), axis(0.0), one()).contains("1000"));
    assert!(teach(&mut it, "a", flat.clone(), one()).contains("dimension"));
    assert!(teach(&mut it, "a", axis(0.0), vec![flat]).contains("dimension"));
    assert!(teach(&mut it, "a", axis(0.0), vec![]).contains("got 0"));
    assert!(teach(&mut it, "a", axis(0.0), vec![axis(0.0); 129]).contains("got 129"));
    assert_eq!(fs::read(&path).unwrap(), before);
    for step in 0..MAX_LESSONS {
        assert_eq!(it.teach("a", axis(0.0), one(), None).unwrap() as usize, step + 1);
    }
    assert!(teach(&mut it, "a", axis(0.0), one()).contains("is full"));
    it.undo(Some(3), None).unwrap();
    it.teach("a", axis(0.0), one(), None).unwrap();
    drop(it);
    assert!(TaughtWriter::open(Path::new("/proc/t"), SPACE, 3, &|| ()).is_err());
    assert!(matches!(
        TaughtWriter::open(dir.path(), SPACE, 3, &|| ()),
        Err(IndexError::NotAFile { .. })
    ));
    assert!(TaughtWriter::open(&path, "No Space", 3, &|| ()).is_err());
}

/// The power may go after any byte of any write. What was acknowledged is there, what was not is there
/// wholly or not at all, and the next lesson is taken.
#[test]
fn every_prefix_of_every_write_is_read_and_written_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let (bytes, ends) = taught(&path);
    for cut in HEADER_BYTES..=bytes.len() {
        fs::write(&path, &bytes[..cut]).unwrap();
        let whole = ends.iter().rev().find(|it| it.0 <= cut);
        let expected: &[String] = whole.map_or(&[], |it| &it.1);
        let got = lessons(&path).unwrap();
        assert_eq!(captions(got.lessons()), expected, "cut at {cut}");
        let end = whole.map_or(HEADER_BYTES, |it| it.0);
        assert_eq!(got.torn_bytes(), cut - end);
        fs::remove_file(torn_path(&path)).ok();
        writer(&path).teach("after", axis(1.0), vec![axis(0.0)], None).unwrap();
        let torn = fs::read(torn_path(&path)).ok();
        assert_eq!(torn.as_deref(), (end < cut).then_some(&bytes[end..cut]), "nothing is lost");
        let got = lessons(&path).unwrap();
        assert_eq!(got.torn_bytes(), 0);
        assert_eq!(captions(got.lessons()), [expected, &["after".to_owned()]].concat());
    }
    // The file is made whole, under another name; a shorter one is no interrupted write.
    for cut in 0..HEADER_BYTES {
        fs::write(&path, &bytes[..cut]).unwrap();
        let error = lessons(&path).err().unwrap().to_string();
        assert!(error.contains("holds no lessons") || error.contains("cut off"), "{error}");
        assert!(TaughtWriter::open(&path, SPACE, 3, &|| ()).is_err());
        assert_eq!(fs::read(&path).unwrap(), &bytes[..cut], "nothing is lost");
    }
}

/// Some file systems make a file longer before they write what is in it.
#[test]
fn a_tail_of_zeros_or_garbage_is_an_interrupted_write() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let (bytes, ends) = taught(&path);
    let last = ends[2].0;
    for cut in last..bytes.len() {
        for fill in [0, 0xa5] {
            let mut torn = bytes.clone();
            torn[cut..].fill(fill);
            if torn == bytes {
                continue;
            }
            fs::write(&path, &torn).unwrap();
            let got = lessons(&path).unwrap();
            assert_eq!(
                (captions(got.lessons()), got.torn_bytes()),
                (vec!["scene 1"], bytes.len() - last)
            );
        }
    }
    let mut long = bytes.clone();
    long.resize(bytes.len() + MAX_RECORD_BYTES + 1, 0);
    fs::write(&path, &long).unwrap();
    assert!(
        matches!(lessons(&path), Err(IndexError::TaughtDamaged { .. })),
        "no one write is so long"
    );
}

#[test]
fn every_flipped_bit_before_the_last_record_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let (bytes, ends) = taught(&path);
    for at in 0..ends[2].0 {
        for bit in 0..8 {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << bit;
            let error = parse(&path, &bytes, SPACE, 3).unwrap_err();
            let told = match &error {
                IndexError::TaughtDamaged { at: place, .. } => {
                    let record = ends.iter().map(|it| it.0).rev().find(|it| *it <= at);
                    *place == if at < HEADER_BYTES { 0 } else { record.unwrap_or(HEADER_BYTES) }
                }
                IndexError::NotTaught { .. } => at < 8,
                IndexError::TaughtVersion { .. } => (8..12).contains(&at),
                _ => false,
            };
            assert!(told, "byte {at}, bit {bit}: {error}");
        }
    }
    // In the last one it is taken for an interrupted write; it is never taken for a lesson.
    for at in ends[2].0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        let got = parse(&path, &bytes, SPACE, 3).unwrap();
        assert_eq!((captions(&got.lessons), got.end), (vec!["scene 1"], ends[2].0));
    }
}

#[test]
fn records_that_contradict_are_told() {
    let bytes = |records: &[(u32, Record)]| {
        let records = records.iter().flat_map(|(number, it)| encode(*number, None, it));
        [header(SPACE, 3), records.collect()].concat()
    };
    let lesson = |number| {
        let (caption, keys) = ("a".to_owned(), vec![axis(0.0)]);
        Record::Lesson(Lesson { number, taught_at: None, caption, embedding: axis(0.0), keys })
    };
    let told = |records: &[(u32, Record)]| {
        parse(Path::new("t"), &bytes(records), SPACE, 3).unwrap_err().to_string()
    };
    assert!(told(&[(1, lesson(1)), (3, lesson(3))]).contains("number"));
    assert!(told(&[(2, lesson(2))]).contains("number"));
    assert!(told(&[(1, lesson(1)), (2, Record::Undo(5))]).contains("in force"));
    let twice = [(1, lesson(1)), (2, Record::Undo(1)), (3, Record::Undo(1))];
    assert!(told(&twice).contains("in force"));
    let good = bytes(&[(1, lesson(1))]);
    let other = parse(Path::new("t"), &good, "test-2", 3).unwrap_err().to_string();
    assert!(other.contains("test-1 (3 dimensions)") && other.contains("test-2"), "{other}");
    assert!(parse(Path::new("t"), &good, SPACE, 4).is_err());
    // A vector that is none, with the right checksums.
    let mut body = good[HEADER_BYTES + 20..].to_vec();
    let end = body.len();
    body[end - 12..].copy_from_slice(&[0xff; 12]);
    let head = [1, u32::try_from(end).unwrap(), crc32fast::hash(&body)];
    let mut record = b"LSSN".to_vec();
    record.extend(head.iter().flat_map(|it| it.to_le_bytes()));
    record.extend(crc32fast::hash(&record).to_le_bytes());
    let bytes = [header(SPACE, 3), record, body].concat();
    let error = parse(Path::new("t"), &bytes, SPACE, 3).unwrap_err().to_string();
    assert!(error.contains("unit vectors"), "{error}");
}

#[test]
fn a_damaged_file_leaves_what_is_known_and_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    writer(&path).teach("a", axis(0.0), vec![axis(0.0)], None).unwrap();
    let mut running = lessons(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    fs::write(&path, "no lessons at all").unwrap();
    assert!(matches!(running.refresh(), Err(IndexError::NotTaught { .. })));
    assert!(!running.refresh().unwrap() && running.is_behind());
    assert_eq!(captions(running.lessons()), ["a"]);
    fs::write(&path, whole).unwrap();
    assert!(!running.refresh().unwrap(), "the same lessons");
    assert!(!running.is_behind());
    writer(&path).undo(None, None).unwrap();
    assert!(running.refresh().unwrap() && running.lessons().is_empty());
}

#[test]
fn two_who_teach_at_once_wait_for_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let open = writer(&path);
    let other = fs::File::open(&path).unwrap();
    assert!(matches!(other.try_lock(), Err(fs::TryLockError::WouldBlock)));
    drop(open);
    other.try_lock().unwrap();
    drop(other);
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let path = &path;
            scope.spawn(move || {
                for _ in 0..10 {
                    writer(path)
                        .teach(&format!("{thread}"), axis(0.0), vec![axis(0.0)], None)
                        .unwrap();
                }
            });
        }
    });
    let got = lessons(&path).unwrap();
    assert_eq!(got.lessons().len(), 40);
    assert!((1..).zip(got.lessons()).all(|(number, it)| it.number == number));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_read(
        tail in prop::collection::vec(any::<u8>(), 0..300),
        with_header in any::<bool>(),
    ) {
        let start = if with_header { header(SPACE, 3) } else { Vec::new() };
        let bytes = [start, tail].concat();
        if let Ok(Contents { lessons, end, torn_bytes, .. }) = parse(Path::new("t"), &bytes, SPACE, 3) {
            prop_assert!(lessons.is_empty() && end + torn_bytes == bytes.len());
        }
    }
}
