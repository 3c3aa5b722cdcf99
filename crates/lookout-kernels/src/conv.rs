//! Convolutions over pictures whose channels lie together (NHWC).

use crate::activation::Activation;
use crate::attention::add_product;
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
        self.picture.fill(picture, 1);
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

/// A convolution of each channel with a window of its own, in float.
#[derive(Debug)]
pub struct Depthwise {
    isa: Isa,
    size: [usize; 2],
    /// By position in the window, then channel.
    weights: Vec<f32>,
    bias: Vec<f32>,
    activation: Activation,
}

impl Depthwise {
    /// `weights` by channel, then position in a window of this `size`, height and width (ONNX); one
    /// `bias` a channel.
    ///
    /// # Panics
    ///
    /// If `weights` do not fit the window and `bias`, an error of the caller.
    pub fn new(
        isa: Isa,
        size: [usize; 2],
        weights: &[f32],
        bias: Vec<f32>,
        activation: Activation,
    ) -> Self {
        let (n, channels) = (size[0] * size[1], bias.len());
        assert_eq!(weights.len(), n * channels, "entries of the weights");
        let weights =
            (0..n * channels).map(|it| weights[it % channels * n + it / channels]).collect();
        Self { isa, size, weights, bias, activation }
    }

    /// Writes activation(picture ∗ weights + bias) to `out`.
    ///
    /// # Panics
    ///
    /// If `window`, `picture` or `out` do not have their shapes, an error of the caller.
    pub fn run(&self, window: Window, picture: &[f32], shape: Shape, out: &mut [f32]) {
        let channels = shape.channels;
        assert_eq!((window.size, channels), (self.size, self.bias.len()), "window and channels");
        assert_eq!(picture.len(), shape.len(), "entries of the picture");
        assert_eq!(out.len(), window.n_out() * channels, "entries of the output");
        let bounds = bounds(self.activation);
        let out_len = window.out[1] * channels;
        for (y, out) in out.chunks_exact_mut(out_len.max(1)).enumerate() {
            let row = DepthwiseRow {
                weights: self.weights.as_ptr(),
                bias: self.bias.as_ptr(),
                window,
                shape,
                source: Source::of(window, y, picture, shape),
                bounds,
                out: out.as_mut_ptr(),
            };
            // SAFETY: the source is the picture's, whose length was checked, as were those of the
            // weights and the bias; `out` is a row of the output.
            unsafe { row_isa(self.isa.for_entries(channels), &row) }
            finish(self.isa, self.activation, out);
        }
    }
}

/// Where the windows of one row of the output lie in a picture.
#[derive(Clone, Copy)]
struct Source {
    /// Position 0 of the row's first window, which may lie outside of the picture.
    origin: *const f32,
    /// Entries from one row of pixels to the next.
    stride: usize,
    /// The first row of the window that lies within the picture, and one past the last.
    down: (usize, usize),
    /// The outputs whose windows lie within from left to right.
    inner: (usize, usize),
}

impl Source {
    fn of(window: Window, y: usize, picture: &[f32], shape: Shape) -> Self {
        let stride = shape.width * shape.channels;
        let down = window.within(0, y, shape.height);
        let [step, before, size, out] =
            [window.step[1], window.before[1], window.size[1], window.out[1]];
        let end = (shape.width + before).checked_sub(size).map_or(0, |room| room / step + 1);
        let end = end.min(out);
        let origin = picture
            .as_ptr()
            .wrapping_add(y * window.step[0] * stride)
            .wrapping_sub(window.before[0] * stride + before * shape.channels);
        Self { origin, stride, down, inner: (before.div_ceil(step).min(end), end) }
    }

    /// Position `down`, `across` of the window of output `x`.
    #[inline(always)]
    fn at(
        &self,
        window: &Window,
        channels: usize,
        x: usize,
        down: usize,
        across: usize,
    ) -> *const f32 {
        self.origin.wrapping_add(down * self.stride + (x * window.step[1] + across) * channels)
    }
}

/// What a row's kernel holds its outputs within: the activation where it is no more than that.
fn bounds(activation: Activation) -> [f32; 2] {
    match activation {
        Activation::Clamp { low, high } => [low, high],
        _ => [f32::NEG_INFINITY, f32::INFINITY],
    }
}

/// Applies any other activation in a second pass, so that there is less code.
fn finish(isa: Isa, activation: Activation, row: &mut [f32]) {
    if !matches!(activation, Activation::Clamp { .. } | Activation::Identity) {
        activation.apply(isa, row);
    }
}

