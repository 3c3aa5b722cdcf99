//! Where the elements of a large JSON file lie, found without holding more than one.
//!
//! A parser stops for good at the first fault. This walk knows only strings and brackets, so that
//! a fault within an element costs that element alone; the element itself is parsed by serde_json.

use std::io::{self, BufRead};

/// Longer elements are passed over.
pub(crate) const MAX_ELEMENT_BYTES: usize = 1 << 20;
const MAX_KEY_BYTES: usize = 256;

/// Why a walk ends early.
pub(crate) enum Broken {
    Io(io::Error),
    /// What is wrong, and at which byte.
    Syntax(&'static str, u64),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// An element of a list in the outermost object.
pub(crate) struct Element<'a> {
    /// The list's key.
    pub(crate) list: &'a str,
    /// Its first byte in the file.
    pub(crate) offset: u64,
    /// Its bytes; without its end when it is longer than [`MAX_ELEMENT_BYTES`].
    pub(crate) bytes: &'a [u8],
}

/// Tells `visit` every element of every list in the outermost object. `visit` ends the walk by an
/// error of its own.
pub(crate) fn elements<E: From<Broken>>(
    reader: impl BufRead,
    visit: &mut dyn FnMut(Element<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut walk = Walk { reader, at: 0 };
    let (mut key, mut value) = (Vec::new(), Vec::new());
    walk.expect(b'{', "must begin with `{`")?;
    let mut begun = false;
    while !walk.ends(b'}', &mut begun)? {
        walk.space()?;
        key.clear();
        walk.value(&mut key, MAX_KEY_BYTES)?;
        let list: String = serde_json::from_slice(&key)
            .map_err(|_| walk.broken("a key must be a string of at most 256 bytes"))?;
        walk.expect(b':', "a `:` must follow a key")?;
        if walk.space()? != Some(b'[') {
            walk.value(&mut value, 0)?;
            continue;
        }
        walk.reader.consume(1);
        walk.at += 1;
        let mut begun = false;
        while !walk.ends(b']', &mut begun)? {
            walk.space()?;
            let offset = walk.at;
            value.clear();
            walk.value(&mut value, MAX_ELEMENT_BYTES)?;
            visit(Element { list: &list, offset, bytes: &value })?;
        }
    }
    match walk.space()? {
        None => Ok(()),
        Some(_) => Err(walk.broken("nothing may follow the outermost object").into()),
    }
}

struct Walk<R> {
    reader: R,
    /// Bytes consumed.
    at: u64,
}

impl<R: BufRead> Walk<R> {
    fn broken(&self, rule: &'static str) -> Broken {
        Broken::Syntax(rule, self.at)
    }

    fn peek(&mut self) -> Result<Option<u8>, Broken> {
        Ok(self.reader.fill_buf()?.first().copied())
    }

    fn bump(&mut self) {
        self.reader.consume(1);
        self.at += 1;
    }

    /// Passes over white space and gives what follows.
    fn space(&mut self) -> Result<Option<u8>, Broken> {
        loop {
            match self.peek()? {
                Some(b' ' | b'\t' | b'\r' | b'\n') => self.bump(),
                other => return Ok(other),
            }
        }
    }

    fn expect(&mut self, byte: u8, rule: &'static str) -> Result<(), Broken> {
        if self.space()? != Some(byte) {
            return Err(self.broken(rule));
        }
        self.bump();
        Ok(())
    }

    /// Takes the end of a list or object, or the comma before its next element.
    fn ends(&mut self, end: u8, begun: &mut bool) -> Result<bool, Broken> {
        match self.space()? {
            Some(byte) if byte == end => {
                self.bump();
                return Ok(true);
            }
            Some(b',') if *begun => self.bump(),
            Some(_) if !*begun => (),
            Some(_) => return Err(self.broken("a `,` or the end must follow a value")),
            None => return Err(self.broken("the file is cut off")),
        }
        *begun = true;
        Ok(false)
    }

    /// Takes one value of any kind, and keeps its first `limit` bytes and one more.
    fn value(&mut self, kept: &mut Vec<u8>, limit: usize) -> Result<(), Broken> {
        let (mut depth, mut in_string, mut escaped) = (0u64, false, false);
        let begin = self.at;
        loop {
            let Some(byte) = self.peek()? else {
                return Err(self.broken("the file is cut off"));
            };
            let ends_before = !in_string
                && depth == 0
                && matches!(byte, b',' | b':' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n');
            if ends_before && self.at == begin {
                return Err(self.broken("a value is missing"));
            }
            if ends_before {
                return Ok(());
            }
            self.bump();
            if kept.len() <= limit {
                kept.push(byte);
            }
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                _ if in_string => (),
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth -= 1,
                _ => (),
            }
            if depth == 0 && !in_string && matches!(byte, b'"' | b']' | b'}') {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl From<Broken> for String {
        fn from(broken: Broken) -> Self {
            match broken {
                Broken::Io(error) => error.to_string(),
                Broken::Syntax(rule, at) => format!("{rule} at {at}"),
            }
        }
    }

    fn walk(text: &str) -> Result<Vec<(String, String)>, String> {
        let mut found = Vec::new();
        elements(text.as_bytes(), &mut |it: Element<'_>| {
            let bytes = String::from_utf8(it.bytes.to_vec()).unwrap();
            if it.bytes.len() <= MAX_ELEMENT_BYTES {
                assert_eq!(
                    &text.as_bytes()[usize::try_from(it.offset).unwrap()..][..bytes.len()],
                    it.bytes
                );
            }
            found.push((it.list.to_owned(), bytes));
            Ok::<(), String>(())
        })?;
        Ok(found)
    }

    #[test]
    fn elements_of_the_outer_lists_are_found() {
        let text = r#" {"info": {"a": [1, "]}\""]}, "images" : [ {"id":1} ,{"x":"\\"}],
            "n": 12, "none": [], "\u0061": ["s", [1,2], -3e5 ,true]} "#;
        let found = walk(text).unwrap();
        let found: Vec<_> = found.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let expected = [
            ("images", r#"{"id":1}"#),
            ("images", r#"{"x":"\\"}"#),
            ("a", r#""s""#),
            ("a", "[1,2]"),
            ("a", "-3e5"),
            ("a", "true"),
        ];
        assert_eq!(found, expected);
        assert_eq!(walk("{}").unwrap(), []);
    }

    #[test]
    fn what_is_not_such_a_file_is_refused_with_its_place() {
        let cases = [
            ("", "must begin with `{` at 0"),
            ("[]", "must begin with `{` at 0"),
            ("{\"a\" 1}", "a `:` must follow a key at 5"),
            ("{\"a\":1", "the file is cut off at 6"),
            ("{\"a\":[1", "the file is cut off at 7"),
            ("{\"a\":[1,]}", "a value is missing at 8"),
            ("{\"a\":[1 2]}", "a `,` or the end must follow a value at 8"),
            ("{\"a\":[{]}", "a `,` or the end must follow a value at 8"),
            ("{1:2}", "a key must be a string"),
            ("{} x", "nothing may follow the outermost object at 3"),
        ];
        for (text, expected) in cases {
            let error = walk(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_long_element_is_not_kept() {
        let long = "x".repeat(3 * MAX_ELEMENT_BYTES);
        let found = walk(&format!("{{\"a\": [\"{long}\", 2]}}")).unwrap();
        let lengths: Vec<_> = found.iter().map(|it| it.1.len()).collect();
        assert_eq!(lengths, [MAX_ELEMENT_BYTES + 1, 1]);
    }
}
