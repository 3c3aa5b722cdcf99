//! Texts to token ids.

use std::path::PathBuf;

use tokenizers::{
    PaddingDirection, PaddingParams, PaddingStrategy, Tokenizer, TruncationDirection,
    TruncationParams, TruncationStrategy,
};

use crate::bundle::BundleFile;
use crate::error::{LOAD, RUN};
use crate::manifest::TextSpec;
use crate::runtime::guard;
use crate::{EncoderError, TextTower};

/// A tokenizer that fills exactly the context length.
pub(crate) struct Tokens {
    path: PathBuf,
    tokenizer: Tokenizer,
    strip: bool,
}

impl Tokens {
    pub(crate) fn load(file: BundleFile, spec: &TextSpec) -> Result<Self, EncoderError> {
        let BundleFile { path, bytes } = file;
        let tokenizer = guard(&path, LOAD, || configure(&bytes, spec))?;
        let tokenizer = tokenizer.map_err(|source| EncoderError::Tokenizer {
            path: path.clone(),
            action: LOAD,
            source,
        })?;
        let tokens = Self { path, tokenizer, strip: spec.strip };
        tokens.check_end_token(spec)?;
        Ok(tokens)
    }

    /// The manifest's end token must close a text that was cut.
    fn check_end_token(&self, spec: &TextSpec) -> Result<(), EncoderError> {
        let (ids, _) = self.encode(&"a ".repeat(spec.context_length))?;
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
        let stripped = if self.strip { text.trim() } else { text };
        let encoding = guard(&self.path, RUN, || self.tokenizer.encode_fast(stripped, true))?;
        let encoding = encoding.map_err(|source| EncoderError::Tokenizer {
            path: self.path.clone(),
            action: RUN,
            source,
        })?;
        // Padding is marked as special too.
        if !encoding.get_special_tokens_mask().contains(&0) {
            return Err(EncoderError::EmptyText { text: text.to_owned() });
        }
        let wide = |ids: &[u32]| ids.iter().map(|it| i64::from(*it)).collect();
        Ok((wide(encoding.get_ids()), wide(encoding.get_attention_mask())))
    }
}

fn configure(bytes: &[u8], spec: &TextSpec) -> Result<Tokenizer, crate::BoxError> {
    let mut tokenizer = Tokenizer::from_bytes(bytes)?;
    let pad_id = tokenizer.token_to_id(&spec.pad_token).ok_or_else(|| {
        format!("it has no token {:?}, which `text.pad_token` names", spec.pad_token)
    })?;
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
        pad_token: spec.pad_token.clone(),
    }));
    Ok(tokenizer)
}
