//! When a class is accepted, held and announced.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::ClassSet;

/// When a class is accepted, held and announced. Scores are fused probabilities, so their
/// meaning depends on the model and the number of classes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DecisionRules {
    /// Least score of a class to be accepted; within 0 to 1, a class may have its own.
    pub enter: f64,
    /// Least lead over the next class to be accepted; within 0 to 1.
    pub margin: f64,
    /// An accepted class is held until its score is below this; within 0 to every `enter`.
    pub exit: f64,
    /// How far above its background the cosine of a label must lie, in deviations; in place of each
    /// label's own bound, and only where its background is known. `None`: each by its own.
    pub sigmas: Option<Bound>,
    /// How much of what the picture resembles must be labels, against a bank of everyday words;
    /// within 0 to 1, and only where that is known. `None`: no such gate.
    pub familiarity: Option<Bound>,
    /// τ of the weight 1 − exp(−Δt/τ) that a new distribution has in the mean; zero: no memory.
    pub smoothing: Duration,
    /// How long a class must be held before it is announced.
    pub dwell: Duration,
    /// Least time between two events.
    pub cooldown: Duration,
    /// Without a frame for this long the state is [`crate::State::Stale`]; greater than zero.
    pub stale_after: Duration,
}

/// A bound with hysteresis: accepted from `enter` on, held until below `exit`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// Least value to be accepted.
    pub enter: f64,
    /// Least value to stay accepted; at most `enter`.
    pub exit: f64,
}

/// A rule that is out of range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`{key}` must be {rule}, got {got}")]
pub struct InvalidRules {
    /// The field.
    pub key: String,
    /// Its range.
    pub rule: String,
    /// The value.
    pub got: String,
}

impl DecisionRules {
    pub(super) fn check(&self, classes: &ClassSet) -> Result<(), InvalidRules> {
        let fail = |key: &str, rule: &str, got: String| {
            Err(InvalidRules { key: key.to_owned(), rule: rule.to_owned(), got })
        };
        // Written as "not within" so that NaN is refused too.
        if !(0.0 < self.enter && self.enter <= 1.0) {
            return fail("enter", "greater than 0 and at most 1", self.enter.to_string());
        }
        if !(0.0..=1.0).contains(&self.margin) {
            return fail("margin", "0 to 1", self.margin.to_string());
        }
        if !(0.0..=self.enter).contains(&self.exit) {
            return fail("exit", &format!("0 to enter ({})", self.enter), self.exit.to_string());
        }
        if let Some(bound) = self.sigmas {
            bound.check("sigmas", f64::NEG_INFINITY..=f64::INFINITY, "finite")?;
        }
        if let Some(bound) = self.familiarity {
            bound.check("familiarity", 0.0..=1.0, "0 to 1")?;
        }
        if self.stale_after.is_zero() {
            return fail("stale_after", "greater than 0", "0".to_owned());
        }
        for class in classes.classes() {
            if let Some(enter) = class.enter.filter(|it| *it < self.exit) {
                let rule = format!("at least exit ({})", self.exit);
                return fail(&format!("enter of class {}", class.id), &rule, enter.to_string());
            }
        }
        Ok(())
    }
}

impl Bound {
    pub(super) fn check(
        self,
        key: &str,
        range: RangeInclusive<f64>,
        range_words: &str,
    ) -> Result<(), InvalidRules> {
        let Self { enter, exit } = self;
        let fail = |end: &str, rule: String, got: f64| {
            Err(InvalidRules { key: format!("{key}.{end}"), rule, got: got.to_string() })
        };
        if !(enter.is_finite() && range.contains(&enter)) {
            return fail("enter", range_words.to_owned(), enter);
        }
        if !(exit.is_finite() && range.contains(&exit) && exit <= enter) {
            return fail("exit", format!("{range_words}, and at most enter ({enter})"), exit);
        }
        Ok(())
    }
}
