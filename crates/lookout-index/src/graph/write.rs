//! Takes the neighbors out of an `Hnsw`.

use instant_distance::Hnsw;
use serde::de::value::Error;
use serde::ser::{
    Error as _, Impossible, Serialize, SerializeSeq, SerializeStruct, SerializeTuple, Serializer,
};

use super::build::Entry;
use super::lists::{PADDING, pack};

/// Stands for no neighbor.
const NONE: u32 = u32::MAX;

/// The graph section, and the number of layers above the lowest.
pub(super) fn graph_section(hnsw: &Hnsw<Entry<'_>>) -> Result<(Vec<u8>, u32), Error> {
    let mut parts = Parts::default();
    hnsw.serialize(&mut parts)?;
    // In order: points, lowest layer, upper layers, then each upper layer.
    let [_, _, n_layers, sizes @ ..] = parts.lengths.as_slice() else {
        return Err(Error::custom(
            "the graph has another shape than instant-distance 0.6 gives it",
        ));
    };
    let numbers = sizes.iter().chain([&0]).chain(&parts.ends);
    let mut section: Vec<u8> = numbers.flat_map(|it| it.to_le_bytes()).collect();
    section.extend(parts.lists);
    section.extend([0; PADDING]);
    Ok((section, *n_layers))
}

impl Serialize for Entry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

/// Collects the lengths of sequences, and packs the lists of numbers as they come; knows only the
/// shapes that a graph has.
#[derive(Default)]
struct Parts {
    lengths: Vec<u32>,
    /// The list that is being read.
    ids: Vec<u32>,
    lists: Vec<u8>,
    /// Where each list ends.
    ends: Vec<u32>,
}

fn unexpected<T>(shape: &str) -> Result<T, Error> {
    Err(Error::custom(format_args!("a graph has no {shape}")))
}

macro_rules! refuse {
    ($($name:ident($($argument:ty),*);)*) => {
        $(fn $name(self, $(_: $argument),*) -> Result<(), Error> { unexpected(stringify!($name)) })*
    };
}

impl Serializer for &mut Parts {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Impossible<(), Error>;
    type SerializeTupleVariant = Impossible<(), Error>;
    type SerializeMap = Impossible<(), Error>;
    type SerializeStruct = Self;
    type SerializeStructVariant = Impossible<(), Error>;

    fn serialize_u32(self, value: u32) -> Result<(), Error> {
        self.ids.push(value);
        Ok(())
    }

    /// `ef_search`, which is chosen when an index is opened.
    fn serialize_u64(self, _: u64) -> Result<(), Error> {
        Ok(())
    }

    fn serialize_unit(self) -> Result<(), Error> {
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Self, Error> {
        match length.and_then(|it| u32::try_from(it).ok()) {
            Some(it) => self.lengths.push(it),
            None => return unexpected("sequence of unknown length"),
        }
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, Error> {
        self.ids.clear();
        Ok(self)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Error> {
        Ok(self)
    }

    refuse! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_f32(f32);
        serialize_f64(f64);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
        serialize_none();
        serialize_unit_struct(&'static str);
        serialize_unit_variant(&'static str, u32, &'static str);
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<(), Error> {
        unexpected("optional part")
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Error> {
        unexpected("variant")
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Impossible<(), Error>, Error> {
        unexpected("tuple struct")
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Impossible<(), Error>, Error> {
        unexpected("variant")
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Impossible<(), Error>, Error> {
        unexpected("map")
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Impossible<(), Error>, Error> {
        unexpected("variant")
    }
}

impl SerializeSeq for &mut Parts {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}

impl SerializeTuple for &mut Parts {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), Error> {
        let n = self.ids.iter().position(|it| *it == NONE).unwrap_or(self.ids.len());
        self.ids.truncate(n);
        pack(&mut self.ids, &mut self.lists);
        let end = u32::try_from(self.lists.len());
        self.ends.push(end.map_err(|_| Error::custom("the graph has more than 4 GiB"))?);
        Ok(())
    }
}

impl SerializeStruct for &mut Parts {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}
