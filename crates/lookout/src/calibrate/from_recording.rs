//! A scene from a recording.

use std::path::Path;

use anyhow::anyhow;
use lookout_capture::Recording;
use lookout_core::Disposition;
use lookout_replay::Truth;

use super::{Subject, is_full};
use crate::engine::{self, Engine};
use crate::failure::Failure;
use crate::index::meter::Meter;
use crate::output;
use crate::recorded::{self, BadFrames};

/// Takes in the frames of the recording at `path` that the daemon would have asked for. Where it says that
/// a label is there, the frame is left out; one that cannot be used is told and left out. Whether all
/// could be used. Where it says of each that no label is there, all labels are known to be absent.
pub(super) fn collect(
    engine: &mut Engine,
    subject: &mut Subject,
    path: &Path,
    fps: Option<f64>,
) -> Result<bool, Failure> {
    let limits = engine::limits(&engine.bundle);
    let mut recording = Recording::open(path, fps, limits).map_err(anyhow::Error::from)?;
    let classes = [&**subject.decider.classes()].into_iter();
    let truths = recorded::truths(&recording, classes, subject.camera.as_str())?;
    let mut meter = Meter::start("frames");
    let (mut n_label, mut n_dropped) = (0u64, 0u64);
    let mut is_all_said = true;
    let mut bad = BadFrames::default();
    while let Some(next) = recording.next() {
        let (done, total) = recording.progress();
        meter.tick(done, total, subject.calibrator.n_frames() as u64);
        let frame = match next {
            Ok(frame) => frame,
            Err(error) => {
                bad.add(&format!("left out: {:#}", anyhow!(error)));
                continue;
            }
        };
        if !subject.pace.asks(frame.at) {
            n_dropped += 1;
            continue;
        }
        let mut said = truths.iter().map(|it| it.of(&frame.truth));
        match said.next().unwrap_or(Truth::Unsaid) {
            Truth::Label(_) => {
                n_label += 1;
                continue;
            }
            Truth::Unsaid => is_all_said = false,
            Truth::NoLabel => {}
        }
        let picture = match frame.picture() {
            Ok(picture) => picture,
            Err(error) => {
                bad.add(&format!("left out: {:#}", anyhow!(error)));
                continue;
            }
        };
        match subject.see(engine, frame.at, &picture) {
            Ok(()) => {}
            Err(error) if error.disposition == Disposition::Fatal => {
                return Err(anyhow!(error).context(format!("frame {}", frame.name)).into());
            }
            Err(error) => bad.add(&format!("left out: {}: {error}", frame.name)),
        }
        if is_full(std::slice::from_ref(subject)) {
            output::complain("there is no memory for more frames; the rest is left out");
            break;
        }
    }
    meter.finish();
    if is_all_said {
        for idx in 0..subject.decider.classes().classes().len() {
            subject.calibrator.know_absent(idx);
        }
    }
    if 0 < n_dropped {
        let (n, come) =
            (output::count(n_dropped, "frame"), if n_dropped == 1 { "comes" } else { "come" });
        let camera = &subject.camera;
        output::complain(&format!(
            "{n} {come} faster than max_fps of camera {camera}: left out, as the daemon does"
        ));
    }
    if 0 < n_label {
        let (n, have) = (
            output::count(n_label, "frame"),
            if n_label == 1 { "has a label in it" } else { "have a label in them" },
        );
        output::complain(&format!("{n} {have}: left out"));
    }
    if 0 < bad.n {
        output::complain(&format!("{} could not be used", output::count(bad.n, "frame")));
    }
    Ok(bad.n == 0)
}
