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
/// from 1/16 to 1 do as well; 1/64 loses ten times as much.
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
pub(crate) struct Load {
    /// The greatest sum of weights of one sign in a lane.
    lane: f32,
    /// Sum of the squares of all weights, times the scale squared.
    power: f32,
    /// Inputs, times the scale squared.
    inputs: f32,
}

impl Load {
    /// Of an output's weights, padded to [`K_STEP`], and its scale.
    pub(crate) fn of(column: &[i8], scale: f32) -> Self {
        let lanes = column.chunks_exact(K_STEP).flat_map(|step| {
            [[0, 1, 4, 5], [2, 3, 6, 7]].map(|lane| {
                let weights = lane.map(|at| i32::from(step[at]));
                let positive: i32 = weights.iter().map(|it| it.max(&0)).sum();
                let negative: i32 = weights.iter().map(|it| -it.min(&0)).sum();
                positive.max(negative)
            })
        });
        let power: i32 = column.iter().map(|it| i32::from(*it) * i32::from(*it)).sum();
        #[expect(clippy::cast_precision_loss, reason = "an estimate of noise, and four weights")]
        let [lane, power, n] = [lanes.max().unwrap_or(0) as f32, power as f32, column.len() as f32];
        Self { lane, power: power * scale * scale, inputs: n * scale * scale }
    }

    /// By how much the weights must become coarser for activations of so many steps; 1 or above.
    pub(crate) fn coarsening(self, isa: Isa, steps: u16) -> f32 {
        let most = LANE / f32::from(steps);
        if !is_tight(isa) || self.lane <= most {
            return 1.0;
        }
        // Each of four weights may be rounded up by a half.
        self.lane / (most - 2.0)
    }

    /// Mean square error of the output, up to a factor that all outputs of a layer share.
    fn noise(self, isa: Isa, steps: u16) -> f32 {
        let of_activations = self.power / f32::from(steps).powi(2);
        let coarsening = self.coarsening(isa, steps);
        // Weights that stay as they are have no error beside that of the file.
        let of_weights =
            if 1.0 < coarsening { self.inputs * WEIGHT_ERROR * coarsening.powi(2) } else { 0.0 };
        of_activations + of_weights
    }
}

/// The number of steps that gives the least noise.
pub(crate) fn steps(isa: Isa, loads: &[Load]) -> u16 {
    if !is_tight(isa) {
        return most_steps(isa);
    }
    let noise = |steps: u16| loads.iter().map(|it| it.noise(isa, steps)).sum::<f32>();
    let candidates = (64..most_steps(isa)).step_by(8).chain([most_steps(isa)]);
    candidates.min_by(|a, b| noise(*a).total_cmp(&noise(*b))).unwrap_or(64)
}

/// Makes the weights of an output coarser.
pub(crate) fn coarsen(column: &mut [i8], coarsening: f32) {
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

    fn tight() -> Option<Isa> {
        Isa::available().find(|it| is_tight(*it))
    }

    proptest! {
        #[test]
        fn no_lane_overflows_whatever_the_weights_and_steps(
            mut column in prop::collection::vec(any::<i8>(), 1..9).prop_map(|it| it.repeat(K_STEP)),
            steps in 64u16..=255,
        ) {
            let Some(isa) = tight() else { return Ok(()) };
            let coarsening = Load::of(&column, 1.0).coarsening(isa, steps);
            coarsen(&mut column, coarsening);
            prop_assert!(Load::of(&column, 1.0).lane * f32::from(steps) <= LANE);
        }
    }

    /// Small weights leave room for all steps. An output with a few large ones would lose its small
    /// ones, so activations become coarser, unless other outputs would lose more.
    #[test]
    fn steps_are_those_that_the_weights_have_room_for() {
        let Some(isa) = tight() else { return };
        let small = Load::of(&[10; 512], 10.0);
        let large = Load::of(&[[127; 8].as_slice(), &[0; 504]].concat(), 1.0);
        assert_eq!(steps(isa, &[small; 8]), 255);
        let few = steps(isa, &[large]);
        assert!((64..255).contains(&few), "{few}");
        assert!(steps(isa, &[small, small, small, small, small, small, large]) > few);
        assert_eq!(steps(isa, &[]), 64);
    }
}