/// What a row of the output is made with.
struct DepthwiseRow {
    weights: *const f32,
    bias: *const f32,
    window: Window,
    shape: Shape,
    source: Source,
    /// Of the output, the least and the greatest.
    bounds: [f32; 2],
    out: *mut f32,
}

impl DepthwiseRow {
    /// Writes a vector of outputs.
    #[inline(always)]
    unsafe fn finish<V: Lanes>(&self, sum: V, at: usize) {
        let [low, high] = self.bounds;
        // SAFETY: the caller vouches for the place.
        unsafe { Activation::Clamp { low, high }.on(sum).store(self.out.add(at)) }
    }
}

per_isa! { unsafe fn row_isa = depthwise_row(row: &DepthwiseRow) }

/// Output pixels that share the window's weights.
const SPAN: usize = 7;

#[inline(always)]
unsafe fn depthwise_row<V: Lanes>(row: &DepthwiseRow) {
    // SAFETY: the caller vouches for the shapes.
    unsafe {
        match (row.window.size[1], row.window.step[1]) {
            (3, 1) => row_of::<V, 3, 1>(row),
            (3, 2) => row_of::<V, 3, 2>(row),
            (5, 1) => row_of::<V, 5, 1>(row),
            (5, 2) => row_of::<V, 5, 2>(row),
            (7, 1) => row_of::<V, 7, 1>(row),
            _ => row_of::<V, 0, 0>(row),
        }
    }
}

/// Channels that go along a row together: few enough that their windows stay in a cache, whole
/// lines of it.
const BLOCK_CHANNELS: usize = 64;

/// One row of the output. `SIZE` and `STEP` are the window's from left to right, or 0 for any.
#[inline(always)]
unsafe fn row_of<V: Lanes, const SIZE: usize, const STEP: usize>(row: &DepthwiseRow) {
    let (start, end) = row.source.inner;
    // SAFETY: the caller vouches for the shapes; `inner` are outputs whose windows lie within.
    unsafe {
        for first in (0..row.shape.channels).step_by(BLOCK_CHANNELS) {
            let channels = first..(first + BLOCK_CHANNELS).min(row.shape.channels);
            let mut x = 0;
            while x < row.window.out[1] {
                let channels = channels.clone();
                if x < start || end <= x {
                    edge::<V>(row, channels, x);
                    x += 1;
                    continue;
                }
                x += match end - x {
                    SPAN.. => span::<V, SIZE, STEP, SPAN>(row, channels, x),
                    4.. => span::<V, SIZE, STEP, 4>(row, channels, x),
                    2.. => span::<V, SIZE, STEP, 2>(row, channels, x),
                    _ => span::<V, SIZE, STEP, 1>(row, channels, x),
                };
            }
        }
    }
}

/// `N` pixels of the output from `x` on; returns `N`.
#[inline(always)]
unsafe fn span<V: Lanes, const SIZE: usize, const STEP: usize, const N: usize>(
    row: &DepthwiseRow,
    channels: std::ops::Range<usize>,
    x: usize,
) -> usize {
    // SAFETY: the caller vouches for the shapes.
    unsafe {
        if channels.end < V::LEN {
            for at in channels {
                pixels_of::<f32, SIZE, STEP, N>(row, at, x);
            }
        } else {
            // The last vector begins earlier rather than leave channels over.
            for at in channels.clone().step_by(V::LEN) {
                pixels_of::<V, SIZE, STEP, N>(row, at.min(channels.end - V::LEN), x);
            }
        }
    }
    N
}

#[inline(always)]
unsafe fn pixels_of<V: Lanes, const SIZE: usize, const STEP: usize, const N: usize>(
    row: &DepthwiseRow,
    channel: usize,
    x: usize,
) {
    let DepthwiseRow { window, shape, source, .. } = row;
    let channels = shape.channels;
    let step = if SIZE == 0 { window.step[1] } else { STEP };
    let width = if SIZE == 0 { window.size[1] } else { SIZE };
    // SAFETY: the caller vouches for the shapes; the windows lie within from left to right, and
    // rows outside of the picture are left out.
    unsafe {
        let mut sums = [V::load(row.bias.add(channel)); N];
        for down in source.down.0..source.down.1 {
            let weights = row.weights.add(down * width * channels + channel);
            let from = source.at(window, channels, x, down, 0).wrapping_add(channel);
            for across in 0..width {
                let weight = V::load(weights.add(across * channels));
                for (i, sum) in sums.iter_mut().enumerate() {
                    let value = V::load(from.wrapping_add((i * step + across) * channels));
                    *sum = value.mul_add(weight, *sum);
                }
            }
        }
        for (i, sum) in sums.into_iter().enumerate() {
            row.finish(sum, (x + i) * channels + channel);
        }
    }
}

