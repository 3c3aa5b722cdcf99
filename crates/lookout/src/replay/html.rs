//! Where the page of a replay goes: to no file that is anything else.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, bail};
use lookout_replay::Page;

use crate::whole;

/// Bytes that tell a page.
const BEGINNING: u64 = 1024;

/// Errs where the page cannot be written to `path`, or something stands there that is no page of an
/// earlier replay.
pub(super) fn check(path: &Path, recording: &Path) -> anyhow::Result<()> {
    refuse_others(path, recording)?;
    // Gone again at once.
    whole::beside(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}

/// Writes it, whole or not at all.
pub(super) fn write(path: &Path, recording: &Path, page: &str) -> anyhow::Result<()> {
    // It may have come meanwhile.
    refuse_others(path, recording)?;
    let name = || format!("cannot write {}", path.display());
    let mut file = whole::beside(path).with_context(name)?;
    file.write_all(page.as_bytes()).with_context(name)?;
    whole::put(file, path, true).with_context(name)
}

fn refuse_others(path: &Path, recording: &Path) -> anyhow::Result<()> {
    let name = || path.display().to_string();
    let there = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        it => it.with_context(name)?,
    };
    let other = if fs::metadata(recording)
        .is_ok_and(|it| (it.dev(), it.ino()) == (there.dev(), there.ino()))
    {
        "the recording itself"
    } else if !there.is_file() {
        "no regular file"
    } else {
        let mut beginning = Vec::new();
        let file = File::open(path).with_context(name)?;
        file.take(BEGINNING).read_to_end(&mut beginning).with_context(name)?;
        if beginning.is_empty() || Page::is_one(&beginning) {
            return Ok(());
        }
        "no page of a replay"
    };
    bail!("--html {}: something stands there that is {other}; choose another file", name())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lookout_config::LabelSet;
    use lookout_replay::{Counts, Figures, RunPage, Timeline};

    use super::*;

    #[test]
    fn only_a_page_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let timeline = Timeline::default();
        let classes = LabelSet::from_words(&["a cat", "a dog"].map(str::to_owned), &[]).unwrap();
        let run = RunPage {
            name: "as configured",
            classes: &classes.class_set(&["{}".to_owned()]).unwrap(),
            timeline: &timeline,
            figures: &Figures::of(&timeline, Duration::ZERO),
            counts: Counts::default(),
            decided_by: &[],
            first_frames: &[],
        };
        let page = Page {
            recording: "yard",
            camera: "yard",
            n_frames: 1,
            n_unreadable: 0,
            n_damaged: 0,
            tolerance: Duration::ZERO,
            runs: &[run],
        };
        let page = page.render();
        let recording = at("yard.mjpeg");
        fs::write(&recording, [0xff, 0xd8]).unwrap();
        fs::write(at("other.html"), "<!DOCTYPE html><title>mine</title>").unwrap();
        fs::hard_link(&recording, at("link.html")).unwrap();
        fs::write(at("empty.html"), "").unwrap();
        for (name, part) in [
            ("yard.mjpeg", "the recording itself"),
            ("link.html", "the recording itself"),
            ("other.html", "no page of a replay"),
            (".", "no regular file"),
            ("gone/page.html", "cannot write"),
        ] {
            let error = check(&at(name), &recording).unwrap_err().to_string();
            assert!(error.contains(part), "{name}: {error}");
        }
        assert!(write(&recording, &recording, "text").is_err());
        assert_eq!(fs::read(&recording).unwrap(), [0xff, 0xd8]);
        for name in ["empty.html", "new.html", "new.html"] {
            check(&at(name), &recording).unwrap();
            write(&at(name), &recording, &page).unwrap();
            assert_eq!(fs::read_to_string(at(name)).unwrap(), page);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5, "nothing is left behind");
    }
}
