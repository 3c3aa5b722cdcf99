use std::io::Cursor;
use std::process::Command;

use image::{ImageFormat, RgbImage};
use proptest::prelude::*;

use super::*;

fn jpeg(side: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::new(side, 2).write_to(&mut bytes, ImageFormat::Jpeg).unwrap();
    bytes.into_inner()
}

/// A folder with these files.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn open(path: &Path, fps: Option<f64>) -> Result<Recording, RecordingError> {
    Recording::open(path, fps, PictureLimits::default())
}

#[track_caller]
fn refused(path: &Path, part: &str) {
    let error = open(path, None).map(|_| ()).unwrap_err();
    let mut told = error.to_string();
    if let Some(source) = std::error::Error::source(&error) {
        told += &format!(": {source}");
    }
    assert!(told.contains(part), "{told}");
}

/// Milliseconds, name, and width or fault of each frame.
fn walk(recording: Recording) -> Vec<(u128, String, Result<u32, String>)> {
    recording
        .map(|it| {
            let it = it.unwrap();
            let width = it.picture().map(|it| it.width_px()).map_err(|it| it.to_string());
            (it.at.as_millis(), it.name, width)
        })
        .collect()
}

#[test]
fn a_folder_is_read_by_name_at_a_rate() {
    let small = jpeg(1);
    let folder =
        folder(&[("b.jpg", &small), ("a.jpg", &jpeg(3)), ("notes.txt", b""), ("c.jpg", b"none")]);
    fs::create_dir(folder.path().join("d.jpg")).unwrap();
    let recording = open(folder.path(), Some(4.0)).unwrap();
    assert_eq!(recording.progress(), (0, 3));
    let walked = walk(recording);
    assert_eq!(walked[0], (0, "a.jpg".to_owned(), Ok(3)));
    assert_eq!(walked[1], (250, "b.jpg".to_owned(), Ok(1)));
    assert!(walked[2].0 == 500 && walked[2].2.as_ref().unwrap_err().contains("c.jpg must be"));
    assert_eq!(walked.len(), 3);
    assert_eq!(walk(open(folder.path(), None).unwrap())[2].0, 2000, "one a second");
    assert!(
        open(folder.path(), Some(0.0)).is_err() && open(folder.path(), Some(f64::NAN)).is_err()
    );
}

#[test]
fn what_only_looks_like_a_picture_is_a_bad_frame_and_is_never_waited_for() {
    let folder = folder(&[("b.jpg", &jpeg(1))]);
    let pipe = folder.path().join("a.jpg");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::os::unix::fs::symlink("gone", folder.path().join("c.jpg")).unwrap();
    let walked = walk(open(folder.path(), None).unwrap());
    assert!(walked[0].2.as_ref().unwrap_err().contains("a device, pipe or socket"));
    assert_eq!(walked[1].2, Ok(1));
    assert!(walked[2].2.as_ref().unwrap_err().starts_with("cannot read"));

    refused(&pipe, "is no recording");
    fs::rename(&pipe, folder.path().join("frames.tsv")).unwrap();
    refused(folder.path(), "must be a regular file");
    fs::remove_file(folder.path().join("frames.tsv")).unwrap();
    std::os::unix::fs::symlink("gone", folder.path().join("frames.tsv")).unwrap();
    refused(folder.path(), "frames.tsv");
}

#[test]
fn what_is_no_recording_is_named() {
    let folder = folder(&[("a.mp4", b"x"), ("empty.mjpeg", b""), ("text.mjpg", b"some text\xff")]);
    refused(folder.path(), "holds no picture; file names must end in one of bmp, ");
    refused(&folder.path().join("a.mp4"), "ends in .mjpeg or .mjpg");
    refused(&folder.path().join("gone"), "cannot read");
    for name in ["empty.mjpeg", "text.mjpg"] {
        let mut recording = open(&folder.path().join(name), None).unwrap();
        let error = recording.next().unwrap().unwrap_err();
        assert!(error.to_string().contains("holds no JPEG"), "{error}");
        assert!(recording.next().is_none());
    }
}

