//! A folder of pictures, or one picture, as a camera.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lookout_core::{Clock, Frame, FrameSource, PortError, Stop};

use crate::uri::PicturePlace;
use crate::{CaptureError, PictureLimits, read_picture};

/// File name endings that count as pictures, in lower case.
pub const PICTURE_EXTENSIONS: [&str; 6] = ["bmp", "gif", "jpeg", "jpg", "png", "webp"];

/// Gives the pictures in the order of their names' bytes, each when it is due and asked for, so
/// none is lost. The folder is listed again for each round.
pub(crate) struct Pictures {
    path: PathBuf,
    single: bool,
    repeat: bool,
    period: Duration,
    limits: PictureLimits,
    clock: Arc<dyn Clock>,
    /// What is left of this round.
    round: VecDeque<PathBuf>,
    due: Duration,
}

impl Pictures {
    /// `path` is `place`'s, absolute or relative to the working directory.
    pub(crate) fn open(
        place: &PicturePlace,
        path: PathBuf,
        limits: PictureLimits,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CaptureError> {
        let mut source = Self {
            path,
            single: place.single,
            repeat: place.repeat,
            period: place.period,
            limits,
            due: clock.monotonic(),
            clock,
            round: VecDeque::new(),
        };
        source.round = source.list()?;
        Ok(source)
    }

    fn list(&self) -> Result<VecDeque<PathBuf>, CaptureError> {
        let unreadable = |source| CaptureError::PathUnreadable { path: self.path.clone(), source };
        let wrong = |expected| CaptureError::WrongKind { path: self.path.clone(), expected };
        let metadata = fs::metadata(&self.path).map_err(unreadable)?;
        if self.single {
            return match metadata.is_file() {
                true => Ok(VecDeque::from([self.path.clone()])),
                false => Err(wrong("file")),
            };
        }
        if !metadata.is_dir() {
            return Err(wrong("folder"));
        }
        let mut names = picture_names(&self.path).map_err(unreadable)?;
        // Followed through links; a file that has gone meanwhile is none.
        names.retain(|it| fs::metadata(self.path.join(it)).is_ok_and(|it| it.is_file()));
        if names.is_empty() {
            let extensions = PICTURE_EXTENSIONS.join(", ");
            return Err(CaptureError::FolderEmpty { path: self.path.clone(), extensions });
        }
        Ok(names.into_iter().map(|it| self.path.join(it)).collect())
    }

    /// True when a stop was requested.
    fn wait_until_due(&mut self, stop: &Stop) -> bool {
        let left = self.due.saturating_sub(self.clock.monotonic());
        if stop.is_requested() || (!left.is_zero() && self.clock.wait(stop, left)) {
            return true;
        }
        // A consumer that came late gets no burst to catch up.
        self.due = (self.due + self.period).max(self.clock.monotonic());
        false
    }
}

impl FrameSource for Pictures {
    fn next_frame(&mut self, stop: &Stop) -> Result<Option<Frame>, PortError> {
        if self.round.is_empty() && !self.repeat {
            return Ok(None);
        }
        if self.wait_until_due(stop) {
            return Ok(None);
        }
        if self.round.is_empty() {
            self.round = self.list()?;
        }
        let Some(path) = self.round.pop_front() else { return Ok(None) };
        let picture = read_picture(&path, &self.limits).map_err(CaptureError::from)?;
        let name = path.file_name().map(|it| it.to_string_lossy().into_owned());
        Ok(Some(Frame { picture, captured_at: self.clock.monotonic(), name }))
    }
}

/// What in `folder` is called a picture, readable or not, and is no folder, in the order of the names'
/// bytes. Hidden files are left out.
pub fn picture_names(folder: &Path) -> std::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let is_folder = fs::metadata(folder.join(&name)).is_ok_and(|it| it.is_dir());
        if is_picture_name(Path::new(&name)) && !is_folder {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn is_picture_name(name: &Path) -> bool {
    let hidden = name.as_os_str().as_encoded_bytes().starts_with(b".");
    let extension = name.extension().map(|it| it.to_string_lossy().to_ascii_lowercase());
    !hidden && extension.is_some_and(|it| PICTURE_EXTENSIONS.contains(&it.as_str()))
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use lookout_core::{Disposition, stop_pair};

    use super::*;
    use crate::fake_clock::FakeClock;
    use crate::{CameraUri, OpenOptions, WorkerCommand, open};

    struct Fixture {
        folder: tempfile::TempDir,
        clock: Arc<FakeClock>,
    }

    impl Fixture {
        fn new(names: &[&str]) -> Self {
            let it = Self { folder: tempfile::tempdir().unwrap(), clock: Arc::default() };
            names.iter().for_each(|name| it.add(name));
            it
        }

        fn add(&self, name: &str) {
            image::RgbImage::new(2, 2).save(self.folder.path().join(name)).unwrap();
        }

        fn write(&self, name: &str, bytes: &[u8]) {
            fs::write(self.folder.path().join(name), bytes).unwrap();
        }

        fn open(&self, uri: &str) -> Result<Box<dyn FrameSource>, CaptureError> {
            let options = OpenOptions {
                base: self.folder.path().to_owned(),
                worker: WorkerCommand { program: PathBuf::new(), args: vec![] },
                stall_after: Duration::from_secs(1),
                limits: PictureLimits::default(),
            };
            open(&CameraUri::from_str(uri).unwrap(), &options, Arc::clone(&self.clock) as _)
        }
    }

    /// Name and time of each frame, or what is done about its error.
    fn walk(source: &mut dyn FrameSource, n: usize) -> Vec<(String, u128)> {
        let (_stopper, stop) = stop_pair();
        let name = |frame: Option<Frame>| {
            frame.map_or(("end".to_owned(), 0), |it| {
                (it.name.unwrap_or_default(), it.captured_at.as_millis())
            })
        };
        let mut next = || source.next_frame(&stop);
        (0..n)
            .map(|_| next().map_or_else(|it| (format!("{:?}", it.disposition), 0), name))
            .collect()
    }

    fn names(walked: Vec<(String, u128)>) -> Vec<String> {
        walked.into_iter().map(|it| it.0).collect()
    }

    #[test]
    fn pictures_come_by_name_at_the_rate_and_again() {
        let fixture = Fixture::new(&["b.png", "a.png", "C.PNG"]);
        fixture.write("readme.txt", b"no picture");
        fixture.write(".hidden.png", b"no picture");
        fs::create_dir(fixture.folder.path().join("folder.png")).unwrap();
        let mut source = fixture.open("dir:.?fps=4").unwrap();
        let walked = walk(source.as_mut(), 4);
        let expected = [("C.PNG", 0), ("a.png", 250), ("b.png", 500), ("C.PNG", 750)];
        assert_eq!(walked, expected.map(|(name, at)| (name.to_owned(), at)));
    }

    #[test]
    fn a_late_consumer_loses_nothing_and_gets_no_burst() {
        let fixture = Fixture::new(&["a.png", "b.png", "c.png", "d.png"]);
        let mut source = fixture.open("dir:.").unwrap();
        assert_eq!(walk(source.as_mut(), 1)[0].1, 0);
        fixture.clock.advance(Duration::from_secs(10));
        let walked = walk(source.as_mut(), 3);
        assert_eq!(names(walked.clone()), ["b.png", "c.png", "d.png"]);
        assert!(walked[2].1 >= 11_000, "{walked:?}");
    }

    #[test]
    fn one_round_ends() {
        let fixture = Fixture::new(&["a.png", "b.png"]);
        let mut source = fixture.open("dir:.?loop=false").unwrap();
        assert_eq!(names(walk(source.as_mut(), 4)), ["a.png", "b.png", "end", "end"]);
        let mut source = fixture.open("file:b.png?loop=false").unwrap();
        assert_eq!(names(walk(source.as_mut(), 2)), ["b.png", "end"]);
    }

    #[test]
    fn a_bad_picture_is_skipped_at_the_same_pace() {
        let fixture = Fixture::new(&["b.png"]);
        fixture.write("a.png", b"no picture");
        let mut source = fixture.open("dir:.").unwrap();
        let (_stopper, stop) = stop_pair();
        let error = source.next_frame(&stop).unwrap_err();
        assert_eq!(error.disposition, Disposition::SkipFrame);
        assert!(error.to_string().contains("a.png"), "{error}");
        assert_eq!(walk(source.as_mut(), 1), [("b.png".to_owned(), 1000)]);

        fs::remove_file(fixture.folder.path().join("b.png")).unwrap();
        assert_eq!(names(walk(source.as_mut(), 5)), ["SkipFrame"; 5]);
        assert_eq!(fixture.clock.monotonic(), Duration::from_secs(6));
    }

    #[test]
    fn new_files_appear_in_the_next_round_and_none_is_an_error() {
        let fixture = Fixture::new(&["b.png"]);
        let mut source = fixture.open("dir:.").unwrap();
        assert_eq!(names(walk(source.as_mut(), 1)), ["b.png"]);
        fixture.add("a.png");
        assert_eq!(names(walk(source.as_mut(), 2)), ["a.png", "b.png"]);
        fs::remove_file(fixture.folder.path().join("a.png")).unwrap();
        fs::remove_file(fixture.folder.path().join("b.png")).unwrap();
        assert_eq!(names(walk(source.as_mut(), 1)), ["Reopen"]);
        fixture.add("c.png");
        assert_eq!(names(walk(source.as_mut(), 1)), ["c.png"]);
    }

    #[test]
    fn what_is_not_there_is_named() {
        let fixture = Fixture::new(&["a.png"]);
        fs::create_dir(fixture.folder.path().join("empty")).unwrap();
        let cases = [
            ("dir:empty", "holds no picture; file names must end in one of bmp, "),
            ("dir:missing", "cannot read `"),
            ("dir:a.png", "is not a folder; "),
            ("file:missing", "cannot read `"),
            ("file:empty", "is not a file; "),
        ];
        for (uri, part) in cases {
            let error = fixture.open(uri).err().unwrap();
            assert!(error.to_string().contains(part), "{error}");
            assert_eq!(error.disposition(), Disposition::Reopen);
        }
    }

    #[test]
    fn a_stop_ends_the_wait() {
        let fixture = Fixture::new(&["a.png"]);
        let mut source = fixture.open("file:a.png").unwrap();
        let (stopper, stop) = stop_pair();
        drop(stopper);
        assert!(source.next_frame(&stop).unwrap().is_none());
        assert_eq!(fixture.clock.monotonic(), Duration::ZERO);
    }
}
