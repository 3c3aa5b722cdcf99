//! Convolutions over pictures whose channels lie together (NHWC).

use crate::activation::Activation;
use crate::attention::{ROWS, add_product};
use crate::isa::{Isa, per_isa};
use crate::lanes::Lanes;
use crate::quantize::{Rows, width};
use crate::weights::Weights;

/// A picture's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows of pixels.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// Entries of a pixel.
    pub channels: usize,
}

impl Shape {
    /// Entries of the picture.
    #[expect(clippy::len_without_is_empty, reason = "a shape, not a collection")]
    pub fn len(self) -> usize {
        self.height * self.width * self.channels
    }
}

/// A window that moves over a picture; outside the picture there are zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Height and width; 1 or more.
    pub size: [usize; 2],
    /// Steps down and to the right; 1 or more.
    pub step: [usize; 2],
    /// Rows above and columns to the left of the picture where the window starts.
    pub before: [usize; 2],
    /// Positions down and to the right: height and width of the output.
    pub out: [usize; 2],
}

impl Window {
    /// Whether it is one pixel wide and visits each in turn, so that a convolution is a linear
    /// layer on the pixels.
    pub fn is_pixel(self, shape: Shape) -> bool {
        self.size == [1, 1]
            && self.step == [1, 1]
            && self.before == [0, 0]
            && self.out == [shape.height, shape.width]
    }

    fn n_positions(self) -> usize {
        self.size[0] * self.size[1]
    }

    fn n_out(self) -> usize {
        self.out[0] * self.out[1]
    }

    /// The part of the window, along one axis, that lies within `side` pixels at position `at`.
    #[inline(always)]
    fn within(self, axis: usize, at: usize, side: usize) -> (usize, usize) {
        let start = at * self.step[axis];
        let low = self.before[axis].saturating_sub(start).min(self.size[axis]);
        let high = (side + self.before[axis]).saturating_sub(start).min(self.size[axis]);
        (low, high.max(low))
    }
}

/// Windows of a picture as quantized rows, for a convolution as a linear layer. The whole picture
/// has one scale.
#[derive(Debug)]
pub struct Patches {
    window: Window,
    picture: Rows,
}

impl Patches {
    /// Patches of this window.
    pub fn new(window: Window) -> Self {
        Self { window, picture: Rows::default() }
    }

    /// Replaces `rows` by the windows of `picture`, in reading order, for a layer; entries by
    /// position in the window, then channel.
    ///
    /// # Panics
    ///
    /// If `picture` does not have its `shape`, an error of the caller.
    pub fn quantize(&mut self, picture: &[f32], shape: Shape, weights: &Weights, rows: &mut Rows) {
        let Shape { height, width: side, channels } = shape;
        assert_eq!(picture.len(), shape.len(), "entries of the picture");
        let window = self.window;
        self.picture.resize(1, shape.len(), weights);
        self.picture.fill(0, picture);
        rows.resize(window.n_out(), window.n_positions() * channels, weights);
        rows.scales.fill(self.picture.scales[0]);
        rows.zeros.fill(self.picture.zeros[0]);
        let stride = rows.stride();
        let bytes = width(rows.isa);
        let zero = self.picture.zero();
        for y in 0..window.out[0] {
            let (top, bottom) = window.within(0, y, height);
            for x in 0..window.out[1] {
                let at = (y * window.out[1] + x) * stride;
                let row = &mut rows.bytes[at..at + stride];
                let (left, right) = window.within(1, x, side);
                if bottom - top != window.size[0] || right - left != window.size[1] {
                    row.chunks_exact_mut(bytes).for_each(|it| it.copy_from_slice(&zero[..bytes]));
                }
                for down in top..bottom {
                    let source_y = y * window.step[0] + down - window.before[0];
                    let source_x = x * window.step[1] + left - window.before[1];
                    let from = (source_y * side + source_x) * channels * bytes;
                    let to = (down * window.size[1] + left) * channels * bytes;
                    let n = (right - left) * channels * bytes;
                    row[to..to + n].copy_from_slice(&self.picture.bytes[from..from + n]);
                }
            }
        }
    }
}

/// The rows of a picture that a row of windows needs, with zeros around them, so that no window is
/// at an edge and what is read again is near.
#[derive(Debug)]
struct Ring {
    window: Window,
    /// Row `y` of the picture stands in slot `y % height of the window`; the last slot stays zero,
    /// and so does what is left and right of the picture.
    slots: Vec<f32>,
    row_len: usize,
    /// The picture in it.
    shape: Shape,
    /// Rows of it that were loaded or passed over.
    n_loaded: usize,
}

