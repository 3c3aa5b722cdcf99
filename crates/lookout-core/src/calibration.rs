//! What a scene looks like without what is looked for: from some minutes of it to the backgrounds,
//! bounds and temperature of one camera.
//!
//! The bound of a label is the level that its sigma, averaged over time as the decision does, passes so
//! often a day and no more. A day was not seen, so it is an extrapolation: the greatest values of blocks
//! of time follow a distribution of extremes, whose tail is read where one in so many blocks passes.
//! Frames near in time are much alike, therefore a block is several times longer than the series
//! remembers, and too few blocks tell nothing of a day: the bound is provisional then, well above all that
//! was seen. What the recorded minutes did not have, such as nightfall or rain, no bound knows.

mod extremes;
mod series;
mod temperature;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crate::{Bound, ClassBackground, ClassKind, ClassSet, Evidence};

/// Fewer frames tell nothing of a scene.
pub const MIN_FRAMES: usize = 100;
/// Fewer blocks tell nothing of a day.
pub const MIN_BLOCKS: usize = 20;
/// Blocks where there is time for them to be longer than they must be: maxima of longer blocks are
/// nearer to a distribution of extremes.
const BLOCKS: u32 = 30;
/// A block is so many times as long as the series remembers.
const BLOCK_CORRELATIONS: u32 = 5;
/// Deviations of a cosine below this are the noise of a sensor at its best: the next hour has more.
const MIN_DEVIATION: f64 = 0.002;
/// Where the deviation is that least one, or a bound is provisional, a lower one is not believed: such a scene
/// shows too little of what it does.
const MIN_BOUND: f64 = 3.0;
/// A provisional bound lies so many deviations above all that was seen.
const PROVISIONAL_MARGIN: f64 = 1.0;
/// Ashman's D from which two levels are two.
const TWO_LEVELS: f64 = 4.0;
/// Two levels of which one has less than this share of the frames are outliers.
const MIN_SHARE: f64 = 0.02;
/// A label that is accepted in more than this share of the frames seems to be there.
const MAX_ACCEPTED: f64 = 0.01;
/// Flatter scores than this say that no negative describes the scene, not how sure a label is.
const MAX_USABLE_TEMPERATURE: f64 = 4.0;
/// Values kept in memory, 4 bytes each, that no calibrator passes. Where several collect at the same time it
/// is for all of them: who feeds them adds up [`Calibrator::n_values`].
pub const MAX_VALUES: usize = 10_000_000;
/// A time takes as much memory as so many values.
const TIME_VALUES: usize = size_of::<Duration>() / size_of::<f32>();
const DAY: Duration = Duration::from_secs(86_400);

/// Collects what the frames of one camera say.
#[derive(Debug)]
pub struct Calibrator {
    classes: Arc<ClassSet>,
    smoothing: Duration,
    stale_after: Duration,
    times: Vec<Duration>,
    /// Frame after frame, the cosine of each class.
    cosines: Vec<f32>,
    /// Frame after frame, the fused score of each class.
    fused: Vec<f32>,
    /// In how many frames each class was accepted.
    n_accepted: Vec<u32>,
    /// What was accepted in the last of them.
    last_accepted: Option<usize>,
    /// Whether each class is known to be absent.
    is_absent: Vec<bool>,
}

/// What was found of one camera.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// Frames that it is from.
    pub n_frames: usize,
    /// Time from the first to the last of them.
    pub covered: Duration,
    /// The time constant of the mean over time that the bounds are for.
    pub smoothing: Duration,
    /// False alarms a day, of all labels together, that the bounds are for.
    pub false_alarms_a_day: f64,
    /// The temperature; see [`crate::Background::temperature`].
    pub temperature: Temperature,
    /// One a class, in class order.
    pub classes: Vec<CalibratedClass>,
}

/// Where the temperature comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Temperature {
    /// The likelihood of "some negative" over all frames.
    OfNegatives(f64),
    /// It is 1: without negatives nothing tells it.
    NoNegatives,
    /// It is 1: the negatives describe the scene so badly that scores would mean nothing.
    Unfit,
}

/// What was found of one class.
#[derive(Clone, Debug, PartialEq)]
pub struct CalibratedClass {
    /// Its background. A label has a bound unless `why_no_bound` says why not.
    pub background: ClassBackground,
    /// How the bound was found; `None`: it is provisional, or there is none.
    pub extrapolation: Option<Extrapolation>,
    /// Why a label has no bound for the rate: a provisional one with [`NoBound::TooFewBlocks`], otherwise
    /// none.
    pub why_no_bound: Option<NoBound>,
}

/// How a bound was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Extrapolation {
    /// After how long the averaged sigma has forgotten itself.
    pub correlation: Duration,
    /// The length of a block of time.
    pub block: Duration,
    /// How many there were.
    pub n_blocks: usize,
    /// The most that was seen, in sigmas.
    pub greatest: f64,
    /// The level without caution, in sigmas; the bound is 1.28 of its standard errors above it.
    pub estimate: f64,
}

