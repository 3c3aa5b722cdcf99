//! Words and phrases of captions in English: what is one, what is its plural, what names a thing.

use std::collections::HashSet;
use std::iter::once;
use std::sync::LazyLock;

/// Most words of a phrase that is taken from captions.
const MAX_WORDS: usize = 3;

/// Words that begin and end no name of a thing.
const EMPTY_WORDS: &str = "a an the this that these those its it his her their our my your he she they we you i him them \
    who whom whose which what where when while there here is are was were be been being am has have had do does did will \
    would can could may might must shall should in on at of with and or by to from for as into onto over under up down \
    off out near next behind beside between inside outside through above below around along across against among upon \
    toward towards within without about before after during no nor so than then too very just only also each every all \
    both some any other another few many much more most several such own same one two three four five six seven eight \
    nine ten sits sit stands stand lies holds hold walks seen shown shows wears taken made put sat parked filled covered \
    surrounded lined top front side back middle bunch group couple pair row lot lots kind type piece pieces part view \
    close picture photo photograph image shot background foreground area thing things something set number variety";
/// What stands before the name of a thing.
const BEFORE: &str = "a an the his her their its of with some two three several";
const IRREGULAR: [(&str, &str); 26] = [
    ("man", "men"),
    ("woman", "women"),
    ("child", "children"),
    ("person", "people"),
    ("mouse", "mice"),
    ("foot", "feet"),
    ("tooth", "teeth"),
    ("goose", "geese"),
    ("ox", "oxen"),
    ("knife", "knives"),
    ("wife", "wives"),
    ("life", "lives"),
    ("leaf", "leaves"),
    ("loaf", "loaves"),
    ("calf", "calves"),
    ("half", "halves"),
    ("wolf", "wolves"),
    ("shelf", "shelves"),
    ("scarf", "scarves"),
    ("thief", "thieves"),
    ("potato", "potatoes"),
    ("tomato", "tomatoes"),
    ("hero", "heroes"),
    ("bus", "buses"),
    ("sheep", "sheep"),
    ("fish", "fish"),
];

static EMPTY: LazyLock<HashSet<&str>> = LazyLock::new(|| EMPTY_WORDS.split_whitespace().collect());
static BEFORE_THINGS: LazyLock<HashSet<&str>> =
    LazyLock::new(|| BEFORE.split_whitespace().collect());

/// The words of `text` in small letters, in runs that no punctuation interrupts.
pub(crate) fn runs(text: &str) -> Vec<Vec<String>> {
    let lower = text.to_lowercase();
    let is_mark = |c: char| !c.is_alphanumeric() && !c.is_whitespace() && !"'’-".contains(c);
    let words = |run: &str| -> Vec<String> {
        let is_gap = |c: char| !c.is_alphanumeric() && !"'’".contains(c);
        let word = |it: &str| it.trim_matches(|c| "'’".contains(c)).to_owned();
        run.split(is_gap).map(word).filter(|it| !it.is_empty()).collect()
    };
    lower.split(is_mark).map(words).filter(|it| !it.is_empty()).collect()
}

/// The words of a name, without an article at its beginning.
pub(crate) fn of_name(name: &str) -> Vec<String> {
    let mut words: Vec<String> = runs(name).into_iter().flatten().collect();
    if 1 < words.len() && ["a", "an", "the"].contains(&words[0].as_str()) {
        words.remove(0);
    }
    words
}

/// The plural of a word, by the rules of English and a few exceptions.
pub(crate) fn plural(word: &str) -> String {
    if let Some((_, plural)) = IRREGULAR.iter().find(|(it, _)| *it == word) {
        return (*plural).to_owned();
    }
    // "policeman", "snowman", but no "human".
    if let Some(stem) =
        word.strip_suffix("man").filter(|it| 1 < it.len() && !word.ends_with("human"))
    {
        return format!("{stem}men");
    }
    if ["s", "x", "z", "ch", "sh"].iter().any(|it| word.ends_with(it)) {
        return format!("{word}es");
    }
    match word.strip_suffix('y') {
        Some(stem) if !stem.is_empty() && !stem.ends_with(['a', 'e', 'i', 'o', 'u']) => {
            format!("{stem}ies")
        }
        _ => format!("{word}s"),
    }
}

