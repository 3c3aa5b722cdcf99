//! What every source does to a caption.

use lookout_core::MAX_CAPTION_CHARS;

use crate::Fault;

/// Most bytes of a file, or of a stored value, that is looked at as a caption.
pub(crate) const MAX_CAPTION_BYTES: usize = 64 * 1024;

/// The caption in `bytes`, with every run of white space made one space: captions from the web
/// have line ends and tabs within them.
pub(crate) fn caption(bytes: &[u8]) -> Result<String, Fault> {
    if bytes.len() > MAX_CAPTION_BYTES {
        return Err(Fault::CaptionTooLong);
    }
    let text = str::from_utf8(bytes).map_err(|_| Fault::CaptionNotUtf8)?;
    let mut caption = String::with_capacity(text.len());
    for word in text.trim_start_matches('\u{feff}').split_whitespace() {
        if !caption.is_empty() {
            caption.push(' ');
        }
        caption.push_str(word);
    }
    if caption.is_empty() {
        Err(Fault::NoCaption)
    } else if caption.chars().nth(MAX_CAPTION_CHARS).is_some() {
        Err(Fault::CaptionTooLong)
    } else if caption.chars().any(char::is_control) {
        Err(Fault::CaptionControl)
    } else {
        Ok(caption)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_folded_and_the_rest_is_checked() {
        let long = "é".repeat(MAX_CAPTION_CHARS);
        let cases: [(&[u8], Result<&str, Fault>); 8] = [
            (b" a  cat\r\n\ton a mat\n", Ok("a cat on a mat")),
            ("\u{feff}a cat\u{a0}".as_bytes(), Ok("a cat")),
            (long.as_bytes(), Ok(&long)),
            (b" \n ", Err(Fault::NoCaption)),
            (b"a \xff cat", Err(Fault::CaptionNotUtf8)),
            (b"red \x1b[31m", Err(Fault::CaptionControl)),
            (&[b'x'; MAX_CAPTION_CHARS + 1], Err(Fault::CaptionTooLong)),
            (&[b' '; MAX_CAPTION_BYTES + 1], Err(Fault::CaptionTooLong)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(caption(bytes).as_deref(), expected.as_deref(), "{bytes:?}");
        }
    }
}
