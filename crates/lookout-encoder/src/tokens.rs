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

    /// The manifest's end token must close a text that was cut.
    fn check_end_token(&self, spec: &TokenSpec) -> Result<(), EncoderError> {
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
            return Err(EncoderError::EmptyText { text: text.to_owned() });
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