impl Ring {
    fn new(window: Window) -> Self {
        let shape = Shape { height: 0, width: 0, channels: 0 };
        Self { window, slots: Vec::new(), row_len: 0, shape, n_loaded: 0 }
    }

    /// Begins with a picture.
    fn start(&mut self, shape: Shape) {
        self.n_loaded = 0;
        if self.shape == shape {
            return;
        }
        self.shape = shape;
        let Window { size, step, before, out } = self.window;
        let width = ((out[1].max(1) - 1) * step[1] + size[1]).max(before[1] + shape.width);
        self.row_len = width * shape.channels;
        self.slots.clear();
        self.slots.resize((size[0] + 1) * self.row_len, 0.0);
    }

    /// Lets `load` fill the rows of the picture that row `y` of the output needs and that are not
    /// there yet. `y` must not go back.
    fn advance(&mut self, y: usize, mut load: impl FnMut(usize, &mut [f32])) {
        let Window { size, step, before, .. } = self.window;
        let top = y * step[0];
        let end = (top + size[0]).saturating_sub(before[0]).min(self.shape.height);
        self.n_loaded = self.n_loaded.max(top.saturating_sub(before[0]));
        while self.n_loaded < end {
            let at = self.n_loaded % size[0] * self.row_len + before[1] * self.shape.channels;
            let n = self.shape.width * self.shape.channels;
            load(self.n_loaded, &mut self.slots[at..at + n]);
            self.n_loaded += 1;
        }
    }

    /// The row `down` rows below the top of the windows of row `y` of the output; position `x` of
    /// the output begins `x` steps into it.
    fn row(&self, y: usize, down: usize) -> &[f32] {
        let Window { size, step, before, .. } = self.window;
        let slot = match (y * step[0] + down).checked_sub(before[0]) {
            Some(source) if source < self.shape.height => source % size[0],
            _ => size[0],
        };
        &self.slots[slot * self.row_len..(slot + 1) * self.row_len]
    }
}

/// A convolution of each channel with a window of its own, in float.
#[derive(Debug)]
pub struct Depthwise {
    isa: Isa,
    window: Window,
    /// By position in the window, then channel.
    weights: Vec<f32>,
    bias: Vec<f32>,
    activation: Activation,
    ring: Ring,
}

/// No window with code of its own is higher.
const MAX_HEIGHT: usize = 7;

impl Depthwise {
    /// `weights` by channel, then position in the window (ONNX); one `bias` a channel.
    ///
    /// # Panics
    ///
    /// If `weights` do not fit the window and `bias`, an error of the caller.
    pub fn new(
        isa: Isa,
        window: Window,
        weights: &[f32],
        bias: Vec<f32>,
        activation: Activation,
    ) -> Self {
        let (n, channels) = (window.n_positions(), bias.len());
        assert_eq!(weights.len(), n * channels, "entries of the weights");
        let weights =
            (0..n * channels).map(|it| weights[it % channels * n + it / channels]).collect();
        Self { isa, window, weights, bias, activation, ring: Ring::new(window) }
    }

    /// Writes activation(picture ∗ weights + bias) to `out`.
    ///
    /// # Panics
    ///
    /// If `picture` or `out` do not have their shapes, an error of the caller.
    pub fn run(&mut self, picture: &[f32], shape: Shape, out: &mut [f32]) {
        let channels = shape.channels;
        assert_eq!(channels, self.bias.len(), "channels");
        assert_eq!(picture.len(), shape.len(), "entries of the picture");
        assert_eq!(out.len(), self.window.n_out() * channels, "entries of the output");
        let n = shape.width * channels;
        self.ring.start(shape);
        let out_len = self.window.out[1] * channels;
        for (y, out) in out.chunks_exact_mut(out_len.max(1)).enumerate() {
            self.ring.advance(y, |source, to| {
                to.copy_from_slice(&picture[source * n..(source + 1) * n]);
            });
            self.row(y, out);
        }
    }

