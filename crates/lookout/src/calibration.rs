//! Calibrations in use: which of them fit the cameras, and what is told of those that do not.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::bail;
use lookout_config::Camera;
use lookout_core::{Background, ClassSet, DecisionRules, Id};
use lookout_store::{Calibrations, Known, StoreError};

/// What is not as it was calibrated though a calibration is configured, for people.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Uncalibrated(Vec<String>);

/// The calibrations of a configuration.
pub(crate) enum Found {
    /// None are named, or there are none yet.
    None,
    /// This file.
    File(PathBuf, Calibrations),
}

impl Uncalibrated {
    /// One a line.
    pub(crate) fn notes(&self) -> &[String] {
        &self.0
    }

    /// For the status line; `None` where everything is as it should be.
    pub(crate) fn status(&self) -> Option<String> {
        let notes = self.notes();
        let first = notes.first()?;
        Some(match notes.len() {
            1 => first.clone(),
            n => format!("{first} (and {} more, see the log)", n - 1),
        })
    }

    /// Warns in the log.
    pub(crate) fn warn(&self) {
        for note in self.notes() {
            tracing::warn!("Calibration: {note}.");
        }
    }
}

impl Found {
    /// Opens the calibrations in `path`. Errs when the file is damaged, or of another model than that of
    /// `space`.
    pub(crate) fn open(
        path: &Path,
        space: &str,
        uncalibrated: &mut Uncalibrated,
    ) -> anyhow::Result<Self> {
        match Calibrations::read(path) {
            Ok(it) if it.space == space => Ok(Self::File(path.to_path_buf(), it)),
            Ok(it) => bail!(
                "{} is of model space {}, and the model's is {space}; run `lookout calibrate`, or set \
                 `calibration` to \"off\"",
                path.display(),
                it.space
            ),
            Err(StoreError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => {
                let path = path.display();
                uncalibrated.0.push(format!("{path} does not exist; `lookout calibrate` makes it"));
                Ok(Self::None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What is known of the scene of `camera`, which decides between `classes` by `rules`.
    pub(crate) fn of(
        &self,
        camera: &Camera,
        classes: &ClassSet,
        rules: &DecisionRules,
        uncalibrated: &mut Uncalibrated,
    ) -> Background {
        let unknown = || Background::unknown(classes.classes().len());
        let Self::File(path, calibrations) = self else { return unknown() };
        // Nobody misses anything of a camera that is switched off.
        let mut nowhere = Uncalibrated::default();
        let uncalibrated = if camera.enabled { uncalibrated } else { &mut nowhere };
        let id = &camera.id;
        let Some(it) = calibrations.cameras.get(id) else {
            uncalibrated.0.push(format!("{} has no camera {id}", path.display()));
            return unknown();
        };
        let Known { background, changed, unfit_temperature } = it.known(classes);
        if !changed.is_empty() {
            let names: Vec<&str> = changed.iter().map(Id::as_str).collect();
            uncalibrated.0.push(format!("camera {id}: {}", changed_since(&names)));
        }
        if let Some(temperature) = unfit_temperature {
            uncalibrated.0.push(format!(
                "camera {id}: labels or negatives were added, taken away, changed or put in another order, \
                 and the temperature {temperature:.2} that was found for all of them is 1 until it is \
                 calibrated anew"
            ));
        }
        let without: Vec<&str> = classes
            .classes()
            .iter()
            .zip(background.classes())
            .filter(|(class, known)| {
                class.kind == lookout_core::ClassKind::Label
                    && known.is_some_and(|it| it.bound.is_none())
                    && rules.sigmas.is_none()
            })
            .map(|(class, _)| class.id.as_str())
            .collect();
        if !without.is_empty() {
            uncalibrated.0.push(format!(
                "camera {id}: no bound was found for {}; `lookout calibrate --show` says why",
                without.join(", ")
            ));
        }
        let provisional = it.provisional();
        if !provisional.is_empty() && rules.sigmas.is_none() {
            uncalibrated.0.push(format!(
                "camera {id}: the bound is provisional for {}; `lookout calibrate --show` says why",
                provisional.join(", ")
            ));
        }
        if let Some(then) = it.max_fps.filter(|then| 1e-9 < (then - camera.max_fps).abs()) {
            uncalibrated.0.push(format!(
                "camera {id}: it was calibrated with max_fps = {then}, and it is {} now; calibrate anew",
                camera.max_fps
            ));
        }
        let smoothing_s = rules.smoothing.as_secs_f64();
        if smoothing_s < it.smoothing_s {
            uncalibrated.0.push(format!(
                "camera {id}: the bounds are for smoothing_s = {}, and with {smoothing_s} there are more \
                 false alarms",
                it.smoothing_s
            ));
        }
        background
    }
}

/// That classes are no longer, or not yet, what was calibrated.
fn changed_since(names: &[&str]) -> String {
    let since = match names {
        [_] => "changed since it was calibrated, or was not there then",
        _ => "changed since they were calibrated, or were not there then",
    };
    format!("{} {since}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_class_was_and_several_were_not_there() {
        assert_eq!(
            changed_since(&["cat"]),
            "cat changed since it was calibrated, or was not there then"
        );
        assert_eq!(
            changed_since(&["cat", "dog"]),
            "cat, dog changed since they were calibrated, or were not there then"
        );
    }
}
