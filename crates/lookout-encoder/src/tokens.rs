//! Texts to token ids.

use std::path::PathBuf;

use tokenizers::{
    PaddingDirection, PaddingParams, PaddingStrategy, Tokenizer, TruncationDirection,
    TruncationParams, TruncationStrategy,
};

use crate::bundle::BundleFile;
use crate::clean::clean;
use crate::error::{LOAD, RUN};
use crate::manifest::{Clean, Pad, TokenSpec, TokenizerKind};
use crate::runtime::guard;
use crate::{EncoderError, TextTower, clip_bpe};

/// A tokenizer that fills exactly the context length.
pub(crate) struct Tokens {
    path: PathBuf,
    tokenizer: Tokenizer,
    clean: Clean,
    strip: bool,
}

impl Tokens {
    pub(crate) fn load(file: BundleFile, spec: &TokenSpec) -> Result<Self, EncoderError> {
        let BundleFile { path, bytes } = file;
        let tokenizer = guard(&path, LOAD, || configure(&bytes, spec))?;
        let tokenizer = tokenizer.map_err(|source| EncoderError::Tokenizer {
            path: path.clone(),
            action: LOAD,
            source,
        })?;
        let tokens = Self { path, tokenizer, clean: spec.clean, strip: spec.strip };
        tokens.check_end_token(spec)?;
        Ok(tokens)
    }

    /// The largest id of a token; `None` where there is no token.
    pub(crate) fn largest_id(&self) -> Option<u32> {
        self.tokenizer.get_vocab(true).into_values().max()
    }

    /// The manifest's end token must close a text that was cut.
    fn check_end_token(&self, spec: &TokenSpec) -> Result<(), EncoderError> {
        let ids = match self.encode(&"a ".repeat(spec.context_length)) {
            Ok((ids, _)) => ids,
            Err(EncoderError::EmptyText { .. }) => {
                let rule = "leave room for at least 1 token of a text beside the special ones \
                            within `text.context_length`; raise it"
                    .to_owned();
                let got = spec.context_length.to_string();
                return Err(EncoderError::TokenizerRule { path: self.path.clone(), rule, got });
            }
            Err(other) => return Err(other),
        };
        let last = ids.last().and_then(|it| u32::try_from(*it).ok());
        let got = last.and_then(|it| self.tokenizer.id_to_token(it)).unwrap_or_default();
        if ids.len() == spec.context_length && got == spec.end_token {
            return Ok(());
        }
        let rule = format!(
            "end a cut text of {} tokens with `text.end_token` {:?}",
            spec.context_length, spec.end_token
        );
        let got = format!("{} tokens that end with {got:?}", ids.len());
        Err(EncoderError::TokenizerRule { path: self.path.clone(), rule, got })
    }

    /// Token ids and attention mask, each as long as the context.
    pub(crate) fn encode(&self, text: &str) -> Result<(Vec<i64>, Vec<i64>), EncoderError> {
        let (limit, got) = (TextTower::MAX_TEXT_BYTES, text.len());
        if limit < got {
            return Err(EncoderError::TextTooLong { limit, got });
        }
        let clean = clean(text, self.clean);
        let stripped = if self.strip { clean.trim() } else { &clean };
        let encoding = guard(&self.path, RUN, || self.tokenizer.encode_fast(stripped, true))?;
        let encoding = encoding.map_err(|source| EncoderError::Tokenizer {
            path: self.path.clone(),
            action: RUN,
            source,
        })?;
        // Padding is marked as special too.
        if !encoding.get_special_tokens_mask().contains(&0) {
            return Err(EncoderError::EmptyText { text: text.chars().take(80).collect() });
        }
        let wide = |ids: &[u32]| ids.iter().map(|it| i64::from(*it)).collect();
        Ok((wide(encoding.get_ids()), wide(encoding.get_attention_mask())))
    }
}

