//! Times of the kernels, on every instruction set of this machine, one thread.
//!
//! Shapes are those of one picture in the four models that `cargo xtask bench encoder` compares.
//! A multiplication is given with its multiply-adds, so that "Gelem/s" is comparable between
//! shapes; the other kernels with the entries that they write.
//!
//! `cargo bench -p lookout-kernels`, with a part of a name to run only that: `gemm/avx2`.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lookout_kernels::{
    Activation, Attention, Depthwise, FloatConv, Heads, Isa, Layout, Output, Rows, Shape, Weights,
    Window, layer_norm, multiply,
};

/// Model, rows, inputs, outputs.
const LINEAR: &[(&str, usize, usize, usize)] = &[
    ("tiny16 patches", 196, 768, 256),
    ("tiny16 projection", 197, 256, 256),
    ("tiny16 up", 197, 256, 1024),
    ("tiny16 down", 197, 1024, 256),
    ("b32 patches", 49, 3072, 768),
    ("b32 projection", 50, 768, 768),
    ("b32 up", 50, 768, 3072),
    ("b32 down", 50, 3072, 768),
    ("b16 patches", 196, 768, 768),
    ("b16 projection", 197, 768, 768),
    ("b16 up", 197, 768, 3072),
    ("b16 down", 197, 3072, 768),
    ("starter expand", 3136, 24, 144),
    ("starter project", 784, 240, 40),
    ("starter middle", 196, 112, 672),
    ("starter end", 49, 1152, 192),
    ("starter head", 49, 320, 1280),
];

/// Model, tokens, heads.
const ATTENTION: &[(&str, usize, Heads)] = &[
    ("tiny16", 197, Heads { n: 4, dim: 64 }),
    ("b32", 50, Heads { n: 12, dim: 64 }),
    ("b16", 197, Heads { n: 12, dim: 64 }),
];

/// Model, tokens, channels.
const TOKENS: &[(&str, usize, usize)] =
    &[("tiny16", 197, 256), ("b32", 50, 768), ("b16", 197, 768)];

/// Side of the picture, channels, side of the window, step: layers of the starter.
const DEPTHWISE: &[(usize, usize, usize, usize)] =
    &[(112, 32, 3, 1), (112, 96, 3, 2), (28, 240, 3, 2), (14, 672, 5, 1), (7, 1152, 5, 1)];

