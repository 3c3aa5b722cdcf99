//! Halves of a set: one to choose settings on, one to report figures of.

use crate::draws::mixed;

/// The half of a set that a picture falls into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Half {
    /// Settings may be chosen on it; its figures flatter what was chosen.
    Chosen,
    /// Nothing may be chosen on it.
    Reported,
}

impl Half {
    /// The half that `seed` puts the picture `name` into. It depends on nothing else: not on the
    /// machine, on order, or on which other pictures there are, so a picture that is added or left
    /// out moves no other one to the other half.
    ///
    /// The highest bit decides of FNV-1a (64 bits) of the name, begun at its offset basis xor the
    /// scrambled seed, and scrambled itself; to scramble is the last step of SplitMix64.
    pub fn of(seed: u64, name: &str) -> Self {
        const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let begin = OFFSET_BASIS ^ mixed(seed);
        let hash = name.bytes().fold(begin, |hash, it| (hash ^ u64::from(it)).wrapping_mul(PRIME));
        if mixed(hash) >> 63 == 0 { Self::Chosen } else { Self::Reported }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_the_same_everywhere() {
        // From the same formula in Python's integers.
        let names = ["0", "1", "2", "3", "a.jpg", "b.jpg", "cats/ü.png", ""];
        let reported = |seed| names.map(|it| Half::of(seed, it) == Half::Reported);
        assert_eq!([reported(0), reported(1)], PYTHON);
    }

    const PYTHON: [[bool; 8]; 2] = [
        [true, false, false, true, false, false, true, true],
        [true, false, false, false, false, false, true, false],
    ];

    #[test]
    fn halves_are_about_equal_and_seeds_are_independent() {
        let names: Vec<String> = (0..10_000).map(|it| it.to_string()).collect();
        let n = |is: &dyn Fn(&str) -> bool| names.iter().filter(|it| is(it)).count();
        for seed in 0..20 {
            let reported = n(&|it| Half::of(seed, it) == Half::Reported);
            assert!((4800..5200).contains(&reported), "{seed}: {reported}");
            let alike = n(&|it| Half::of(seed, it) == Half::of(seed + 1, it));
            assert!((4800..5200).contains(&alike), "{seed}: {alike}");
        }
    }
}
