//! What a caption index is built of, read row by row: captions in a table, pictures with captions
//! in a folder, COCO captions, WebDataset shards, and precomputed embeddings as clip-retrieval writes them.
//!
//! [`Source::open`] checks what can be checked beforehand, so that a build fails in its first
//! seconds or not at all; from then on a [`Source`] is an iterator in which a row that cannot be
//! used is a [`BadRow`] and never the end. [`Filters`] say which captions are wanted, and a
//! [`Tally`] keeps the books. Decoding pictures and encoding is the caller's.
//!
//! Every row has a [`Position`]. The order is fixed by names and numbers alone, so a build that was
//! killed goes on at the position that it wrote down ([`Source::resume`]).
//!
//! What an evaluation is made on stands apart and is read whole: [`LabelledPicture`] and
//! [`EmbeddingSet`].
//!
//! Memory: one row at a time, and what the kinds say of themselves ([`Spec`]). Files are outside
//! bytes: whatever they hold, the answer is an error or a counted row.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod caption;
mod coco;
mod embedding_set;
mod embeddings;
mod entry;
mod error;
mod files;
mod filter;
mod folder;
mod footer;
mod json;
mod kind;
mod labelled;
mod npy;
mod page_header;
mod parquet;
mod source;
mod table;
mod tally;
mod tar;
#[cfg(test)]
mod tests;
mod tsv;
mod webdataset;
mod words;

pub use embedding_set::{EmbeddingSet, ImageTruth};
pub use entry::{BadRow, Content, Entry, Fault, Picture, Position, Row};
pub use error::SourceError;
pub use filter::{FilterOptions, Filters, MAX_REMEMBERED, Refusal, Unsure};
pub use kind::Kind;
pub use labelled::LabelledPicture;
pub use source::{Gives, Progress, Source, Spec, Unit};
pub use tally::Tally;
pub use words::WordList;
