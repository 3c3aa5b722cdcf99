//! Activations, as they are folded into the kernel before them.

use crate::isa::{Isa, per_isa};
use crate::lanes::{Lanes, Math};

/// A function applied to each output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// x.
    Identity,
    /// x held within `low` to `high`; ReLU is 0 to infinity, ReLU6 is 0 to 6.
    Clamp {
        /// The least output.
        low: f32,
        /// The greatest output; at least `low`.
        high: f32,
    },
    /// x · Φ(x), Φ the normal distribution: x/2 · (1 + erf(x/√2)) (Hendrycks and Gimpel,
    /// arXiv 1606.08415). The error function is within 2e-7 absolute.
    Gelu,
    /// The same with tanh: x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))), as SigLIP has it.
    GeluTanh,
    /// x · σ(1.702 x), as OpenAI's CLIP has it.
    QuickGelu,
    /// x · σ(x), also called Swish.
    Silu,
    /// x · clamp(x + 3, 0, 6) / 6 (Howard et al., arXiv 1905.02244).
    HardSwish,
}

impl Activation {
    /// Applies the function to every value.
    pub fn apply(self, isa: Isa, values: &mut [f32]) {
        // SAFETY: the pointer and the length are those of a slice.
        unsafe { apply_isa(isa, values.as_mut_ptr(), values.len(), self) }
    }

    /// Applies the function to one vector.
    #[inline(always)]
    pub(crate) unsafe fn on<V: Math>(self, x: V) -> V {
        // SAFETY: the caller vouches for the instruction set.
        unsafe {
            match self {
                Self::Identity => x,
                // In this order what is no number stays none.
                Self::Clamp { low, high } => V::splat(high).min(V::splat(low).max(x)),
                Self::Gelu => {
                    let half = x.mul(V::splat(0.5));
                    half.mul_add(erf(x.mul(V::splat(core::f32::consts::FRAC_1_SQRT_2))), half)
                }
                Self::GeluTanh => {
                    // 1 + tanh(y) is 2 σ(2y).
                    let cube = x.mul(x).mul_add(V::splat(0.044_715), V::splat(1.0)).mul(x);
                    x.mul(sigmoid(cube.mul(V::splat(1.595_769))))
                }
                Self::QuickGelu => x.mul(sigmoid(x.mul(V::splat(1.702)))),
                Self::Silu => x.mul(sigmoid(x)),
                Self::HardSwish => {
                    let gate = x.add(V::splat(3.0)).max(V::splat(0.0)).min(V::splat(6.0));
                    x.mul(gate).mul(V::splat(1.0 / 6.0))
                }
            }
        }
    }
}

per_isa! { unsafe fn apply_isa = apply(values: *mut f32, len: usize, activation: Activation) }

#[inline(always)]
unsafe fn apply<V: Lanes>(values: *mut f32, len: usize, activation: Activation) {
    let mut at = 0;
    // SAFETY: every access lies within `len`.
    unsafe {
        while at + V::LEN <= len {
            activation.on(V::load(values.add(at))).store(values.add(at));
            at += V::LEN;
        }
        while at < len {
            activation.on(f32::load(values.add(at))).store(values.add(at));
            at += 1;
        }
    }
}

/// e to the x, within 2 units in the last place; x is held within -87 to 88, and what is no number
/// stays none.
#[inline(always)]
pub(crate) unsafe fn exp<V: Math>(x: V) -> V {
    // SAFETY: the caller vouches for the instruction set.
    unsafe {
        let x = V::splat(88.0).min(V::splat(-87.0).max(x));
        // x = n ln 2 + r with |r| <= ln(2) / 2; ln 2 in two parts keeps r exact.
        let n = x.mul(V::splat(core::f32::consts::LOG2_E)).round();
        let r = n.mul_add(V::splat(-0.693_359_4), x);
        let r = n.mul_add(V::splat(2.121_944_4e-4), r);
        // Cephes' polynomial for (e^r - 1 - r) / r².
        let p = V::splat(1.987_569_1e-4);
        let p = p.mul_add(r, V::splat(1.398_2e-3));
        let p = p.mul_add(r, V::splat(8.333_452e-3));
        let p = p.mul_add(r, V::splat(4.166_579_6e-2));
        let p = p.mul_add(r, V::splat(1.666_666_5e-1));
        let p = p.mul_add(r, V::splat(0.5));
        let p = p.mul_add(r.mul(r), r.add(V::splat(1.0)));
        p.mul(n.exp2_whole())
    }
}

