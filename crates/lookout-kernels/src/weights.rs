//! Weights of a linear layer, 8 bits each, in the order in which a kernel reads them.

use crate::fit::{Fit, isa_for};
use crate::gemm::Kernel;
use crate::isa::Isa;
use crate::quantize::{K_STEP, max_inputs, shift};

/// The order of a weight matrix of `n_inputs` × `n_outputs` in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// By input, then output (ONNX MatMul).
    InputsFirst,
    /// By output, then input (ONNX Gemm with `transB`).
    OutputsFirst,
    /// By output, then channel, then position of a window (ONNX Conv); inputs are taken by
    /// position, then channel, as [`crate::Patches`] gives them.
    OutputsChannelsPositions {
        /// Positions of the window, height · width.
        n_positions: usize,
    },
}

/// Weights that cannot be packed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeightsError {
    /// Lengths contradict each other.
    #[error("{what} must have {expected} entries, got {got}")]
    Length {
        /// Which part.
        what: &'static str,
        /// What it must have.
        expected: usize,
        /// What it has.
        got: usize,
    },
    /// So many inputs that their sum might not fit 32 bits.
    #[error("a layer must have at most {limit} inputs, got {got}")]
    TooWide {
        /// The most inputs.
        limit: usize,
        /// What it has.
        got: usize,
    },
    /// A scale or a bias is infinite or no number, or a scale is negative.
    #[error("{what} of output {output} must be a finite number{rule}, got {got}")]
    Value {
        /// Which part.
        what: &'static str,
        /// `, 0 or above` for a scale.
        rule: &'static str,
        /// The output's position.
        output: usize,
        /// The value.
        got: String,
    },
}

/// A linear layer's weights and bias, packed for one instruction set.
///
/// Output = Σ input · weight + bias, where weight = `scale` of the output · integer.
pub struct Weights {
    pub(crate) isa: Isa,
    pub(crate) steps: u16,
    pub(crate) n_inputs: usize,
    pub(crate) n_outputs: usize,
    /// Panels of outputs, as many as a tile has columns; in each, by group of inputs, output, input.
    pub(crate) panels: Aligned,
    /// What the tile starts from: undoes the shift of the activations. Padded to whole panels.
    pub(crate) start: Vec<i32>,
    /// Sum of an output's integers, by which an activation's zero is undone. Padded likewise.
    pub(crate) sums: Vec<f32>,
    /// Padded to whole panels.
    pub(crate) scales: Vec<f32>,
    /// Padded to whole panels.
    pub(crate) bias: Vec<f32>,
}

impl Weights {
    /// Packs `values`, with one of `scales` and, where there is one, of `bias` for each output.
    pub fn pack(
        isa: Isa,
        values: &[i8],
        layout: Layout,
        scales: &[f32],
        bias: Option<&[f32]>,
    ) -> Result<Self, WeightsError> {
        let n_outputs = scales.len();
        let n_inputs = values.len().checked_div(n_outputs).unwrap_or(0);
        let isa = isa_for(isa, n_inputs);
        check(isa, values, layout, scales, bias, n_inputs)?;
        let kernel = Kernel::of(isa);
        let source = Source { values, layout, n_inputs, n_outputs };
        let columns = kernel.columns;
        let n_padded = n_inputs.next_multiple_of(K_STEP);
        let n_panels = n_outputs.div_ceil(columns);
        let mut all = source.columns(n_padded);
        let fit = Fit::of(isa, &all, n_padded, scales);
        let mut packed = Self {
            isa,
            steps: fit.steps,
            n_inputs,
            n_outputs,
            panels: Aligned::zeroed(n_panels * n_padded * columns),
            start: vec![0; n_panels * columns],
            sums: vec![0.0; n_panels * columns],
            scales: vec![0.0; n_panels * columns],
            bias: vec![0.0; n_panels * columns],
        };
        if let Some(bias) = bias {
            packed.bias[..n_outputs].copy_from_slice(bias);
        }
        for (output, column) in all.chunks_exact_mut(n_padded.max(1)).enumerate() {
            packed.scales[output] = scales[output] * fit.apply(output, column);
            let sum: i32 = column.iter().map(|it| i32::from(*it)).sum();
            packed.start[output] = i32::from(shift(isa)) * sum;
            #[expect(clippy::cast_precision_loss, reason = "no layer has 2^17 inputs")]
            let sum = sum as f32;
            packed.sums[output] = sum;
            let panel = &mut packed.panels.as_mut_slice()[output / columns * n_padded * columns..];
            let group = kernel.group;
            for (idx, inputs) in column.chunks_exact(group).enumerate() {
                let at = (idx * columns + output % columns) * group;
                panel[at..at + group].copy_from_slice(inputs);
            }
        }
        Ok(packed)
    }