/// A word, its plural, and the words that it is the plural of.
pub(crate) fn forms(word: &str) -> Vec<String> {
    let strip = |end: &str, with: &str| word.strip_suffix(end).map(|it| format!("{it}{with}"));
    let irregular = IRREGULAR.iter().filter(|(_, it)| *it == word).map(|(it, _)| (*it).to_owned());
    let singular = [strip("s", ""), strip("es", ""), strip("ies", "y"), strip("men", "man")];
    let is_singular = |it: &String| 1 < it.len() && plural(it) == word;
    let mut forms: Vec<String> =
        once(word.to_owned()).chain(once(plural(word))).chain(irregular).collect();
    forms.extend(singular.into_iter().flatten().filter(is_singular));
    let mut seen = HashSet::new();
    forms.retain(|it| seen.insert(it.clone()));
    forms
}

/// Whether a caption could name a thing so: one to three words that neither begin nor end with an empty
/// one, without digits. Each once.
pub(crate) fn candidates(caption: &str) -> HashSet<String> {
    let mut found = HashSet::new();
    let is_plain = |it: &String| it.chars().count() > 1 && !it.chars().any(char::is_numeric);
    for run in runs(caption) {
        for n in 1..=MAX_WORDS.min(run.len()) {
            for phrase in run.windows(n) {
                let is_empty = |it: &String| EMPTY.contains(it.as_str());
                // Within a phrase an empty word joins two things.
                if phrase.iter().all(|it| is_plain(it) && !is_empty(it)) {
                    found.insert(phrase.join(" "));
                }
            }
        }
    }
    found
}

/// Each word of a caption with whether it stands there as a thing does: after an article or the like, with one
/// word between at most, and before an empty word or the end. "A small dog" has no small thing.
pub(crate) fn things(caption: &str) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    for run in runs(caption) {
        for (at, word) in run.iter().enumerate() {
            let before = |n: usize| at.checked_sub(n).and_then(|it| run.get(it));
            let is_before =
                |n: usize| before(n).is_some_and(|it| BEFORE_THINGS.contains(it.as_str()));
            // "A brown bear in" names a bear, "a man riding in" no riding.
            let is_named = is_before(1) || (is_before(2) && !word.ends_with("ing"));
            // "A black and white dog" names no black.
            let ends_with = |it: &String| EMPTY.contains(it.as_str()) && it != "and" && it != "or";
            let ends = run.get(at + 1).is_none_or(ends_with);
            found.push((word.clone(), is_named && ends));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plurals_of_english() {
        for (one, many) in [
            ("dog", "dogs"),
            ("bus", "buses"),
            ("glass", "glasses"),
            ("bench", "benches"),
            ("baby", "babies"),
            ("toy", "toys"),
            ("man", "men"),
            ("fireman", "firemen"),
            ("human", "humans"),
            ("knife", "knives"),
            ("horse", "horses"),
            ("sheep", "sheep"),
            ("person", "people"),
        ] {
            assert_eq!(plural(one), many);
            assert!(forms(many).contains(&one.to_owned()), "{many}: {:?}", forms(many));
            assert!(forms(one).contains(&many.to_owned()), "{one}");
        }
        assert_eq!(forms("horses"), ["horses", "horseses", "horse"]);
        assert_eq!(forms("grass"), ["grass", "grasses"], "no gras");
        assert_eq!(forms("猫"), ["猫", "猫s"]);
    }

    #[test]
    fn names_lose_their_article() {
        assert_eq!(of_name("A Fire-Hydrant"), ["fire", "hydrant"]);
        assert_eq!(of_name("the"), ["the"]);
        assert!(of_name("!?").is_empty());
    }

    #[test]
    fn phrases_do_not_cross_punctuation_or_empty_words() {
        let mut found: Vec<String> =
            candidates("A big dog, 2 cats on the fire hydrant.").into_iter().collect();
        found.sort();
        assert_eq!(found, ["big", "big dog", "cats", "dog", "fire", "fire hydrant", "hydrant"]);
    }

    #[test]
    fn a_thing_stands_between_an_article_and_an_empty_word() {
        let found = things("a small dog riding a bike");
        let is_thing = |word: &str| found.contains(&(word.to_owned(), true));
        assert!(is_thing("bike"));
        assert!(!is_thing("small") && !is_thing("riding"));
        let found = things("a brown bear in black and white, a man riding on");
        assert!(found.contains(&("bear".to_owned(), true)));
        assert!(
            ["brown", "black", "riding"]
                .iter()
                .all(|it| found.contains(&((*it).to_owned(), false)))
        );
    }
}
