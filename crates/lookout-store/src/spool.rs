//! Events that wait for the broker: a file that grows by a line for each that comes and each that goes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lookout_core::{Disposition, Id, PortError, Spool, WaitingEvent};
use serde::{Deserialize, Serialize};

use crate::StoreError;
use crate::kept::{self, Busy};

const HEADING: &str = "lookout events 1";
/// Lines beyond those of what waits, from which on the file is written anew.
const MAX_OLD_LINES: usize = 1000;

/// The file of events of a running daemon, which alone has it as long as this lives.
#[derive(Debug)]
pub struct EventSpool {
    path: PathBuf,
    /// `None`: it cannot be written. That is tried again.
    file: Option<File>,
    waiting: BTreeMap<u64, WaitingEvent>,
    n_lines: usize,
    /// What the file says is not what waits, or it is not whole.
    is_behind: bool,
}

/// A line, after its checksum and a blank.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Line {
    Add { number: u64, camera: String, payload: String },
    Remove { number: u64 },
}

impl EventSpool {
    /// Errs when what is at `path` is something else, which [`EventSpool::open`] would refuse.
    pub fn check(path: &Path) -> Result<(), StoreError> {
        match kept::check_is_file(path) {
            Err(StoreError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(());
            }
            result => result?,
        }
        let failed = |source| StoreError::Read { path: path.to_path_buf(), source };
        let bytes = read(path, &mut File::open(path).map_err(failed)?)?;
        kept::heading(path, HEADING, &bytes, is_ours).map(drop)
    }

    /// Opens `path`, or makes it. Also tells how many lines are damaged, which are passed over; one that
    /// was cut off while it was written does not count, as nobody was told that it was kept. A file that
    /// cannot be written is tried again at each change, and by [`Spool::retry`].
    ///
    /// Errs with [`StoreError::InUse`] while another process has it, and where it is something else.
    pub fn open(path: &Path) -> Result<(Self, usize), StoreError> {
        let failed = |source| StoreError::Read { path: path.to_path_buf(), source };
        match kept::check_is_file(path) {
            Err(StoreError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
        let mut file = match kept::open_locked(path, Busy::Refuse) {
            Ok(it) => Some(it),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                return Err(StoreError::InUse { path: path.to_path_buf() });
            }
            Err(_) => None,
        };
        let bytes = match &mut file {
            Some(it) => read(path, it)?,
            // Read only, what is in it can still be sent.
            None => match File::open(path) {
                Ok(mut it) => read(path, &mut it)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                Err(error) => return Err(failed(error)),
            },
        };
        let is_whole = kept::heading(path, HEADING, &bytes, is_ours)?;
        let mut it = Self {
            path: path.to_path_buf(),
            is_behind: file.is_none() || !is_whole,
            file,
            waiting: BTreeMap::new(),
            n_lines: 0,
        };
        let mut n_damaged = usize::from(!is_whole && !HEADING.as_bytes().starts_with(&bytes));
        for line in bytes.split_inclusive(|it| *it == b'\n').skip(1) {
            it.n_lines += 1;
            match line.strip_suffix(b"\n").map(parse) {
                Some(Some(line)) => it.take(line),
                Some(None) => (it.is_behind, n_damaged) = (true, n_damaged + 1),
                None => it.is_behind = true,
            }
        }
        Ok((it, n_damaged))
    }

    fn take(&mut self, line: Line) {
        match line {
            Line::Add { number, camera, payload } => match Id::new(camera) {
                Ok(camera) => {
                    self.waiting.insert(number, WaitingEvent { number, camera, payload });
                }
                // Its checksum is good, so it is of a version with other ids: nothing to be done.
                Err(_) => self.is_behind = true,
            },
            Line::Remove { number } => {
                self.waiting.remove(&number);
            }
        }
    }

    /// Brings the file up to what waits, of which `line` is the last change.
    fn log(&mut self, line: &Line) -> io::Result<()> {
        let Some(file) = self.whole()? else { return self.rewrite() };
        if self.waiting.is_empty() {
            file.set_len(HEADING.len() as u64 + 1)?;
            self.n_lines = 0;
            return Ok(());
        }
        if self.waiting.len() + MAX_OLD_LINES <= self.n_lines {
            return self.rewrite();
        }
        let Some(file) = &mut self.file else { return self.rewrite() };
        // Until it is whole.
        self.is_behind = true;
        file.write_all(text(line)?.as_bytes())?;
        if let Line::Add { .. } = line {
            file.sync_data()?;
        }
        self.n_lines += 1;
        self.is_behind = false;
        Ok(())
    }

    /// The file, if it is as it should be but for the last change, and still has its name.
    fn whole(&self) -> io::Result<Option<&File>> {
        match &self.file {
            Some(it) if !self.is_behind && it.metadata()?.nlink() != 0 => Ok(Some(it)),
            _ => Ok(None),
        }
    }

    fn rewrite(&mut self) -> io::Result<()> {
        self.is_behind = true;
        let has_its_name = self.file.as_ref().map(|it| it.metadata()).transpose()?;
        if has_its_name.is_none_or(|it| it.nlink() == 0) {
            // Nobody else may have taken the place meanwhile.
            self.file = Some(kept::open_locked(&self.path, Busy::Refuse)?);
        }
        let mut content = format!("{HEADING}\n");
        for it in self.waiting.values() {
            content += &text(&add(it))?;
        }
        let temporary = kept::temporary(&self.path)?;
        let mut file = kept::open_locked(&temporary, Busy::Refuse)?;
        let written = file
            .set_len(0)
            .and_then(|()| file.write_all(content.as_bytes()))
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&temporary, &self.path));
        if let Err(error) = written {
            // What is left over is as good as none.
            fs::remove_file(&temporary).ok();
            return Err(error);
        }
        (self.file, self.n_lines) = (Some(file), self.waiting.len());
        kept::sync_folder(&self.path)?;
        self.is_behind = false;
        Ok(())
    }

    fn port<T>(&self, result: io::Result<T>) -> Result<T, PortError> {
        result.map_err(|source| {
            let error = StoreError::Write { path: self.path.clone(), source };
            // With the reason: whoever logs it shows this alone.
            let reason = std::error::Error::source(&error).map(ToString::to_string);
            let text = format!("{error}: {}", reason.unwrap_or_default());
            PortError::new(Disposition::SkipFrame, text)
        })
    }
}

