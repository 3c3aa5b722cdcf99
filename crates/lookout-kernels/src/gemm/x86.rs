//! Tiles for AVX2, AVX-VNNI and AVX-512 VNNI.

use core::arch::asm;
use core::arch::x86_64::*;

use super::Kernel;

pub(super) const AVX2: Kernel = Kernel { rows: 4, columns: 16, tile: avx2 };
pub(super) const AVX_VNNI: Kernel = Kernel { rows: 4, columns: 16, tile: avx_vnni };
pub(super) const AVX512_VNNI: Kernel = Kernel { rows: 8, columns: 32, tile: avx512_vnni };

/// One row of the tile: four inputs at `$row`, weights in `$w0` and `$w1`. Products of two inputs are
/// added in 16 bits, which activations of 7 bits cannot overflow.
///
/// Written out because the compiler keeps the weights in registers and spills the sums instead.
macro_rules! pair_row {
    ($row:literal, $left:literal, $right:literal, $w0:literal, $w1:literal) => {
        concat!(
            "vpbroadcastd ymm13, dword ptr [",
            $row,
            "]\n",
            "vpmaddubsw ymm14, ymm13, ",
            $w0,
            "\n",
            "vpmaddubsw ymm15, ymm13, ",
            $w1,
            "\n",
            "vpmaddwd ymm14, ymm14, ymm8\n",
            "vpmaddwd ymm15, ymm15, ymm8\n",
            "vpaddd ",
            $left,
            ", ",
            $left,
            ", ymm14\n",
            "vpaddd ",
            $right,
            ", ",
            $right,
            ", ymm15\n",
        )
    };
}

/// A 4 × 16 tile whose body is `$body`, executed once for every [`super::K_STEP`] inputs.
macro_rules! avx2_tile {
    ($name:ident, $($body:expr),* $(,)?) => {
        #[target_feature(enable = "avx2")]
        unsafe fn $name(
            rows: *const u8,
            stride: usize,
            panel: *const i8,
            n_steps: usize,
            start: *const i32,
            sums: *mut i32,
        ) {
            // SAFETY: the caller vouches for a tile's worth of everything: the loop reads 8
            // bytes of 4 rows and 128 of the panel each time, and what it writes are registers.
            unsafe {
                let left = _mm256_loadu_si256(start.cast());
                let right = _mm256_loadu_si256(start.add(8).cast());
                let mut sum = [left, right, left, right, left, right, left, right];
                if n_steps != 0 {
                    asm!(
                        // Sixteen ones of 16 bits.
                        "vpcmpeqw ymm8, ymm8, ymm8",
                        "vpsrlw ymm8, ymm8, 15",
                        "2:",
                        $($body,)*
                        "add {row}, 8",
                        "add {panel}, 128",
                        "dec {n}",
                        "jnz 2b",
                        row = inout(reg) rows => _,
                        panel = inout(reg) panel => _,
                        n = inout(reg) n_steps => _,
                        stride = in(reg) stride,
                        stride3 = in(reg) stride * 3,
                        inout("ymm0") sum[0],
                        inout("ymm1") sum[1],
                        inout("ymm2") sum[2],
                        inout("ymm3") sum[3],
                        inout("ymm4") sum[4],
                        inout("ymm5") sum[5],
                        inout("ymm6") sum[6],
                        inout("ymm7") sum[7],
                        out("ymm8") _,
                        out("ymm9") _,
                        out("ymm10") _,
                        out("ymm11") _,
                        out("ymm12") _,
                        out("ymm13") _,
                        out("ymm14") _,
                        out("ymm15") _,
                        options(nostack, readonly),
                    );
                }
                for (i, sum) in sum.iter().enumerate() {
                    _mm256_storeu_si256(sums.add(i * 8).cast(), *sum);
                }
            }
        }
    };
}

avx2_tile!(
    avx2,
    "vmovdqa ymm9, ymmword ptr [{panel}]",
    "vmovdqa ymm10, ymmword ptr [{panel} + 32]",
    "vmovdqa ymm11, ymmword ptr [{panel} + 64]",
    "vmovdqa ymm12, ymmword ptr [{panel} + 96]",
    pair_row!("{row}", "ymm0", "ymm1", "ymm9", "ymm10"),
    pair_row!("{row} + {stride}", "ymm2", "ymm3", "ymm9", "ymm10"),
    pair_row!("{row} + 2*{stride}", "ymm4", "ymm5", "ymm9", "ymm10"),
    pair_row!("{row} + {stride3}", "ymm6", "ymm7", "ymm9", "ymm10"),
    pair_row!("{row} + 4", "ymm0", "ymm1", "ymm11", "ymm12"),
    pair_row!("{row} + {stride} + 4", "ymm2", "ymm3", "ymm11", "ymm12"),
    pair_row!("{row} + 2*{stride} + 4", "ymm4", "ymm5", "ymm11", "ymm12"),
    pair_row!("{row} + {stride3} + 4", "ymm6", "ymm7", "ymm11", "ymm12"),
);

#[target_feature(enable = "avx2,avxvnni")]
unsafe fn avx_vnni(
    rows: *const u8,
    stride: usize,
    panel: *const i8,
    n_steps: usize,
    start: *const i32,
    sums: *mut i32,
) {
    // SAFETY: the caller vouches for a tile's worth of everything.
    unsafe {
        let left = _mm256_loadu_si256(start.cast());
        let right = _mm256_loadu_si256(start.add(8).cast());
        let mut sum = [[left, right]; 4];
        for four in 0..n_steps * 2 {
            let weights = panel.add(four * 64).cast::<__m256i>();
            let left = _mm256_load_si256(weights);
            let right = _mm256_load_si256(weights.add(1));
            for (row, sum) in sum.iter_mut().enumerate() {
                let input = rows.add(row * stride + four * 4).cast::<i32>().read_unaligned();
                let input = _mm256_set1_epi32(input);
                sum[0] = _mm256_dpbusd_avx_epi32(sum[0], input, left);
                sum[1] = _mm256_dpbusd_avx_epi32(sum[1], input, right);
            }
        }
        for (i, sum) in sum.as_flattened().iter().enumerate() {
            _mm256_storeu_si256(sums.add(i * 8).cast(), *sum);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn avx512_vnni(
    rows: *const u8,
    stride: usize,
    panel: *const i8,
    n_steps: usize,
    start: *const i32,
    sums: *mut i32,
) {
    // SAFETY: the caller vouches for a tile's worth of everything.
    unsafe {
        let left = _mm512_loadu_si512(start.cast());
        let right = _mm512_loadu_si512(start.add(16).cast());
        let mut sum = [[left, right]; 8];
        for four in 0..n_steps * 2 {
            let weights = panel.add(four * 128).cast::<__m512i>();
            let left = _mm512_load_si512(weights);
            let right = _mm512_load_si512(weights.add(1));
            for (row, sum) in sum.iter_mut().enumerate() {
                let input = rows.add(row * stride + four * 4).cast::<i32>().read_unaligned();
                let input = _mm512_set1_epi32(input);
                sum[0] = _mm512_dpbusd_epi32(sum[0], input, left);
                sum[1] = _mm512_dpbusd_epi32(sum[1], input, right);
            }
        }
        for (i, sum) in sum.as_flattened().iter().enumerate() {
            _mm512_storeu_si512(sums.add(i * 16).cast(), *sum);
        }
    }
}
