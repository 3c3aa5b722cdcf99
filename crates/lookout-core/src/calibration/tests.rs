//! Calibration of made-up scenes whose truth is known.

use super::*;
use crate::{Class, Distribution, Id, Weights};

/// Normal numbers, always the same ones.
pub(super) struct Noise(pub(super) u64);

impl Noise {
    /// Even over 0 to 1, both excluded (SplitMix64).
    fn even(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        #[expect(clippy::cast_precision_loss, reason = "53 bits")]
        let even = ((z ^ (z >> 31)) >> 11) as f64;
        (even + 0.5) / 9_007_199_254_740_992.0
    }

    pub(super) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.even().ln()).sqrt();
        radius * (2.0 * std::f64::consts::PI * self.even()).cos()
    }
}

/// Labels in capitals.
fn classes(letters: &str) -> Arc<ClassSet> {
    let class = |letter: char| Class {
        id: Id::new(letter.to_ascii_lowercase()).unwrap(),
        kind: if letter.is_uppercase() { ClassKind::Label } else { ClassKind::Negative },
        name: letter.to_string(),
        aliases: vec![],
        prompts: vec![],
        enter: None,
    };
    Arc::new(ClassSet::new(vec!["{}".to_owned()], letters.chars().map(class).collect()).unwrap())
}

