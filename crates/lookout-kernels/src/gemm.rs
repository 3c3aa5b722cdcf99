//! Quantized rows times packed weights.

#[cfg(target_arch = "aarch64")]
mod arm;
#[cfg(target_arch = "x86_64")]
mod x86;

use crate::activation::Activation;
use crate::isa::{Isa, Kind, per_isa};
use crate::lanes::{Lanes, Pack};
use crate::quantize::{K_STEP, Rows};
use crate::weights::Weights;

/// What happens to the values already in an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// They are replaced.
    Set,
    /// The layer's output is added to them: the residual connection.
    Add,
}

/// Adds the products of a tile, `rows` × `columns`, to `start`, and writes the sums to `sums`,
/// row by row. `n_steps` times [`K_STEP`] inputs are read from each row, `stride` bytes apart,
/// and from the panel.
type Tile = unsafe fn(
    rows: *const u8,
    stride: usize,
    panel: *const i8,
    n_steps: usize,
    start: *const i32,
    sums: *mut i32,
);

/// The integer kernel of an instruction set.
pub(crate) struct Kernel {
    rows: usize,
    pub(crate) columns: usize,
    /// Inputs of an output that lie together in a panel.
    pub(crate) group: usize,
    /// The cheapest tile for up to so many rows.
    tile: fn(usize) -> Tile,
}

/// Rows that go through all panels together: so few that they and a panel stay in a cache, and so
/// many that weights, which are larger than any cache, are fetched seldom.
const BLOCK_ROWS: usize = 64;

/// No kernel's panel is wider.
const MAX_COLUMNS: usize = 32;

impl Kernel {
    pub(crate) fn of(isa: Isa) -> &'static Self {
        const PORTABLE: Kernel =
            Kernel { rows: 2, columns: 8, group: 2, tile: |_| portable::<2, 8> };
        match isa.kind() {
            Kind::Portable => &PORTABLE,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => &x86::AVX2,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2Words => &x86::AVX2_WORDS,
            #[cfg(target_arch = "x86_64")]
            Kind::AvxVnni => &x86::AVX_VNNI,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni => &x86::AVX512_VNNI,
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => &arm::NEON,
            #[cfg(target_arch = "aarch64")]
            Kind::NeonWords => &arm::NEON_WORDS,
            #[cfg(target_arch = "aarch64")]
            Kind::NeonDot => &arm::NEON_DOT,
            #[cfg(target_arch = "aarch64")]
            Kind::NeonI8mm => &arm::NEON_I8MM,
        }
    }
}

/// Writes activation(rows · weights + bias) to `out`, rows of [`Weights::n_outputs`] entries, or
/// adds it to what is there.
///
/// # Panics
///
/// If the rows do not have the layer's number of inputs, were quantized for another kind of layer,
/// or `out` does not have as many rows: errors of the caller, not of its input.
pub fn multiply(
    rows: &Rows,
    weights: &Weights,
    activation: Activation,
    output: Output,
    out: &mut [f32],
) {
    assert_eq!(rows.n_channels, weights.n_inputs, "inputs of the layer");
    assert_eq!((rows.isa, rows.steps), (weights.isa, weights.steps), "kernel and steps");
    assert_eq!(rows.n_rows * weights.n_outputs, out.len(), "entries of the output");
    let kernel = Kernel::of(weights.isa);
    let stride = rows.stride();
    let n_padded = rows.n_channels.next_multiple_of(K_STEP);
    let n_steps = n_padded / K_STEP;
    let panel_len = n_padded * kernel.columns;
    let block = BLOCK_ROWS / kernel.rows * kernel.rows;
    let mut sums = Sums([0; BLOCK_ROWS * MAX_COLUMNS]);
    assert!(0 < block && kernel.columns <= MAX_COLUMNS, "a tile fits a block");
    for first in (0..rows.n_rows).step_by(block) {
        let n_rows = block.min(rows.n_rows - first);
        let panels = weights.panels.as_slice().chunks_exact(panel_len.max(1));
        for (panel_idx, panel) in panels.enumerate() {
            let column = panel_idx * kernel.columns;
            // SAFETY: `rows` has MAX_TILE_ROWS more, at least a tile, and is padded to K_STEP;
            // panel and start are padded to the kernel's columns; `sums` holds a block.
            unsafe {
                for row in (0..n_rows).step_by(kernel.rows) {
                    (kernel.tile)(n_rows - row)(
                        rows.bytes.as_ptr().add((first + row) * stride),
                        stride,
                        panel.as_ptr(),
                        n_steps,
                        weights.start.as_ptr().add(column),
                        sums.0.as_mut_ptr().add(row * kernel.columns),
                    );
                }
            }
            let block = Block {
                sums: sums.0.as_ptr(),
                tile_columns: kernel.columns,
                n_rows,
                n_columns: kernel.columns.min(weights.n_outputs - column),
                row_scales: rows.scales[first..].as_ptr(),
                zeros: rows.zeros[first..].as_ptr(),
                column_sums: weights.sums[column..].as_ptr(),
                scales: weights.scales[column..].as_ptr(),
                bias: weights.bias[column..].as_ptr(),
                out: out[first * weights.n_outputs + column..].as_mut_ptr(),
                stride: weights.n_outputs,
            };
            // SAFETY: the block's part of the output lies within `out`, whose length was checked.
            unsafe { finish(weights.isa, &block, activation, output) }
        }
    }
}