    /// Row `y` of the output, whose part of the picture is in the ring.
    fn row(&self, y: usize, out: &mut [f32]) {
        let Window { size, step, out: [_, width], .. } = self.window;
        let channels = self.bias.len();
        if MAX_HEIGHT < size[0] {
            out.copy_from_slice(&self.bias.repeat(width));
            for down in 0..size[0] {
                let weights = &self.weights[down * size[1] * channels..];
                add_row(self.ring.row(y, down), weights, size[1], step[1], channels, out);
            }
            self.activation.apply(self.isa, out);
            return;
        }
        let mut rows = [self.ring.slots.as_ptr(); MAX_HEIGHT];
        for (down, row) in rows.iter_mut().enumerate().take(size[0]) {
            *row = self.ring.row(y, down).as_ptr();
        }
        // Other activations follow as a second pass, so that there is less code.
        let (is_clamp, bounds) = match self.activation {
            Activation::Clamp { low, high } => (true, [low, high]),
            _ => (false, [f32::NEG_INFINITY, f32::INFINITY]),
        };
        let row = DepthwiseRow {
            weights: self.weights.as_ptr(),
            bias: self.bias.as_ptr(),
            channels,
            size,
            step: step[1],
            width,
            bounds,
            out: out.as_mut_ptr(),
        };
        // SAFETY: `size[0]` rows of the ring, which the last position ends at the latest, weights
        // and bias for each channel, and a row of output.
        unsafe { row_isa(self.isa, &row, &rows) }
        if !is_clamp {
            self.activation.apply(self.isa, out);
        }
    }
}

/// Adds one row of a high window to a row of outputs.
fn add_row(
    source: &[f32],
    weights: &[f32],
    size: usize,
    step: usize,
    channels: usize,
    out: &mut [f32],
) {
    for (x, out) in out.chunks_exact_mut(channels).enumerate() {
        for across in 0..size {
            let source = &source[(x * step + across) * channels..];
            let weights = &weights[across * channels..];
            for ((out, value), weight) in out.iter_mut().zip(source).zip(weights) {
                *out += value * weight;
            }
        }
    }
}

/// What a row of the output is made with.
struct DepthwiseRow {
    weights: *const f32,
    bias: *const f32,
    channels: usize,
    size: [usize; 2],
    step: usize,
    width: usize,
    /// Of the output, the least and the greatest.
    bounds: [f32; 2],
    out: *mut f32,
}

per_isa! {
    unsafe fn row_isa = depthwise_row(row: &DepthwiseRow, rows: &[*const f32; MAX_HEIGHT])
}

/// Output pixels that share the window's weights.
const SPAN: usize = 7;

#[inline(always)]
unsafe fn depthwise_row<V: Lanes>(row: &DepthwiseRow, rows: &[*const f32; MAX_HEIGHT]) {
    // SAFETY: the caller vouches for the shapes.
    unsafe {
        match (row.size, row.step) {
            ([3, 3], 1) => row_of::<V, 3, 1>(row, rows),
            ([3, 3], 2) => row_of::<V, 3, 2>(row, rows),
            ([5, 5], 1) => row_of::<V, 5, 1>(row, rows),
            ([5, 5], 2) => row_of::<V, 5, 2>(row, rows),
            ([7, 7], 1) => row_of::<V, 7, 1>(row, rows),
            _ => row_of::<V, 0, 0>(row, rows),
        }
    }
}

/// Channels that go along a row together: few enough that their windows stay in a cache, whole
/// lines of it.
const BLOCK_CHANNELS: usize = 64;

/// One row of the output. `SIZE` and `STEP` are the window's, or 0 for any.
#[inline(always)]
unsafe fn row_of<V: Lanes, const SIZE: usize, const STEP: usize>(
    row: &DepthwiseRow,
    rows: &[*const f32; MAX_HEIGHT],
) {
    // SAFETY: the caller vouches for the shapes.
    unsafe {
        for first in (0..row.channels).step_by(BLOCK_CHANNELS) {
            let channels = first..(first + BLOCK_CHANNELS).min(row.channels);
            let mut x = 0;
            while x < row.width {
                x += match row.width - x {
                    SPAN.. => span::<V, SIZE, STEP, SPAN>(row, rows, channels.clone(), x),
                    4.. => span::<V, SIZE, STEP, 4>(row, rows, channels.clone(), x),
                    2.. => span::<V, SIZE, STEP, 2>(row, rows, channels.clone(), x),
                    _ => span::<V, SIZE, STEP, 1>(row, rows, channels.clone(), x),
                };
            }
        }
    }
}

