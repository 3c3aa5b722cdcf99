//! Makes an `Hnsw` of a checked graph section.

use instant_distance::Hnsw;
use serde::Deserialize;
use serde::de::value::{Error, MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::{Key, Layer};
use crate::format::u32_at;

pub(super) fn hnsw(
    n_entries: u32,
    layers: &[Layer<'_>],
    ef: usize,
) -> Result<Hnsw<Key<'static>>, Error> {
    Hnsw::deserialize(Part::Graph { n_entries, layers, ef })
}

impl<'de> Deserialize<'de> for Key<'static> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u32::deserialize(deserializer).map(Self::Stored)
    }
}

/// A piece of the graph in the shape of the crate's own types.
#[derive(Clone, Copy)]
enum Part<'a> {
    Graph {
        n_entries: u32,
        layers: &'a [Layer<'a>],
        ef: usize,
    },
    Count(u64),
    /// Every entry as a point.
    Points(u32),
    Layers(&'a [Layer<'a>]),
    Layer(Layer<'a>),
    Neighbors(&'a [u8]),
    Number(u32),
}

impl<'de> Deserializer<'de> for Part<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Graph { n_entries, layers, ef } => {
                let fields = [
                    ("ef_search", Self::Count(ef as u64)),
                    ("points", Self::Points(n_entries)),
                    ("zero", Part::Layer(layers[0])),
                    ("layers", Part::Layers(&layers[1..])),
                ];
                visitor.visit_map(MapDeserializer::new(fields.into_iter()))
            }
            Self::Count(it) => visitor.visit_u64(it),
            Self::Points(n) => visitor.visit_seq(SeqDeserializer::new((0..n).map(Part::Number))),
            Self::Layers(layers) => {
                visitor.visit_seq(SeqDeserializer::new(layers.iter().copied().map(Part::Layer)))
            }
            Self::Layer(layer) => {
                let entries = layer.bytes.chunks_exact(layer.n_neighbors * 4);
                visitor.visit_seq(SeqDeserializer::new(entries.map(Part::Neighbors)))
            }
            Self::Neighbors(bytes) => {
                let neighbors = bytes.chunks_exact(4).map(|it| Part::Number(u32_at(it, 0)));
                visitor.visit_seq(SeqDeserializer::new(neighbors))
            }
            Self::Number(it) => visitor.visit_u32(it),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl IntoDeserializer<'_> for Part<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}
