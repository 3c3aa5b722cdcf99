//! Tells class sets from one another by what their embeddings are made of.

use lookout_core::ClassSet;
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
        hash.update(format!("{} {:?}\0", class.id, class.kind));
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
