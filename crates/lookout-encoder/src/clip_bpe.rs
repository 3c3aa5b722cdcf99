//! CLIP's byte pair encoding, built from its merge rules alone: the vocabulary follows from them.
//!
//! The file is `merges.txt` of a Hugging Face repository, or OpenAI's
//! `bpe_simple_vocab_16e6.txt`, unpacked, of which the first [`MAX_MERGES`] rules count.

use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{SplitDelimiterBehavior, Tokenizer};

use crate::BoxError;

/// The rules of CLIP's vocabulary of 49,408: less 256 bytes, 256 bytes at the end of a word and
/// two special tokens.
const MAX_MERGES: usize = 49_408 - 2 * 256 - 2;
const END_OF_WORD: &str = "</w>";
const START_TOKEN: &str = "<|startoftext|>";
const END_TOKEN: &str = "<|endoftext|>";

/// A word is a contraction's end, letters, one digit, or whatever else is not white space.
const WORD: &str = r"(?i)'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+";

/// The tokenizer that `file` describes, with a start and an end token round each text. White
/// space only separates words; case and anything else is left as it is. The special tokens'
/// names in a text are text.
pub(crate) fn tokenizer(file: &[u8]) -> Result<Tokenizer, BoxError> {
    let merges = merges(file)?;
    let alphabet = alphabet();
    let at_end = alphabet.iter().map(|it| format!("{it}{END_OF_WORD}"));
    let merged = merges.iter().map(|(left, right)| format!("{left}{right}"));
    let special = [START_TOKEN, END_TOKEN].map(str::to_owned);
    let vocab: Vocab = alphabet
        .iter()
        .map(char::to_string)
        .chain(at_end)
        .chain(merged)
        .chain(special)
        .zip(0..)
        .collect();
    let id = |token: &str| vocab.get(token).copied().unwrap_or_default();
    let [start, end] = [START_TOKEN, END_TOKEN].map(|it| (it.to_owned(), id(it)));
    let model = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .end_of_word_suffix(END_OF_WORD.to_owned())
        .build()?;
    let words = SplitPattern::Regex(WORD.to_owned());
    let words = Split::new(words, SplitDelimiterBehavior::Removed, true)?;
    let bytes = ByteLevel::new(false, false, false);
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![words.into(), bytes.into()])));
    let around = RobertaProcessing::new(end, start).trim_offsets(false).add_prefix_space(false);
    tokenizer.with_post_processor(Some(around));
    Ok(tokenizer)
}

/// The rules, most important first.
fn merges(file: &[u8]) -> Result<Merges, BoxError> {
    let text = str::from_utf8(file)?;
    let mut lines = text.lines().zip(1..).peekable();
    lines.next_if(|(line, _)| line.contains("#version"));
    let rule = |(line, number): (&str, usize)| {
        let mut pieces = line.split(' ').filter(|it| !it.is_empty());
        match (pieces.next(), pieces.next(), pieces.next()) {
            (Some(left), Some(right), None) => Ok((left.to_owned(), right.to_owned())),
            _ => {
                Err(format!("line {number} must be two pieces with a space between, got {line:?}"))
            }
        }
    };
    let merges: Merges = lines.take(MAX_MERGES).map(rule).collect::<Result<_, _>>()?;
    if merges.is_empty() {
        return Err("it must have at least 1 merge rule, got 0".into());
    }
    Ok(merges)
}

/// A character for each byte, in the order of the vocabulary: what prints stands for itself and
/// comes first, the other bytes follow with the characters from U+0100 on.
fn alphabet() -> Vec<char> {
    let prints = |it: &u8| matches!(it, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let n_others = (0..=u8::MAX).filter(|it| !prints(it)).count();
    let others = ('\u{100}'..).take(n_others);
    (0..=u8::MAX).filter(prints).map(char::from).chain(others).collect()
}