fn evidence(cosines: Vec<f64>, fused: Distribution) -> Evidence {
    Evidence {
        sigmas: vec![None; cosines.len()],
        cosines,
        familiarity: None,
        image: fused.clone(),
        matches: None,
        captions: None,
        retrieved: vec![],
        weights: Weights { image: 1.0, captions: 0.0 },
        taught: None,
        adapted: None,
        fused,
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// A scene that remembers for `tau_s`: the cosine of each class is `mean` and ten thousandths as often
/// as the noise says, plus what `extra` adds at a time.
fn scene(
    letters: &str,
    seconds: u32,
    tau_s: f64,
    seed: u64,
    extra: impl Fn(f64, usize) -> f64,
) -> Calibrator {
    let mut it = Calibrator::new(classes(letters), SECOND, SECOND * 30);
    let mut noise = Noise(seed);
    let n_classes = letters.len();
    let mut values = vec![0.0; n_classes];
    let keep = (-0.5 / tau_s).exp();
    for n in 0..seconds * 2 {
        let at = f64::from(n) * 0.5;
        let mut cosines = Vec::new();
        for (idx, value) in values.iter_mut().enumerate() {
            *value = keep * *value + (1.0 - keep * keep).sqrt() * noise.normal();
            cosines.push(0.2 + 0.01 * *value + extra(at, idx));
        }
        let fused = Distribution::softmax(&vec![0.0; n_classes]).unwrap();
        it.add(Duration::from_secs_f64(at), &evidence(cosines, fused), None);
    }
    it
}

#[test]
fn mean_deviation_and_a_bound_above_all_that_was_seen() {
    let it = scene("ABc", 600, 1.0, 1, |_, _| 0.0).finish(1.0).unwrap();
    assert_eq!((it.n_frames, it.covered), (1200, Duration::from_millis(599_500)));
    for (idx, class) in it.classes.iter().enumerate() {
        let ClassBackground { mean, deviation, bound } = class.background;
        assert!((mean - 0.2).abs() < 0.003 && (deviation - 0.01).abs() < 0.002, "{class:?}");
        if idx == 2 {
            assert!(bound.is_none() && class.why_no_bound.is_none(), "a negative");
            continue;
        }
        let found = class.extrapolation.unwrap();
        let bound = bound.unwrap();
        assert!(found.greatest < found.estimate && found.estimate < bound.enter, "{found:?}");
        assert!((bound.exit - bound.enter / 2.0).abs() < 1e-12);
        assert!(MIN_BLOCKS <= found.n_blocks && found.correlation * 5 <= found.block, "{found:?}");
    }
}

/// What the promise is worth: ten minutes are calibrated, then so many days of the same scene pass.
fn alarms_a_day(tau_s: f64, promised: f64, n_scenes: u64, days: f64) -> f64 {
    let mut n_alarms = 0.0;
    for seed in 0..n_scenes {
        let calibration = scene("Ab", 600, tau_s, 100 + seed, |_, _| 0.0).finish(promised).unwrap();
        let background = calibration.classes[0].background;
        let bound = background.bound.unwrap();
        let mut noise = Noise(9000 + seed);
        let (mut value, mut mean, mut is_on) = (0.0, 0.0, false);
        let keep = (-0.5 / tau_s).exp();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a test")]
        for _ in 0..(days * 172_800.0) as u32 {
            value = keep * value + (1.0 - keep * keep).sqrt() * noise.normal();
            let sigma = (0.2 + 0.01 * value - background.mean) / background.deviation;
            mean -= (sigma - mean) * (-0.5f64).exp_m1();
            let was_on = is_on;
            is_on = if was_on { bound.exit <= mean } else { bound.enter <= mean };
            n_alarms += f64::from(u8::from(is_on && !was_on));
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a test")]
    let n_scenes = n_scenes as f64;
    n_alarms / (n_scenes * days)
}

#[test]
fn the_promised_rate_is_kept_by_a_scene_that_stays_as_it_was() {
    for tau_s in [0.3, 2.0] {
        let got = alarms_a_day(tau_s, 10.0, 8, 2.0);
        // The bound is cautious, and not blind.
        assert!((0.1..=10.0).contains(&got), "τ {tau_s}: {got}");
    }
}

#[test]
fn more_false_alarms_mean_a_lower_bound() {
    let it = scene("AB", 600, 1.0, 3, |_, _| 0.0);
    let enter = |rate: f64| it.finish(rate).unwrap().classes[0].background.bound.unwrap().enter;
    assert!(enter(100.0) < enter(1.0) && enter(1.0) < enter(0.01));
    // Twice the labels share the same rate.
    let more = scene("ABCD", 600, 1.0, 3, |_, _| 0.0).finish(2.0).unwrap();
    assert_eq!(more.classes.len(), 4);
    assert!(enter(1e9).is_finite());
}

#[test]
fn too_little_is_refused() {
    let few = scene("AB", 40, 1.0, 1, |_, _| 0.0);
    assert_eq!(few.finish(1.0), Err(TooFewFrames { got: 80 }));
    // A scene that remembers for a minute has no twenty blocks in ten.
    let slow = scene("AB", 600, 60.0, 1, |_, _| 0.0).finish(1.0).unwrap();
    let why = slow.classes[0].why_no_bound;
    let Some(NoBound::TooFewBlocks { got, needed }) = why else { panic!("{why:?}") };
    assert!(got < MIN_BLOCKS && Duration::from_secs(1200) < needed, "{why:?}");
    // Until then what was not seen counts as there.
    let background = slow.classes[0].background;
    let bound = background.bound.unwrap();
    let steady = scene("AB", 600, 60.0, 1, |_, _| 0.0);
    let cosines = steady.cosines.iter().step_by(2).map(|it| f64::from(*it));
    let sigmas = cosines.map(|it| (it - background.mean) / background.deviation);
    let greatest = series::smoothed(&steady.times, sigmas, steady.smoothing, steady.stale_after)
        .into_iter()
        .fold(f64::NEG_INFINITY, f64::max);
    assert!((bound.enter - (greatest + 1.0).max(3.0)).abs() < 1e-9, "{bound:?} {greatest}");
    assert!(slow.classes[0].extrapolation.is_none());
}

#[test]
fn a_label_in_the_picture_is_told_and_gets_no_bound() {
    // There for a quarter of the time.
    let there = |at: f64, idx: usize| if idx == 0 && at % 240.0 < 60.0 { 0.1 } else { 0.0 };
    let it = scene("ABc", 600, 0.5, 1, there).finish(1.0).unwrap();
    let why = it.classes[0].why_no_bound;
    assert!(
        matches!(why, Some(NoBound::TwoLevels { upper }) if (0.2..0.35).contains(&upper)),
        "{why:?}"
    );
    assert!(it.classes[1].background.bound.is_some(), "{:?}", it.classes[1]);

    let mut all = scene("ABc", 600, 0.5, 1, |_, _| 0.0);
    all.n_accepted[1] = 60;
    let it = all.finish(1.0).unwrap();
    assert_eq!(it.classes[1].why_no_bound, Some(NoBound::SeemsPresent { accepted: 0.05 }));
    assert!(it.classes[0].background.bound.is_some());
    // Somebody knows better, of one label.
    all.n_accepted[0] = 60;
    all.know_absent(1);
    let it = all.finish(1.0).unwrap();
    assert!(it.classes[1].background.bound.is_some() && it.classes[1].why_no_bound.is_none());
    assert_eq!(it.classes[0].background.bound, None);
}

#[test]
fn a_frozen_scene_is_not_taken_for_one_without_noise() {
    let mut it = Calibrator::new(classes("AB"), SECOND, SECOND * 30);
    for n in 0..1200u64 {
        let fused = Distribution::softmax(&[0.0, 0.0]).unwrap();
        let seen = evidence(vec![0.2, 0.1], fused);
        it.add(Duration::from_millis(500 * n), &seen, None);
    }
    let class = it.finish(1.0).unwrap().classes.remove(0);
    assert!((class.background.deviation - MIN_DEVIATION).abs() < 1e-12);
    assert_eq!(class.background.bound, Some(Bound { enter: 3.0, exit: 1.5 }));
}

#[test]
fn the_temperature_needs_negatives() {
    let of = |letters: &str, logits: &[f64]| {
        let mut it = Calibrator::new(classes(letters), SECOND, SECOND * 30);
        for n in 0..200u64 {
            let fused = Distribution::softmax(logits).unwrap();
            it.add(
                SECOND * u32::try_from(n).unwrap(),
                &evidence(vec![0.2; logits.len()], fused),
                None,
            );
        }
        it.finish(1.0).unwrap().temperature
    };
    assert_eq!(of("AB", &[1.0, 0.0]), Temperature::NoNegatives);
    assert_eq!(of("Ab", &[0.0, 3.0]), Temperature::OfNegatives(1.0));
    assert_eq!(of("Ab", &[3.0, 0.0]), Temperature::Unfit);
    assert!((Temperature::Unfit.get() - 1.0).abs() < 1e-12);
}

#[test]
fn a_still_scene_that_is_not_evaluated_is_averaged_as_one_frame() {
    // Every frame is seen, or one in ten seconds and then repeated.
    let fused = || Distribution::softmax(&[0.0, 0.0]).unwrap();
    let [seen, repeated] = [1, 20].map(|every| {
        let mut it = Calibrator::new(classes("AB"), SECOND * 3, SECOND * 30);
        assert!(!it.repeat(Duration::ZERO), "there is nothing to repeat");
        let mut noise = Noise(3);
        for n in 0..7200u32 {
            let at = SECOND * n / 2;
            let cosines = vec![0.2 + 0.01 * noise.normal(), 0.2 + 0.01 * noise.normal()];
            if n % every != 0 {
                assert!(it.repeat(at));
                continue;
            }
            it.add(at, &evidence(cosines, fused()), (n == 0).then_some(1));
        }
        assert_eq!((it.n_frames(), it.n_values()), (7200, 7200 * 8));
        it.finish(1.0).unwrap().classes
    });
    let bound = |it: &CalibratedClass| it.background.bound.unwrap().enter;
    // Twenty of the 7200 frames would be too few to say that it is there.
    assert!(2.0 * bound(&seen[0]) < bound(&repeated[0]), "{seen:?} {repeated:?}");
    assert!(SECOND * 5 < repeated[0].extrapolation.unwrap().correlation);
}
