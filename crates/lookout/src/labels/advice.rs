//! How often captions have the words of each class, and what follows from that.

use std::collections::{BTreeSet, HashMap};

use lookout_core::ClassSet;
use serde::Serialize;

use super::owners::{Owners, forms};
use crate::{output, phrases};

/// A word is advised as the name where it is used this many times as often: nearer ones are a matter of
/// taste.
const CLEARLY_MORE: usize = 2;
/// A word used less than one time in so many of the most used one is advised to be dropped.
const HARDLY: usize = 10;
/// A name in fewer captions is one that hardly anybody writes; as many as `suggest` asks of a word.
const FEW: usize = 5;

/// A word of a class, and how many captions use it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Use {
    pub(super) word: String,
    pub(super) captions: usize,
    pub(super) example: Option<String>,
    /// The id of another class, whose word it is.
    pub(super) taken_by: Option<String>,
}

/// What a class should be called.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Advice {
    pub(super) name: String,
    pub(super) aliases: Vec<String>,
    pub(super) dropped: Vec<String>,
    /// Words that are another class's.
    pub(super) taken: Vec<String>,
    /// Whether any caption has any of its own words.
    pub(super) vouched: bool,
}

/// Counts captions, class by class.
pub(super) struct Counter {
    uses: Vec<Vec<Use>>,
    /// The words of a phrase to what it is a form of: class, and word of the class.
    phrases: HashMap<Vec<String>, Vec<(usize, usize)>>,
    longest: usize,
}

impl Counter {
    /// For the names and aliases of `classes`, the name first.
    pub(super) fn new(classes: &ClassSet) -> Self {
        let mut phrases: HashMap<Vec<String>, Vec<(usize, usize)>> = HashMap::new();
        let mut uses = Vec::new();
        let owners = Owners::of(classes);
        for (class_idx, class) in classes.classes().iter().enumerate() {
            let mut of_class: Vec<Use> = Vec::new();
            for word in std::iter::once(&class.name).chain(&class.aliases).map(|it| it.trim()) {
                if of_class.iter().any(|it| it.word == word) {
                    continue;
                }
                // A word without letters and digits stands in no caption, and is a word of the class.
                for phrase in forms(word) {
                    phrases.entry(phrase).or_default().push((class_idx, of_class.len()));
                }
                of_class.push(Use {
                    word: word.to_owned(),
                    captions: 0,
                    example: None,
                    taken_by: owners
                        .other_than(class_idx, word, of_class.is_empty())
                        .map(|it| classes.classes()[it].id.to_string()),
                });
            }
            uses.push(of_class);
        }
        let longest = phrases.keys().map(Vec::len).max().unwrap_or(0);
        Self { uses, phrases, longest }
    }

    /// Of phrases that overlap the longest counts, so that a teddy bear is no bear.
    pub(super) fn add(&mut self, caption: &str) {
        let mut found = BTreeSet::new();
        for run in phrases::runs(caption) {
            let mut at = 0;
            while at < run.len() {
                let longest = self.longest.min(run.len() - at);
                let hit = (1..=longest)
                    .rev()
                    .find_map(|n| self.phrases.get(&run[at..at + n]).map(|it| (n, it)));
                match hit {
                    Some((n, words)) => {
                        found.extend(words);
                        at += n;
                    }
                    None => at += 1,
                }
            }
        }
        for (class, word) in found {
            let it = &mut self.uses[class][word];
            it.captions += 1;
            it.example.get_or_insert_with(|| caption.to_owned());
        }
    }

    /// The words of each class in the order of `new`.
    pub(super) fn finish(self) -> Vec<Vec<Use>> {
        self.uses
    }
}

impl Advice {
    /// By the uses of a class's words, its name first. A word that is another class's is none of its own;
    /// its name alone stays where it has nothing else to be called.
    pub(super) fn of(uses: &[Use]) -> Self {
        let (taken, mut own): (Vec<&Use>, Vec<&Use>) =
            uses.iter().partition(|it| it.taken_by.is_some());
        if own.is_empty() {
            own.extend(uses.first());
        }
        let words = |of: &[&Use]| of.iter().map(|it| it.word.clone()).collect();
        let most = own.iter().map(|it| it.captions).max().unwrap_or(0);
        let best = own.iter().find(|it| it.captions == most);
        let first = own.first();
        let is_better = first.is_some_and(|it| CLEARLY_MORE * it.captions <= most);
        let name = if is_better && 0 < most { best } else { first };
        let name = name.map_or_else(String::new, |it| it.word.clone());
        own.retain(|it| it.word != name);
        // Where captions have none of them they cannot tell which to drop.
        let (used, unused): (Vec<&Use>, Vec<&Use>) =
            own.iter().partition(|it| most <= HARDLY * it.captions);
        Self {
            name,
            aliases: words(&used),
            dropped: words(&unused),
            taken: words(&taken),
            vouched: 0 < most,
        }
    }