    /// Inputs of the layer.
    pub fn n_inputs(&self) -> usize {
        self.n_inputs
    }

    /// Outputs of the layer.
    pub fn n_outputs(&self) -> usize {
        self.n_outputs
    }

    /// The greatest step of the activations that the layer takes.
    pub fn steps(&self) -> u16 {
        self.steps
    }

    /// The weight from an input to an output, as the kernel has it. For checks.
    pub fn weight(&self, input: usize, output: usize) -> f32 {
        f32::from(self.integer(input, output)) * self.scales[output]
    }

    /// The integer behind [`Self::weight`].
    pub(crate) fn integer(&self, input: usize, output: usize) -> i8 {
        let Kernel { columns, group, .. } = *Kernel::of(self.isa);
        let n_padded = self.n_inputs.next_multiple_of(K_STEP);
        let panel = output / columns * n_padded * columns;
        let at = (input / group * columns + output % columns) * group + input % group;
        self.panels.as_slice()[panel + at]
    }
}

impl std::fmt::Debug for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { isa, n_inputs, n_outputs, .. } = self;
        write!(f, "Weights({n_inputs} to {n_outputs}, {isa})")
    }
}

fn check(
    isa: Isa,
    values: &[i8],
    layout: Layout,
    scales: &[f32],
    bias: Option<&[f32]>,
    n_inputs: usize,
) -> Result<(), WeightsError> {
    let n_outputs = scales.len();
    let length = |what, expected, got| {
        if expected == got { Ok(()) } else { Err(WeightsError::Length { what, expected, got }) }
    };
    length("weights", n_inputs.max(1) * n_outputs, values.len())?;
    let limit = max_inputs(isa);
    if limit < n_inputs {
        return Err(WeightsError::TooWide { limit, got: n_inputs });
    }
    if let Layout::OutputsChannelsPositions { n_positions } = layout {
        let n_channels = n_inputs.checked_div(n_positions).unwrap_or(0);
        length("inputs of a window", n_channels * n_positions, n_inputs)?;
    }
    let mut parts = vec![("scale", ", 0 or above", scales)];
    if let Some(bias) = bias {
        length("bias", n_outputs, bias.len())?;
        parts.push(("bias", "", bias));
    }
    for (what, rule, part) in parts {
        let bad = |it: &f32| !it.is_finite() || (what == "scale" && *it < 0.0);
        if let Some(output) = part.iter().position(bad) {
            let got = part[output].to_string();
            return Err(WeightsError::Value { what, rule, output, got });
        }
    }
    Ok(())
}

/// A weight matrix as it comes.
struct Source<'a> {
    values: &'a [i8],
    layout: Layout,
    n_inputs: usize,
    n_outputs: usize,
}

/// Outputs that are turned together, so that each cache line of the weights is read once.
const TURNED: usize = 64;

impl Source<'_> {
    /// Each output's weights, `n_padded` of them, zeros at the end.
    fn columns(&self, n_padded: usize) -> Vec<i8> {
        let mut columns = vec![0; self.n_outputs * n_padded];
        if self.n_inputs == 0 {
            return columns;
        }
        if self.layout == Layout::InputsFirst {
            for first in (0..self.n_outputs).step_by(TURNED) {
                let outputs = first..(first + TURNED).min(self.n_outputs);
                for (input, row) in self.values.chunks_exact(self.n_outputs).enumerate() {
                    for output in outputs.clone() {
                        columns[output * n_padded + input] = row[output];
                    }
                }
            }
            return columns;
        }
        let own = self.values.chunks_exact(self.n_inputs);
        for (column, own) in columns.chunks_exact_mut(n_padded).zip(own) {
            match self.layout {
                Layout::OutputsChannelsPositions { n_positions } => {
                    let n_channels = self.n_inputs / n_positions;
                    for (channel, window) in own.chunks_exact(n_positions).enumerate() {
                        for (position, value) in window.iter().enumerate() {
                            column[position * n_channels + channel] = *value;
                        }
                    }
                }
                _ => column[..self.n_inputs].copy_from_slice(own),
            }
        }
        columns
    }
}