/// Why a label has no bound for a rate of false alarms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NoBound {
    /// The label seems to be in the picture: it was accepted in this share of the frames.
    SeemsPresent {
        /// Within 0 to 1.
        accepted: f64,
    },
    /// Its cosine keeps to two levels, as if it were there for part of the time.
    TwoLevels {
        /// The share of the frames on the upper one, within 0 to 1.
        upper: f64,
    },
    /// The scene changes too slowly for so short a time. There is a provisional bound.
    TooFewBlocks {
        /// Blocks there were.
        got: usize,
        /// The time that would hold [`MIN_BLOCKS`].
        needed: Duration,
    },
}

/// Nothing can be told from so little.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("needs at least {MIN_FRAMES} frames, got {got}")]
pub struct TooFewFrames {
    /// Frames there were.
    pub got: usize,
}

impl Calibrator {
    /// For a camera that decides between `classes`, with the mean over time of `smoothing`.
    pub fn new(classes: Arc<ClassSet>, smoothing: Duration, stale_after: Duration) -> Self {
        let n_accepted = vec![0; classes.classes().len()];
        let (times, cosines, fused) = (Vec::new(), Vec::new(), Vec::new());
        let is_absent = vec![false; n_accepted.len()];
        Self {
            classes,
            smoothing,
            stale_after,
            times,
            cosines,
            fused,
            n_accepted,
            last_accepted: None,
            is_absent,
        }
    }

    /// Somebody knows that the class at `idx` is in none of the frames: it has a bound, however much it seems
    /// to be there.
    pub fn know_absent(&mut self, idx: usize) {
        if let Some(it) = self.is_absent.get_mut(idx) {
            *it = true;
        }
    }

    /// Frames so far.
    pub fn n_frames(&self) -> usize {
        self.times.len()
    }

    /// Values kept so far, as memory counts.
    pub fn n_values(&self) -> usize {
        self.cosines.len() + self.fused.len() + TIME_VALUES * self.times.len()
    }

    /// Whether no more is taken, so that memory has a bound.
    pub fn is_full(&self) -> bool {
        MAX_VALUES <= self.n_values()
    }

    /// A frame that came at `at`, which does not go back, and was not evaluated, as it shows nothing new:
    /// the last one counts once more, as it does in the decision. False where there is none to repeat.
    pub fn repeat(&mut self, at: Duration) -> bool {
        let n_classes = self.n_accepted.len();
        let Some(from) = self.cosines.len().checked_sub(n_classes).filter(|_| 0 < n_classes) else {
            return false;
        };
        if !self.is_full() {
            self.times.push(at);
            self.cosines.extend_from_within(from..);
            self.fused.extend_from_within(from..);
            self.count(self.last_accepted);
        }
        true
    }

    /// A frame that was evaluated at `at`, which does not go back; `accepted` is what would be said of
    /// it by all that is known but a calibration. One that comes when this is full is not taken.
    pub fn add(&mut self, at: Duration, evidence: &Evidence, accepted: Option<usize>) {
        let n_classes = self.n_accepted.len();
        debug_assert!(evidence.cosines.len() == n_classes && evidence.fused.len() == n_classes);
        if self.is_full() {
            return;
        }
        self.times.push(at);
        #[expect(clippy::cast_possible_truncation, reason = "seven digits are more than enough")]
        let short = |it: &f64| *it as f32;
        self.cosines.extend(evidence.cosines.iter().map(short));
        self.fused.extend(evidence.fused.probabilities().iter().map(short));
        self.last_accepted = accepted;
        self.count(accepted);
    }

    fn count(&mut self, accepted: Option<usize>) {
        if let Some(n) = accepted.and_then(|it| self.n_accepted.get_mut(it)) {
            *n += 1;
        }
    }

    /// What the frames say, with bounds for so many false alarms a day, greater than 0, of all labels
    /// together.
    pub fn finish(&self, false_alarms_a_day: f64) -> Result<Calibration, TooFewFrames> {
        let n_frames = self.times.len();
        if n_frames < MIN_FRAMES {
            return Err(TooFewFrames { got: n_frames });
        }
        let is_label = |idx: &usize| self.classes.classes()[*idx].kind == ClassKind::Label;
        let n_classes = self.n_accepted.len();
        let n_labels = (0..n_classes).filter(is_label).count();
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let of_each = false_alarms_a_day / n_labels as f64;
        let class = |idx: usize| self.class(idx, is_label(&idx).then_some(of_each));
        Ok(Calibration {
            n_frames,
            covered: self.covered(),
            smoothing: self.smoothing,
            false_alarms_a_day,
            temperature: self.temperature(n_classes, n_labels),
            classes: (0..n_classes).map(class).collect(),
        })
    }

