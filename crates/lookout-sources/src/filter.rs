//! Which captions are wanted: language, length, words, and none twice.

use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::RangeInclusive;

use lookout_core::MAX_CAPTION_CHARS;
use whatlang::Lang;

use crate::words::normalize;
use crate::{SourceError, WordList};

/// Most captions that are remembered to find near duplicates: as many as an index has entries.
pub const MAX_REMEMBERED: usize = 10_000_000;

/// What a caption must be. The default lets every one through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterOptions {
    /// ISO 639-3 codes of the languages that are wanted; none: every language.
    pub languages: Vec<String>,
    /// What is done about captions whose language is not sure, which is most of them.
    pub unsure: Unsure,
    /// Characters.
    pub chars: RangeInclusive<usize>,
    /// Words, which white space separates.
    pub words: RangeInclusive<usize>,
    /// Words that are not wanted.
    pub unwanted: Option<WordList>,
    /// Whether a caption is refused that has the same words as an earlier one, upper case and
    /// punctuation aside. Takes some 20 bytes for each caption that was let through.
    pub near_duplicates: bool,
}

impl Default for FilterOptions {
    fn default() -> Self {
        Self {
            languages: Vec::new(),
            unsure: Unsure::default(),
            chars: 1..=MAX_CAPTION_CHARS,
            words: 1..=MAX_CAPTION_CHARS,
            unwanted: None,
            near_duplicates: false,
        }
    }
}

/// Captions are short, and the detector (whatlang) is seldom sure of them. A caption in a script that
/// none of the wanted languages is written in is refused in any case, one without letters is not.
///
/// Measured on the starter's 24,507 English captions: as a filter for English, `Keep` refuses 1 and
/// `Refuse` 15 %; as a filter for German, `Keep` lets 69 % of them through and `Refuse` 0.6 %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unsure {
    /// A caption is refused when it is surely in another language.
    #[default]
    Keep,
    /// A caption is refused when it is likelier in another language.
    Refuse,
}

/// Why a caption is not wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It has too few or too many characters.
    Chars(usize),
    /// It has too few or too many words.
    Words(usize),
    /// It is in another language, given by its ISO 639-3 code.
    Language(&'static str),
    /// It has this unwanted word or phrase.
    Unwanted(String),
    /// An earlier one has the same words.
    NearDuplicate,
    /// [`MAX_REMEMBERED`] captions were let through, and no further one can be compared.
    Full,
}

impl Refusal {
    /// The filter's name.
    pub fn filter(&self) -> &'static str {
        match self {
            Self::Chars(_) => "characters",
            Self::Words(_) => "words",
            Self::Language(_) => "language",
            Self::Unwanted(_) => "unwanted words",
            Self::NearDuplicate => "near duplicates",
            Self::Full => "too many for near duplicates",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chars(n) => write!(f, "has {n} characters"),
            Self::Words(n) => write!(f, "has {n} words"),
            Self::Language(code) => write!(f, "is in another language ({code})"),
            Self::Unwanted(phrase) => write!(f, "has the unwanted {phrase:?}"),
            Self::NearDuplicate => write!(f, "has the same words as an earlier one"),
            Self::Full => write!(f, "comes after {MAX_REMEMBERED} others, and is not compared"),
        }
    }
}

/// Filters at work.
pub struct Filters {
    options: FilterOptions,
    languages: Vec<Lang>,
    /// A hash of each caption that was let through. Two of ten million differing captions have
    /// the same one in three of a million builds.
    seen: HashSet<u64>,
}

impl Filters {
    /// Errs on an unknown language and on an empty range.
    pub fn new(options: FilterOptions) -> Result<Self, SourceError> {
        let language = |code: &String| {
            Lang::from_code(code.as_str())
                .ok_or_else(|| SourceError::Language { got: code.clone() })
        };
        let languages = options.languages.iter().map(language).collect::<Result<_, _>>()?;
        for (range, what) in [(&options.chars, "characters"), (&options.words, "words")] {
            if range.is_empty() {
                let (min, max) = (*range.start(), *range.end());
                return Err(SourceError::Range { what, min, max });
            }
        }
        Ok(Self { options, languages, seen: HashSet::new() })
    }

    /// Whether a caption is wanted; if so, it is remembered as let through.
    pub fn admit(&mut self, caption: &str) -> Result<(), Refusal> {
        let n_chars = caption.chars().count();
        if !self.options.chars.contains(&n_chars) {
            return Err(Refusal::Chars(n_chars));
        }
        let n_words = caption.split_whitespace().count();
        if !self.options.words.contains(&n_words) {
            return Err(Refusal::Words(n_words));
        }
        if let Some(other) = other_language(caption, &self.languages, self.options.unsure) {
            return Err(Refusal::Language(other.code()));
        }
        let normalized = normalize(caption);
        let unwanted = self.options.unwanted.as_ref().and_then(|it| it.find(&normalized));
        if let Some(phrase) = unwanted {
            return Err(Refusal::Unwanted(phrase.to_owned()));
        }
        if !self.options.near_duplicates {
            return Ok(());
        }
        let hash = hash(&normalized, caption);
        if self.seen.contains(&hash) {
            Err(Refusal::NearDuplicate)
        } else if self.seen.len() == MAX_REMEMBERED {
            Err(Refusal::Full)
        } else {
            self.seen.insert(hash);
            Ok(())
        }
    }