/// Bytes that start on a cache line.
pub(crate) struct Aligned {
    lines: Vec<Line>,
    len: usize,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([i8; 64]);

impl Aligned {
    fn zeroed(len: usize) -> Self {
        Self { lines: vec![Line([0; 64]); len.div_ceil(64)], len }
    }

    pub(crate) fn as_slice(&self) -> &[i8] {
        // SAFETY: lines are plain bytes without gaps, and there are at least `len`.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }

    fn as_mut_slice(&mut self) -> &mut [i8] {
        // SAFETY: lines are plain bytes without gaps, there are at least `len`, and the borrow
        // is unique.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

#[cfg(test)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    clippy::needless_range_loop,
    reason = "small made-up numbers, by position as the formulae have them"
)]
mod tests {
    use super::*;

    fn matrix(n_inputs: usize, n_outputs: usize) -> Vec<i8> {
        (0..n_inputs * n_outputs)
            .map(|it| ((it * 7919) % 255) as u8 as i8)
            .map(|it| it.max(-127))
            .collect()
    }

    #[test]
    fn every_layout_gives_the_same_layer() {
        let (n_channels, n_positions, n_outputs) = (5, 9, 19);
        let n_inputs = n_channels * n_positions;
        let by_output = matrix(n_inputs, n_outputs);
        let mut by_input = vec![0; by_output.len()];
        let mut by_channel = vec![0; by_output.len()];
        for (output, row) in by_output.chunks(n_inputs).enumerate() {
            for (input, value) in row.iter().enumerate() {
                by_input[input * n_outputs + output] = *value;
                let (position, channel) = (input / n_channels, input % n_channels);
                by_channel[output * n_inputs + channel * n_positions + position] = *value;
            }
        }
        let scales: Vec<f32> = (0..19u8).map(|it| 0.25 + f32::from(it)).collect();
        for isa in Isa::available() {
            let pack =
                |values: &[i8], layout| Weights::pack(isa, values, layout, &scales, None).unwrap();
            let expected = pack(&by_output, Layout::OutputsFirst);
            for (values, layout) in [
                (&by_input, Layout::InputsFirst),
                (&by_channel, Layout::OutputsChannelsPositions { n_positions }),
            ] {
                let packed = pack(values, layout);
                assert_eq!(
                    packed.panels.as_slice(),
                    expected.panels.as_slice(),
                    "{isa} {layout:?}"
                );
                assert_eq!(packed.scales, expected.scales);
            }
        }
    }

    #[test]
    fn parts_that_do_not_fit_are_named() {
        let pack = |values: &[i8], scales: &[f32], bias: Option<&[f32]>| {
            Weights::pack(Isa::PORTABLE, values, Layout::InputsFirst, scales, bias)
                .map(|_| ())
                .map_err(|err| err.to_string())
        };
        assert_eq!(pack(&[1, 2, 3, 4], &[1.0, 1.0], Some(&[0.0, 0.0])), Ok(()));
        assert_eq!(
            pack(&[1, 2, 3], &[1.0, 1.0], None),
            Err("weights must have 2 entries, got 3".into())
        );
        assert_eq!(pack(&[], &[1.0], None), Err("weights must have 1 entries, got 0".into()));
        assert_eq!(pack(&[1], &[1.0], Some(&[])), Err("bias must have 1 entries, got 0".into()));
        assert_eq!(
            pack(&[1, 2], &[1.0, -1.0], None),
            Err("scale of output 1 must be a finite number, 0 or above, got -1".into())
        );
        assert_eq!(
            pack(&[1], &[1.0], Some(&[f32::NAN])),
            Err("bias of output 0 must be a finite number, got NaN".into())
        );
    }
}
