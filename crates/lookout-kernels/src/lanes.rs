//! One source for the float kernels of every instruction set.
//!
//! A kernel is a generic function over [`Lanes`] or [`Math`], compiled once for each set by `per_isa!`. `f32`
//! is the one-lane set: the portable code, and the tail of the others.

/// Floats that go through the same operations together. Every method is a single instruction or a
/// few.
///
/// # Safety
///
/// All methods may be called only where the instruction set of the implementing type runs.
pub(crate) unsafe trait Math: Copy {
    unsafe fn splat(value: f32) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// 1 / self, for normal numbers, within 2 units in the last place.
    unsafe fn recip(self) -> Self;
    unsafe fn min(self, other: Self) -> Self;
    unsafe fn max(self, other: Self) -> Self;
    unsafe fn abs(self) -> Self;
    /// `self * by + plus`, in one rounding where the set can.
    unsafe fn mul_add(self, by: Self, plus: Self) -> Self;
    /// The nearest whole number, half to even, for magnitudes below 2²².
    unsafe fn round(self) -> Self;
    /// 2 to the power of a whole number within -126 to 127.
    unsafe fn exp2_whole(self) -> Self;
    /// Each magnitude with the sign of the same entry of `sign`.
    unsafe fn with_sign_of(self, sign: Self) -> Self;
}

/// A vector of `LEN` floats, with its ways from and to memory.
///
/// # Safety
///
/// As for [`Math`]; pointers must be valid for `LEN` entries, of any alignment.
pub(crate) unsafe trait Lanes: Math {
    const LEN: usize;
    /// Shorter vectors of the same set, for what does not fill one of these.
    type Half: Lanes;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// Converts integers, rounding where they have more than 24 bits.
    unsafe fn from_i32(from: *const i32) -> Self;
    unsafe fn sum(self) -> f32;
    unsafe fn largest(self) -> f32;
    /// Whether an entry is no number.
    unsafe fn has_nan(self) -> bool;
    /// Stores whole numbers within 0 to 255, each less `shift`, as the bytes of their low 8 bits.
    unsafe fn store_bytes(self, to: *mut u8, shift: u8);
    /// The same for four vectors, the numbers rounded here and held at 0 or above.
    #[inline(always)]
    unsafe fn store_bytes_of(four: [Self; 4], to: *mut u8, shift: u8) {
        for (i, one) in four.into_iter().enumerate() {
            // SAFETY: the caller vouches for pointer and instruction set.
            unsafe { one.max(Self::splat(0.0)).round().store_bytes(to.add(i * Self::LEN), shift) }
        }
    }
    /// Stores whole numbers within 0 to 32767 in 16 bits each, of any alignment.
    unsafe fn store_words(self, to: *mut u8);
    /// The same for four vectors, the numbers rounded here and held at 0 or above.
    #[inline(always)]
    unsafe fn store_words_of(four: [Self; 4], to: *mut u8) {
        for (i, one) in four.into_iter().enumerate() {
            // SAFETY: the caller vouches for pointer and instruction set.
            unsafe { one.max(Self::splat(0.0)).round().store_words(to.add(i * Self::LEN * 2)) }
        }
    }
}

/// 1.5 · 2²³: adding and subtracting it rounds a small float to a whole number, half to even.
const ROUNDER: f32 = 12_582_912.0;

// SAFETY: these are ordinary operations on one float.
unsafe impl Math for f32 {
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        value
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self + other
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self - other
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self * other
    }
    #[inline(always)]
    unsafe fn recip(self) -> Self {
        1.0 / self
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        if self < other { self } else { other }
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        if other < self { self } else { other }
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        self.abs()
    }
    #[inline(always)]
    unsafe fn mul_add(self, by: Self, plus: Self) -> Self {
        // Not fused: without such an instruction that is a slow library call.
        self * by + plus
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        (self + ROUNDER) - ROUNDER
    }
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number in range"
    )]
    unsafe fn exp2_whole(self) -> Self {
        f32::from_bits(((self as i32 + 127) as u32) << 23)
    }
    #[inline(always)]
    unsafe fn with_sign_of(self, sign: Self) -> Self {
        self.copysign(sign)
    }
}

