//! Prompt templates: a list of the user's own, or a pack that ships, by its name.

use config::ValueKind;

use crate::walk::Section;

/// The packs, each a template a line; `templates/NOTICE` says where they come from.
const PACKS: [(&str, &str); 3] = [
    ("openai-80", include_str!("../templates/openai-80.txt")),
    ("openai-7", include_str!("../templates/openai-7.txt")),
    ("photo-3", include_str!("../templates/photo-3.txt")),
];
const RULE: &str = "a list of texts or the name of a pack";

/// What `templates` of `section` says; `None` when it is absent or, which is reported, faulty. A text
/// from environment or flags is a list where it has a place for a name, otherwise a pack's name.
pub(crate) fn read(section: &mut Section<'_>) -> Option<Vec<String>> {
    const KEY: &str = "templates";
    let pack = section.peek(KEY, |kind, is_text| match kind {
        ValueKind::String(it) if !is_text || !it.contains(['{', '}', ',']) => Some(it.clone()),
        _ => None,
    });
    let Some(name) = pack else { return section.texts_or(KEY, RULE) };
    section.ask(KEY);
    let pack = PACKS.iter().find(|(it, _)| *it == name.trim());
    if pack.is_none() {
        section.fault(KEY, unknown(&name), Some(crate::walk::quote(&name)));
    }
    Some(pack?.1.lines().map(str::to_owned).collect())
}

/// What is wrong with a name that no pack has.
fn unknown(name: &str) -> String {
    let names: Vec<String> = PACKS.iter().map(|(it, _)| format!("\"{it}\"")).collect();
    let near = PACKS
        .iter()
        .map(|(it, _)| (strsim::damerau_levenshtein(&name.trim().to_lowercase(), it), it))
        .min()
        .filter(|(distance, it)| *distance <= 1 + it.len() / 3);
    let meant = near.map_or(String::new(), |(_, it)| format!("; did you mean \"{it}\"?"));
    if name.contains("{}") {
        return "must be a list, in brackets, also of a single template".to_owned();
    }
    format!("must be {RULE}: {}{meant}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use lookout_core::{Class, ClassKind, ClassSet, Id};

    use super::*;

    #[test]
    fn every_pack_is_valid_and_as_large_as_it_says() {
        for (name, text) in PACKS {
            let (_, n) = name.rsplit_once('-').unwrap();
            let templates: Vec<String> = text.lines().map(str::to_owned).collect();
            assert_eq!(templates.len(), n.parse::<usize>().unwrap(), "{name}");
            assert_eq!(templates.iter().collect::<HashSet<_>>().len(), templates.len(), "{name}");
            let class = |id: &str| Class {
                id: Id::new(id).unwrap(),
                kind: ClassKind::Label,
                name: id.to_owned(),
                aliases: vec![],
                prompts: vec![],
                enter: None,
            };
            assert!(ClassSet::new(templates, vec![class("a"), class("b")]).is_ok(), "{name}");
        }
    }
}