    /// Remembers a caption that was let through before a build was killed.
    pub fn remember(&mut self, caption: &str) {
        if self.options.near_duplicates && self.seen.len() < MAX_REMEMBERED {
            self.seen.insert(hash(&normalize(caption), caption));
        }
    }
}

/// A caption without letters and digits is compared as it stands.
fn hash(normalized: &str, caption: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    if normalized.is_empty() { caption } else { normalized }.hash(&mut hasher);
    hasher.finish()
}

/// The language of `caption`, where it is taken for none of `wanted`.
fn other_language(caption: &str, wanted: &[Lang], unsure: Unsure) -> Option<Lang> {
    if wanted.is_empty() {
        return None;
    }
    let info = whatlang::detect(caption).filter(|it| !wanted.contains(&it.lang()))?;
    let is_other = match unsure {
        Unsure::Refuse => true,
        Unsure::Keep => {
            info.is_reliable() || !info.script().langs().iter().any(|it| wanted.contains(it))
        }
    };
    is_other.then_some(info.lang())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(change: impl FnOnce(&mut FilterOptions)) -> Filters {
        let mut options = FilterOptions::default();
        change(&mut options);
        Filters::new(options).unwrap()
    }

    #[test]
    fn length_is_counted_in_characters_and_words() {
        let mut filters = filters(|it| (it.chars, it.words) = (5..=20, 2..=3));
        let cases = [
            ("ab c", Err(Refusal::Chars(4))),
            ("a cat", Ok(())),
            ("kätzchen", Err(Refusal::Words(1))),
            ("a b c d", Err(Refusal::Words(4))),
            ("ééééé éééééééééé éééé", Err(Refusal::Chars(21))),
        ];
        for (caption, expected) in cases {
            assert_eq!(filters.admit(caption), expected, "{caption}");
        }
    }

    #[test]
    fn near_duplicates_are_found_and_only_they() {
        let mut filters = filters(|it| it.near_duplicates = true);
        filters.remember("An old dog");
        let cases = [
            ("A cat, on a mat.", Ok(())),
            ("a CAT on a mat", Err(Refusal::NearDuplicate)),
            ("a cat on the mat", Ok(())),
            ("an old, old dog", Ok(())),
            ("an old... dog!", Err(Refusal::NearDuplicate)),
            ("!!", Ok(())),
            ("??", Ok(())),
            ("!!", Err(Refusal::NearDuplicate)),
        ];
        for (caption, expected) in cases {
            assert_eq!(filters.admit(caption), expected, "{caption}");
        }
    }

    #[test]
    fn a_refused_caption_is_not_remembered() {
        let mut filters = filters(|it| (it.near_duplicates, it.chars) = (true, 6..=9));
        assert_eq!(filters.admit("a cat"), Err(Refusal::Chars(5)));
        assert_eq!(filters.admit("a cat."), Ok(()));
    }

    #[test]
    fn other_languages_are_refused_where_that_is_sure() {
        let mut filters = filters(|it| it.languages = vec!["eng".to_owned()]);
        for caption in ["a cat", "Foto", "2024", "Ein Hund", "a black motorcycle in a garage"] {
            assert_eq!(filters.admit(caption), Ok(()), "{caption}");
        }
        // Of a script that English is not written in one word is enough.
        for caption in ["собака", "子供と犬"] {
            assert!(matches!(filters.admit(caption), Err(Refusal::Language(_))), "{caption}");
        }
        let german = "Eine Frau sitzt mit ihrem Hund auf einer Bank im Park und liest ein Buch";
        assert_eq!(filters.admit(german), Err(Refusal::Language("deu")));
    }

    #[test]
    fn what_is_unsure_may_be_refused() {
        let mut filters =
            filters(|it| (it.languages, it.unsure) = (vec!["eng".to_owned()], Unsure::Refuse));
        let german = "ein Hund auf der Wiese";
        assert_eq!(filters.admit(german), Err(Refusal::Language("deu")));
        for caption in ["2024", "a black motorcycle parked in front of a garage"] {
            assert_eq!(filters.admit(caption), Ok(()), "{caption}");
        }
    }

    #[test]
    fn wrong_options_are_refused() {
        let options = FilterOptions { languages: vec!["en".to_owned()], ..Default::default() };
        let error = Filters::new(options).err().unwrap().to_string();
        assert!(error.contains("\"en\"") && error.contains("eng"), "{error}");
        #[expect(clippy::reversed_empty_ranges, reason = "that is what is refused")]
        let options = FilterOptions { chars: 9..=3, ..Default::default() };
        let error = Filters::new(options).err().unwrap().to_string();
        assert!(error.contains("characters") && error.contains("9 to 3"), "{error}");
    }
}