#[test]
fn a_table_says_times_and_truth() {
    let picture = jpeg(1);
    let table = "\u{feff}Truth\tseconds\tnote\tFILE\r\n\
                 a cat\t0\t\tb.jpg\r\n\n\
                 \t2.5\tx\ta.jpg\n\
                 None\t2.5\t\tsub/c.jpg\n\
                 a cat\t4\t\tgone.jpg";
    let folder =
        folder(&[("a.jpg", &picture), ("b.jpg", &jpeg(2)), ("frames.tsv", table.as_bytes())]);
    fs::create_dir(folder.path().join("sub")).unwrap();
    fs::write(folder.path().join("sub/c.jpg"), jpeg(3)).unwrap();
    let recording = open(folder.path(), None).unwrap();
    assert_eq!(recording.progress(), (0, 4));
    let (path, truths) = recording.truths().unwrap();
    assert!(path.ends_with("frames.tsv"));
    assert_eq!(truths, &BTreeMap::from([("a cat".to_owned(), 2)]));
    assert_eq!(recording.other_headings(), Some((path, &["note".to_owned()][..])));
    let frames: Vec<RecordedFrame> = recording.map(Result::unwrap).collect();
    let truths: Vec<&Truth> = frames.iter().map(|it| &it.truth).collect();
    let cat = Truth::Class("a cat".to_owned());
    assert_eq!(truths, [&cat, &Truth::Unsaid, &Truth::NoLabel, &cat]);
    let at: Vec<u128> = frames.iter().map(|it| it.at.as_millis()).collect();
    assert_eq!(at, [0, 2500, 2500, 4000]);
    assert_eq!(frames[2].picture().unwrap().width_px(), 3);
    assert!(frames[3].picture().is_err());
    let error = open(folder.path(), Some(1.0)).unwrap_err();
    assert!(error.to_string().contains("says when each frame was taken"), "{error}");
}

#[test]
fn every_fault_of_a_table_has_its_line() {
    let cases: [(&[u8], &str); 17] = [
        (b"", "frames.tsv:1: must have the headings `file` and `seconds`"),
        (b"a.jpg\t0\n", "frames.tsv:1: must have the headings"),
        (b"file\tTruth\n", "got \"file\\tTruth\""),
        (
            b"truth\tfile\tseconds\ttruth\n",
            "frames.tsv:1: one column must be headed `truth`, got columns 1 and 4",
        ),
        (b"file\tseconds\tSeconds\n", "headed `seconds`, got columns 2 and 3"),
        (b"file\tFile\tseconds\n", "headed `file`, got columns 1 and 2"),
        (
            b"file\tseconds\ttruth\na.jpg\t0\na.jpg\t1\tcat\t\n",
            "frames.tsv:3: a line must have at most 3 cells, as the headings, got 4",
        ),
        (b"file\tseconds\na.jpg\t0\tcat\n", "frames.tsv:2: a line must have at most 2 cells"),
        (b"file\tseconds\n\n", "has no row"),
        (
            b"file\tseconds\na.jpg\t1\n\na.jpg\t0.5\n",
            "frames.tsv:4: `seconds` must not go back, after 1",
        ),
        (b"file\tseconds\na.jpg\n", "frames.tsv:2: `seconds` must be seconds since"),
        (b"file\tseconds\na.jpg\tNaN\n", "got \"NaN\""),
        (b"file\tseconds\na.jpg\t-1\n", "got \"-1\""),
        (b"file\tseconds\na.jpg\t1e300\n", "got \"1e300\""),
        (
            b"file\tseconds\n../a.jpg\t1\n",
            "frames.tsv:2: `file` must be the path of a picture inside",
        ),
        (b"file\tseconds\n\t1\n", "`file` must be"),
        (b"file\tseconds\n\xff.jpg\t1\n", "frames.tsv:2: a line must be UTF-8"),
    ];
    for (table, part) in cases {
        let folder = folder(&[("a.jpg", &jpeg(1)), ("frames.tsv", table)]);
        refused(folder.path(), part);
    }
    let long = [b"file\tseconds\n", vec![b'x'; 1 << 20].as_slice()].concat();
    refused(folder(&[("frames.tsv", &long)]).path(), "frames.tsv:2: a line must have less");
}

#[test]
fn a_table_that_changes_after_it_was_checked_is_an_error() {
    let good = "file\tseconds\n".to_owned() + &"a.jpg\t1\n".repeat(10_000);
    let folder = folder(&[("a.jpg", &jpeg(1)), ("frames.tsv", good.as_bytes())]);
    let recording = open(folder.path(), None).unwrap();
    fs::write(folder.path().join("frames.tsv"), good.replace("\t1\n", "\tx\n")).unwrap();
    let (good, bad): (Vec<_>, Vec<_>) = recording.partition(Result::is_ok);
    assert!(!good.is_empty() && bad.len() == 1, "{} {}", good.len(), bad.len());
}