#[repr(align(64))]
struct Sums([i32; BLOCK_ROWS * MAX_COLUMNS]);

/// Where the sums of a block of rows and one panel go; pointers to their part of each array.
struct Block {
    sums: *const i32,
    tile_columns: usize,
    n_rows: usize,
    n_columns: usize,
    row_scales: *const f32,
    zeros: *const f32,
    column_sums: *const f32,
    scales: *const f32,
    bias: *const f32,
    out: *mut f32,
    stride: usize,
}

per_isa! { unsafe fn finish = finish_block(block: &Block, activation: Activation, output: Output) }

#[inline(always)]
unsafe fn finish_block<V: Lanes>(block: &Block, activation: Activation, output: Output) {
    // One loop for each case, so that none has to choose within.
    // SAFETY: the caller vouches for the block.
    unsafe {
        match output {
            Output::Set => finish_to::<V>(block, activation, Output::Set),
            Output::Add => finish_to::<V>(block, activation, Output::Add),
        }
    }
}

#[inline(always)]
unsafe fn finish_to<V: Lanes>(block: &Block, activation: Activation, output: Output) {
    use Activation::{Clamp, Gelu, GeluTanh, HardSwish, Identity, QuickGelu, Silu};
    // SAFETY: the caller vouches for the block.
    unsafe {
        match activation {
            Identity => finish_columns::<V>(block, Identity, output),
            Clamp { low, high } => finish_columns::<V>(block, Clamp { low, high }, output),
            Gelu => finish_columns::<V>(block, Gelu, output),
            GeluTanh => finish_columns::<V>(block, GeluTanh, output),
            QuickGelu => finish_columns::<V>(block, QuickGelu, output),
            Silu => finish_columns::<V>(block, Silu, output),
            HardSwish => finish_columns::<V>(block, HardSwish, output),
        }
    }
}

#[inline(always)]
unsafe fn finish_columns<V: Lanes>(block: &Block, activation: Activation, output: Output) {
    let mut at = 0;
    // SAFETY: the caller vouches that every array holds `n_columns` entries.
    unsafe {
        while at + V::LEN <= block.n_columns {
            finish_rows::<V, ABREAST>(block, at, activation, output);
            at += V::LEN;
        }
        while at + V::Half::LEN <= block.n_columns {
            finish_rows::<V::Half, 1>(block, at, activation, output);
            at += V::Half::LEN;
        }
        while at < block.n_columns {
            finish_rows::<f32, 1>(block, at, activation, output);
            at += 1;
        }
    }
}

/// `V::LEN` columns from `at` on, `N` rows abreast where that takes long.
#[inline(always)]
unsafe fn finish_rows<V: Lanes, const N: usize>(
    block: &Block,
    at: usize,
    activation: Activation,
    output: Output,
) {
    // SAFETY: the caller vouches for `V::LEN` entries at `at` in each of `n_rows` rows.
    unsafe {
        let mut row = 0;
        // What is over after a few instructions need not wait for others.
        let is_long = !matches!(activation, Activation::Identity | Activation::Clamp { .. });
        while 1 < N && is_long && row + N <= block.n_rows {
            finish_some::<V, N>(block, row, at, activation, output);
            row += N;
        }
        while row < block.n_rows {
            finish_some::<V, 1>(block, row, at, activation, output);
            row += 1;
        }
    }
}

/// Rows that are finished side by side.
const ABREAST: usize = 4;

/// The same of `N` rows from `row` on.
#[inline(always)]
unsafe fn finish_some<V: Lanes, const N: usize>(
    block: &Block,
    row: usize,
    at: usize,
    activation: Activation,
    output: Output,
) {
    // SAFETY: the caller vouches for the rows and the columns.
    unsafe {
        let column_sum = V::load(block.column_sums.add(at));
        let column_scale = V::load(block.scales.add(at));
        let bias = V::load(block.bias.add(at));
        let mut values = Pack([bias; N]);
        for (i, value) in values.0.iter_mut().enumerate() {
            let row = row + i;
            let scale = column_scale.mul(V::splat(block.row_scales.add(row).read()));
            let zero = V::splat(-block.zeros.add(row).read());
            let sum = V::from_i32(block.sums.add(row * block.tile_columns + at));
            *value = column_sum.mul_add(zero, sum).mul_add(scale, bias);
        }
        let values = activation.on(values);
        for (i, value) in values.0.into_iter().enumerate() {
            let out = block.out.add((row + i) * block.stride + at);
            match output {
                Output::Set => value.store(out),
                Output::Add => value.add(V::load(out)).store(out),
            }
        }
    }
}

