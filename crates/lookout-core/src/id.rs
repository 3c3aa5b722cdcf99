//! Identifiers that become MQTT topic levels and JSON keys.

use std::fmt;

/// A camera or class id: 1 to 32 characters of `a` to `z`, `0` to `9` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(String);

/// The text given is not an [`Id`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("id must be 1 to 32 characters of a-z, 0-9 and _, got {0:?}")]
pub struct InvalidId(pub String);

impl Id {
    /// The longest id, in characters.
    pub const MAX_LEN: usize = 32;

    /// Takes `text` as it is.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidId> {
        let text = text.into();
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if (1..=Self::MAX_LEN).contains(&text.len()) && text.chars().all(allowed) {
            Ok(Self(text))
        } else {
            Err(InvalidId(text))
        }
    }

    /// The id of a label that was given as plain words: letters and digits of ASCII lower-cased,
    /// every run of anything else one `_`, cut to 32 characters. Words that leave nothing, such
    /// as a name in another script, are an error: such a label needs an id of its own.
    pub fn slug(words: &str) -> Result<Self, InvalidId> {
        let mut slug = String::new();
        for c in words.chars() {
            if c.is_ascii_alphanumeric() {
                slug.push(c.to_ascii_lowercase());
            } else if !slug.is_empty() && !slug.ends_with('_') {
                slug.push('_');
            }
        }
        slug.truncate(Self::MAX_LEN);
        let slug = slug.trim_end_matches('_');
        if slug.is_empty() { Err(InvalidId(words.to_owned())) } else { Self::new(slug) }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_slugs() {
        for (words, slug) in [
            ("a cat", Some("a_cat")),
            ("  Red/green  LIGHT! ", Some("red_green_light")),
            ("café", Some("caf")),
            ("person (on a very long ladder at the back)", Some("person_on_a_very_long_ladder_at")),
            ("猫", None),
            ("", None),
        ] {
            assert_eq!(Id::slug(words).ok().as_ref().map(Id::as_str), slug, "{words:?}");
        }
        for bad in ["", "Cat", "a b", "a/b", "+", "#", "ä", &"x".repeat(33)] {
            assert_eq!(Id::new(bad), Err(InvalidId(bad.to_owned())));
        }
        assert!(Id::new("x".repeat(32)).is_ok());
    }
}
