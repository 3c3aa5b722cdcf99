//! `--split half`, told before anything is evaluated where it gives a half without pictures.

use lookout_eval::Half;

use super::args::EvalArgs;
use crate::failure::Failure;
use crate::output::count;

/// Errs where all of the pictures `names` fall into one half. `of` begins the sentence.
pub(super) fn check(
    args: &EvalArgs,
    of: &str,
    names: impl Iterator<Item = impl AsRef<str>>,
) -> Result<(), Failure> {
    match args.is_split() {
        true => uneven(args.seed, of, names).map_or(Ok(()), |it| Err(Failure::Config(vec![it]))),
        false => Ok(()),
    }
}

fn uneven(seed: u64, of: &str, names: impl Iterator<Item = impl AsRef<str>>) -> Option<String> {
    let (mut n, mut n_chosen) = (0, 0);
    for name in names {
        n += 1;
        n_chosen += usize::from(Half::of(seed, name.as_ref()) == Half::Chosen);
    }
    let empty = match n_chosen {
        _ if n == 0 => return None,
        0 => "chosen on",
        _ if n_chosen == n => "reported on",
        _ => return None,
    };
    let pictures = count(n, "picture");
    Some(format!(
        "--split half: {of}, {pictures}, --seed {seed} puts none into the half `{empty}`; give another \
         --seed or more pictures, or leave --split away"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_without_pictures_is_told() {
        let told = |seed, names: &[&str]| uneven(seed, "of the pictures", names.iter());
        assert_eq!(told(0, &["0", "1"]), None);
        assert_eq!(told(0, &[]), None);
        // By the formula in Python: "0" and "3" are to be reported on with seed 0, "1" and "2" are not.
        let text = told(0, &["1", "2"]).unwrap();
        assert!(
            text.contains("2 pictures, --seed 0 puts none into the half `reported on`"),
            "{text}"
        );
        let text = told(0, &["3"]).unwrap();
        assert!(text.contains("1 picture, --seed 0 puts none into the half `chosen on`"), "{text}");
    }
}
