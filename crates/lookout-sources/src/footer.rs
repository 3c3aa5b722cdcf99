//! What a footer of a parquet file costs, looked at before the crate `parquet` takes it.
//!
//! The crate passes over a list of truth values one by one, and takes none of them to have a byte: a few
//! bytes can declare 2³¹. The footer (a Thrift structure, compact protocol) is walked through here
//! first; no footer has such lists.

/// As deep as the crate goes. Footers have some ten.
const MAX_DEPTH: usize = 64;

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;

/// Checks a footer. Errs with what is wrong.
pub(crate) fn check(footer: &[u8]) -> Result<(), &'static str> {
    Walk(footer).structure(MAX_DEPTH).ok_or("the footer is malformed")
}

struct Walk<'a>(&'a [u8]);

impl Walk<'_> {
    fn structure(&mut self, depth: usize) -> Option<()> {
        loop {
            let head = self.byte()?;
            let kind = head & 0x0f;
            if kind == 0 {
                return Some(());
            }
            if head >> 4 == 0 {
                self.varint()?;
            }
            if kind != TRUE && kind != FALSE {
                self.value(kind, depth)?;
            }
        }
    }

    /// Passes over a value, which takes at least a byte.
    fn value(&mut self, kind: u8, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match kind {
            3 => self.pass(1),
            4..=6 => self.varint().map(drop),
            7 => self.pass(8),
            8 => {
                let length = self.varint()?;
                self.pass(length)
            }
            LIST | SET => {
                let head = self.byte()?;
                let n = match head >> 4 {
                    15 => self.varint()?,
                    n => n.into(),
                };
                (0..n).try_for_each(|_| self.value(head & 0x0f, depth))
            }
            MAP => {
                let n = self.varint()?;
                let kinds = if n == 0 { 0 } else { self.byte()? };
                (0..n).try_for_each(|_| {
                    self.value(kinds >> 4, depth)?;
                    self.value(kinds & 0x0f, depth)
                })
            }
            STRUCT => self.structure(depth),
            13 => self.pass(16),
            _ => None,
        }
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn pass(&mut self, length: u64) -> Option<()> {
        self.0 = self.0.get(usize::try_from(length).ok()?..)?;
        Some(())
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}
