//! Tells class sets from one another by what their embeddings are made of.

use lookout_core::{ClassKind, ClassSet};
use sha2::{Digest, Sha256};

/// Of the prompts of class `idx`: 16 hexadecimal digits of SHA-256.
pub(crate) fn of_class(set: &ClassSet, idx: usize) -> String {
    let mut hash = Sha256::new();
    add(&mut hash, set, idx);
    digits(hash)
}

/// Of all classes in their order, ids and kinds included.
pub(crate) fn of_set(set: &ClassSet) -> String {
    let mut hash = Sha256::new();
    for (idx, class) in set.classes().iter().enumerate() {
        let kind = match class.kind {
            ClassKind::Label => "label",
            ClassKind::Negative => "negative",
        };
        hash.update(format!("{} {kind}\0", class.id));
        add(&mut hash, set, idx);
    }
    digits(hash)
}

fn add(hash: &mut Sha256, set: &ClassSet, idx: usize) {
    let prompts = set.prompts(idx);
    hash.update((prompts.len() as u64).to_le_bytes());
    for prompt in prompts {
        hash.update((prompt.len() as u64).to_le_bytes());
        hash.update(prompt);
    }
}

fn digits(hash: Sha256) -> String {
    hash.finalize().iter().take(8).map(|it| format!("{it:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use lookout_core::{Class, Id};

    use super::*;

    /// Files of earlier versions hold such hashes.
    #[test]
    fn hashes_stay_as_they_are() {
        let class = |id: &str, kind| Class {
            id: Id::new(id).unwrap(),
            kind,
            name: format!("a {id}"),
            aliases: vec![],
            prompts: vec![],
            enter: None,
        };
        let classes = vec![class("cat", ClassKind::Label), class("street", ClassKind::Negative)];
        let set = ClassSet::new(vec!["{}".to_owned()], classes).unwrap();
        assert_eq!(
            (of_class(&set, 0).as_str(), of_set(&set).as_str()),
            ("5b1fed7a0de6e04f", "105f49f8bd764cdd")
        );
    }
}
