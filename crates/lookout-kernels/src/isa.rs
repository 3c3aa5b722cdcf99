//! Which instruction set runs.

use std::fmt;

/// An instruction set that this machine has.
///
/// Values come from [`Isa::detect`] and its kin only, so holding one proves that its
/// instructions can run.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Isa(Kind);

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// With activations of 16 bits.
    #[cfg(target_arch = "x86_64")]
    Avx2Words,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// With activations of 16 bits.
    #[cfg(target_arch = "aarch64")]
    NeonWords,
    #[cfg(target_arch = "aarch64")]
    NeonDot,
    #[cfg(target_arch = "aarch64")]
    NeonI8mm,
}

impl Isa {
    /// Plain Rust that every machine runs; the reference for the others.
    pub const PORTABLE: Self = Self(Kind::Portable);

    /// The fastest instruction set of this machine.
    pub fn detect() -> Self {
        Self::available().next().unwrap_or(Self::PORTABLE)
    }

    /// Every instruction set of this machine, the fastest first and [`Isa::PORTABLE`] last.
    pub fn available() -> impl Iterator<Item = Self> {
        Kind::ALL.iter().filter(|it| it.runs_here()).map(|it| Self(*it))
    }

    /// The fastest instruction set of this machine whose activations have 11 bits, for models with
    /// outliers that 8 bits would drown: those of text.
    pub fn precise() -> Self {
        Self::available().find(|it| it.activation_bits() == 11).unwrap_or(Self::PORTABLE)
    }

    /// Bits of a quantized activation: 8 or 11.
    pub fn activation_bits(self) -> u32 {
        if crate::quantize::width(self) == 2 { 11 } else { 8 }
    }

    /// Features of this machine's processor that kernels ask for or could ask for, by name.
    pub fn cpu_features() -> String {
        let mut features: Vec<&str> = vec![std::env::consts::ARCH];
        #[cfg(target_arch = "x86_64")]
        {
            let known = [
                ("avx2", is_x86_feature_detected!("avx2")),
                ("fma", is_x86_feature_detected!("fma")),
                ("avxvnni", is_x86_feature_detected!("avxvnni")),
                ("avx512f", is_x86_feature_detected!("avx512f")),
                ("avx512bw", is_x86_feature_detected!("avx512bw")),
                ("avx512vl", is_x86_feature_detected!("avx512vl")),
                ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
            ];
            features.extend(known.iter().filter(|it| it.1).map(|it| it.0));
        }
        #[cfg(target_arch = "aarch64")]
        {
            let known = [
                ("neon", std::arch::is_aarch64_feature_detected!("neon")),
                ("dotprod", std::arch::is_aarch64_feature_detected!("dotprod")),
                ("i8mm", std::arch::is_aarch64_feature_detected!("i8mm")),
            ];
            features.extend(known.iter().filter(|it| it.1).map(|it| it.0));
        }
        features.join(" ")
    }

    /// This one, or one whose vectors are shorter where `n` entries do not fill one of its own.
    pub(crate) fn for_entries(self, n: usize) -> Self {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni if n < 16 => Self(Kind::Avx2),
            _ => self,
        }
    }

    /// The instruction set of this [`Isa::name`], if this machine has it.
    pub fn named(name: &str) -> Option<Self> {
        Self::available().find(|it| it.name() == name)
    }

    /// A short name, such as `avx2`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2Words => "avx2-words",
            #[cfg(target_arch = "x86_64")]
            Kind::AvxVnni => "avx-vnni",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni => "avx512-vnni",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => "neon",
            #[cfg(target_arch = "aarch64")]
            Kind::NeonWords => "neon-words",
            #[cfg(target_arch = "aarch64")]
            Kind::NeonDot => "neon-dotprod",
            #[cfg(target_arch = "aarch64")]
            Kind::NeonI8mm => "neon-i8mm",
        }
    }

    pub(crate) fn kind(self) -> Kind {
        self.0
    }
}

impl fmt::Debug for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Kind {
    /// The fastest first.
    const ALL: &[Self] = &[
        #[cfg(target_arch = "x86_64")]
        Self::Avx512Vnni,
        #[cfg(target_arch = "x86_64")]
        Self::AvxVnni,
        #[cfg(target_arch = "x86_64")]
        Self::Avx2,
        #[cfg(target_arch = "x86_64")]
        Self::Avx2Words,
        #[cfg(target_arch = "aarch64")]
        Self::NeonI8mm,
        #[cfg(target_arch = "aarch64")]
        Self::NeonDot,
        #[cfg(target_arch = "aarch64")]
        Self::Neon,
        #[cfg(target_arch = "aarch64")]
        Self::NeonWords,
        Self::Portable,
    ];

    /// Whether this machine has every feature that the kernels of this kind are compiled for.
    fn runs_here(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2Words => Self::Avx2.runs_here(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => Self::Avx2.runs_here() && is_x86_feature_detected!("avxvnni"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => {
                Self::Avx2.runs_here()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(target_arch = "aarch64")]
            Self::Neon | Self::NeonWords => std::arch::is_aarch64_feature_detected!("neon"),
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot => {
                Self::Neon.runs_here() && std::arch::is_aarch64_feature_detected!("dotprod")
            }
            #[cfg(target_arch = "aarch64")]
            Self::NeonI8mm => {
                Self::NeonDot.runs_here() && std::arch::is_aarch64_feature_detected!("i8mm")
            }
        }
    }
}

/// Compiles a generic kernel over [`crate::lanes::Lanes`] for each instruction set and makes a
/// function that chooses among them by its first argument.
macro_rules! per_isa {
    ($(#[$meta:meta])* $vis:vis unsafe fn $name:ident = $generic:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)?) => {
        $(#[$meta])*
        $vis unsafe fn $name(isa: $crate::isa::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller vouches for the arguments, the attribute for the instructions.
                unsafe { $generic::<core::arch::x86_64::__m256>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl")]
            unsafe fn avx512($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller vouches for the arguments, the attribute for the instructions.
                unsafe { $generic::<core::arch::x86_64::__m512>($($arg),*) }
            }
            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon")]
            unsafe fn neon($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller vouches for the arguments, the attribute for the instructions.
                unsafe { $generic::<core::arch::aarch64::float32x4_t>($($arg),*) }
            }
            // SAFETY: the caller vouches for the arguments; an `Isa` exists only where its
            // instructions run.
            unsafe {
                match isa.kind() {
                    $crate::isa::Kind::Portable => $generic::<f32>($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::isa::Kind::Avx2
                    | $crate::isa::Kind::Avx2Words
                    | $crate::isa::Kind::AvxVnni => avx2($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::isa::Kind::Avx512Vnni => avx512($($arg),*),
                    #[cfg(target_arch = "aarch64")]
                    $crate::isa::Kind::Neon
                    | $crate::isa::Kind::NeonWords
                    | $crate::isa::Kind::NeonDot
                    | $crate::isa::Kind::NeonI8mm => neon($($arg),*),
                }
            }
        }
    };
}
pub(crate) use per_isa;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_is_chosen_and_the_portable_one_always_there() {
        let all: Vec<Isa> = Isa::available().collect();
        assert_eq!(all.first(), Some(&Isa::detect()));
        assert_eq!(all.last(), Some(&Isa::PORTABLE));
        for isa in all {
            assert_eq!(Isa::named(isa.name()), Some(isa));
        }
        assert_eq!(Isa::named("mmx"), None);
    }
}
