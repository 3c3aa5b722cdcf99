//! Texts to embeddings.

use lookout_core::Embedding;

use crate::runtime::{Input, InputKind, InputSpec, Model, Runtime, Signature, repeat_last};
use crate::tokens::Tokens;
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
        let tokens = Tokens::load(bundle.read(&spec.tokens.file)?, &spec.tokens)?;
        let rows = batch.max(1);
        let input = |name: &String| InputSpec {
            name: name.clone(),
            kind: InputKind::I64,
            shape: vec![rows, spec.tokens.context_length],
        };
        let names = [Some(&spec.ids_input), spec.mask_input.as_ref()];
        let signature = Signature {
            inputs: names.into_iter().flatten().map(input).collect(),
            output: spec.output.clone(),
            dimension: bundle.dimension(),
            rows,
            has_outliers: true,
            largest_id: tokens.largest_id(),
        };
        let model = runtime.load(bundle, &spec.file, signature)?;
        Ok(Self { model, tokens, has_mask: spec.mask_input.is_some() })
    }

    pub(crate) fn noise(&self) -> f64 {
        self.model.noise()
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
            let of = |row: usize| {
                let text = batch.get(row).map_or("", T::as_ref);
                format!("text {:?}", text.chars().take(80).collect::<String>())
            };
            embeddings.append(&mut self.model.run(inputs, batch.len(), of)?);
        }
        Ok(embeddings)
    }
}