/// The reference tile.
unsafe fn portable<const ROWS: usize, const COLUMNS: usize>(
    rows: *const u8,
    stride: usize,
    panel: *const i8,
    n_steps: usize,
    start: *const i32,
    sums: *mut i32,
) {
    // SAFETY: the caller vouches for a tile's worth of everything.
    unsafe {
        for row in 0..ROWS {
            let mut sum = [0; COLUMNS];
            for (column, sum) in sum.iter_mut().enumerate() {
                *sum = start.add(column).read();
            }
            let row_steps = rows.add(row * stride).cast::<u16>();
            for pair in 0..n_steps * (K_STEP / 2) {
                let inputs =
                    [0, 1].map(|k| i32::from(row_steps.add(pair * 2 + k).read_unaligned()));
                let weights = panel.add(pair * COLUMNS * 2);
                for (column, sum) in sum.iter_mut().enumerate() {
                    let weights = weights.add(column * 2);
                    *sum += inputs[0] * i32::from(weights.read())
                        + inputs[1] * i32::from(weights.add(1).read());
                }
            }
            sums.add(row * COLUMNS).cast::<[i32; COLUMNS]>().write(sum);
        }
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
    use crate::Layout;
    use proptest::prelude::*;

    /// The same integers by the definition, and what floats of the sums may be off by: a few units
    /// in the last place of what cancels.
    fn reference(rows: &Rows, weights: &Weights, bias: &[f32]) -> Vec<(f32, f32)> {
        let mut out = Vec::new();
        for row in 0..rows.n_rows {
            for output in 0..weights.n_outputs {
                let sum: i32 = (0..weights.n_inputs)
                    .map(|input| {
                        let step = rows.step(row, input);
                        (step - rows.zeros[row] as i32) * i32::from(weights.integer(input, output))
                    })
                    .sum();
                let scale = rows.scales[row] * weights.scales[output];
                let greatest = f32::from(rows.steps) * 127.0 * weights.n_inputs as f32;
                let value = sum as f32 * scale + bias[output];
                out.push((value, greatest * scale * 2e-7 + value.abs() * 1e-6 + 1e-5));
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn every_kernel_gives_the_integers_of_the_definition(
            n_rows in 1usize..40, n_inputs in prop_oneof![1usize..70, 97usize..300], n_outputs in 1usize..70, seed in any::<u64>(), extreme in any::<bool>(),
        ) {
            let mut state = seed;
            let mut next = move || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) as u32
            };
            // Extremes look for sums that saturate.
            let weights: Vec<i8> = (0..n_inputs * n_outputs).map(|_| if extreme { if next() % 3 == 0 { -128 } else { 127 } } else { ((next() % 255) as i32 - 127) as i8 }).collect();
            let values: Vec<f32> = (0..n_rows * n_inputs).map(|_| if extreme { if next() % 3 == 0 { -1.0 } else { 1.0 } } else { next() as f32 / 1e9 - 1.0 }).collect();
            let scales: Vec<f32> = (0..n_outputs).map(|_| (next() % 100) as f32 * 0.01).collect();
            let bias: Vec<f32> = (0..n_outputs).map(|_| (next() % 100) as f32 - 50.0).collect();
            for isa in Isa::available() {
                let weights = Weights::pack(isa, &weights, Layout::OutputsFirst, &scales, Some(&bias)).unwrap();
                let mut rows = Rows::default();
                rows.quantize(&values, &weights);
                let expected = reference(&rows, &weights, &bias);
                let mut out = vec![f32::NAN; expected.len()];
                multiply(&rows, &weights, Activation::Identity, Output::Set, &mut out);
                for (got, (want, error)) in out.iter().zip(&expected) {
                    prop_assert!((got - want).abs() <= *error, "{isa}: {got}, not {want}");
                }
                multiply(&rows, &weights, Activation::Clamp { low: 0.0, high: 6.0 }, Output::Add, &mut out);
                for (got, (want, error)) in out.iter().zip(&expected) {
                    let want = want + want.clamp(0.0, 6.0);
                    prop_assert!((got - want).abs() <= 2.0 * error, "{isa}: {got}, not {want}");
                }
            }
        }
    }
}