    /// The advice in words.
    pub(super) fn because(&self, uses: &[Use]) -> String {
        let Self { name, dropped, .. } = self;
        let renamed = uses.first().is_some_and(|it| it.word != *name);
        let captions =
            |word: &str| uses.iter().find(|it| it.word == word).map_or(0, |it| it.captions);
        let hardly =
            |n: usize| format!("hardly anybody writes that ({})", output::count(n, "caption"));
        let mut text = match (captions(name), renamed) {
            (0, false) => "nobody writes that: captions cannot vouch for it".to_owned(),
            (0, true) => format!("call it {name:?}, though nobody writes that"),
            (n @ ..FEW, false) => format!("{}: captions tell little about it", hardly(n)),
            (n @ ..FEW, true) => format!("call it {name:?}, though {}", hardly(n)),
            (_, true) => format!("call it {name:?}, that is what people write"),
            (_, false) => format!("{name:?} is a good name"),
        };
        for word in dropped {
            text += &match captions(word) {
                0 => format!("; drop {word:?}, nobody writes that"),
                n => format!("; drop {word:?}, {}", hardly(n)),
            };
        }
        for it in uses {
            let Some(owner) = &it.taken_by else { continue };
            text += &match it.word == *name {
                true => format!("; but {owner} is called {name:?} too: give one another name"),
                false => format!("; leave {:?} to {owner}, whose word it is", it.word),
            };
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use lookout_core::{Class, ClassKind, Id};

    use super::*;

    fn set(classes: &[&[&str]]) -> ClassSet {
        let class = |(idx, words): (usize, &&[&str])| Class {
            id: Id::new(format!("c{idx}")).unwrap(),
            kind: ClassKind::Label,
            name: words[0].to_owned(),
            aliases: words[1..].iter().map(|it| (*it).to_owned()).collect(),
            prompts: vec![],
            enter: None,
        };
        ClassSet::new(vec!["{}".to_owned()], classes.iter().enumerate().map(class).collect())
            .unwrap()
    }

    fn counts(classes: &[&[&str]], captions: &[&str]) -> Vec<Vec<usize>> {
        let mut counter = Counter::new(&set(classes));
        captions.iter().for_each(|it| counter.add(it));
        counter.finish().iter().map(|it| it.iter().map(|it| it.captions).collect()).collect()
    }

    #[test]
    fn whole_words_plural_or_not_in_any_case_and_once_a_caption() {
        let classes = [&["a cat", "kitten"][..], &["person", "fire hydrants"]];
        let captions = [
            "Two CATS and a cat.",
            "a category of concatenation",
            "People near a fire hydrant",
            "a fire, hydrant",
            "kittens' paws",
        ];
        assert_eq!(counts(&classes, &captions), [[1, 1], [1, 1]]);
    }

    #[test]
    fn the_longest_phrase_counts() {
        let captions = ["a teddy bear", "a bear", "bears and teddy bears"];
        assert_eq!(counts(&[&["bear"], &["teddy bear"]], &captions), [[2], [2]]);
        assert_eq!(counts(&[&["fire"], &["fire hydrant"]], &["a fire hydrant"]), [[0], [1]]);
        assert_eq!(counts(&[&["bear"], &["bear"]], &["a bear"]), [[1], [1]], "each class its own");
    }

    #[test]
    fn a_word_without_letters_is_a_word_that_nobody_writes() {
        let mut counter = Counter::new(&set(&[&["dog", "🐕"], &["🐈"], &["🚗", "car"]]));
        ["a dog", "🐕", "a car"].iter().for_each(|it| counter.add(it));
        let advised: Vec<Advice> = counter.finish().iter().map(|it| Advice::of(it)).collect();
        let words = |it: &Advice| (it.name.clone(), it.aliases.clone(), it.dropped.clone());
        let all = |name: &str, dropped: &[&str]| {
            (name.to_owned(), vec![], dropped.iter().map(|it| (*it).to_owned()).collect())
        };
        assert_eq!(words(&advised[0]), all("dog", &["🐕"]));
        assert_eq!((words(&advised[1]), advised[1].vouched), (all("🐈", &[]), false));
        assert_eq!(words(&advised[2]), all("car", &["🚗"]));
    }

    fn advised(classes: &[&[&str]], captions: &[&str]) -> Vec<(Advice, String)> {
        let mut counter = Counter::new(&set(classes));
        captions.iter().for_each(|it| counter.add(it));
        let advise = |uses: Vec<Use>| {
            let advice = Advice::of(&uses);
            let because = advice.because(&uses);
            (advice, because)
        };
        counter.finish().into_iter().map(advise).collect()
    }

    #[test]
    fn no_two_classes_get_one_word() {
        let captions = ["a car"; 9];
        let all = |it: &Advice| [std::slice::from_ref(&it.name), &it.aliases[..]].concat();
        for (classes, expected, owner) in [
            // Another's name, whichever comes first, and its plural.
            (&[&["auto", "car"][..], &["car"]], &[&["auto"][..], &["car"]], "c1"),
            (&[&["car"], &["auto", "The Car"]], &[&["car"], &["auto"]], "c0"),
            (&[&["auto", "cars"], &["car", "jeep"]], &[&["auto"], &["car"]], "c1"),
            // An alias of both is the first one's, as a name too.
            (&[&["auto", "car"], &["vehicle", "car"]], &[&["car"], &["vehicle"]], "c0"),
            // So is its plural, or what it is the plural of, as captions count for both.
            (&[&["auto", "car"], &["vehicle", "cars"]], &[&["car"], &["vehicle"]], "c0"),
            (&[&["auto", "cars"], &["vehicle", "car"]], &[&["cars"], &["vehicle"]], "c0"),
            // Whoever is called so only in part has no other name; where there is one it gets that.
            (&[&["car"], &["car"]], &[&["car"], &["car"]], "c0"),
            (&[&["car"], &["Car", "jeep"]], &[&["car"], &["jeep"]], "c0"),
            (&[&["🚗"], &["wheels", "🚗"]], &[&["🚗"], &["wheels"]], "c0"),
        ] as [(&[&[&str]], &[&[&str]], &str); 9]
        {
            let got = advised(classes, &captions);
            let words: Vec<Vec<String>> = got.iter().map(|it| all(&it.0)).collect();
            assert_eq!(words, expected, "{classes:?}");
            let told: Vec<&String> = got.iter().map(|it| &it.1).collect();
            assert!(told.iter().any(|it| it.contains(owner)), "{told:?}");
        }
        // Two things whose names are each other's plural.
        let got = advised(&[&["glass"], &["glasses"]], &["a glass"; 9]);
        assert!(got.iter().all(|it| it.0.taken.is_empty()), "{got:?}");
    }

    fn advice(counts: &[(&str, usize)]) -> Advice {
        let one = |(word, captions): &(&str, usize)| Use {
            word: (*word).to_owned(),
            captions: *captions,
            example: None,
            taken_by: None,
        };
        Advice::of(&counts.iter().map(one).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_used_clearly_more_is_the_name_and_what_is_hardly_used_goes() {
        let it = advice(&[("automobile", 3), ("car", 100), ("auto", 10), ("motorcar", 9)]);
        assert_eq!((it.name.as_str(), it.aliases), ("car", vec!["auto".to_owned()]));
        assert_eq!(it.dropped, ["automobile", "motorcar"]);
        let near = advice(&[("couch", 51), ("sofa", 100)]);
        assert_eq!((near.name.as_str(), near.dropped.len()), ("couch", 0));
        assert_eq!(advice(&[("couch", 50), ("sofa", 100)]).name, "sofa");
        let none = advice(&[("gnu", 0), ("wildebeest", 0)]);
        assert_eq!((none.name.as_str(), none.vouched), ("gnu", false));
        assert_eq!(none.aliases, ["wildebeest"]);
        let uses = [("gnu", 0), ("wildebeest", 0)].map(|(word, captions)| Use {
            word: word.to_owned(),
            captions,
            example: None,
            taken_by: None,
        });
        assert!(none.because(&uses).starts_with("nobody writes that"));
    }

    #[test]
    fn nobody_hardly_anybody_and_a_good_name_go_by_the_count() {
        let because = |words: &[&str], captions: &[&str]| {
            let mut told = advised(&[words, &["zebra"]], captions);
            told.remove(0).1
        };
        let words = ["van", "parcel van"];
        assert_eq!(because(&words[..1], &["a van"; 5]), "\"van\" is a good name");
        assert_eq!(
            because(&words, &["a van"; 4]),
            "hardly anybody writes that (4 captions): captions tell little about it; \
             drop \"parcel van\", nobody writes that"
        );
        let captions = [&["a van"; 20][..], &["a parcel van"]].concat();
        assert_eq!(
            because(&words, &captions),
            "\"van\" is a good name; drop \"parcel van\", hardly anybody writes that (1 caption)"
        );
        assert_eq!(
            because(&["parcel van", "van"], &["a van"; 2]),
            "call it \"van\", though hardly anybody writes that (2 captions); \
             drop \"parcel van\", nobody writes that"
        );
    }
}