/// One pixel whose window is cut off at the left or the right.
#[inline(always)]
unsafe fn edge<V: Lanes>(row: &DepthwiseRow, channels: std::ops::Range<usize>, x: usize) {
    let mut at = channels.start;
    // SAFETY: the caller vouches for the shapes; channels beyond the last vector go one by one.
    unsafe {
        while at + 4 * V::LEN <= channels.end {
            edge_of::<V, 4>(row, at, x);
            at += 4 * V::LEN;
        }
        while at + V::LEN <= channels.end {
            edge_of::<V, 1>(row, at, x);
            at += V::LEN;
        }
        while at + V::Half::LEN <= channels.end {
            edge_of::<V::Half, 1>(row, at, x);
            at += V::Half::LEN;
        }
        while at < channels.end {
            edge_of::<f32, 1>(row, at, x);
            at += 1;
        }
    }
}

#[inline(always)]
unsafe fn edge_of<V: Lanes, const COLUMNS: usize>(row: &DepthwiseRow, channel: usize, x: usize) {
    let DepthwiseRow { window, shape, source, .. } = row;
    let channels = shape.channels;
    let (left, right) = window.within(1, x, shape.width);
    // SAFETY: the caller vouches for the shapes; positions outside of the picture are left out.
    unsafe {
        let mut sums = [V::splat(0.0); COLUMNS];
        for (column, sum) in sums.iter_mut().enumerate() {
            *sum = V::load(row.bias.add(channel + column * V::LEN));
        }
        for down in source.down.0..source.down.1 {
            for across in left..right {
                let position = down * window.size[1] + across;
                let weights = row.weights.add(position * channels + channel);
                let from = source.at(window, channels, x, down, across).wrapping_add(channel);
                for (column, sum) in sums.iter_mut().enumerate() {
                    let weight = V::load(weights.add(column * V::LEN));
                    *sum = V::load(from.add(column * V::LEN)).mul_add(weight, *sum);
                }
            }
        }
        for (column, sum) in sums.into_iter().enumerate() {
            row.finish(sum, x * channels + channel + column * V::LEN);
        }
    }
}

/// A convolution in float, for the few whose weights are not 8 bits: a network's first layer.
#[derive(Debug)]
pub struct FloatConv {
    isa: Isa,
    size: [usize; 2],
    n_channels: usize,
    /// By position in the window, channel, then output.
    weights: Vec<f32>,
    bias: Vec<f32>,
    activation: Activation,
}

impl FloatConv {
    /// `weights` by output, then channel, then position in a window of this `size`, height and
    /// width (ONNX); one `bias` an output.
    ///
    /// # Panics
    ///
    /// If `weights` do not fit the window and `bias`, an error of the caller.
    pub fn new(
        isa: Isa,
        size: [usize; 2],
        weights: &[f32],
        bias: Vec<f32>,
        activation: Activation,
    ) -> Self {
        let (n_positions, n_outputs) = (size[0] * size[1], bias.len());
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
        Self { isa, size, n_channels, weights, bias, activation }
    }

    /// Writes activation(picture ∗ weights + bias) to `out`.
    ///
    /// # Panics
    ///
    /// If `window`, `picture` or `out` do not have their shapes, an error of the caller.
    pub fn run(&self, window: Window, picture: &[f32], shape: Shape, out: &mut [f32]) {
        assert_eq!((window.size, shape.channels), (self.size, self.n_channels), "window, channels");
        assert_eq!(picture.len(), shape.len(), "entries of the picture");
        assert_eq!(out.len(), window.n_out() * self.bias.len(), "entries of the output");
        let out_len = window.out[1] * self.bias.len();
        for (y, out) in out.chunks_exact_mut(out_len.max(1)).enumerate() {
            let source = Source::of(window, y, picture, shape);
            let bounds = bounds(self.activation);
            let row = FloatRow { conv: self, window, shape, source, bounds, out: out.as_mut_ptr() };
            // SAFETY: the source is the picture's, whose length was checked, and `out` is a row.
            unsafe { pixels_isa(self.isa, &row) }
            finish(self.isa, self.activation, out);
        }
    }
}

/// What a row of the output is made with.
struct FloatRow<'a> {
    conv: &'a FloatConv,
    window: Window,
    shape: Shape,
    source: Source,
    /// Of the output, the least and the greatest.
    bounds: [f32; 2],
    out: *mut f32,
}