/// `N` pixels of the output from `x` on; returns `N`.
#[inline(always)]
unsafe fn span<V: Lanes, const SIZE: usize, const STEP: usize, const N: usize>(
    row: &DepthwiseRow,
    rows: &[*const f32; MAX_HEIGHT],
    channels: std::ops::Range<usize>,
    x: usize,
) -> usize {
    let mut at = channels.start;
    // SAFETY: the caller vouches for the shapes; channels beyond the last vector go one by one.
    unsafe {
        while at + V::LEN <= channels.end {
            pixels_of::<V, SIZE, STEP, N>(row, rows, at, x);
            at += V::LEN;
        }
        while at < channels.end {
            pixels_of::<f32, SIZE, STEP, N>(row, rows, at, x);
            at += 1;
        }
    }
    N
}

#[inline(always)]
unsafe fn pixels_of<V: Lanes, const SIZE: usize, const STEP: usize, const N: usize>(
    row: &DepthwiseRow,
    rows: &[*const f32; MAX_HEIGHT],
    channel: usize,
    x: usize,
) {
    let channels = row.channels;
    let [height, width] = if SIZE == 0 { row.size } else { [SIZE; 2] };
    let step = if SIZE == 0 { row.step } else { STEP };
    // SAFETY: the caller vouches for the shapes.
    unsafe {
        let weights = row.weights.add(channel);
        let mut sums = [V::load(row.bias.add(channel)); N];
        for (down, from) in rows.iter().enumerate().take(height) {
            let from = from.add(x * step * channels + channel);
            for across in 0..width {
                let weight = V::load(weights.add((down * width + across) * channels));
                for (i, sum) in sums.iter_mut().enumerate() {
                    let value = V::load(from.add((i * step + across) * channels));
                    *sum = value.mul_add(weight, *sum);
                }
            }
        }
        let [low, high] = row.bounds;
        let clamp = Activation::Clamp { low, high };
        let to = row.out.add(x * channels + channel);
        for (i, sum) in sums.into_iter().enumerate() {
            clamp.on(sum).store(to.add(i * channels));
        }
    }
}

/// A convolution in float, for the few whose weights are not 8 bits: a network's first layer.
#[derive(Debug)]
pub struct FloatConv {
    isa: Isa,
    window: Window,
    n_channels: usize,
    /// By position in the window, channel, then output.
    weights: Vec<f32>,
    bias: Vec<f32>,
    activation: Activation,
    ring: Ring,
}

impl FloatConv {
    /// `weights` by output, then channel, then position in the window (ONNX); one `bias` an
    /// output.
    ///
    /// # Panics
    ///
    /// If `weights` do not fit the window and `bias`, an error of the caller.
    pub fn new(
        isa: Isa,
        window: Window,
        weights: &[f32],
        bias: Vec<f32>,
        activation: Activation,
    ) -> Self {
        let (n_positions, n_outputs) = (window.n_positions(), bias.len());
        let n_inputs = weights.len() / n_outputs.max(1);
        assert_eq!(weights.len(), n_inputs * n_outputs, "entries of the weights");
        assert!(n_inputs.is_multiple_of(n_positions), "whole windows");
        let n_channels = n_inputs / n_positions;
        let source = |it: usize| {
            let (input, output) = (it / n_outputs, it % n_outputs);
            let (position, channel) = (input / n_channels, input % n_channels);
            weights[output * n_inputs + channel * n_positions + position]
        };
        let weights = (0..weights.len()).map(source).collect();
        Self { isa, window, n_channels, weights, bias, activation, ring: Ring::new(window) }
    }

    /// Writes activation(picture ∗ weights + bias) to `out`.
    ///
    /// # Panics
    ///
    /// If `picture` or `out` do not have their shapes, an error of the caller.
    pub fn run(&mut self, picture: &[f32], shape: Shape, out: &mut [f32]) {
        assert_eq!(shape.channels, self.n_channels, "channels");
        assert_eq!(picture.len(), shape.len(), "entries of the picture");
        assert_eq!(out.len(), self.window.n_out() * self.bias.len(), "entries of the output");
        let n = shape.width * shape.channels;
        self.ring.start(shape);
        let out_len = self.window.out[1] * self.bias.len();
        for (y, out) in out.chunks_exact_mut(out_len.max(1)).enumerate() {
            self.ring.advance(y, |source, to| {
                to.copy_from_slice(&picture[source * n..(source + 1) * n]);
            });
            // SAFETY: the ring holds the row's part of the picture, and `out` is a row.
            unsafe { pixels_isa(self.isa, self, y, out.as_mut_ptr()) }
            self.activation.apply(self.isa, out);
        }
    }
}

per_isa! { unsafe fn pixels_isa = pixels(conv: &FloatConv, y: usize, out: *mut f32) }

