//! Texts to embeddings.

use std::path::PathBuf;

use lookout_core::Embedding;
use tokenizers::{
    PaddingDirection, PaddingParams, PaddingStrategy, Tokenizer, TruncationDirection,
    TruncationParams, TruncationStrategy,
};

use crate::bundle::BundleFile;
use crate::error::{LOAD, RUN};
use crate::manifest::TextSpec;
use crate::runtime::{Input, InputKind, InputSpec, Model, Runtime, Signature, guard, repeat_last};
use crate::{Bundle, EncoderError};

/// A loaded text tower with its tokenizer.
pub struct TextTower {
    model: Model,
    tokens: Tokens,
    has_mask: bool,
}

impl TextTower {
    /// The longest text, in bytes. Longer than any label or caption; it bounds the tokenizer's
    /// work on a text that is cut to the context length anyway.
    pub const MAX_TEXT_BYTES: usize = 64 << 10;

    /// Loads the bundle's text tower on the CPU, for one text a run. Its files are hashed before
    /// any library sees them.
    pub fn load(bundle: &Bundle) -> Result<Self, EncoderError> {
        Self::load_on(bundle, &Runtime::cpu(), 1)
    }

    /// Loads the bundle's text tower on `runtime`, for `batch` texts a run, at least 1.
    pub fn load_on(bundle: &Bundle, runtime: &Runtime, batch: usize) -> Result<Self, EncoderError> {
        let spec = &bundle.manifest.text;
        let tokens = Tokens::load(bundle.read(&spec.tokenizer)?, spec)?;
        let rows = batch.max(1);
        let input = |name: &String| InputSpec {
            name: name.clone(),
            kind: InputKind::I64,
            shape: vec![rows, spec.context_length],
        };
        let names = [Some(&spec.ids_input), spec.mask_input.as_ref()];
        let signature = Signature {
            inputs: names.into_iter().flatten().map(input).collect(),
            output: spec.output.clone(),
            dimension: bundle.dimension(),
            rows,
        };
        let model = runtime.load(bundle, &spec.file, signature)?;
        Ok(Self { model, tokens, has_mask: spec.mask_input.is_some() })
    }

    /// What computes it, for people.
    pub fn describe(&self) -> String {
        self.model.describe()
    }

    /// The embedding of `text`. A text beyond the model's context length is cut, its end token
    /// kept; one without content, or beyond [`Self::MAX_TEXT_BYTES`], is an error.
    pub fn encode_text(&mut self, text: &str) -> Result<Embedding, EncoderError> {
        let mut embeddings = self.encode_texts(&[text])?;
        Ok(embeddings.swap_remove(0))
    }

    /// The embeddings of `texts`, in their order, as many a run as the tower was loaded for. A run
    /// with fewer repeats the last one. Errors are those of [`Self::encode_text`].
    pub fn encode_texts<T: AsRef<str>>(
        &mut self,
        texts: &[T],
    ) -> Result<Vec<Embedding>, EncoderError> {
        let rows = self.model.rows();
        let mut embeddings = Vec::with_capacity(texts.len());
        for batch in texts.chunks(rows) {
            let (mut ids, mut mask) = (Vec::new(), Vec::new());
            for text in batch {
                let (mut text_ids, mut text_mask) = self.tokens.encode(text.as_ref())?;
                ids.append(&mut text_ids);
                mask.append(&mut text_mask);
            }
            repeat_last(&mut ids, batch.len(), rows);
            repeat_last(&mut mask, batch.len(), rows);
            let inputs = [Input::I64(&ids), Input::I64(&mask)];
            let inputs = if self.has_mask { &inputs[..] } else { &inputs[..1] };
            embeddings.append(&mut self.model.run(inputs, batch.len())?);
        }
        Ok(embeddings)
    }
}

/// A tokenizer that fills exactly the context length.
struct Tokens {
    path: PathBuf,
    tokenizer: Tokenizer,
    strip: bool,
}

impl Tokens {
    fn load(file: BundleFile, spec: &TextSpec) -> Result<Self, EncoderError> {
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
    fn encode(&self, text: &str) -> Result<(Vec<i64>, Vec<i64>), EncoderError> {
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
