//! Tiles for AVX-VNNI and AVX-512 VNNI, one instruction of which adds four products of bytes in 32
//! bits. Written out because the compiler computes the addresses of rows one from another.

use core::arch::asm;
use core::arch::x86_64::*;

use super::super::{Kernel, Tile};

/// Two such instructions begin in a cycle and take five, so ten sums or more keep them busy.
pub(crate) const AVX_VNNI: Kernel = Kernel { rows: 6, columns: 16, group: 4, tile: avx_vnni_tile };
pub(crate) const AVX512_VNNI: Kernel =
    Kernel { rows: 8, columns: 32, group: 4, tile: avx512_vnni_tile };

/// Four inputs of the row at `$row` with 16 outputs. Without the prefix it would be the
/// instruction of AVX-512.
macro_rules! ymm_row {
    ($row:literal, $at:literal, $left:literal, $right:literal) => {
        concat!(
            "vpbroadcastd ymm14, dword ptr [",
            $row,
            " + ",
            $at,
            "]\n",
            "{{vex}} vpdpbusd ",
            $left,
            ", ymm14, ymm12\n",
            "{{vex}} vpdpbusd ",
            $right,
            ", ymm14, ymm13\n",
        )
    };
}

/// Four inputs of all rows with 16 outputs.
macro_rules! ymm_step {
    ($input:literal, $weight:literal, [$(($row:literal, $left:literal, $right:literal)),*]) => {
        concat!(
            "vmovdqa ymm12, ymmword ptr [{panel} + ", $weight, "]\n",
            "vmovdqa ymm13, ymmword ptr [{panel} + ", $weight, " + 32]\n",
            $(ymm_row!($row, $input, $left, $right),)*
        )
    };
}

