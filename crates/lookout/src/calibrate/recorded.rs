//! A scene from a recording.

use std::path::Path;

use anyhow::Context;
use lookout_capture::{Recording, Truth};
use lookout_core::{Class, ClassKind};

use super::Subject;
use crate::engine::{self, Engine};
use crate::index::meter::Meter;
use crate::output;

/// Takes in the frames of the recording at `path`. Where it says that a label is there, the frame is left
/// out; one that cannot be decoded is told and left out.
pub(super) fn collect(
    engine: &mut Engine,
    subject: &mut Subject,
    path: &Path,
    fps: Option<f64>,
) -> anyhow::Result<()> {
    let limits = engine::limits(&engine.bundle);
    let mut recording = Recording::open(path, fps, limits)?;
    let mut meter = Meter::start("frames");
    let (mut n_left_out, mut n_bad) = (0u64, 0u64);
    while let Some(frame) = recording.next() {
        let frame = frame?;
        let is_label = match &frame.truth {
            Truth::Class(name) => {
                let classes = subject.decider.classes().classes();
                let is_it = |it: &&Class| it.name == *name || it.id.as_str() == name;
                classes.iter().find(is_it).is_none_or(|it| it.kind == ClassKind::Label)
            }
            Truth::NoLabel | Truth::Unsaid => false,
        };
        if is_label {
            n_left_out += 1;
            continue;
        }
        match frame.picture() {
            Ok(picture) => subject
                .see(engine, frame.at, &picture)
                .with_context(|| format!("frame {}", frame.name))?,
            Err(error) => {
                n_bad += 1;
                output::complain(&format!("left out: {:#}", anyhow::Error::from(error)));
            }
        }
        let (done, total) = recording.progress();
        meter.tick(done, total, subject.calibrator.n_frames() as u64);
        if subject.calibrator.is_full() {
            output::complain("there is no memory for more frames; the rest is left out");
            break;
        }
    }
    meter.finish();
    if 0 < n_left_out {
        output::complain(&format!("{n_left_out} frames have a label in them and are left out"));
    }
    if 0 < n_bad {
        output::complain(&format!("{n_bad} frames could not be decoded"));
    }
    Ok(())
}
