//! Reading a source, and what must hold of what it gives.

use lookout_core::Embedding;
use lookout_sources::{
    Content, Entry, Fault, Gives, MAX_CAPTION_CHARS, Position, Row, Source, SourceError, Spec,
};

use crate::check_error;

/// Rows that are read of an input.
const MOST_ROWS: usize = 1000;

/// Reads a source and goes on in its middle. Gives the error that it was refused with.
pub fn read(spec: &Spec) -> Option<SourceError> {
    let mut source = match Source::open(spec) {
        Ok(it) => it,
        Err(error) => {
            check_error(&error);
            return Some(error);
        }
    };
    let gives = source.gives();
    let mut rows: Vec<Row> = Vec::new();
    let mut before = source.progress();
    while rows.len() < MOST_ROWS {
        let Some(row) = source.next() else { break };
        check(&row, gives);
        let now = source.progress();
        assert!(before.done <= now.done && now.done <= now.total, "{before:?} {now:?}");
        assert_eq!(now.rows, before.rows + 1);
        before = now;
        rows.push(row);
    }
    if rows.len() < MOST_ROWS {
        assert!(source.next().is_none());
        let now = source.progress();
        assert_eq!(now.done, now.total);
    }
    go_on(spec, &rows);
    None
}

fn go_on(spec: &Spec, rows: &[Row]) {
    let is_damaged =
        |it: &Row| it.as_ref().is_err_and(|it| matches!(it.fault, Fault::Damaged { .. }));
    let middle = rows.len() / 2;
    let Some(row) = rows.get(middle).filter(|_| !rows.iter().any(is_damaged)) else { return };
    let mut source = Source::open(spec).expect("it was opened before");
    source.resume(&position(row).next()).expect("it is a place in the source");
    let rest: Vec<Row> = source.take(rows.len() - middle - 1).collect();
    // As text, because a NaN does not equal itself.
    let (rest, expected) = (format!("{rest:?}"), format!("{:?}", &rows[middle + 1..]));
    assert_eq!(rest, expected, "after {}", position(row));
}

fn position(row: &Row) -> &Position {
    match row {
        Ok(it) => &it.position,
        Err(it) => &it.position,
    }
}

fn check(row: &Row, gives: Gives) {
    let Entry { caption, content, .. } = match row {
        Ok(it) => it,
        Err(bad) => return assert!(!bad.to_string().is_empty()),
    };
    let n_chars = caption.chars().count();
    assert!((1..=MAX_CAPTION_CHARS).contains(&n_chars) && caption.trim() == caption);
    assert!(!caption.contains(char::is_control));
    match (content, gives) {
        (Content::Picture(_), Gives::Pictures) => (),
        (
            Content::Embeddings { image, caption },
            Gives::Embeddings { dimension, image: has_image, caption: has_caption },
        ) => {
            assert_eq!((image.is_some(), caption.is_some()), (has_image, has_caption));
            let mut both = image.iter().chain(caption).map(Embedding::dimension);
            assert!(both.all(|it| it == dimension));
        }
        _ => panic!("the content is not what the source gives"),
    }
}
