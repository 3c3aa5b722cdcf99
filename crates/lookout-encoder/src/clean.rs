//! What is done to a text before the tokenizer sees it.

use std::borrow::Cow;

use html_escape::decode_html_entities;
use tokenizers::NormalizedString;

use crate::manifest::Clean;

/// `text` as the model's tokenizer wants it.
pub(crate) fn clean(text: &str, rule: Clean) -> Cow<'_, str> {
    match rule {
        Clean::None => Cow::Borrowed(text),
        Clean::Lower => Cow::Owned(text.to_lowercase()),
        Clean::Clip => Cow::Owned(single_spaced(&repair(text)).to_lowercase()),
        Clean::Canonicalize => {
            let text = repair(text).replace('_', " ");
            let kept: String = text.chars().filter(|it| !it.is_ascii_punctuation()).collect();
            Cow::Owned(single_spaced(&kept.to_lowercase()))
        }
    }
}

/// What Python's ftfy and `html.unescape`, applied twice, do to a text that was decoded rightly:
/// entities resolved, typographic quotes made straight, ligatures and full-width forms taken
/// apart, control characters gone, NFC. A text decoded with the wrong encoding stays as it is.
fn repair(text: &str) -> String {
    let resolved = match text.contains('<') {
        true => Cow::Borrowed(text),
        false => decode_html_entities(text),
    };
    let mut plain = String::with_capacity(resolved.len());
    for c in resolved.chars() {
        push_plain(&mut plain, c);
    }
    let mut composed = NormalizedString::from(plain);
    composed.nfc();
    let once = decode_html_entities(composed.get());
    decode_html_entities(&once).into_owned()
}

/// What Windows has where Unicode has control characters, U+0080 to U+009F.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
    '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

fn push_plain(text: &mut String, c: char) {
    let c = match c {
        '\u{80}'..='\u{9f}' => WINDOWS_1252[c as usize - 0x80],
        c => c,
    };
    match c {
        // Control characters, and marks that only tell of interpretation.
        '\0'..='\u{8}'
        | '\u{b}'
        | '\u{e}'..='\u{1f}'
        | '\u{7f}'
        | '\u{206a}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffc}' => {}
        '\u{2bc}' | '\u{2018}'..='\u{201b}' => text.push('\''),
        '\u{201c}'..='\u{201f}' => text.push('"'),
        // Ligatures of two letters, and the full-width and half-width forms.
        '\u{132}'
        | '\u{133}'
        | '\u{149}'
        | '\u{1c4}'..='\u{1cc}'
        | '\u{1f1}'..='\u{1f3}'
        | '\u{fb00}'..='\u{fb06}'
        | '\u{3000}'
        | '\u{ff01}'..='\u{ffef}' => {
            let mut apart = NormalizedString::from(c.to_string());
            apart.nfkc();
            text.push_str(apart.get());
        }
        c => text.push(c),
    }
}

fn single_spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