/// Row `y` of the output before its activation.
#[inline(always)]
unsafe fn pixels<V: Lanes>(conv: &FloatConv, y: usize, out: *mut f32) {
    let n_outputs = conv.bias.len();
    // SAFETY: the caller vouches for the row; outputs beyond the last vector go one by one.
    unsafe {
        for x in (0..conv.window.out[1]).step_by(ROWS) {
            let mut at = 0;
            while at + 2 * V::LEN <= n_outputs {
                outputs::<V, 2>(conv, [y, x], at, out);
                at += 2 * V::LEN;
            }
            while at + V::LEN <= n_outputs {
                outputs::<V, 1>(conv, [y, x], at, out);
                at += V::LEN;
            }
            while at < n_outputs {
                outputs::<f32, 1>(conv, [y, x], at, out);
                at += 1;
            }
        }
    }
}

/// `ROWS` pixels from `x` on, or as many as are left.
#[inline(always)]
unsafe fn outputs<V: Lanes, const COLUMNS: usize>(
    conv: &FloatConv,
    [y, x]: [usize; 2],
    at: usize,
    out: *mut f32,
) {
    let Window { size, step, out: [_, width], .. } = conv.window;
    let n_outputs = conv.bias.len();
    let n_inputs = size[1] * conv.n_channels;
    // SAFETY: the caller vouches for the row and for `COLUMNS` vectors of outputs at `at`.
    unsafe {
        let mut bias = [V::splat(0.0); COLUMNS];
        for (column, bias) in bias.iter_mut().enumerate() {
            *bias = V::load(conv.bias.as_ptr().add(at + column * V::LEN));
        }
        let mut sums = [bias; ROWS];
        for down in 0..size[0] {
            let row = conv.ring.row(y, down).as_ptr();
            // Pixels past the end are computed as the last one and dropped.
            let pixel =
                |i: usize| row.wrapping_add((x + i).min(width - 1) * step[1] * conv.n_channels);
            let pixels: [*const f32; ROWS] = std::array::from_fn(pixel);
            let weights = conv.weights.as_ptr().add(down * n_inputs * n_outputs + at);
            add_product::<V, COLUMNS>(&mut sums, &pixels, weights, n_outputs, n_inputs);
        }
        for (i, sums) in sums.into_iter().enumerate().take(width - x) {
            for (column, sum) in sums.into_iter().enumerate() {
                sum.store(out.add((x + i) * n_outputs + at + column * V::LEN));
            }
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
    use crate::{Layout, Output, multiply};
    use proptest::prelude::*;

    fn wave(n: usize, by: f64) -> Vec<f32> {
        (0..n).map(|it| ((it as f64 * by).sin() * 2.0) as f32).collect()
    }

    /// Convolution by its definition; `weight` of output, channel and position.
    fn exact(
        window: Window,
        picture: &[f32],
        shape: Shape,
        n_outputs: usize,
        weight: &dyn Fn(usize, usize, usize) -> f64,
    ) -> Vec<f64> {
        let mut out = Vec::new();
        for y in 0..window.out[0] {
            for x in 0..window.out[1] {
                for output in 0..n_outputs {
                    let mut sum = 0.0;
                    for position in 0..window.n_positions() {
                        let down = (y * window.step[0] + position / window.size[1])
                            .wrapping_sub(window.before[0]);
                        let across = (x * window.step[1] + position % window.size[1])
                            .wrapping_sub(window.before[1]);
                        if down < shape.height && across < shape.width {
                            for channel in 0..shape.channels {
                                let value = picture
                                    [(down * shape.width + across) * shape.channels + channel];
                                sum += f64::from(value) * weight(output, channel, position);
                            }
                        }
                    }
                    out.push(sum);
                }
            }
        }
        out
    }

    prop_compose! {
        fn case()(
            height in 1usize..12, width in 1usize..20, channels in 1usize..20,
            size in prop::array::uniform2(1usize..8), step in prop::array::uniform2(1usize..3),
            pads in prop::array::uniform4(0usize..4),
        ) -> (Window, Shape) {
            let size = [size[0].min(height), size[1].min(width)];
            let before = [pads[0].min(size[0] - 1), pads[1].min(size[1] - 1)];
            let after = [pads[2].min(size[0] - 1), pads[3].min(size[1] - 1)];
            let side = |axis: usize, side: usize| (side + before[axis] + after[axis] - size[axis]) / step[axis] + 1;
            let window = Window { size, step, before, out: [side(0, height), side(1, width)] };
            (window, Shape { height, width, channels })
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn depthwise_equals_the_definition((window, shape) in case(), fixed in 0usize..6) {
            // The windows that have code of their own come often enough.
            let fixed = [None, Some((3, 1)), Some((3, 2)), Some((5, 1)), Some((5, 2)), Some((7, 1))][fixed];
            let (window, shape) = match fixed {
                Some((size, step)) => {
                    let shape = Shape { width: shape.width + 6, height: shape.height + 6, ..shape };
                    let before = [size / 2; 2];
                    let out = [(shape.height - 1) / step + 1, (shape.width - 1) / step + 1];
                    (Window { size: [size; 2], step: [step; 2], before, out }, shape)
                }
                None => (window, shape),
            };
            let n = window.n_positions();
            let picture = wave(shape.len(), 0.7);
            let weights = wave(n * shape.channels, 1.3);
            let bias = wave(shape.channels, 2.1);
            let by_channel = |output: usize, channel: usize, position: usize| {
                if output == channel { f64::from(weights[channel * n + position]) } else { 0.0 }
            };
            let want = exact(window, &picture, shape, shape.channels, &by_channel);
            for isa in Isa::available() {
                let mut conv = Depthwise::new(isa, window, &weights, bias.clone(), Activation::Clamp { low: -3.0, high: 6.0 });
                let mut out = vec![f32::NAN; want.len()];
                conv.run(&picture, shape, &mut out);
                for (i, (got, want)) in out.iter().zip(&want).enumerate() {
                    let want = (want + f64::from(bias[i % shape.channels])).clamp(-3.0, 6.0);
                    prop_assert!((f64::from(*got) - want).abs() < 1e-4, "{isa} {window:?} {shape:?}: {got}, not {want}");
                }
            }
        }

        #[test]
        fn dense_convolutions_equal_the_definition((window, shape) in case(), n_outputs in 1usize..40) {
            let n = window.n_positions();
            let picture = wave(shape.len(), 0.7);
            let bias = wave(n_outputs, 2.1);
            let scales: Vec<f32> = wave(n_outputs, 0.3).iter().map(|it| it.abs() * 0.01).collect();
            let integers: Vec<i8> = (0..n * shape.channels * n_outputs).map(|it| (it * 37 % 101) as i8 - 50).collect();
            let at = |output: usize, channel: usize, position: usize| {
                (output * shape.channels + channel) * n + position
            };
            let floats: Vec<f32> = integers.iter().enumerate().map(|(i, it)| f32::from(*it) * scales[i / (n * shape.channels)]).collect();
            let weight = |o: usize, c: usize, p: usize| f64::from(floats[at(o, c, p)]);
            let want = exact(window, &picture, shape, n_outputs, &weight);
            for isa in Isa::available() {
                let mut out = vec![f32::NAN; want.len()];
                FloatConv::new(isa, window, &floats, bias.clone(), Activation::Identity).run(&picture, shape, &mut out);
                for (i, (got, want)) in out.iter().zip(&want).enumerate() {
                    let want = want + f64::from(bias[i % n_outputs]);
                    prop_assert!((f64::from(*got) - want).abs() < 2e-3, "{isa} {window:?} {shape:?}: {got}, not {want}");
                }

                let layout = Layout::OutputsChannelsPositions { n_positions: n };
                let packed = Weights::pack(isa, &integers, layout, &scales, Some(&bias)).unwrap();
                let mut rows = Rows::default();
                Patches::new(window).quantize(&picture, shape, &packed, &mut rows);
                multiply(&rows, &packed, Activation::Identity, Output::Set, &mut out);
                let weight = |o: usize, c: usize, p: usize| f64::from(packed.weight(p * shape.channels + c, o));
                let want = exact(window, &picture, shape, n_outputs, &weight);
                // A step of the picture for each product.
                let greatest = picture.iter().fold(0.0f32, |a, b| a.max(b.abs()));
                let step = greatest * 2.0 / f32::from(packed.steps());
                for (i, (got, want)) in out.iter().zip(&want).enumerate() {
                    let output = i % n_outputs;
                    let inputs = (n * shape.channels) as f32;
                    let bound = inputs * (step * 51.0 * scales[output]) + 1e-3;
                    let want = want + f64::from(bias[output]);
                    prop_assert!((f64::from(*got) - want).abs() < f64::from(bound), "{isa} {window:?} {shape:?}: {got}, not {want}");
                }
            }
        }
    }
}
