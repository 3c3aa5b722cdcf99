//! Layer normalization (Ba et al., arXiv 1607.06450).

use crate::isa::{Isa, per_isa};
use crate::lanes::Lanes;

/// Normalizes each row of `scale.len()` entries to mean 0 and variance 1, times `scale`, plus
/// `bias`: y = (x − mean) / √(variance + epsilon) · scale + bias.
///
/// # Panics
///
/// If `bias`, `values` or `out` do not fit `scale`: errors of the caller, not of its input.
pub fn layer_norm(
    isa: Isa,
    values: &[f32],
    scale: &[f32],
    bias: &[f32],
    epsilon: f32,
    out: &mut [f32],
) {
    let n = scale.len();
    assert_eq!(bias.len(), n, "entries of the bias");
    assert_eq!(values.len(), out.len(), "entries of the output");
    assert!(n != 0 && values.len().is_multiple_of(n), "whole rows");
    for (row, out) in values.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
        // SAFETY: all four have `n` entries.
        unsafe {
            row_isa(isa, row.as_ptr(), scale.as_ptr(), bias.as_ptr(), epsilon, n, out.as_mut_ptr())
        }
    }
}

per_isa! {
    unsafe fn row_isa = row(
        values: *const f32, scale: *const f32, bias: *const f32, epsilon: f32, n: usize, out: *mut f32,
    )
}

#[inline(always)]
#[expect(clippy::cast_precision_loss, reason = "a count of channels")]
unsafe fn row<V: Lanes>(
    values: *const f32,
    scale: *const f32,
    bias: *const f32,
    epsilon: f32,
    n: usize,
    out: *mut f32,
) {
    // SAFETY: every access lies within `n`.
    unsafe {
        let mean = sum::<V>(values, n, 0.0, false) / n as f32;
        let variance = sum::<V>(values, n, mean, true) / n as f32;
        let factor = 1.0 / (variance + epsilon).sqrt();
        let mut at = 0;
        while at + V::LEN <= n {
            let x = V::load(values.add(at)).sub(V::splat(mean)).mul(V::splat(factor));
            x.mul_add(V::load(scale.add(at)), V::load(bias.add(at))).store(out.add(at));
            at += V::LEN;
        }
        while at < n {
            let x = (values.add(at).read() - mean) * factor;
            out.add(at).write(x * scale.add(at).read() + bias.add(at).read());
            at += 1;
        }
    }
}

/// Σ (x − mean), or of its squares, in four partial sums.
#[inline(always)]
unsafe fn sum<V: Lanes>(values: *const f32, n: usize, mean: f32, squares: bool) -> f32 {
    // SAFETY: every access lies within `n`.
    unsafe {
        let mut sums = [V::splat(0.0); 4];
        let center = V::splat(mean);
        let mut at = 0;
        while at + 4 * V::LEN <= n {
            for (i, sum) in sums.iter_mut().enumerate() {
                let x = V::load(values.add(at + i * V::LEN)).sub(center);
                *sum = if squares { x.mul_add(x, *sum) } else { sum.add(x) };
            }
            at += 4 * V::LEN;
        }
        let mut total = sums[0].add(sums[1]).add(sums[2].add(sums[3])).sum();
        while at < n {
            let x = values.add(at).read() - mean;
            total += if squares { x * x } else { x };
            at += 1;
        }
        total
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

    #[test]
    fn rows_equal_the_formula() {
        for n in [1, 3, 8, 31, 64, 100, 768] {
            let at = |i: usize, by: f64| ((i as f64 * by).sin() * 3.0 + 1.0) as f32;
            let values: Vec<f32> = (0..3 * n).map(|it| at(it, 1.7)).collect();
            let scale: Vec<f32> = (0..n).map(|it| at(it, 0.9)).collect();
            let bias: Vec<f32> = (0..n).map(|it| at(it, 2.3)).collect();
            for isa in Isa::available() {
                let mut out = vec![f32::NAN; values.len()];
                layer_norm(isa, &values, &scale, &bias, 1e-5, &mut out);
                for (i, got) in out.iter().enumerate() {
                    let row: Vec<f64> =
                        values[i / n * n..][..n].iter().map(|it| f64::from(*it)).collect();
                    let mean = row.iter().sum::<f64>() / n as f64;
                    let variance = row.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / n as f64;
                    let x = (row[i % n] - mean) / (variance + 1e-5).sqrt();
                    let want = x * f64::from(scale[i % n]) + f64::from(bias[i % n]);
                    assert!(
                        (f64::from(*got) - want).abs() < 2e-5,
                        "{isa} {n} {i}: {got}, not {want}"
                    );
                }
            }
        }
    }
}
