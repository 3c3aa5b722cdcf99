//! What a page of a parquet file costs, looked at before the crate `parquet` takes the page.
//!
//! The crate allocates what a header declares: up to 2 GiB for a page, and 64 GiB for a dictionary.
//! So the header (a Thrift structure, compact protocol) is walked through here first. The crate
//! takes fields by their numbers and trusts their types; so numbers with wrong types are refused.

/// Larger pages are refused. pyarrow's have 1 MiB.
pub(crate) const MAX_PAGE_BYTES: u64 = 64 << 20;
/// Headers hold the smallest and largest value of the page, too.
pub(crate) const MAX_HEADER_BYTES: usize = 256 * 1024;
const MAX_DEPTH: usize = 8;

/// PLAIN, PLAIN_DICTIONARY, RLE_DICTIONARY. The decoders of others allocate what the data declare.
const ENCODINGS: [i64; 3] = [0, 2, 8];

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const I32: u8 = 5;
const STRUCT: u8 = 12;

/// Checks the header at the beginning of `bytes`. Errs with what is wrong.
pub(crate) fn check(bytes: &[u8]) -> Result<(), &'static str> {
    let (mut uncompressed, mut n_keys) = (0, 0);
    let mut fault = None;
    let mut walk = Walk { bytes, path: Vec::new() };
    let whole = walk.structure(&mut |path, kind, value| {
        let expected = match path {
            [1..=4] | [5, 1..=4] | [7, 1 | 2] | [8, 1..=6] => kind == I32,
            [5..=8] | [5, 5] | [8, 8] => kind == STRUCT,
            [7, 3] | [8, 7] => kind == TRUE || kind == FALSE,
            _ => true,
        };
        let in_range = match path {
            [2 | 3] => u64::try_from(value).is_ok_and(|it| it <= MAX_PAGE_BYTES),
            _ => true,
        };
        let known = match path {
            [5, 2] | [7, 2] | [8, 4] => ENCODINGS.contains(&value),
            _ => true,
        };
        match path {
            [2] => uncompressed = value,
            [7, 1] => n_keys = value,
            _ => (),
        }
        let found = match (expected, in_range, known) {
            (false, ..) => Some("a page header is malformed"),
            (_, false, _) => Some("a page has more than 64 MiB"),
            (.., false) => Some("a page is encoded neither plainly nor with a dictionary"),
            _ => None,
        };
        fault = fault.or(found);
    });
    match fault {
        Some(fault) => Err(fault),
        None if whole.is_none() => Err("a page header is malformed"),
        // A plain value begins with its length in four bytes.
        None if n_keys < 0 || n_keys > uncompressed / 4 => {
            Err("a dictionary declares more values than fit in its page")
        }
        None => Ok(()),
    }
}

struct Walk<'a> {
    bytes: &'a [u8],
    /// Numbers of the fields that the walk is in.
    path: Vec<i16>,
}

/// Told path, type and, for integers, value of each field.
type Visit<'v> = dyn FnMut(&[i16], u8, i64) + 'v;

impl Walk<'_> {
    fn structure(&mut self, visit: &mut Visit<'_>) -> Option<()> {
        if self.path.len() == MAX_DEPTH {
            return None;
        }
        let mut id = 0i16;
        loop {
            let head = self.byte()?;
            let kind = head & 0x0f;
            if kind == 0 {
                return (head == 0).then_some(());
            }
            id = match head >> 4 {
                0 => i16::try_from(self.integer()?).ok()?,
                delta => id.checked_add(i16::from(delta))?,
            };
            self.path.push(id);
            self.value(kind, visit)?;
            self.path.pop();
        }
    }

    fn value(&mut self, kind: u8, visit: &mut Visit<'_>) -> Option<()> {
        let value = match kind {
            4..=6 => self.integer()?,
            _ => 0,
        };
        visit(&self.path, kind, value);
        match kind {
            TRUE | FALSE | 4..=6 => Some(()),
            3 => self.pass(1),
            7 => self.pass(8),
            8 => {
                let length = self.varint()?;
                self.pass(length)
            }
            STRUCT => self.structure(visit),
            // Lists, sets, maps and UUIDs: no page header has any.
            _ => None,
        }
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    fn pass(&mut self, length: u64) -> Option<()> {
        self.bytes = self.bytes.get(usize::try_from(length).ok()?..)?;
        Some(())
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// Zigzag: the sign is the lowest bit.
    fn integer(&mut self) -> Option<i64> {
        let value = self.varint()?;
        let magnitude = (value >> 1).cast_signed();
        Some(if value & 1 == 0 { magnitude } else { !magnitude })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varint(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value > 0x7f {
            bytes.push(0x80 | u8::try_from(value & 0x7f).unwrap());
            value >>= 7;
        }
        bytes.push(u8::try_from(value).unwrap());
        bytes
    }

    /// A header of a dictionary page: type 2, sizes, and `n_keys` values.
    fn dictionary(uncompressed: u64, compressed: u64, n_keys: u64, encoding: u64) -> Vec<u8> {
        let mut bytes = vec![0x15, 4];
        for size in [uncompressed, compressed] {
            bytes.push(0x15);
            bytes.extend(varint(size << 1));
        }
        bytes.extend([0x4c, 0x15]);
        bytes.extend(varint(n_keys << 1));
        bytes.push(0x15);
        bytes.extend(varint(encoding << 1));
        bytes.extend([0, 0]);
        bytes
    }

    #[test]
    fn what_would_take_too_much_memory_is_refused() {
        let mib = 1 << 20;
        let cases = [
            (dictionary(mib, 500, 1000, 2), Ok(())),
            (dictionary(64 * mib, 64 * mib, 16 * mib, 0), Ok(())),
            (dictionary(64 * mib + 1, 500, 1000, 0), Err("64 MiB")),
            (dictionary(mib, 64 * mib + 1, 1000, 0), Err("64 MiB")),
            (dictionary(mib, 500, mib / 4 + 1, 0), Err("dictionary declares more")),
            (dictionary(mib, 500, 1000, 7), Err("encoded neither")),
            // The size as a string, and as a list: the crate would read it as a number.
            (vec![0x15, 4, 0x18, 0, 0x15, 0, 0], Err("malformed")),
            (vec![0x15, 4, 0x19, 0, 0x15, 0, 0], Err("malformed")),
            // The size twice: the crate takes the second.
            (
                vec![0x15, 0, 0x15, 2, 0x15, 2, 0x05, 4, 0xff, 0xff, 0xff, 0xff, 0x0f, 0],
                Err("64 MiB"),
            ),
            (vec![0x1c; 100], Err("malformed")),
            (vec![0xff; 100], Err("malformed")),
        ];
        for (bytes, expected) in cases {
            match (check(&bytes), expected) {
                (Ok(()), Ok(())) => (),
                (Err(got), Err(part)) => assert!(got.contains(part), "{bytes:x?}: {got}"),
                (got, _) => panic!("{bytes:x?}: {got:?}"),
            }
        }
        let whole = dictionary(mib, 500, 1000, 2);
        for length in 0..whole.len() {
            assert!(check(&whole[..length]).is_err(), "{length}");
        }
    }
}
