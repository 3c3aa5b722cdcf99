//! Captions as words, and a list of words that are not wanted.

use std::collections::HashSet;
use std::path::Path;

use crate::SourceError;
use crate::files::read_small;

const MAX_FILE_BYTES: usize = 1 << 20;
/// Most words of a phrase.
const MAX_PHRASE: usize = 8;

/// The words of a caption in lower case, one space between them: runs of letters and digits.
pub(crate) fn normalize(caption: &str) -> String {
    let mut words = String::with_capacity(caption.len());
    for word in caption.split(|it: char| !it.is_alphanumeric()).filter(|it| !it.is_empty()) {
        if !words.is_empty() {
            words.push(' ');
        }
        words.extend(word.chars().flat_map(char::to_lowercase));
    }
    words
}

/// Words and phrases that no caption may have, from a file of the user's. Lookout brings no list of
/// its own: one would be of one language and one taste, and would be taken for a promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WordList {
    phrases: HashSet<String>,
    /// Words of the longest phrase.
    longest: usize,
}

impl WordList {
    /// Reads a file with a word or phrase of at most 8 words a line; `#` begins a comment. Errs
    /// when it cannot be read, has more than 1 MiB, or has nothing on it.
    pub fn read(path: &Path) -> Result<Self, SourceError> {
        let wrong = |line, problem: &str| SourceError::WordList {
            path: path.to_path_buf(),
            line,
            problem: problem.to_owned(),
        };
        let bytes = read_small(path, MAX_FILE_BYTES)
            .map_err(|source| SourceError::Read { path: path.to_path_buf(), source })?
            .ok_or_else(|| wrong(None, "the list has more than 1 MiB"))?;
        let text = str::from_utf8(&bytes).map_err(|_| wrong(None, "the list is not UTF-8"))?;
        let mut list = Self { phrases: HashSet::new(), longest: 0 };
        for (line, text) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
            let text = text.split_once('#').map_or(text, |it| it.0);
            let phrase = normalize(text);
            let n_words = phrase.split(' ').count();
            if phrase.is_empty() && !text.trim().is_empty() {
                return Err(wrong(Some(line), "there are neither letters nor digits"));
            }
            if n_words > MAX_PHRASE {
                return Err(wrong(Some(line), "the phrase has more than 8 words"));
            }
            if !phrase.is_empty() {
                list.longest = list.longest.max(n_words);
                list.phrases.insert(phrase);
            }
        }
        if list.phrases.is_empty() { Err(wrong(None, "the list is empty")) } else { Ok(list) }
    }

    /// The first phrase of the list that `normalized` has as whole words.
    pub(crate) fn find(&self, normalized: &str) -> Option<&str> {
        let starts = normalized.match_indices(' ').map(|it| it.0 + 1);
        std::iter::once(0)
            .chain(starts)
            .find_map(|start| {
                let rest = &normalized[start..];
                let ends = rest.match_indices(' ').map(|it| it.0).chain([rest.len()]);
                ends.take(self.longest).find_map(|end| self.phrases.get(&rest[..end]))
            })
            .map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(contents: &[u8]) -> Result<WordList, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("words.txt");
        std::fs::write(&path, contents).unwrap();
        WordList::read(&path).map_err(|it| it.to_string())
    }

    #[test]
    fn whole_words_and_phrases_are_found() {
        let list =
            list("\u{feff}# a comment\nGun\n\nred  light-district # two\nnu\n".as_bytes()).unwrap();
        let cases = [
            ("A gun, smoking.", Some("gun")),
            ("the RED-light district!", Some("red light district")),
            ("a red light", None),
            ("a gunner", None),
            ("nu", Some("nu")),
            ("a gnu", None),
            ("", None),
        ];
        for (caption, expected) in cases {
            assert_eq!(list.find(&normalize(caption)), expected, "{caption}");
        }
    }

    #[test]
    fn an_unusable_list_is_refused() {
        let cases: [(&[u8], &str); 5] = [
            (b"", "the list is empty"),
            (b"# only\n\n", "the list is empty"),
            (b"gun\n!!\n", "line 2: there are neither letters nor digits"),
            (b"a b c d e f g h i\n", "line 1: the phrase has more than 8 words"),
            (b"\xff\n", "not UTF-8"),
        ];
        for (contents, expected) in cases {
            let error = list(contents).unwrap_err();
            assert!(error.contains(expected) && error.contains("words.txt"), "{error}");
        }
    }
}