#[test]
fn a_motion_jpeg_is_cut_at_its_pictures() {
    let (one, two) = (jpeg(1), jpeg(2));
    // A thumbnail in a segment is no picture of its own.
    let thumbnail = jpeg(1);
    let length = u16::try_from(thumbnail.len() + 2).unwrap().to_be_bytes();
    let with_thumbnail = [&two[..2], &[0xff, 0xe1], &length, &thumbnail, &two[2..]].concat();
    let half = &one[..one.len() - 2];
    let all = [&one[..], &with_thumbnail, half, &two, half].concat();
    let folder = folder(&[
        ("clip.MJPEG", &all),
        ("clip.tsv", b"seconds\tTRUTH\tfile\n0.6\tcat\n1\t\n1.6\tnone\n"),
    ]);
    let path = folder.path().join("clip.MJPEG");
    let recording = open(&path, Some(2.0)).unwrap();
    assert_eq!(recording.progress(), (0, all.len() as u64));
    assert_eq!(recording.other_headings().unwrap().1, ["file"]);
    let truths: Vec<Truth> = open(&path, Some(2.0)).unwrap().map(|it| it.unwrap().truth).collect();
    let cat = Truth::Class("cat".to_owned());
    let unsaid = Truth::Unsaid;
    assert_eq!(truths, [unsaid.clone(), unsaid.clone(), unsaid.clone(), unsaid, Truth::NoLabel]);
    assert_eq!(open(&path, Some(1.25)).unwrap().nth(1).unwrap().unwrap().truth, cat);
    let walked = walk(recording);
    let good = |n: usize, width| (n as u128 * 500, format!("clip.MJPEG#{}", n + 1), Ok(width));
    assert_eq!(walked[0], good(0, 1));
    assert_eq!(walked[1], good(1, 2));
    assert_eq!(walked[3], good(3, 2));
    for n in [2, 4] {
        assert!(walked[n].2.as_ref().unwrap_err().contains("cut off"), "{walked:?}");
    }
    assert_eq!(walked.len(), 5);
}

#[test]
fn bytes_between_pictures_are_told_of_and_the_rest_goes_on() {
    let one = jpeg(1);
    let all = [b"--boundary\r\n", &one[..], b"\r\n", &one, b"\r\n--"].concat();
    let folder = folder(&[("a.mjpg", &all)]);
    let got: Vec<String> = open(&folder.path().join("a.mjpg"), None)
        .unwrap()
        .map(|it| it.map_or_else(|it| it.to_string(), |it| it.name))
        .map(|it| it.rsplit('/').next().unwrap().to_owned())
        .collect();
    let n = one.len();
    let passed = |n_bytes, at| {
        format!("a.mjpg: {n_bytes} bytes from byte {at} on are no JPEG and were passed over")
    };
    let expected = [
        passed(12, 0),
        "a.mjpg#1".to_owned(),
        passed(2, 12 + n),
        "a.mjpg#2".to_owned(),
        passed(4, 14 + 2 * n),
    ];
    assert_eq!(got, expected);
}

/// Bytes that look like noise and hold every pair of bytes that garbage of their length does.
fn garbage(n: usize) -> Vec<u8> {
    let mut state = 7u64;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    let mut bytes: Vec<u8> = (0..n).map(|_| byte()).collect();
    // What a picture's start and a segment's look like.
    for at in (100..n.saturating_sub(4)).step_by(1000) {
        bytes[at..at + 4].copy_from_slice(&[0xff, 0xd8, 0x00, 0xff]);
    }
    bytes
}

