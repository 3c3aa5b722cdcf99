//! The background bank: words for what else a picture may resemble, from the program or a file.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::Path;

use anyhow::{Context, bail};
use lookout_config::BankPlace;
use lookout_core::{Bank, BankWords, Class, ClassEmbeddings, ClassKind, ClassSet, Id};
use lookout_encoder::Bundle;

/// `words/everyday.py` says how it is made.
const EVERYDAY: &str = include_str!("../words/everyday.txt");
const MAX_BYTES: u64 = 1 << 20;

/// The words of a bank as classes, so that they are embedded and kept as labels are; each goes through
/// the bundle's templates.
pub(crate) fn words(place: &BankPlace, bundle: &Bundle) -> anyhow::Result<Option<ClassSet>> {
    let text = match place {
        BankPlace::Off => return Ok(None),
        BankPlace::Everyday => EVERYDAY.to_owned(),
        BankPlace::File(path) => read(path)?,
    };
    let name = || match place {
        BankPlace::File(path) => path.display().to_string(),
        _ => "the bank of everyday words".to_owned(),
    };
    parse(&text, bundle.templates()).with_context(name).map(Some)
}

/// The embeddings of all words, made ready once for every class set.
pub(crate) fn ready(embeddings: &ClassEmbeddings) -> anyhow::Result<BankWords> {
    let words = embeddings.as_slice().to_vec();
    BankWords::new(words)
        .with_context(|| format!("needs {} to {} words", BankWords::MIN, BankWords::MAX))
}

/// The bank of one class set; without words there is none.
pub(crate) fn apart(
    words: Option<&BankWords>,
    set: &ClassSet,
    classes: &ClassEmbeddings,
) -> anyhow::Result<Option<Bank>> {
    let Some(words) = words else { return Ok(None) };
    let n_labels = set.classes().iter().filter(|it| it.kind == ClassKind::Label).count();
    let bank = Bank::apart_from(words, classes, n_labels).with_context(|| {
        format!(
            "leaves fewer than {} of its {} words apart from the labels and negatives",
            BankWords::MIN,
            words.len()
        )
    })?;
    tracing::debug!(words = bank.len(), of = words.len(), "The background bank.");
    Ok(Some(bank))
}

fn read(path: &Path) -> anyhow::Result<String> {
    let name = || path.display().to_string();
    // Asked before opening: opening a pipe waits for a writer.
    let metadata = fs::metadata(path);
    if metadata.as_ref().is_err_and(|it| it.kind() == ErrorKind::NotFound) {
        bail!(
            "{} does not exist; the bank that comes with the program is called \"everyday\", and \
             \"off\" means none",
            name()
        );
    }
    if !metadata.with_context(name)?.is_file() {
        bail!("{} must be a regular file", name());
    }
    let mut bytes = Vec::new();
    File::open(path)
        .with_context(name)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .with_context(name)?;
    if MAX_BYTES < bytes.len() as u64 {
        bail!("{} must have at most {MAX_BYTES} bytes", name());
    }
    String::from_utf8(bytes).with_context(|| format!("{} must be UTF-8", name()))
}

fn parse(text: &str, templates: &[String]) -> anyhow::Result<ClassSet> {
    let mut seen = std::collections::HashSet::new();
    let is_new =
        |it: &&str| !it.is_empty() && !it.starts_with('#') && seen.insert(it.to_lowercase());
    let words: Vec<&str> = text.lines().map(str::trim).filter(is_new).collect();
    if !(BankWords::MIN..=BankWords::MAX).contains(&words.len()) {
        bail!(
            "must have {} to {} words, one a line, got {}",
            BankWords::MIN,
            BankWords::MAX,
            words.len()
        );
    }
    set_of(&words, templates)
}

/// Words as classes.
pub(crate) fn set_of(words: &[impl AsRef<str>], templates: &[String]) -> anyhow::Result<ClassSet> {
    let mut classes = Vec::new();
    for word in words {
        classes.push(Class {
            id: Id::new(format!("word_{}", classes.len()))?,
            kind: ClassKind::Label,
            name: word.as_ref().to_owned(),
            aliases: vec![],
            prompts: vec![],
            enter: None,
        });
    }
    ClassSet::new(templates.to_vec(), classes).map_err(|errors| {
        let faults: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{}", faults.join("; "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn templates() -> Vec<String> {
        vec!["{}".to_owned()]
    }

    #[test]
    fn the_bank_that_ships_is_large_and_clean() {
        let set = parse(EVERYDAY, &templates()).unwrap();
        let n_lines = EVERYDAY.lines().filter(|it| !it.starts_with('#')).count();
        assert_eq!(set.classes().len(), n_lines, "no word stands twice");
        assert!(400 < n_lines, "{n_lines}");
        let is_clean = |it: &str| it.chars().all(|c| c.is_ascii_lowercase() || c == ' ');
        assert!(set.classes().iter().all(|it| is_clean(&it.name)));
        assert!(set.classes().iter().any(|it| it.name == "fire hydrant"));
    }

    #[test]
    fn comments_and_repetitions_are_no_words_and_too_few_are_refused() {
        let mut text = String::from("# a comment\n\nA Tree\na tree \n");
        for it in 0..BankWords::MIN - 1 {
            text += &format!("thing {it}\n");
        }
        assert_eq!(parse(&text, &templates()).unwrap().classes().len(), BankWords::MIN);
        let error = parse("a\nb\n", &templates()).unwrap_err().to_string();
        assert_eq!(error, "must have 50 to 2000 words, one a line, got 2");
        let many: String = (0..=BankWords::MAX).map(|it| format!("thing {it}\n")).collect();
        let error = parse(&many, &templates()).unwrap_err().to_string();
        assert_eq!(error, "must have 50 to 2000 words, one a line, got 2001");
        let long = format!("{text}{}\n", "x".repeat(2000));
        assert!(
            parse(&long, &templates()).unwrap_err().to_string().contains("1 to 1000 characters")
        );
    }
}