per_isa! { unsafe fn pixels_isa = pixels(row: &FloatRow<'_>) }

/// Pixels that share the weights.
const PIXELS: usize = 6;

#[inline(always)]
unsafe fn pixels<V: Lanes>(row: &FloatRow<'_>) {
    let (start, end) = row.source.inner;
    let n_outputs = row.conv.bias.len();
    let mut x = 0;
    // SAFETY: the caller vouches for the row; outputs beyond the last vector go one by one.
    unsafe {
        while x < row.window.out[1] {
            // Pixels at an edge go one by one.
            let n = if x < start || end <= x { 1 } else { PIXELS.min(end - x) };
            let mut at = 0;
            while at + 2 * V::LEN <= n_outputs {
                outputs::<V, 2>(row, x, n, at);
                at += 2 * V::LEN;
            }
            while at + V::LEN <= n_outputs {
                outputs::<V, 1>(row, x, n, at);
                at += V::LEN;
            }
            while at + V::Half::LEN <= n_outputs {
                outputs::<V::Half, 1>(row, x, n, at);
                at += V::Half::LEN;
            }
            while at < n_outputs {
                outputs::<f32, 1>(row, x, n, at);
                at += 1;
            }
            x += n;
        }
    }
}

/// `n` pixels from `x` on, whose windows are cut off alike.
#[inline(always)]
unsafe fn outputs<V: Lanes, const COLUMNS: usize>(
    row: &FloatRow<'_>,
    x: usize,
    n: usize,
    at: usize,
) {
    let FloatRow { conv, window, shape, source, bounds: [low, high], out } = row;
    let clamp = Activation::Clamp { low: *low, high: *high };
    let (n_outputs, channels) = (conv.bias.len(), conv.n_channels);
    let (left, right) = window.within(1, x, shape.width);
    // SAFETY: the caller vouches for the row and for `COLUMNS` vectors of outputs at `at`;
    // positions outside of the picture are left out.
    unsafe {
        let mut bias = [V::splat(0.0); COLUMNS];
        for (column, bias) in bias.iter_mut().enumerate() {
            *bias = V::load(conv.bias.as_ptr().add(at + column * V::LEN));
        }
        let mut sums = [bias; PIXELS];
        for down in source.down.0..source.down.1 {
            // Where there are fewer pixels the last is computed again and dropped.
            let pixels: [*const f32; PIXELS] =
                std::array::from_fn(|i| source.at(window, channels, x + i.min(n - 1), down, left));
            let position = down * window.size[1] + left;
            let weights = conv.weights.as_ptr().add(position * channels * n_outputs + at);
            let n_inputs = (right - left) * channels;
            add_product::<V, COLUMNS, PIXELS>(&mut sums, &pixels, weights, n_outputs, n_inputs);
        }
        for (i, sums) in sums.into_iter().enumerate().take(n) {
            for (column, sum) in sums.into_iter().enumerate() {
                let to = out.add((x + i) * n_outputs + at + column * V::LEN);
                clamp.on(sum).store(to);
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

    /// With more channels than go along a row together, which would take the definition long.
    #[test]
    fn no_channel_of_a_depthwise_row_is_left_out() {
        for channels in [63, 65, 72, 81] {
            let shape = Shape { height: 3, width: 9, channels };
            let window = Window { size: [3; 2], step: [1; 2], before: [1; 2], out: [3, 9] };
            let picture = wave(shape.len(), 0.7);
            let run = |isa: Isa| {
                let (weights, bias) = (wave(9 * channels, 1.3), wave(channels, 2.1));
                let mut out = vec![f32::NAN; shape.len()];
                Depthwise::new(isa, window.size, &weights, bias, Activation::Identity)
                    .run(window, &picture, shape, &mut out);
                out
            };
            let want = run(Isa::PORTABLE);
            for isa in Isa::available() {
                for (got, want) in run(isa).iter().zip(&want) {
                    assert!((got - want).abs() < 1e-4, "{isa} {channels}: {got}, not {want}");
                }
            }
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
                let conv = Depthwise::new(isa, window.size, &weights, bias.clone(), Activation::Clamp { low: -3.0, high: 6.0 });
                let mut out = vec![f32::NAN; want.len()];
                conv.run(window, &picture, shape, &mut out);
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
                FloatConv::new(isa, window.size, &floats, bias.clone(), Activation::Identity).run(window, &picture, shape, &mut out);
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