// SAFETY: these are ordinary operations on one float.
unsafe impl Lanes for f32 {
    const LEN: usize = 1;
    type Half = f32;
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's pointer is valid for one entry.
        unsafe { from.read() }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's pointer is valid for one entry.
        unsafe { to.write(self) }
    }
    #[inline(always)]
    #[expect(clippy::cast_precision_loss, reason = "documented rounding")]
    unsafe fn from_i32(from: *const i32) -> Self {
        // SAFETY: the caller's pointer is valid for one entry.
        unsafe { from.read() as f32 }
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        self
    }
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        self
    }
    #[inline(always)]
    unsafe fn has_nan(self) -> bool {
        self.is_nan()
    }
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number in range"
    )]
    unsafe fn store_bytes(self, to: *mut u8, shift: u8) {
        // SAFETY: the caller's pointer is valid for one entry.
        unsafe { to.write((self as i32 as u8).wrapping_sub(shift)) }
    }
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number in range"
    )]
    unsafe fn store_words(self, to: *mut u8) {
        // SAFETY: the caller's pointer is valid for one entry.
        unsafe { to.cast::<u16>().write_unaligned(self as u16) }
    }
}

/// `N` vectors that go through the same operations side by side, so that none waits for its own
/// last result.
#[derive(Clone, Copy)]
pub(crate) struct Pack<V, const N: usize>(pub(crate) [V; N]);

/// Implements a method by the same for each vector.
macro_rules! each {
    ($name:ident $(, $arg:ident)*) => {
        #[inline(always)]
        unsafe fn $name(mut self $(, $arg: Self)*) -> Self {
            for i in 0..N {
                // SAFETY: the caller vouches for the instruction set.
                self.0[i] = unsafe { self.0[i].$name($($arg.0[i]),*) };
            }
            self
        }
    };
}

// SAFETY: each method is that of the vectors.
unsafe impl<V: Math, const N: usize> Math for Pack<V, N> {
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller vouches for the instruction set.
        unsafe { Self([V::splat(value); N]) }
    }
    each!(add, other);
    each!(sub, other);
    each!(mul, other);
    each!(recip);
    each!(min, other);
    each!(max, other);
    each!(abs);
    each!(mul_add, by, plus);
    each!(round);
    each!(exp2_whole);
    each!(with_sign_of, sign);
}

