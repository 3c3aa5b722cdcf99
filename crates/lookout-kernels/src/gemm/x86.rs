//! Tiles for AVX2, AVX-VNNI and AVX-512 VNNI.

mod vnni;

use core::arch::asm;
use core::arch::x86_64::*;

use super::{Kernel, Tile};
pub(super) use vnni::{AVX_VNNI, AVX512_VNNI};

pub(super) const AVX2: Kernel = Kernel { rows: 4, columns: 16, group: 4, tile: avx2_tile };
pub(super) const AVX2_WORDS: Kernel =
    Kernel { rows: 6, columns: 16, group: 2, tile: avx2_words_tile };

/// Eight inputs of the row at `$row` with 16 outputs: products of bytes, four of which add up in
/// 16 bits (see [`crate::fit`]), then eight in 32.
macro_rules! bytes_row {
    ($row:literal, $left:literal, $right:literal) => {
        concat!(
            "vpbroadcastd ymm12, dword ptr [",
            $row,
            "]\n",
            "vpbroadcastd ymm13, dword ptr [",
            $row,
            " + 4]\n",
            "vpmaddubsw ymm14, ymm12, ymm8\n",
            "vpmaddubsw ymm12, ymm12, ymm9\n",
            "vpmaddubsw ymm15, ymm13, ymm10\n",
            "vpmaddubsw ymm13, ymm13, ymmword ptr [{panel} + 96]\n",
            "vpaddw ymm14, ymm14, ymm15\n",
            "vpaddw ymm12, ymm12, ymm13\n",
            "vpmaddwd ymm14, ymm14, ymm11\n",
            "vpmaddwd ymm12, ymm12, ymm11\n",
            "vpaddd ",
            $left,
            ", ",
            $left,
            ", ymm14\n",
            "vpaddd ",
            $right,
            ", ",
            $right,
            ", ymm12\n",
        )
    };
}

/// A tile of 16 columns, activations of 8 bits. Written out because the compiler spills the sums.
macro_rules! bytes {
    ($name:ident, [$(($row:literal, $left:literal, $right:literal)),*]) => {
        #[target_feature(enable = "avx2")]
        unsafe fn $name(
            rows: *const u8,
            stride: usize,
            panel: *const i8,
            n_steps: usize,
            start: *const i32,
            sums: *mut i32,
        ) {
            const ROWS: usize = [$($row),*].len();
            // SAFETY: the caller vouches for a tile's worth of everything: each time the loop
            // reads 8 bytes of the rows and 128 of the panel, and what it writes are registers.
            unsafe {
                let left = _mm256_loadu_si256(start.cast());
                let right = _mm256_loadu_si256(start.add(8).cast());
                let mut sum = [[left, right]; 4];
                if n_steps != 0 {
                    asm!(
                        "2:",
                        "vmovdqa ymm8, ymmword ptr [{panel}]",
                        "vmovdqa ymm9, ymmword ptr [{panel} + 32]",
                        "vmovdqa ymm10, ymmword ptr [{panel} + 64]",
                        $(bytes_row!($row, $left, $right),)*
                        "add {row}, 8",
                        "add {row3}, 8",
                        "add {panel}, 128",
                        "dec {n}",
                        "jnz 2b",
                        row = inout(reg) rows => _,
                        row3 = inout(reg) rows.wrapping_add(stride * 3) => _,
                        panel = inout(reg) panel => _,
                        n = inout(reg) n_steps => _,
                        stride = in(reg) stride,
                        inout("ymm0") sum[0][0],
                        inout("ymm1") sum[0][1],
                        inout("ymm2") sum[1][0],
                        inout("ymm3") sum[1][1],
                        inout("ymm4") sum[2][0],
                        inout("ymm5") sum[2][1],
                        inout("ymm6") sum[3][0],
                        inout("ymm7") sum[3][1],
                        out("ymm8") _,
                        out("ymm9") _,
                        out("ymm10") _,
                        in("ymm11") _mm256_set1_epi16(1),
                        out("ymm12") _,
                        out("ymm13") _,
                        out("ymm14") _,
                        out("ymm15") _,
                        options(nostack, readonly),
                    );
                }
                for (i, sum) in sum[..ROWS].as_flattened().iter().enumerate() {
                    _mm256_storeu_si256(sums.add(i * 8).cast(), *sum);
                }
            }
        }
    };
}

bytes!(avx2_2, [("{row}", "ymm0", "ymm1"), ("{row} + {stride}", "ymm2", "ymm3")]);
bytes!(
    avx2_3,
    [
        ("{row}", "ymm0", "ymm1"),
        ("{row} + {stride}", "ymm2", "ymm3"),
        ("{row} + 2*{stride}", "ymm4", "ymm5")
    ]
);
bytes!(
    avx2_4,
    [
        ("{row}", "ymm0", "ymm1"),
        ("{row} + {stride}", "ymm2", "ymm3"),
        ("{row} + 2*{stride}", "ymm4", "ymm5"),
        ("{row3}", "ymm6", "ymm7")
    ]
);