/// 1 / (1 + e^-x).
#[inline(always)]
unsafe fn sigmoid<V: Math>(x: V) -> V {
    // SAFETY: the caller vouches for the instruction set.
    unsafe { exp(V::splat(0.0).sub(x)).add(V::splat(1.0)).recip() }
}

/// The error function by Abramowitz and Stegun 7.1.26, absolute error below 2e-7.
#[inline(always)]
unsafe fn erf<V: Math>(x: V) -> V {
    // SAFETY: the caller vouches for the instruction set.
    unsafe {
        // At 8 it is 1 to the last bit.
        let size = V::splat(8.0).min(x.abs());
        let t = size.mul_add(V::splat(0.327_591_1), V::splat(1.0)).recip();
        let p = V::splat(1.061_405_4);
        let p = p.mul_add(t, V::splat(-1.453_152));
        let p = p.mul_add(t, V::splat(1.421_413_8));
        let p = p.mul_add(t, V::splat(-0.284_496_72));
        let p = p.mul_add(t, V::splat(0.254_829_6)).mul(t);
        let tail = p.mul(exp(V::splat(0.0).sub(size.mul(size))));
        V::splat(1.0).sub(tail).with_sign_of(x)
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

    /// The error function by its series or continued fraction, in double precision.
    fn erf_exact(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn activations_equal_their_formulae() {
        let sigma = |x: f64| 1.0 / (1.0 + (-x).exp());
        let cases: [(Activation, &dyn Fn(f64) -> f64); 8] = [
            (Activation::Identity, &|x| x),
            (Activation::Clamp { low: 0.0, high: 6.0 }, &|x| x.clamp(0.0, 6.0)),
            (Activation::Clamp { low: 0.0, high: f32::INFINITY }, &|x| x.max(0.0)),
            (Activation::Gelu, &|x| 0.5 * x * (1.0 + erf_exact(x / 2f64.sqrt()))),
            (Activation::GeluTanh, &|x| {
                let y = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
                0.5 * x * (1.0 + y.tanh())
            }),
            (Activation::QuickGelu, &|x| x * sigma(1.702 * x)),
            (Activation::Silu, &|x| x * sigma(x)),
            (Activation::HardSwish, &|x| x * (x + 3.0).clamp(0.0, 6.0) / 6.0),
        ];
        // An odd number, so that every tail runs.
        let inputs: Vec<f32> = (0..1001i16).map(|it| (f32::from(it) - 500.0) * 0.01).collect();
        for isa in Isa::available() {
            for (activation, exact) in &cases {
                let mut values = inputs.clone();
                activation.apply(isa, &mut values);
                for (x, got) in inputs.iter().zip(values) {
                    let want = exact(f64::from(*x));
                    let error = (f64::from(got) - want).abs();
                    assert!(error <= 1.2e-6, "{isa} {activation:?} of {x}: {got}, not {want}");
                }
            }
        }
    }

    #[test]
    fn exp_is_right_over_its_whole_range() {
        for isa in Isa::available() {
            let inputs: Vec<f32> = (-870..880i16).map(|it| f32::from(it) * 0.1).collect();
            // σ(x) = 1 / (1 + e^-x), so e^-x = 1/σ(x) - 1 shows e at the negative end only;
            // Silu over the whole range shows that nothing overflows.
            let mut values = inputs.clone();
            Activation::Silu.apply(isa, &mut values);
            for (x, got) in inputs.iter().zip(values) {
                let want = f64::from(*x) / (1.0 + (-f64::from(*x)).exp());
                let error = (f64::from(got) - want).abs();
                assert!(error <= 4e-7 * want.abs().max(1e-30), "{isa} {x}: {got}, not {want}");
            }
        }
    }
}