#[test]
fn garbage_costs_no_picture_beside_it() {
    let pictures: Vec<Vec<u8>> = (1..=4).map(|it| jpeg(it * 10)).collect();
    let cut = &pictures[1][..pictures[1].len() - 20];
    let scan = pictures[1].windows(2).position(|it| it == [0xff, 0xda]).unwrap();
    let mut head = pictures[1].clone();
    // The length of the first segment, beyond the next pictures.
    head[4..6].copy_from_slice(&[0xff, 0xff]);
    let count = |parts: &[&[u8]]| {
        let folder = folder(&[("a.mjpg", &parts.concat())]);
        let (mut widths, mut n_bad, mut n_damaged) = (Vec::new(), 0, 0);
        for it in open(&folder.path().join("a.mjpg"), None).unwrap() {
            match it.map(|it| it.picture()) {
                Ok(Ok(picture)) => widths.push(picture.width_px()),
                Ok(Err(_)) => n_bad += 1,
                Err(_) => n_damaged += 1,
            }
        }
        (widths, n_bad, n_damaged)
    };
    let noise = garbage(200_000);
    let [a, b, c, d] = [0, 1, 2, 3].map(|it| &pictures[it][..]);
    assert_eq!(count(&[&noise, a, &noise, b, c, &noise, d]), (vec![10, 20, 30, 40], 0, 3));
    assert_eq!(count(&[a, &head, c, d]), (vec![10, 30, 40], 1, 0));
    assert_eq!(count(&[a, &b[..scan - 30], c, d]), (vec![10, 30, 40], 1, 0));
    // The bytes behind the one that is cut off belong to it, up to what looks like its end.
    let (widths, n_bad, _) = count(&[a, cut, &noise, c, d]);
    assert!(widths.ends_with(&[30, 40]) && widths.len() + n_bad == 4, "{widths:?} {n_bad}");
}

#[test]
fn a_picture_beyond_the_limit_is_not_kept() {
    let (one, large) = (jpeg(1), jpeg(1000));
    let folder = folder(&[("a.mjpg", &[&large[..], &one].concat())]);
    let limits = PictureLimits { max_bytes: one.len() as u64, ..PictureLimits::default() };
    let recording = Recording::open(&folder.path().join("a.mjpg"), None, limits).unwrap();
    let frames: Vec<RecordedFrame> = recording.map(Result::unwrap).collect();
    assert_eq!(frames[0].content_len(), None);
    let told = frames[0].picture().unwrap_err().to_string();
    let expected = format!("may have at most {} bytes, got {}", one.len(), large.len());
    assert!(told.contains(&expected), "{told}");
    assert_eq!(frames[1].picture().unwrap().width_px(), 1);
}

impl RecordedFrame {
    fn content_len(&self) -> Option<usize> {
        match &self.content {
            Content::Jpeg(Part::Whole(bytes)) => Some(bytes.len()),
            Content::File(_) | Content::Jpeg(Part::TooLarge(_)) => None,
        }
    }
}

proptest! {
    /// Whatever the bytes are, each is in a picture, passed over, or cut off with a picture's start.
    #[test]
    fn any_bytes_come_to_an_end(
        bytes in prop::collection::vec(prop::sample::select(
            vec![0xff, 0xff, 0xd8, 0xd9, 0xda, 0x00, 0x01, 0xd0, 0xe1, 0x05],
        ), 0..200),
        max_bytes in 1..40u64,
    ) {
        let folder = folder(&[("a.mjpeg", &bytes)]);
        let limits = PictureLimits { max_bytes, ..PictureLimits::default() };
        let recording = Recording::open(&folder.path().join("a.mjpeg"), None, limits).unwrap();
        let mut n_bytes = 0;
        for (n, frame) in recording.enumerate() {
            prop_assert!(n <= bytes.len());
            n_bytes += match frame {
                Ok(frame) => {
                    prop_assert!(frame.picture().is_err());
                    match frame.content {
                        Content::Jpeg(Part::Whole(it)) => {
                            prop_assert!(it.len() as u64 <= max_bytes && it.starts_with(&[0xff, 0xd8]));
                            it.len() as u64
                        }
                        Content::Jpeg(Part::TooLarge(n)) => n,
                        Content::File(_) => unreachable!(),
                    }
                }
                Err(RecordingError::NotJpeg { n_bytes, .. }) => n_bytes,
                Err(RecordingError::NoJpeg { .. }) => bytes.len() as u64,
                Err(error) => panic!("{error}"),
            };
        }
        // A lone marker at the end is the end of a picture that was cut off.
        let n = bytes.len() as u64;
        prop_assert!(n == n_bytes || bytes.is_empty(), "{} of {}", n_bytes, n);
    }

    #[test]
    fn any_table_is_read_or_refused(table in "[a-z0-9.\t\n/\\-]{0,80}") {
        let table = format!("file\tseconds\ttruth\n{table}");
        let folder = folder(&[("frames.tsv", table.as_bytes())]);
        if let Ok(recording) = open(folder.path(), None) {
            let frames: Vec<RecordedFrame> = recording.map(Result::unwrap).collect();
            prop_assert!(frames.is_sorted_by_key(|it| it.at) && !frames.is_empty());
        }
    }
}