    fn covered(&self) -> Duration {
        match (self.times.first(), self.times.last()) {
            (Some(first), Some(last)) => last.saturating_sub(*first),
            _ => Duration::ZERO,
        }
    }

    fn temperature(&self, n_classes: usize, n_labels: usize) -> Temperature {
        if n_labels == n_classes {
            return Temperature::NoNegatives;
        }
        match temperature::of_negatives(&self.fused, n_classes, n_labels) {
            it if MAX_USABLE_TEMPERATURE < it => Temperature::Unfit,
            it => Temperature::OfNegatives(it),
        }
    }

    /// Class `idx`, with a bound for so many false alarms a day.
    fn class(&self, idx: usize, false_alarms_a_day: Option<f64>) -> CalibratedClass {
        let cosines: Vec<f64> = self
            .cosines
            .iter()
            .skip(idx)
            .step_by(self.n_accepted.len())
            .map(|it| (*it).into())
            .collect();
        let (mean, deviation) = series::middle(&cosines);
        let deviation = deviation.max(MIN_DEVIATION);
        let plain = ClassBackground { mean: mean.clamp(-1.0, 1.0), deviation, bound: None };
        let Some(false_alarms_a_day) = false_alarms_a_day else {
            return CalibratedClass { background: plain, extrapolation: None, why_no_bound: None };
        };
        let found =
            self.purity(idx, &cosines).map(|()| self.bound(&plain, &cosines, false_alarms_a_day));
        let (bound, extrapolation, why_no_bound) = match found {
            Ok((bound, Ok(extrapolation))) => (Some(bound), Some(extrapolation), None),
            Ok((provisional, Err(why))) => (Some(provisional), None, Some(why)),
            Err(why) => (None, None, Some(why)),
        };
        let background = ClassBackground { bound, ..plain };
        CalibratedClass { background, extrapolation, why_no_bound }
    }

    /// Whether the class seems to be absent throughout, or is.
    fn purity(&self, idx: usize, cosines: &[f64]) -> Result<(), NoBound> {
        if self.is_absent[idx] {
            return Ok(());
        }
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let accepted = f64::from(self.n_accepted[idx]) / self.times.len() as f64;
        if MAX_ACCEPTED < accepted {
            return Err(NoBound::SeemsPresent { accepted });
        }
        match series::two_levels(cosines) {
            Some((d, upper)) if TWO_LEVELS < d && MIN_SHARE < upper.min(1.0 - upper) => {
                Err(NoBound::TwoLevels { upper })
            }
            _ => Ok(()),
        }
    }

    /// The bound, and how it was found, or why it is provisional.
    fn bound(
        &self,
        background: &ClassBackground,
        cosines: &[f64],
        false_alarms_a_day: f64,
    ) -> (Bound, Result<Extrapolation, NoBound>) {
        let sigmas = cosines.iter().map(|it| (it - background.mean) / background.deviation);
        let sigmas = series::smoothed(&self.times, sigmas, self.smoothing, self.stale_after);
        let greatest = sigmas.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let correlation = series::correlation(&self.times, &sigmas);
        let shortest = correlation * BLOCK_CORRELATIONS;
        let block = shortest.max(self.covered() / BLOCKS).max(Duration::from_millis(1));
        let maxima = series::maxima(&self.times, &sigmas, block);
        let n_blocks = maxima.len();
        let blocks_a_day = DAY.as_secs_f64() / block.as_secs_f64();
        // More than one a block would be no alarm but a state.
        let probability = (false_alarms_a_day / blocks_a_day).min(0.5);
        // Half the way back to the background: it has gone.
        let bound = |enter: f64| Bound { enter, exit: enter / 2.0 };
        let level = extremes::level(&maxima, probability).filter(|_| MIN_BLOCKS <= n_blocks);
        let Some(level) = level else {
            // One more, as the last block is seldom whole.
            #[expect(clippy::cast_possible_truncation, reason = "20")]
            let needed = shortest * (MIN_BLOCKS as u32 + 1);
            let provisional = bound((greatest + PROVISIONAL_MARGIN).max(MIN_BOUND));
            return (provisional, Err(NoBound::TooFewBlocks { got: n_blocks, needed }));
        };
        let is_still = background.deviation <= MIN_DEVIATION;
        let enter = level.cautious.max(if is_still { MIN_BOUND } else { 0.0 });
        let estimate = level.estimate;
        (bound(enter), Ok(Extrapolation { correlation, block, n_blocks, greatest, estimate }))
    }
}

impl Temperature {
    /// The value.
    pub fn get(self) -> f64 {
        match self {
            Self::OfNegatives(it) => it,
            Self::NoNegatives | Self::Unfit => 1.0,
        }
    }
}
