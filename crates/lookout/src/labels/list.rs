//! A list of words in TOML, changed word by word, so that the comments in it stay.

use toml_edit::{Array, Value};

/// Makes `list` hold `words`. Those that are there already must stand in the order of `words`; new ones come
/// first.
pub(super) fn change(list: &mut Array, words: &[String]) {
    let mut left: Vec<&String> = words.iter().collect();
    let mut at = 0;
    while let Some(value) = list.get_mut(at) {
        let word = value.as_str().unwrap_or_default().trim().to_owned();
        match left.iter().position(|it| **it == word) {
            Some(found) => {
                left.remove(found);
                if value.as_str() != Some(&word) {
                    let decor = value.decor().clone();
                    *value = word.into();
                    *value.decor_mut() = decor;
                }
                at += 1;
            }
            None => remove(list, at),
        }
    }
    for word in left.into_iter().rev() {
        insert_first(list, word);
    }
}

/// Removes a value, and leaves the comments around it to the next one.
fn remove(list: &mut Array, at: usize) {
    let value = list.remove(at);
    let (before, after) = (prefix(&value), suffix(&value));
    let next = list.get(at).map_or_else(|| trailing(list), prefix);
    let is_last = list.get(at).is_none();
    let has_comment = |it: &str| it.contains('#');
    let space = if has_comment(&before) || has_comment(&after) || has_comment(&next) {
        joined(&joined(&before, &after), &next)
    } else if is_last {
        after + &next
    } else {
        before
    };
    match list.get_mut(at) {
        Some(next) => next.decor_mut().set_prefix(space),
        None => list.set_trailing(space),
    }
}

/// Puts a word before all others, on a line of its own where they are.
fn insert_first(list: &mut Array, word: &str) {
    let Some(first) = list.get_mut(0) else {
        list.push(word);
        return;
    };
    let space = prefix(first);
    let (of_new, of_first) = match (space.find('\n'), space.rfind('\n')) {
        // What stands behind the bracket stays there.
        (Some(line_end), Some(last)) => {
            (format!("{}{}", &space[..line_end], &space[last..]), space[line_end..].to_owned())
        }
        _ => (space, " ".to_owned()),
    };
    first.decor_mut().set_prefix(of_first);
    let mut value = Value::from(word);
    value.decor_mut().set_prefix(of_new);
    list.insert_formatted(0, value);
}

/// Space and comments that follow one another, without an empty line between them.
fn joined(one: &str, other: &str) -> String {
    let start = one.trim_end_matches([' ', '\t']);
    match other.strip_prefix("\r\n").or_else(|| other.strip_prefix('\n')) {
        Some(rest) if start.ends_with('\n') => format!("{start}{rest}"),
        _ => format!("{one}{other}"),
    }
}

fn prefix(value: &Value) -> String {
    value.decor().prefix().and_then(|it| it.as_str()).unwrap_or_default().to_owned()
}

fn suffix(value: &Value) -> String {
    value.decor().suffix().and_then(|it| it.as_str()).unwrap_or_default().to_owned()
}

fn trailing(list: &Array) -> String {
    list.trailing().as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use toml_edit::DocumentMut;

    use super::*;

    #[track_caller]
    fn changed(list: &str, words: &[&str], expected: &str) {
        let mut document: DocumentMut = format!("a = {list}\n").parse().unwrap();
        let words: Vec<String> = words.iter().map(|it| (*it).to_owned()).collect();
        change(document["a"].as_array_mut().unwrap(), &words);
        let text = document.to_string();
        assert_eq!(text, format!("a = {expected}\n"));
        let again: DocumentMut = text.parse().unwrap();
        let again = again["a"].as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned());
        assert_eq!(again.collect::<Vec<_>>(), words);
    }

    #[test]
    fn words_come_and_go_and_comments_stay() {
        changed("[\"b\", \"c\"]", &["a", "c"], "[\"a\", \"c\"]");
        changed("[ \"b\", \"c\" ]", &["a", "b"], "[ \"a\", \"b\" ]");
        changed("[\"b\", \"c\"]", &[], "[]");
        changed("[\n  \"b\", # of b\n]", &[], "[\n   # of b\n]");
        changed("[]", &["a"], "[\"a\"]");
        changed("[\" b \", \"b\"]", &["b"], "[\"b\"]");
        let list =
            "[ # words\n    \"b\", # of b\n    # of c\n    \"c\", # behind c\n    \"d\", # of d\n]";
        changed(
            list,
            &["a", "b", "d"],
            "[ # words\n    \"a\",\n    \"b\", # of b\n    # of c\n     # behind c\n    \"d\", # of d\n]",
        );
        changed(
            list,
            &["c"],
            "[ # words\n     # of b\n    # of c\n    \"c\", # behind c\n     # of d\n]",
        );
        changed("[\n  \"b\" # of b\n  , \"c\"]", &["c"], "[\n   # of b\n   \"c\"]");
    }
}
