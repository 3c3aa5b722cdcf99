//! The members of a tar file, found by their headers; what they hold is read when asked for.
//!
//! The crate `tar` reads the headers. Its own iterator is not used: it takes extension headers into
//! memory at the length that they claim, and seeks past the end of a file that was cut off.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use tar::{EntryType, Header, PaxExtensions};

use crate::files::open_regular;

const BLOCK: u64 = 512;
/// Bytes of a header, which is a block.
const HEADER_BYTES: usize = 512;
/// Most bytes of an extension header: names and times.
const MAX_EXTENSION_BYTES: u64 = 1 << 20;

pub(crate) struct Tar {
    file: File,
    length: u64,
    /// Where the next header is.
    next: u64,
}

/// A regular file in a tar file.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) name: Vec<u8>,
    pub(crate) size: u64,
    start: u64,
}

impl Tar {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let (file, length) = open_regular(path)?;
        Ok(Self { file, length, next: 0 })
    }

    /// Where the next member begins, in bytes.
    pub(crate) fn position(&self) -> u64 {
        self.next
    }

    /// The next regular file; `None` at the mark that ends the tar file. After an error the rest
    /// cannot be read.
    pub(crate) fn next(&mut self) -> Result<Option<Member>, String> {
        let (mut name, mut size) = (None, None);
        loop {
            let at = self.next;
            if at >= self.length {
                return Err("the tar file has no end mark, so it is cut off".to_owned());
            }
            let mut block = [0; HEADER_BYTES];
            self.file
                .read_exact_at(&mut block, at)
                .map_err(|error| format!("the header at byte {at} cannot be read: {error}"))?;
            if block.iter().all(|it| *it == 0) {
                return Ok(None);
            }
            let header = Header::from_byte_slice(&block);
            // The crate's own errors cite the header, whatever bytes it has.
            let declared = header.cksum().map_err(|_| {
                format!("the header at byte {at} has no checksum; is it a tar file?")
            })?;
            let sum = checksum(&block);
            if declared != sum {
                return Err(format!(
                    "the header at byte {at} has checksum {sum}, must have {declared}"
                ));
            }
            let kind = header.entry_type();
            let is_extension = matches!(
                kind,
                EntryType::XHeader | EntryType::GNULongName | EntryType::XGlobalHeader
            );
            let own_size =
                header.entry_size().map_err(|_| format!("the header at byte {at} has no size"))?;
            let member_size = if is_extension { own_size } else { size.unwrap_or(own_size) };
            let start = at + BLOCK;
            // Rounded up to whole blocks.
            let end = member_size
                .checked_next_multiple_of(BLOCK)
                .and_then(|it| it.checked_add(start))
                .filter(|it| *it <= self.length)
                .ok_or_else(|| {
                    format!(
                        "the member at byte {at} needs {member_size} bytes, the file has {}",
                        self.length.saturating_sub(start)
                    )
                })?;
            self.next = end;
            let member = Member { name: Vec::new(), size: member_size, start };
            match kind {
                EntryType::GNULongName => {
                    let mut bytes = self.extension(&member)?;
                    bytes.truncate(bytes.iter().position(|it| *it == 0).unwrap_or(bytes.len()));
                    name = Some(bytes);
                }
                EntryType::XHeader => {
                    let bytes = self.extension(&member)?;
                    for record in PaxExtensions::new(&bytes) {
                        let record = record.map_err(|it| format!("at byte {at}: {it}"))?;
                        match record.key_bytes() {
                            b"path" => name = Some(record.value_bytes().to_vec()),
                            b"size" => {
                                let text = record.value().ok();
                                size =
                                    Some(text.and_then(|it| it.parse().ok()).ok_or_else(|| {
                                        format!("the pax size at byte {at} is no number")
                                    })?);
                            }
                            _ => (),
                        }
                    }
                }
                EntryType::Regular | EntryType::Continuous => {
                    let name = name.unwrap_or_else(|| header.path_bytes().into_owned());
                    return Ok(Some(Member { name, ..member }));
                }
                EntryType::GNUSparse => {
                    return Err(format!("the member at byte {at} is a sparse file"));
                }
                EntryType::XGlobalHeader | EntryType::GNULongLink => (),
                // Folders, links and devices; what was said of their name is used up.
                _ => (name, size) = (None, None),
            }
        }
    }

    /// What a member holds. Allocates its size, which is no more than the file's.
    pub(crate) fn read(&self, member: &Member) -> io::Result<Vec<u8>> {
        let size = usize::try_from(member.size).map_err(io::Error::other)?;
        let mut bytes = vec![0; size];
        self.file.read_exact_at(&mut bytes, member.start)?;
        Ok(bytes)
    }

    fn extension(&self, member: &Member) -> Result<Vec<u8>, String> {
        if member.size > MAX_EXTENSION_BYTES {
            return Err(format!(
                "the extension header before byte {} has {} bytes, at most {MAX_EXTENSION_BYTES} are read",
                member.start, member.size
            ));
        }
        self.read(member).map_err(|it| it.to_string())
    }
}

/// The sum of a header's bytes, those of the sum itself taken as spaces.
fn checksum(block: &[u8; HEADER_BYTES]) -> u32 {
    let sum = |bytes: &[u8]| bytes.iter().map(|it| u32::from(*it)).sum::<u32>();
    sum(&block[..148]) + 8 * u32::from(b' ') + sum(&block[156..])
}