/// Implements a method by one intrinsic.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! by {
    ($name:ident, $intrinsic:ident $(, $arg:ident)*) => {
        #[inline(always)]
        unsafe fn $name(self $(, $arg: Self)*) -> Self {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { $intrinsic(self $(, $arg)*) }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Lanes, Math, ROUNDER};
    use core::arch::x86_64::*;

    // SAFETY: each method is made of AVX, AVX2 and FMA instructions on the entries it names.
    unsafe impl Math for __m256 {
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { _mm256_set1_ps(value) }
        }
        by!(add, _mm256_add_ps, other);
        by!(sub, _mm256_sub_ps, other);
        by!(mul, _mm256_mul_ps, other);
        by!(min, _mm256_min_ps, other);
        by!(max, _mm256_max_ps, other);
        by!(mul_add, _mm256_fmadd_ps, by, plus);
        #[inline(always)]
        unsafe fn recip(self) -> Self {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { _mm256_div_ps(_mm256_set1_ps(1.0), self) }
        }
        #[inline(always)]
        unsafe fn abs(self) -> Self {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), self) }
        }
        #[inline(always)]
        unsafe fn round(self) -> Self {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self) }
        }
        #[inline(always)]
        unsafe fn exp2_whole(self) -> Self {
            // The exponent's bits come to stand where the rounder leaves them.
            // SAFETY: the caller vouches for the instruction set.
            unsafe {
                let biased = _mm256_add_ps(self, _mm256_set1_ps(ROUNDER + 127.0));
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(biased)))
            }
        }
        #[inline(always)]
        unsafe fn with_sign_of(self, sign: Self) -> Self {
            // SAFETY: the caller vouches for the instruction set.
            unsafe {
                let mask = _mm256_set1_ps(-0.0);
                _mm256_or_ps(_mm256_andnot_ps(mask, self), _mm256_and_ps(mask, sign))
            }
        }
    }

    // SAFETY: each method is made of AVX, AVX2 and FMA instructions on the entries it names.
    unsafe impl Lanes for __m256 {
        const LEN: usize = 8;
        type Half = f32;
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller vouches for pointer and instruction set.
            unsafe { _mm256_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller vouches for pointer and instruction set.
            unsafe { _mm256_storeu_ps(to, self) }
        }
        #[inline(always)]
        unsafe fn from_i32(from: *const i32) -> Self {
            // SAFETY: the caller vouches for pointer and instruction set.
            unsafe { _mm256_cvtepi32_ps(_mm256_loadu_si256(from.cast())) }
        }
        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            // SAFETY: the caller vouches for the instruction set.
            unsafe {
                let half =
                    _mm_add_ps(_mm256_castps256_ps128(self), _mm256_extractf128_ps::<1>(self));
                let pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
                _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)))
            }
        }
        #[inline(always)]
        unsafe fn largest(self) -> f32 {
            // SAFETY: the caller vouches for the instruction set.
            unsafe {
                let half =
                    _mm_max_ps(_mm256_castps256_ps128(self), _mm256_extractf128_ps::<1>(self));
                let pair = _mm_max_ps(half, _mm_movehl_ps(half, half));
                _mm_cvtss_f32(_mm_max_ss(pair, _mm_movehdup_ps(pair)))
            }
        }
        #[inline(always)]
        unsafe fn has_nan(self) -> bool {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_UNORD_Q>(self, self)) != 0 }
        }
        #[inline(always)]
        unsafe fn store_bytes(self, to: *mut u8, shift: u8) {
            // SAFETY: the caller vouches for pointer (8 bytes are written) and instruction set.
            unsafe {
                let whole =
                    _mm256_sub_epi32(_mm256_cvtps_epi32(self), _mm256_set1_epi32(i32::from(shift)));
                let bytes = _mm256_shuffle_epi8(
                    whole,
                    _mm256_setr_epi8(
                        0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, //
                        0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
                    ),
                );
                let low = _mm256_castsi256_si128(bytes);
                let high = _mm256_extracti128_si256::<1>(bytes);
                _mm_storel_epi64(to.cast(), _mm_unpacklo_epi32(low, high));
            }
        }
        #[inline(always)]
        unsafe fn store_bytes_of(four: [Self; 4], to: *mut u8, shift: u8) {
            // SAFETY: the caller vouches for pointer (32 bytes are written) and instruction set.
            unsafe {
                let [a, b, c, d] = four;
                let left = _mm256_packs_epi32(_mm256_cvtps_epi32(a), _mm256_cvtps_epi32(b));
                let right = _mm256_packs_epi32(_mm256_cvtps_epi32(c), _mm256_cvtps_epi32(d));
                // Packing goes by halves, which leaves groups of four in the order 0 2 4 6 1 3 5 7.
                let bytes = _mm256_packus_epi16(left, right);
                let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
                let bytes = _mm256_permutevar8x32_epi32(bytes, order);
                let bytes = _mm256_sub_epi8(bytes, _mm256_set1_epi8(shift.cast_signed()));
                _mm256_storeu_si256(to.cast(), bytes);
            }
        }
        #[inline(always)]
        unsafe fn store_words(self, to: *mut u8) {
            // SAFETY: the caller vouches for pointer (16 bytes are written) and instruction set.
            unsafe {
                let whole = _mm256_cvtps_epi32(self);
                let low = _mm256_castsi256_si128(whole);
                let high = _mm256_extracti128_si256::<1>(whole);
                _mm_storeu_si128(to.cast(), _mm_packus_epi32(low, high));
            }
        }
        #[inline(always)]
        unsafe fn store_words_of(four: [Self; 4], to: *mut u8) {
            // SAFETY: the caller vouches for pointer (64 bytes are written) and instruction set.
            unsafe {
                let [a, b, c, d] = four;
                let left = _mm256_packus_epi32(_mm256_cvtps_epi32(a), _mm256_cvtps_epi32(b));
                let right = _mm256_packus_epi32(_mm256_cvtps_epi32(c), _mm256_cvtps_epi32(d));
                // Packing goes by halves, which leaves groups of four in the order 0 2 1 3.
                let left = _mm256_permute4x64_epi64::<0b11_01_10_00>(left);
                let right = _mm256_permute4x64_epi64::<0b11_01_10_00>(right);
                _mm256_storeu_si256(to.cast(), left);
                _mm256_storeu_si256(to.add(32).cast(), right);
            }
        }
    }

    // SAFETY: each method is made of AVX-512F, AVX2 and FMA instructions on the entries it names.
    unsafe impl Math for __m512 {
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { _mm512_set1_ps(value) }
        }
        by!(add, _mm512_add_ps, other);
        by!(sub, _mm512_sub_ps, other);
        by!(mul, _mm512_mul_ps, other);
        by!(min, _mm512_min_ps, other);
        by!(max, _mm512_max_ps, other);
        by!(mul_add, _mm512_fmadd_ps, by, plus);
        by!(abs, _mm512_abs_ps);
        #[inline(always)]
        unsafe fn recip(self) -> Self {
            // 14 bits, and a step of Newton's method doubles them: a fifth of a division's time.
            // SAFETY: the caller vouches for the instruction set.
            unsafe {
                let x = _mm512_rcp14_ps(self);
                let error = _mm512_fnmadd_ps(self, x, _mm512_set1_ps(1.0));
                _mm512_fmadd_ps(x, error, x)
            }
        }
        #[inline(always)]
        unsafe fn round(self) -> Self {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { _mm512_roundscale_ps::<0>(self) }
        }
        #[inline(always)]
        unsafe fn exp2_whole(self) -> Self {
            // SAFETY: the caller vouches for the instruction set.
            unsafe {
                let biased = _mm512_add_ps(self, _mm512_set1_ps(ROUNDER + 127.0));
                _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(biased)))
            }
        }
        #[inline(always)]
        unsafe fn with_sign_of(self, sign: Self) -> Self {
            // SAFETY: the caller vouches for the instruction set.
            unsafe {
                let mask = _mm512_set1_epi32(i32::MIN);
                let sign = _mm512_and_si512(mask, _mm512_castps_si512(sign));
                let size = _mm512_andnot_si512(mask, _mm512_castps_si512(self));
                _mm512_castsi512_ps(_mm512_or_si512(size, sign))
            }
        }
    }

    // SAFETY: each method is made of AVX-512F, AVX2 and FMA instructions on the entries it names.
    unsafe impl Lanes for __m512 {
        const LEN: usize = 16;
        type Half = __m256;
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller vouches for pointer and instruction set.
            unsafe { _mm512_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller vouches for pointer and instruction set.
            unsafe { _mm512_storeu_ps(to, self) }
        }
        #[inline(always)]
        unsafe fn from_i32(from: *const i32) -> Self {
            // SAFETY: the caller vouches for pointer and instruction set.
            unsafe { _mm512_cvtepi32_ps(_mm512_loadu_si512(from.cast())) }
        }
        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { _mm512_reduce_add_ps(self) }
        }
        #[inline(always)]
        unsafe fn largest(self) -> f32 {
            // The library's reduction goes through the entries one by one.
            // SAFETY: the caller vouches for the instruction set.
            unsafe {
                let high = _mm512_extractf64x4_pd::<1>(_mm512_castps_pd(self));
                _mm256_max_ps(_mm512_castps512_ps256(self), _mm256_castpd_ps(high)).largest()
            }
        }
        #[inline(always)]
        unsafe fn has_nan(self) -> bool {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self, self) != 0 }
        }
        #[inline(always)]
        unsafe fn store_bytes(self, to: *mut u8, shift: u8) {
            // SAFETY: the caller vouches for pointer (16 bytes are written) and instruction set.
            unsafe {
                let whole =
                    _mm512_sub_epi32(_mm512_cvtps_epi32(self), _mm512_set1_epi32(i32::from(shift)));
                _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(whole));
            }
        }
        #[inline(always)]
        unsafe fn store_words(self, to: *mut u8) {
            // SAFETY: the caller vouches for pointer (32 bytes are written) and instruction set.
            unsafe {
                let words = _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(self));
                _mm256_storeu_si256(to.cast(), words);
            }
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::{Lanes, Math};
    use core::arch::aarch64::*;

    // SAFETY: each method is made of NEON instructions on the entries it names.
    unsafe impl Math for float32x4_t {
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { vdupq_n_f32(value) }
        }
        by!(add, vaddq_f32, other);
        by!(sub, vsubq_f32, other);
        by!(mul, vmulq_f32, other);
        by!(min, vminq_f32, other);
        by!(max, vmaxq_f32, other);
        by!(abs, vabsq_f32);
        by!(round, vrndnq_f32);
        #[inline(always)]
        unsafe fn mul_add(self, by: Self, plus: Self) -> Self {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { vfmaq_f32(plus, self, by) }
        }
        #[inline(always)]
        unsafe fn exp2_whole(self) -> Self {
            // SAFETY: the caller vouches for the instruction set.
            unsafe {
                let biased = vaddq_s32(vcvtq_s32_f32(self), vdupq_n_s32(127));
                vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))
            }
        }
        #[inline(always)]
        unsafe fn with_sign_of(self, sign: Self) -> Self {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { vbslq_f32(vdupq_n_u32(0x8000_0000), sign, self) }
        }
        #[inline(always)]
        unsafe fn recip(self) -> Self {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { vdivq_f32(vdupq_n_f32(1.0), self) }
        }
    }

    // SAFETY: each method is made of NEON instructions on the entries it names.
    unsafe impl Lanes for float32x4_t {
        const LEN: usize = 4;
        type Half = f32;
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller vouches for pointer and instruction set.
            unsafe { vld1q_f32(from) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller vouches for pointer and instruction set.
            unsafe { vst1q_f32(to, self) }
        }
        #[inline(always)]
        unsafe fn from_i32(from: *const i32) -> Self {
            // SAFETY: the caller vouches for pointer and instruction set.
            unsafe { vcvtq_f32_s32(vld1q_s32(from)) }
        }
        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { vaddvq_f32(self) }
        }
        #[inline(always)]
        unsafe fn largest(self) -> f32 {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { vmaxvq_f32(self) }
        }
        #[inline(always)]
        unsafe fn has_nan(self) -> bool {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { vminvq_u32(vceqq_f32(self, self)) == 0 }
        }
        #[inline(always)]
        unsafe fn store_bytes(self, to: *mut u8, shift: u8) {
            // SAFETY: the caller vouches for pointer (4 bytes are written) and instruction set.
            unsafe {
                let whole = vsubq_s32(vcvtnq_s32_f32(self), vdupq_n_s32(i32::from(shift)));
                let half = vmovn_s32(whole);
                let bytes = vmovn_s16(vcombine_s16(half, half));
                to.cast::<u32>().write_unaligned(vget_lane_u32::<0>(vreinterpret_u32_s8(bytes)));
            }
        }
        #[inline(always)]
        unsafe fn store_words(self, to: *mut u8) {
            // SAFETY: the caller vouches for pointer (8 bytes are written) and instruction set.
            unsafe { vst1_u8(to, vreinterpret_u8_s16(vmovn_s32(vcvtnq_s32_f32(self)))) }
        }
    }
}