impl Spool for EventSpool {
    fn waiting(&self) -> Vec<WaitingEvent> {
        self.waiting.values().cloned().collect()
    }

    fn add(&mut self, event: WaitingEvent) -> Result<(), PortError> {
        let line = add(&event);
        self.waiting.insert(event.number, event);
        let result = self.log(&line);
        self.port(result)
    }

    fn remove(&mut self, number: u64) -> Result<(), PortError> {
        if self.waiting.remove(&number).is_none() {
            return Ok(());
        }
        let result = self.log(&Line::Remove { number });
        self.port(result)
    }

    fn retry(&mut self) -> Result<bool, PortError> {
        let result = match self.whole() {
            Ok(Some(_)) => Ok(false),
            Ok(None) => self.rewrite().map(|()| true),
            Err(error) => Err(error),
        };
        self.port(result)
    }
}

fn read(path: &Path, file: &mut File) -> Result<Vec<u8>, StoreError> {
    let failed = |source| StoreError::Read { path: path.to_path_buf(), source };
    let mut bytes = Vec::new();
    file.take(kept::MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if kept::MAX_BYTES < bytes.len() as u64 {
        let reason = format!("it has more than {} bytes", kept::MAX_BYTES);
        return Err(StoreError::Damaged { path: path.to_path_buf(), reason });
    }
    Ok(bytes)
}

/// Whether there is a whole line of such a file in `bytes`.
fn is_ours(bytes: &[u8]) -> bool {
    bytes.split(|it| *it == b'\n').any(|it| parse(it).is_some())
}

fn add(it: &WaitingEvent) -> Line {
    Line::Add { number: it.number, camera: it.camera.to_string(), payload: it.payload.clone() }
}

fn text(line: &Line) -> io::Result<String> {
    let json = serde_json::to_string(line)?;
    Ok(format!("{} {json}\n", kept::checksum(&json)))
}

fn parse(line: &[u8]) -> Option<Line> {
    let (checksum, json) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    if kept::checksum(json) != checksum {
        return None;
    }
    serde_json::from_str(json).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(id: u64) -> WaitingEvent {
        let payload = format!("{{\"seq\":{id},\"name\":\"Tür\\n\"}}");
        WaitingEvent { number: id, camera: Id::new("door").unwrap(), payload }
    }

    fn file() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.events");
        (folder, path)
    }

    fn ids(it: &EventSpool) -> Vec<u64> {
        it.waiting.keys().copied().collect()
    }

    /// What the next run finds.
    fn reopened(path: &Path) -> (Vec<u64>, usize) {
        let (it, n_damaged) = EventSpool::open(path).unwrap();
        (ids(&it), n_damaged)
    }

    #[test]
    fn what_was_not_delivered_waits_for_the_next_run_in_order() {
        let (folder, path) = file();
        let (mut spool, _) = EventSpool::open(&path).unwrap();
        (7..12).for_each(|id| spool.add(event(id)).unwrap());
        spool.remove(8).unwrap();
        spool.remove(7).unwrap();
        spool.remove(3).unwrap();
        drop(spool);
        let (mut spool, n_damaged) = EventSpool::open(&path).unwrap();
        assert_eq!((ids(&spool), n_damaged), (vec![9, 10, 11], 0));
        assert_eq!(spool.waiting()[0], event(9));
        (9..12).for_each(|id| spool.remove(id).unwrap());
        drop(spool);
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{HEADING}\n"));
        assert_eq!(reopened(&path), (vec![], 0));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn one_process_has_it() {
        let (_folder, path) = file();
        let (mut first, _) = EventSpool::open(&path).unwrap();
        let refused = || EventSpool::open(&path).unwrap_err();
        assert!(matches!(refused(), StoreError::InUse { .. }));
        // Also when it was written anew.
        first.add(event(1)).unwrap();
        first.rewrite().unwrap();
        assert!(matches!(refused(), StoreError::InUse { .. }));
        drop(first);
        assert_eq!(reopened(&path).0, [1]);
    }

    #[test]
    fn the_file_does_not_grow_for_ever() {
        let (_folder, path) = file();
        let (mut spool, _) = EventSpool::open(&path).unwrap();
        let mut most = 0;
        for id in 0..700 {
            spool.add(event(id)).unwrap();
            if 10 <= id {
                spool.remove(id - 10).unwrap();
            }
            most = most.max(fs::read(&path).unwrap().iter().filter(|it| **it == b'\n').count());
        }
        drop(spool);
        assert_eq!(reopened(&path).0, (690..700).collect::<Vec<_>>());
        assert!((MAX_OLD_LINES..MAX_OLD_LINES + 20).contains(&most), "{most} lines");
    }

    #[test]
    fn after_a_failure_nothing_is_left_out() {
        let (_folder, path) = file();
        let (mut spool, _) = EventSpool::open(&path).unwrap();
        spool.add(event(1)).unwrap();
        // A file that cannot be written, as on a full disk, and half a line that it took.
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"0123 {\"ad").unwrap();
        let good = spool.file.replace(File::open(&path).unwrap());
        let error = spool.add(event(2)).unwrap_err().to_string();
        assert!(error.contains("cannot be written: "), "{error}");
        spool.file = good;
        spool.add(event(3)).unwrap();
        drop(spool);
        assert_eq!(reopened(&path), (vec![1, 2, 3], 0));
    }

    #[test]
    fn what_is_something_else_stays() {
        let (folder, path) = file();
        for text in ["\nnode = \"garden\"\n", "lookout events 2\n", "lookout state 1\n{}\n"] {
            fs::write(&path, text).unwrap();
            for error in [EventSpool::check(&path).err(), EventSpool::open(&path).err()] {
                assert!(matches!(error, Some(StoreError::Other { .. })), "{error:?}");
            }
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        let error = EventSpool::open(folder.path()).unwrap_err();
        assert!(matches!(error, StoreError::NoFile { .. }), "{error}");
    }

    #[test]
    fn damaged_lines_are_counted_and_passed_over() {
        let (_folder, path) = file();
        let (mut spool, _) = EventSpool::open(&path).unwrap();
        (1..=3).for_each(|id| spool.add(event(id)).unwrap());
        drop(spool);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("\"seq\\\":2", "\"seq\\\":5")).unwrap();
        let (mut spool, n_damaged) = EventSpool::open(&path).unwrap();
        assert_eq!((ids(&spool), n_damaged), (vec![1, 3], 1));
        spool.add(event(4)).unwrap();
        drop(spool);
        assert_eq!(reopened(&path), (vec![1, 3, 4], 0));
    }

    #[test]
    fn a_place_that_cannot_be_written_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("later/state.events");
        let (mut spool, _) = EventSpool::open(&path).unwrap();
        spool.add(event(1)).unwrap_err();
        spool.retry().unwrap_err();
        fs::create_dir(folder.path().join("later")).unwrap();
        assert!(spool.retry().unwrap(), "that proves it");
        assert!(!spool.retry().unwrap(), "there was nothing to do");
        assert!(matches!(EventSpool::open(&path), Err(StoreError::InUse { .. })));
        spool.add(event(2)).unwrap();
        // Somebody tidied up.
        fs::remove_file(&path).unwrap();
        spool.add(event(3)).unwrap();
        drop(spool);
        assert_eq!(reopened(&path), (vec![1, 2, 3], 0));
    }

    #[test]
    fn a_damaged_first_line_costs_nothing_else() {
        let (_folder, path) = file();
        let (mut spool, _) = EventSpool::open(&path).unwrap();
        spool.add(event(1)).unwrap();
        drop(spool);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("lookout events", "lookout evemts")).unwrap();
        EventSpool::check(&path).unwrap();
        let (mut spool, n_damaged) = EventSpool::open(&path).unwrap();
        assert_eq!((ids(&spool), n_damaged), (vec![1], 1));
        spool.add(event(2)).unwrap();
        drop(spool);
        assert_eq!(reopened(&path), (vec![1, 2], 0));
        fs::write(&path, [0; 400]).unwrap();
        let (mut spool, n_damaged) = EventSpool::open(&path).unwrap();
        assert_eq!((ids(&spool), n_damaged), (vec![], 1));
        spool.add(event(3)).unwrap();
        drop(spool);
        assert_eq!(reopened(&path), (vec![3], 0));
    }

    proptest! {
        // Each case makes some hundred files, and waits for the disk.
        #![proptest_config(ProptestConfig::with_cases(6))]

        /// However much of the file a loss of power leaves, what is read is what waited at some time, and
        /// it can be gone on with.
        #[test]
        fn any_beginning_of_the_file_is_read(removed in prop::collection::vec(any::<bool>(), 1..8)) {
            let (_folder, path) = file();
            let (mut spool, _) = EventSpool::open(&path).unwrap();
            let mut times = vec![vec![]];
            for (id, is_removed) in (0..).zip(&removed) {
                spool.add(event(id)).unwrap();
                times.push(ids(&spool));
                if *is_removed && id != 0 {
                    spool.remove(id - 1).unwrap();
                    times.push(ids(&spool));
                }
            }
            drop(spool);
            let whole = fs::read(&path).unwrap();
            for len in (0..=whole.len()).step_by(5).chain([whole.len()]) {
                fs::write(&path, &whole[..len]).unwrap();
                let (mut spool, n_damaged) = EventSpool::open(&path).unwrap();
                prop_assert!(n_damaged == 0 && times.contains(&ids(&spool)), "{len} bytes");
                let mut expected = ids(&spool);
                spool.add(event(99)).unwrap();
                drop(spool);
                expected.push(99);
                prop_assert_eq!(reopened(&path).0, expected);
            }
            fs::write(&path, &whole).unwrap();
            prop_assert_eq!(&reopened(&path).0, times.last().unwrap());
        }
    }
}
