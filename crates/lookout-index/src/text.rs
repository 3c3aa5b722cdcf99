//! Captions, compressed one by one by a table of symbols (FSST).
//!
//! Every byte of a compressed caption stands for a symbol of 1 to 8 bytes; 255 says that the byte
//! after it stands for itself. So any caption is read by itself, without a block around it. The
//! crate `fsst-rs` finds the symbols and compresses; it trusts what it decompresses, which a file
//! does not deserve, so that is done here.

use std::path::Path;

use fsst::Compressor;

use crate::IndexError;
use crate::format::{Section, malformed};

/// Bytes of a symbol's row: its length, then its bytes, then zeros.
const ROW_BYTES: usize = 1 + MAX_SYMBOL_BYTES;
const MAX_SYMBOL_BYTES: usize = 8;
/// Says that the next byte stands for itself.
const ESCAPE: u8 = 255;
/// Captions that the symbols are chosen by; the crate takes 16 KiB of them.
const SAMPLE: usize = 4096;

/// Compresses captions.
pub(crate) struct Packer(Compressor);

impl Packer {
    /// Chooses symbols for captions like these. The same captions give the same symbols.
    pub(crate) fn train<'a>(texts: impl ExactSizeIterator<Item = &'a str>) -> Self {
        let step = texts.len().div_ceil(SAMPLE).max(1);
        let sample = texts.step_by(step).map(str::as_bytes).collect();
        Self(Compressor::train(&sample))
    }

    /// The section with the symbols.
    pub(crate) fn symbols(&self) -> Vec<u8> {
        let rows = self.0.symbol_table().iter().zip(self.0.symbol_lengths());
        rows.flat_map(|(symbol, length)| {
            let mut row = [0; ROW_BYTES];
            row[0] = *length;
            row[1..].copy_from_slice(&symbol.to_u64().to_le_bytes());
            row
        })
        .collect()
    }

    pub(crate) fn pack(&self, text: &str) -> Vec<u8> {
        self.0.compress(text.as_bytes())
    }
}

/// Decompresses captions.
#[derive(Clone, Copy)]
pub(crate) struct Symbols<'a>(&'a [[u8; ROW_BYTES]]);

impl<'a> Symbols<'a> {
    /// Of a section that [`Symbols::check`] has passed.
    pub(crate) fn new(section: &'a [u8]) -> Self {
        Self(section.as_chunks().0)
    }

    /// Checks a section of symbols.
    pub(crate) fn check(path: &Path, section: &[u8]) -> Result<(), IndexError> {
        let fault = |rule, got| Err(malformed(path, Section::Symbols, rule, got));
        let (rows, rest) = section.as_chunks::<ROW_BYTES>();
        if !rest.is_empty() || rows.len() > usize::from(ESCAPE) {
            return fault("there must be at most 255 symbols of 9 bytes", section.len() as u64);
        }
        for row in rows {
            let length = usize::from(row[0]);
            if !(1..=MAX_SYMBOL_BYTES).contains(&length) {
                return fault("a symbol must have 1 to 8 bytes", length as u64);
            }
            if let Some(byte) = row[1 + length..].iter().find(|it| **it != 0) {
                return fault("zeros must follow a symbol", (*byte).into());
            }
        }
        Ok(())
    }

    /// Puts a caption's bytes into `out`. `None` when the compressed bytes are damaged: they name a
    /// symbol that there is not, or end within an escape.
    pub(crate) fn unpack(&self, packed: &[u8], out: &mut Vec<u8>) -> Option<()> {
        out.clear();
        let mut bytes = packed.iter();
        while let Some(&code) = bytes.next() {
            if code == ESCAPE {
                out.push(*bytes.next()?);
            } else {
                let row = self.0.get(usize::from(code))?;
                out.extend(row[1..].get(..usize::from(row[0]))?);
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn captions_come_back(texts in prop::collection::vec("[a-h é☃]{1,60}", 1..40)) {
            let packer = Packer::train(texts.iter().map(String::as_str));
            let section = packer.symbols();
            Symbols::check(Path::new("x"), &section).unwrap();
            let mut out = Vec::new();
            for text in &texts {
                Symbols::new(&section).unpack(&packer.pack(text), &mut out).unwrap();
                prop_assert_eq!(text.as_bytes(), &out);
            }
        }

        /// Whatever the bytes, nothing panics.
        #[test]
        fn any_bytes_are_refused_or_read(
            section in prop::collection::vec(any::<u8>(), 0..100),
            packed in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            Symbols::check(Path::new("x"), &section).ok();
            Symbols::new(&section).unpack(&packed, &mut Vec::new());
        }
    }
}