fn configure(bytes: &[u8], spec: &TokenSpec) -> Result<Tokenizer, crate::BoxError> {
    let mut tokenizer = match spec.kind {
        TokenizerKind::HuggingFace => Tokenizer::from_bytes(bytes)?,
        TokenizerKind::ClipBpe => clip_bpe::tokenizer(bytes)?,
    };
    let (pad_id, pad_token) = match &spec.pad {
        Pad::Token(token) => {
            let id = tokenizer.token_to_id(token);
            let missing = || format!("it has no token {token:?}, which `text.pad_token` names");
            (id.ok_or_else(missing)?, token.clone())
        }
        Pad::Id(id) => {
            let token = tokenizer.id_to_token(*id);
            (*id, token.ok_or_else(|| format!("it has no token {id}, which `text.pad_id` names"))?)
        }
    };
    tokenizer.with_truncation(Some(TruncationParams {
        direction: TruncationDirection::Right,
        max_length: spec.context_length,
        strategy: TruncationStrategy::LongestFirst,
        stride: 0,
    }))?;
    tokenizer.with_padding(Some(PaddingParams {
        strategy: PaddingStrategy::Fixed(spec.context_length),
        direction: PaddingDirection::Right,
        pad_to_multiple_of: None,
        pad_id,
        pad_type_id: 0,
        pad_token,
    }));
    Ok(tokenizer)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    macro_rules! oracle {
        ($name:literal) => {
            include_bytes!(concat!("../../../tests/oracle/tokens/", $name))
        };
    }

    fn load(bytes: &[u8], spec: &TokenSpec) -> Result<Tokens, EncoderError> {
        Tokens::load(BundleFile { path: PathBuf::from("tokens"), bytes: bytes.to_vec() }, spec)
    }

    fn clip_spec(pad: Pad) -> TokenSpec {
        TokenSpec {
            kind: TokenizerKind::ClipBpe,
            file: String::new(),
            context_length: 77,
            pad,
            end_token: "<|endoftext|>".to_owned(),
            clean: Clean::Clip,
            strip: true,
        }
    }

    fn siglip_spec() -> TokenSpec {
        TokenSpec {
            kind: TokenizerKind::HuggingFace,
            file: String::new(),
            context_length: 64,
            pad: Pad::Token("</s>".to_owned()),
            end_token: "</s>".to_owned(),
            clean: Clean::Canonicalize,
            strip: true,
        }
    }

    /// Texts with their canonical form and ids, as another program made them.
    fn samples(bytes: &[u8]) -> Vec<(String, String, Vec<i64>)> {
        let json: Value = serde_json::from_slice(bytes).unwrap();
        let text = |it: &Value| it.as_str().unwrap().to_owned();
        let sample = |it: &Value| {
            let ids = serde_json::from_value(it["ids"].clone()).unwrap();
            (text(&it["text"]), text(&it["clean"]), ids)
        };
        json["texts"].as_array().unwrap().iter().map(sample).collect()
    }

    /// Compares with ids that end at their end token, and those behind with `pad_id`.
    fn check(
        tokens: &Tokens,
        samples: Vec<(String, String, Vec<i64>)>,
        n_special: usize,
        pad_id: i64,
    ) {
        for (text, cleaned, ids) in samples {
            assert_eq!(clean(&text, tokens.clean), cleaned, "{text:?}");
            let n_tokens = ids.len();
            if n_tokens <= n_special {
                let error = tokens.encode(&text).unwrap_err();
                assert!(matches!(error, EncoderError::EmptyText { .. }), "{text:?}: {error}");
                continue;
            }
            let (got, mask) = tokens.encode(&text).unwrap();
            assert_eq!(got[..n_tokens], ids, "{text:?}");
            assert!(got[n_tokens..].iter().all(|it| *it == pad_id), "{text:?}: {got:?}");
            let expected: Vec<i64> = (0..got.len()).map(|it| i64::from(it < n_tokens)).collect();
            assert_eq!(mask, expected, "{text:?}");
        }
    }

    #[test]
    fn clip_ids_are_those_of_open_clip() {
        let samples = samples(oracle!("clip.json"));
        assert!(250 < samples.len());
        let merges = oracle!("merges.txt");
        for (pad, pad_id) in [
            (Pad::Id(0), 0),
            (Pad::Token("!".to_owned()), 0),
            (Pad::Token("<|endoftext|>".to_owned()), 49_407),
        ] {
            let tokens = load(merges, &clip_spec(pad)).unwrap();
            check(&tokens, samples.clone(), 2, pad_id);
        }
    }

    #[test]
    fn siglip_texts_are_canonical_and_padded_with_the_end_token() {
        let tokens = load(oracle!("siglip-tokenizer.json"), &siglip_spec()).unwrap();
        let mut samples = samples(oracle!("siglip.json"));
        assert!(70 < samples.len());
        for (_, _, ids) in &mut samples {
            assert_eq!((ids.len(), ids[63]), (64, 1));
            // Padding and end token have one id, so the first is the end.
            let end = ids.iter().position(|it| *it == 1).unwrap();
            ids.truncate(end + 1);
        }
        check(&tokens, samples, 1, 1);
    }

    #[test]
    fn rules_of_another_length_are_named() {
        let spec = clip_spec(Pad::Id(0));
        let source = |bytes: &[u8]| match load(bytes, &spec).map(|_| ()) {
            Err(EncoderError::Tokenizer { action: LOAD, source, .. }) => source.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            source(b"#version: 0.2\na b\nc\n"),
            "line 3 must be two pieces with a space between, got \"c\""
        );
        assert_eq!(
            source(b"a b\na b c\n"),
            "line 2 must be two pieces with a space between, got \"a b c\""
        );
        assert_eq!(source(b"#version: 0.2\n"), "it must have at least 1 merge rule, got 0");
        assert!(source(b"a b\nab xyz\n").contains("xyz"), "{}", source(b"a b\nab xyz\n"));
        assert!(source(b"\xff\xfe a").contains("utf-8"));
        let spec = clip_spec(Pad::Id(49_408));
        let error = load(oracle!("merges.txt"), &spec).map(|_| ()).unwrap_err();
        let EncoderError::Tokenizer { source, .. } = error else { panic!("{error}") };
        assert_eq!(source.to_string(), "it has no token 49408, which `text.pad_id` names");
    }

    #[test]
    fn a_wrong_end_token_is_found_at_loading() {
        let spec = TokenSpec { end_token: "</s>".to_owned(), ..clip_spec(Pad::Id(0)) };
        let error = load(oracle!("merges.txt"), &spec).map(|_| ()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "tokens must end a cut text of 77 tokens with `text.end_token` \"</s>\", \
             got 77 tokens that end with \"<|endoftext|>\""
        );
    }

    #[test]
    fn special_tokens_in_a_text_are_text() {
        let tokens = load(oracle!("merges.txt"), &clip_spec(Pad::Id(0))).unwrap();
        let (ids, _) = tokens.encode("a <|endoftext|> b").unwrap();
        assert_eq!(ids.iter().filter(|it| **it == 49_407).count(), 1);
    }

    #[test]
    fn a_text_of_one_word_of_the_greatest_length_takes_no_extreme_time() {
        let tokens = load(oracle!("merges.txt"), &clip_spec(Pad::Id(0))).unwrap();
        let (ids, _) = tokens.encode(&"x".repeat(TextTower::MAX_TEXT_BYTES)).unwrap();
        assert_eq!((ids.len(), ids[76]), (77, 49_407));
    }
}