/// Values between -1 and 1 that look random and are the same in every run.
fn values(n: usize) -> Vec<f32> {
    let mut random = 0x2545_f491_u32;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        f32::from(u16::try_from(random >> 16).unwrap_or_default()) / 32768.0 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn bytes(n: usize) -> Vec<i8> {
    #[expect(clippy::cast_possible_truncation, reason = "between -127 and 127")]
    let byte = |it: f32| (it * 127.0) as i8;
    values(n).into_iter().map(byte).collect()
}

fn layer(isa: Isa, n_inputs: usize, n_outputs: usize) -> Weights {
    let scales = vec![0.01; n_outputs];
    let weights = bytes(n_inputs * n_outputs);
    Weights::pack(isa, &weights, Layout::OutputsFirst, &scales, None)
        .expect("lengths agree and scales are finite")
}

fn gemm(c: &mut Criterion) {
    for isa in Isa::available() {
        let mut group = c.benchmark_group(format!("gemm/{isa}"));
        for &(name, n_rows, n_inputs, n_outputs) in LINEAR {
            let weights = layer(isa, n_inputs, n_outputs);
            let mut rows = Rows::default();
            rows.quantize(&values(n_rows * n_inputs), &weights);
            let mut out = vec![0.0; n_rows * n_outputs];
            group.throughput(Throughput::Elements((n_rows * n_inputs * n_outputs) as u64));
            let id = BenchmarkId::new(name, format!("{n_rows}x{n_inputs}x{n_outputs}"));
            group.bench_function(id, |b| {
                b.iter(|| {
                    let rows = black_box(&rows);
                    multiply(
                        rows,
                        &weights,
                        Activation::Identity,
                        Output::Set,
                        black_box(&mut out),
                    );
                });
            });
        }
    }
}

fn attention(c: &mut Criterion) {
    for isa in Isa::available() {
        let mut group = c.benchmark_group(format!("attention/{isa}"));
        for &(name, n_tokens, heads) in ATTENTION {
            let x = values(n_tokens * heads.n * heads.dim);
            let mut out = vec![0.0; x.len()];
            let mut attention = Attention::new(isa, heads, 0.125);
            group.throughput(Throughput::Elements(x.len() as u64));
            group.bench_function(name, |b| {
                b.iter(|| {
                    let x = black_box(&x);
                    attention.run(x, x, x, None, black_box(&mut out));
                });
            });
        }
    }
}

/// What touches each entry once: normalization, quantization, activation.
fn entries(c: &mut Criterion) {
    for isa in Isa::available() {
        let mut group = c.benchmark_group(format!("entries/{isa}"));
        for &(name, n_tokens, n_channels) in TOKENS {
            let x = values(n_tokens * n_channels);
            let (scale, bias) = (vec![1.0; n_channels], vec![0.0; n_channels]);
            let mut out = vec![0.0; x.len()];
            group.throughput(Throughput::Elements(x.len() as u64));
            group.bench_function(BenchmarkId::new("layer_norm", name), |b| {
                b.iter(|| {
                    layer_norm(isa, black_box(&x), &scale, &bias, 1e-5, black_box(&mut out));
                });
            });
            let weights = layer(isa, n_channels, 1);
            let mut rows = Rows::default();
            group.bench_function(BenchmarkId::new("quantize", name), |b| {
                b.iter(|| rows.quantize(black_box(&x), &weights));
            });
            // The widest layer of a block is the one that has an activation.
            let wide = values(4 * x.len());
            let mut out = wide.clone();
            group.throughput(Throughput::Elements(wide.len() as u64));
            group.bench_function(BenchmarkId::new("quick_gelu", name), |b| {
                b.iter(|| {
                    out.copy_from_slice(black_box(&wide));
                    Activation::QuickGelu.apply(isa, black_box(&mut out));
                });
            });
        }
    }
}

/// A square window of `side` that keeps a square picture's size, divided by `step`.
fn window(picture: usize, side: usize, step: usize) -> Window {
    let out = picture.div_ceil(step);
    // As the starter has it: what does not divide evenly is padded at the end.
    let before = ((out - 1) * step + side).saturating_sub(picture) / 2;
    Window { size: [side; 2], step: [step; 2], before: [before; 2], out: [out; 2] }
}

fn convolutions(c: &mut Criterion) {
    for isa in Isa::available() {
        let mut group = c.benchmark_group(format!("convolution/{isa}"));
        for &(side, channels, size, step) in DEPTHWISE {
            let shape = Shape { height: side, width: side, channels };
            let window = window(side, size, step);
            let weights = values(size * size * channels);
            let bias = vec![0.1; channels];
            let layer = Depthwise::new(isa, window.size, &weights, bias, RELU6);
            let picture = values(shape.len());
            let mut out = vec![0.0; window.out[0] * window.out[1] * channels];
            group.throughput(Throughput::Elements(out.len() as u64));
            let id = format!("{side}x{side}x{channels} by {size} step {step}");
            group.bench_function(BenchmarkId::new("depthwise", id), |b| {
                b.iter(|| layer.run(window, black_box(&picture), shape, black_box(&mut out)));
            });
        }
        let shape = Shape { height: 224, width: 224, channels: 3 };
        let window = window(224, 3, 2);
        let layer = FloatConv::new(isa, window.size, &values(27 * 32), vec![0.1; 32], RELU6);
        let picture = values(shape.len());
        let mut out = vec![0.0; window.out[0] * window.out[1] * 32];
        group.throughput(Throughput::Elements(out.len() as u64));
        group.bench_function("first", |b| {
            b.iter(|| layer.run(window, black_box(&picture), shape, black_box(&mut out)));
        });
    }
}

const RELU6: Activation = Activation::Clamp { low: 0.0, high: 6.0 };

criterion_group! {
    name = kernels;
    // Some hundred figures: a second each, not eight.
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800));
    targets = gemm, attention, entries, convolutions
}
criterion_main!(kernels);