fn avx2_tile(n_rows: usize) -> Tile {
    match n_rows {
        0..=2 => avx2_2,
        3 => avx2_3,
        _ => avx2_4,
    }
}

/// Two inputs of the row at `$row` with 16 outputs.
macro_rules! words_row {
    ($row:literal, $at:literal, $left:literal, $right:literal) => {
        concat!(
            "vpbroadcastd ymm14, dword ptr [",
            $row,
            " + ",
            $at,
            "]\n",
            "vpmaddwd ymm15, ymm14, ymm12\n",
            "vpmaddwd ymm14, ymm14, ymm13\n",
            "vpaddd ",
            $left,
            ", ",
            $left,
            ", ymm15\n",
            "vpaddd ",
            $right,
            ", ",
            $right,
            ", ymm14\n",
        )
    };
}

/// Two inputs of the rows in `$body` with 16 outputs, whose weights are widened to 16 bits.
macro_rules! words_step {
    ($input:literal, $weight:literal, [$(($row:literal, $left:literal, $right:literal)),*]) => {
        concat!(
            "vpmovsxbw ymm12, xmmword ptr [{panel} + ", $weight, "]\n",
            "vpmovsxbw ymm13, xmmword ptr [{panel} + ", $weight, " + 16]\n",
            $(words_row!($row, $input, $left, $right),)*
        )
    };
}

/// A tile of 16 columns, activations of 16 bits. Written out because the compiler spills the sums.
macro_rules! words {
    ($name:ident, $n:literal, $rows:tt) => {
        #[target_feature(enable = "avx2")]
        unsafe fn $name(
            rows: *const u8,
            stride: usize,
            panel: *const i8,
            n_steps: usize,
            start: *const i32,
            sums: *mut i32,
        ) {
            // SAFETY: the caller vouches for a tile's worth of everything: each time the loop
            // reads 16 bytes of the rows and 128 of the panel, and what it writes are registers.
            unsafe {
                let left = _mm256_loadu_si256(start.cast());
                let right = _mm256_loadu_si256(start.add(8).cast());
                let mut sum = [[left, right]; 6];
                if n_steps != 0 {
                    asm!(
                        "2:",
                        words_step!("0", "0", $rows),
                        words_step!("4", "32", $rows),
                        words_step!("8", "64", $rows),
                        words_step!("12", "96", $rows),
                        "add {row}, 16",
                        "add {row3}, 16",
                        "add {panel}, 128",
                        "dec {n}",
                        "jnz 2b",
                        row = inout(reg) rows => _,
                        row3 = inout(reg) rows.wrapping_add(stride * 3) => _,
                        panel = inout(reg) panel => _,
                        n = inout(reg) n_steps => _,
                        stride = in(reg) stride,
                        inout("ymm0") sum[0][0],
                        inout("ymm1") sum[0][1],
                        inout("ymm2") sum[1][0],
                        inout("ymm3") sum[1][1],
                        inout("ymm4") sum[2][0],
                        inout("ymm5") sum[2][1],
                        inout("ymm6") sum[3][0],
                        inout("ymm7") sum[3][1],
                        inout("ymm8") sum[4][0],
                        inout("ymm9") sum[4][1],
                        inout("ymm10") sum[5][0],
                        inout("ymm11") sum[5][1],
                        out("ymm12") _,
                        out("ymm13") _,
                        out("ymm14") _,
                        out("ymm15") _,
                        options(nostack, readonly),
                    );
                }
                for (i, sum) in sum[..$n].as_flattened().iter().enumerate() {
                    _mm256_storeu_si256(sums.add(i * 8).cast(), *sum);
                }
            }
        }
    };
}

words!(
    avx2_words_6,
    6,
    [
        ("{row}", "ymm0", "ymm1"),
        ("{row} + {stride}", "ymm2", "ymm3"),
        ("{row} + 2*{stride}", "ymm4", "ymm5"),
        ("{row3}", "ymm6", "ymm7"),
        ("{row3} + {stride}", "ymm8", "ymm9"),
        ("{row3} + 2*{stride}", "ymm10", "ymm11")
    ]
);
words!(
    avx2_words_4,
    4,
    [
        ("{row}", "ymm0", "ymm1"),
        ("{row} + {stride}", "ymm2", "ymm3"),
        ("{row} + 2*{stride}", "ymm4", "ymm5"),
        ("{row3}", "ymm6", "ymm7")
    ]
);
words!(avx2_words_2, 2, [("{row}", "ymm0", "ymm1"), ("{row} + {stride}", "ymm2", "ymm3")]);

fn avx2_words_tile(n_rows: usize) -> Tile {
    match n_rows {
        0..=2 => avx2_words_2,
        3..=4 => avx2_words_4,
        _ => avx2_words_6,
    }
}