/// A tile of 16 columns.
macro_rules! ymm {
    ($name:ident, $n:literal, $rows:tt) => {
        #[target_feature(enable = "avx2,avxvnni")]
        unsafe fn $name(
            rows: *const u8,
            stride: usize,
            panel: *const i8,
            n_steps: usize,
            start: *const i32,
            sums: *mut i32,
        ) {
            // SAFETY: the caller vouches for a tile's worth of everything: each time the loop
            // reads 8 bytes of the rows and 128 of the panel, and what it writes are registers.
            unsafe {
                let left = _mm256_loadu_si256(start.cast());
                let right = _mm256_loadu_si256(start.add(8).cast());
                let mut sum = [[left, right]; 6];
                if n_steps != 0 {
                    asm!(
                        "2:",
                        ymm_step!("0", "0", $rows),
                        ymm_step!("4", "64", $rows),
                        "add {row}, 8",
                        "add {row3}, 8",
                        "sub {panel}, -128",
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

ymm!(
    avx_vnni_6,
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
ymm!(
    avx_vnni_4,
    4,
    [
        ("{row}", "ymm0", "ymm1"),
        ("{row} + {stride}", "ymm2", "ymm3"),
        ("{row} + 2*{stride}", "ymm4", "ymm5"),
        ("{row3}", "ymm6", "ymm7")
    ]
);
ymm!(avx_vnni_2, 2, [("{row}", "ymm0", "ymm1"), ("{row} + {stride}", "ymm2", "ymm3")]);

fn avx_vnni_tile(n_rows: usize) -> Tile {
    match n_rows {
        0..=2 => avx_vnni_2,
        3..=4 => avx_vnni_4,
        _ => avx_vnni_6,
    }
}

/// Four inputs of the row at `$row` with 32 outputs.
macro_rules! zmm_row {
    ($row:literal, $at:literal, $left:literal, $right:literal) => {
        concat!(
            "vpbroadcastd zmm18, dword ptr [",
            $row,
            " + ",
            $at,
            "]\n",
            "vpdpbusd ",
            $left,
            ", zmm18, zmm16\n",
            "vpdpbusd ",
            $right,
            ", zmm18, zmm17\n",
        )
    };
}

/// Four inputs of all rows with 32 outputs.
macro_rules! zmm_step {
    ($input:literal, $weight:literal, [$(($row:literal, $left:literal, $right:literal)),*]) => {
        concat!(
            "vmovdqa64 zmm16, zmmword ptr [{panel} + ", $weight, "]\n",
            "vmovdqa64 zmm17, zmmword ptr [{panel} + ", $weight, " + 64]\n",
            $(zmm_row!($row, $input, $left, $right),)*
        )
    };
}

/// A tile of 32 columns.
macro_rules! zmm {
    ($name:ident, $n:literal, $rows:tt) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
        unsafe fn $name(
            rows: *const u8,
            stride: usize,
            panel: *const i8,
            n_steps: usize,
            start: *const i32,
            sums: *mut i32,
        ) {
            // SAFETY: the caller vouches for a tile's worth of everything: each time the loop
            // reads 8 bytes of the rows and 256 of the panel, and what it writes are registers.
            unsafe {
                let left = _mm512_loadu_si512(start.cast());
                let right = _mm512_loadu_si512(start.add(16).cast());
                let mut sum = [[left, right]; 8];
                if n_steps != 0 {
                    asm!(
                        "2:",
                        zmm_step!("0", "0", $rows),
                        zmm_step!("4", "128", $rows),
                        "add {row}, 8",
                        "add {row3}, 8",
                        "add {row6}, 8",
                        "add {panel}, 256",
                        "dec {n}",
                        "jnz 2b",
                        row = inout(reg) rows => _,
                        row3 = inout(reg) rows.wrapping_add(stride * 3) => _,
                        row6 = inout(reg) rows.wrapping_add(stride * 6) => _,
                        panel = inout(reg) panel => _,
                        n = inout(reg) n_steps => _,
                        stride = in(reg) stride,
                        inout("zmm0") sum[0][0],
                        inout("zmm1") sum[0][1],
                        inout("zmm2") sum[1][0],
                        inout("zmm3") sum[1][1],
                        inout("zmm4") sum[2][0],
                        inout("zmm5") sum[2][1],
                        inout("zmm6") sum[3][0],
                        inout("zmm7") sum[3][1],
                        inout("zmm8") sum[4][0],
                        inout("zmm9") sum[4][1],
                        inout("zmm10") sum[5][0],
                        inout("zmm11") sum[5][1],
                        inout("zmm12") sum[6][0],
                        inout("zmm13") sum[6][1],
                        inout("zmm14") sum[7][0],
                        inout("zmm15") sum[7][1],
                        out("zmm16") _,
                        out("zmm17") _,
                        out("zmm18") _,
                        options(nostack, readonly),
                    );
                }
                for (i, sum) in sum[..$n].as_flattened().iter().enumerate() {
                    _mm512_storeu_si512(sums.add(i * 16).cast(), *sum);
                }
            }
        }
    };
}

zmm!(
    avx512_vnni_8,
    8,
    [
        ("{row}", "zmm0", "zmm1"),
        ("{row} + {stride}", "zmm2", "zmm3"),
        ("{row} + 2*{stride}", "zmm4", "zmm5"),
        ("{row3}", "zmm6", "zmm7"),
        ("{row3} + {stride}", "zmm8", "zmm9"),
        ("{row3} + 2*{stride}", "zmm10", "zmm11"),
        ("{row6}", "zmm12", "zmm13"),
        ("{row6} + {stride}", "zmm14", "zmm15")
    ]
);
zmm!(
    avx512_vnni_6,
    6,
    [
        ("{row}", "zmm0", "zmm1"),
        ("{row} + {stride}", "zmm2", "zmm3"),
        ("{row} + 2*{stride}", "zmm4", "zmm5"),
        ("{row3}", "zmm6", "zmm7"),
        ("{row3} + {stride}", "zmm8", "zmm9"),
        ("{row3} + 2*{stride}", "zmm10", "zmm11")
    ]
);
zmm!(
    avx512_vnni_4,
    4,
    [
        ("{row}", "zmm0", "zmm1"),
        ("{row} + {stride}", "zmm2", "zmm3"),
        ("{row} + 2*{stride}", "zmm4", "zmm5"),
        ("{row3}", "zmm6", "zmm7")
    ]
);
zmm!(avx512_vnni_2, 2, [("{row}", "zmm0", "zmm1"), ("{row} + {stride}", "zmm2", "zmm3")]);

fn avx512_vnni_tile(n_rows: usize) -> Tile {
    match n_rows {
        0..=2 => avx512_vnni_2,
        3..=4 => avx512_vnni_4,
        5..=6 => avx512_vnni_6,
        _ => avx512_vnni_8,
    }
}
