//! Steps of activations and integers of weights whose products add up in 16 bits.
//!
//! AVX2 without VNNI multiplies bytes fast, but adds their products in lanes of 16 bits: four of
//! them in our tile. Activations have as many steps as a layer's weights leave room for, so that
//! no sum is ever cut off; where a few outputs leave little, their weights become coarser instead.

use crate::isa::{Isa, Kind};
use crate::quantize::{K_STEP, most_steps};

/// The greatest sum of a lane.
const LANE: f32 = 32_767.0;

/// What a weight's error costs beside an activation's. A row's mean square is some 1/64 of its
/// range squared. Activations err differently in each row, and much of that averages out; a
/// weight errs alike in all, so it counts 16 times as much. On the starter's pictures, factors
/// from 1/16 to 1 do about as well; 1/64 loses three times as much.
const WEIGHT_ERROR: f32 = 0.25;

/// Layers of so many inputs have 11 bits. Their outputs are sums of few products, whose errors
/// average out little, and their share of the time is small.
const FEW_INPUTS: usize = 96;

/// What runs a layer where `isa` is asked for.
pub(crate) fn isa_for(isa: Isa, n_inputs: usize) -> Isa {
    if is_tight(isa) && n_inputs <= FEW_INPUTS { Isa::precise() } else { isa }
}

/// Whether a kernel adds in lanes of 16 bits.
fn is_tight(isa: Isa) -> bool {
    match isa.kind() {
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => true,
        _ => false,
    }
}

/// What a lane has to hold for one output.
#[derive(Clone, Copy, Debug)]
struct Load {
    /// The greatest sum of weights of one sign in a lane.
    lane: f32,
    /// Sum of the squares of all weights, times the scale squared.
    power: f32,
    /// Inputs, times the scale squared.
    inputs: f32,
}

impl Load {
    /// Of an output's weights, padded to [`K_STEP`], and its scale.
    fn of(column: &[i8], scale: f32) -> Self {
        let (mut lane, mut power) = (0, 0);
        for step in column.chunks_exact(K_STEP) {
            for [a, b, c, d] in [[0, 1, 4, 5], [2, 3, 6, 7]] {
                let weights = [a, b, c, d].map(|at| i32::from(step[at]));
                let positive: i32 = weights.iter().map(|it| (*it).max(0)).sum();
                let sum: i32 = weights.iter().sum();
                // What is not positive is negative.
                lane = lane.max(positive).max(positive - sum);
                power += weights.iter().map(|it| it * it).sum::<i32>();
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "an estimate of noise, and four weights")]
        let [lane, power, n] = [lane as f32, power as f32, column.len() as f32];
        Self { lane, power: power * scale * scale, inputs: n * scale * scale }
    }

    /// By how much the weights must become coarser for activations of so many steps; 1 or above.
    fn coarsening(self, steps: u16) -> f32 {
        let most = LANE / f32::from(steps);
        if self.lane <= most {
            return 1.0;
        }
        // Each of four weights may be rounded up by a half.
        self.lane / (most - 2.0)
    }

    /// Mean square error of the output, up to a factor that all outputs of a layer share.
    fn noise(self, steps: u16) -> f32 {
        let of_activations = self.power / f32::from(steps).powi(2);
        let coarsening = self.coarsening(steps);
        // Weights that stay as they are have no error beside that of the file.
        let of_weights =
            if 1.0 < coarsening { self.inputs * WEIGHT_ERROR * coarsening.powi(2) } else { 0.0 };
        of_activations + of_weights
    }
}

/// How a layer's numbers are made to fit the lanes of its kernel.
pub(crate) struct Fit {
    /// The greatest step of an activation.
    pub(crate) steps: u16,
    /// By how much the weights of each output become coarser; 1 or above, and none where all stay
    /// as they are.
    coarsening: Vec<f32>,
}

impl Fit {
    /// Of `columns`, the weights of each output, `n_padded` each.
    pub(crate) fn of(isa: Isa, columns: &[i8], n_padded: usize, scales: &[f32]) -> Self {
        if !is_tight(isa) {
            return Self { steps: most_steps(isa), coarsening: Vec::new() };
        }
        let columns = columns.chunks_exact(n_padded.max(1));
        let loads: Vec<Load> =
            columns.zip(scales).map(|(column, scale)| Load::of(column, *scale)).collect();
        let steps = steps(isa, &loads);
        Self { steps, coarsening: loads.iter().map(|it| it.coarsening(steps)).collect() }
    }

    /// Makes the weights of an output coarser where they have to be; gives what its scale is
    /// multiplied by.
    pub(crate) fn apply(&self, output: usize, column: &mut [i8]) -> f32 {
        match self.coarsening.get(output) {
            Some(coarsening) if 1.0 < *coarsening => {
                coarsen(column, *coarsening);
                *coarsening
            }
            _ => 1.0,
        }
    }
}

/// The number of steps that gives the least noise.
fn steps(isa: Isa, loads: &[Load]) -> u16 {
    let noise = |steps: u16| loads.iter().map(|it| it.noise(steps)).sum::<f32>();
    let candidates = (64..most_steps(isa)).step_by(8).chain([most_steps(isa)]);
    candidates.min_by(|a, b| noise(*a).total_cmp(&noise(*b))).unwrap_or(64)
}

/// Makes the weights of an output coarser.
fn coarsen(column: &mut [i8], coarsening: f32) {
    for weight in column {
        // The cast saturates, and what is rounded is no greater than the weight.
        #[expect(clippy::cast_possible_truncation, reason = "see above")]
        let coarse = (f32::from(*weight) / coarsening).round() as i8;
        *weight = coarse;
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small made-up numbers")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_lane_overflows_whatever_the_weights_and_steps(
            mut column in prop::collection::vec(any::<i8>(), 1..9).prop_map(|it| it.repeat(K_STEP)),
            steps in 64u16..=255,
        ) {
            let fit = Fit { steps, coarsening: vec![Load::of(&column, 1.0).coarsening(steps)] };
            fit.apply(0, &mut column);
            prop_assert!(Load::of(&column, 1.0).lane * f32::from(steps) <= LANE);
        }
    }

    /// Small weights leave room for all steps. An output with a few large ones would lose its small
    /// ones, so activations become coarser, unless other outputs would lose more.
    #[test]
    fn steps_are_those_that_the_weights_have_room_for() {
        let Some(isa) = Isa::available().find(|it| is_tight(*it)) else { return };
        let small = Load::of(&[10; 512], 10.0);
        let large = Load::of(&[[127; 8].as_slice(), &[0; 504]].concat(), 1.0);
        assert_eq!(steps(isa, &[small; 8]), 255);
        let few = steps(isa, &[large]);
        assert!((64..255).contains(&few), "{few}");
        assert!(steps(isa, &[small, small, small, small, small, small, large]) > few);
        assert_eq!(steps(isa, &[]), 64);
    }
}
