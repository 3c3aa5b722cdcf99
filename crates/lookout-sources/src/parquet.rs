//! The column `caption` of a parquet file. The only module that knows the crate `parquet`.
//!
//! The crate meets hostile bytes with panics as well as errors, so it runs within `catch_unwind`,
//! and what it allocates is bounded: [`crate::page_header`] looks at each page first.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Cursor;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, LogicalType, Type};
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::ByteArrayType;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;

use crate::caption::caption;
use crate::files::open;
use crate::footer;
use crate::page_header::{self, MAX_HEADER_BYTES, MAX_PAGE_BYTES};
use crate::{Fault, SourceError};

const COLUMN: &str = "caption";
const MAGIC: &[u8; 4] = b"PAR1";
/// A footer of ten columns and a hundred row groups has some 100 kB.
const MAX_FOOTER_BYTES: u32 = 1 << 20;
/// The crate reads nested columns by recursion, and a footer could nest them as deeply as it has
/// bytes for: so much stack for each of its bytes, and to begin with. 1 GiB for the largest footer, of
/// which only what is used becomes memory.
const STACK_BYTES_PER_BYTE: usize = 1 << 10;
const STACK_BYTES: usize = 512 << 10;
/// A footer takes milliseconds. The crate takes fields by their numbers and trusts their types, so it may
/// see lists that [`footer::check`] takes for something else; what then takes longer is left to itself.
const FOOTER_TIME: Duration = Duration::from_secs(5);
/// Rows that are decoded at once.
const BATCH: usize = 256;

/// The captions of a file, row by row.
pub(crate) struct Captions {
    pages: Arc<Pages>,
    groups: Vec<ColumnChunkMetaData>,
    n_rows: u64,
    /// The row group after the one that is being read.
    next_group: usize,
    column: Option<ColumnReaderImpl<ByteArrayType>>,
    /// Rows of the group that are not in `rows` yet.
    left: usize,
    rows: VecDeque<Result<String, Fault>>,
}

impl Captions {
    /// Reads the footer.
    pub(crate) fn open(path: &Path) -> Result<Self, SourceError> {
        let (file, length) = open(path)?;
        let wrong = |problem: String| SourceError::Parquet { path: path.to_path_buf(), problem };
        let footer = read_footer(&file, length).map_err(wrong)?;
        let stack_bytes = STACK_BYTES + footer.len() * STACK_BYTES_PER_BYTE;
        let (sender, decoded) = mpsc::channel();
        // After a panic nothing is sent.
        thread::Builder::new()
            .name("parquet-footer".to_owned())
            .stack_size(stack_bytes)
            .spawn(move || drop(sender.send(groups(&footer))))
            .map_err(|source| SourceError::Read { path: path.to_path_buf(), source })?;
        let groups = decoded.recv_timeout(FOOTER_TIME).unwrap_or_else(|error| {
            Err(match error {
                RecvTimeoutError::Timeout => TOO_SLOW.to_owned(),
                RecvTimeoutError::Disconnected => PANICKED.to_owned(),
            })
        });
        let groups = groups.map_err(wrong)?;
        let n_rows = groups.iter().map(n_values).sum();
        let pages = Arc::new(Pages { file, length });
        let rows = VecDeque::new();
        Ok(Self { pages, groups, n_rows, next_group: 0, column: None, left: 0, rows })
    }

    pub(crate) fn n_rows(&self) -> u64 {
        self.n_rows
    }

    /// The next row; a caption that is missing or unusable is a fault. Errs when the file is
    /// damaged, and then has no more rows.
    pub(crate) fn read(&mut self) -> Result<Result<String, Fault>, String> {
        while self.rows.is_empty() {
            self.fill()?;
        }
        self.rows.pop_front().ok_or_else(|| "there are no more rows".to_owned())
    }

    /// Passes over rows. Errs as [`Self::read`] does.
    pub(crate) fn skip(&mut self, mut n_rows: u64) -> Result<(), String> {
        while let Some(group) = self.groups.get(self.next_group) {
            if self.left > 0 || !self.rows.is_empty() || n_rows < n_values(group) {
                break;
            }
            n_rows -= n_values(group);
            self.next_group += 1;
        }
        (0..n_rows).try_for_each(|_| self.read().map(drop))
    }

    fn fill(&mut self) -> Result<(), String> {
        let filled = catch_unwind(AssertUnwindSafe(|| self.fill_or_panic()));
        filled.unwrap_or_else(|_| Err(PANICKED.to_owned()))
    }

    fn fill_or_panic(&mut self) -> Result<(), String> {
        if self.left == 0 {
            let group = self.groups.get(self.next_group).ok_or("there are no more rows")?;
            self.next_group += 1;
            self.left = usize::try_from(n_values(group)).map_err(|it| it.to_string())?;
            let pages = SerializedPageReader::new(Arc::clone(&self.pages), group, self.left, None);
            let pages = Box::new(pages.map_err(|it| it.to_string())?);
            self.column = Some(ColumnReaderImpl::new(group.column_descr_ptr(), pages));
        }
        let Some(column) = self.column.as_mut().filter(|_| self.left > 0) else { return Ok(()) };
        let n = self.left.min(BATCH);
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        let (n_read, n_values, _) = column
            .read_records(n, Some(&mut levels), None, &mut values)
            .map_err(|it| it.to_string())?;
        if n_read == 0 {
            return Err(format!("a row group ends {} row(s) early", self.left));
        }
        self.left -= n_read;
        let mut values = values.iter().take(n_values);
        // Without levels no value may be missing.
        let is_there = |row: usize| levels.get(row).is_none_or(|level| *level > 0);
        for row in 0..n_read {
            let value = if is_there(row) { values.next() } else { None };
            self.rows.push_back(value.map_or(Err(Fault::NoCaption), |it| caption(it.data())));
        }
        Ok(())
    }
}

const TOO_SLOW: &str = "the footer takes its reader too long, so it is damaged";
const PANICKED: &str = "the file makes its reader panic, so it is damaged";

fn n_values(group: &ColumnChunkMetaData) -> u64 {
    u64::try_from(group.num_values()).unwrap_or(0)
}

fn read_footer(file: &File, length: u64) -> Result<Vec<u8>, String> {
    let mut tail = [0; 8];
    let tail_at = length.checked_sub(12).map(|it| it + 4).ok_or("the file is cut off")?;
    file.read_exact_at(&mut tail, tail_at).map_err(|it| it.to_string())?;
    let [size @ .., m0, m1, m2, m3] = tail;
    if [m0, m1, m2, m3] != *MAGIC {
        return Err("the file does not end as parquet files do; it may be cut off".to_owned());
    }
    let size = u32::from_le_bytes(size);
    if size > MAX_FOOTER_BYTES {
        return Err(format!("the footer has {size} bytes, at most {MAX_FOOTER_BYTES} are read"));
    }
    let begin = tail_at.checked_sub(u64::from(size)).ok_or("the footer is cut off")?;
    let mut footer = vec![0; size as usize];
    file.read_exact_at(&mut footer, begin).map_err(|it| it.to_string())?;
    Ok(footer)
}

/// What the footer says of the column in each row group.
fn groups(footer: &[u8]) -> Result<Vec<ColumnChunkMetaData>, String> {
    footer::check(footer)?;
    let metadata = ParquetMetaDataReader::decode_metadata(footer).map_err(|it| it.to_string())?;
    let schema = metadata.file_metadata().schema_descr();
    let named = |it: &parquet::schema::types::ColumnDescPtr| it.path().parts() == [COLUMN];
    let Some(place) = schema.columns().iter().position(named) else {
        let names: Vec<String> =
            schema.columns().iter().take(20).map(|it| it.path().string()).collect();
        return Err(format!("there is no column `{COLUMN}` among {names:?}"));
    };
    let column = schema.column(place);
    let is_text = column.physical_type() == Type::BYTE_ARRAY
        && matches!(column.logical_type_ref(), None | Some(LogicalType::String));
    if !is_text || column.max_rep_level() > 0 || column.max_def_level() > 1 {
        return Err(format!("the column `{COLUMN}` must hold text, one a row"));
    }
    let mut groups = Vec::with_capacity(metadata.num_row_groups());
    for group in metadata.row_groups() {
        let column = group.column(place);
        if column.num_values() != group.num_rows() || column.num_values() < 0 {
            let (values, rows) = (column.num_values(), group.num_rows());
            return Err(format!("a row group has {values} captions in {rows} rows"));
        }
        check_ways(column)?;
        groups.push(column.clone());
    }
    let sum = groups.iter().map(n_values).try_fold(0u64, u64::checked_add);
    let declared = u64::try_from(metadata.file_metadata().num_rows()).ok();
    if sum.is_none() || sum != declared {
        return Err("the row groups have another number of rows than the file".to_owned());
    }
    Ok(groups)
}

/// Refuses what would otherwise fail at the first page.
fn check_ways(column: &ColumnChunkMetaData) -> Result<(), String> {
    let compression = column.compression();
    if !matches!(
        compression,
        Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::ZSTD(_)
    ) {
        return Err(format!("the column `{COLUMN}` has compression {compression}"));
    }
    let unknown = column.encodings().find(|it| {
        !matches!(
            it,
            Encoding::PLAIN | Encoding::PLAIN_DICTIONARY | Encoding::RLE_DICTIONARY | Encoding::RLE
        )
    });
    unknown.map_or(Ok(()), |it| {
        Err(format!(
            "the column `{COLUMN}` has encoding {it}, which is neither plain nor a dictionary"
        ))
    })
}

/// The pages of a file.
struct Pages {
    file: File,
    length: u64,
}

impl Length for Pages {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for Pages {
    type T = Cursor<Vec<u8>>;

    /// The reader asks for this where a page's header begins.
    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let left = self.length.saturating_sub(start);
        let size = usize::try_from(left).unwrap_or(usize::MAX).min(MAX_HEADER_BYTES);
        let mut bytes = vec![0; size];
        self.file.read_exact_at(&mut bytes, start)?;
        page_header::check(&bytes).map_err(|it| ParquetError::General(it.to_owned()))?;
        Ok(Cursor::new(bytes))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let end = start.checked_add(length as u64);
        if length as u64 > MAX_PAGE_BYTES || end.is_none_or(|it| it > self.length) {
            return Err(ParquetError::EOF("a page lies outside the file".to_owned()));
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, start)?;
        Ok(bytes.into())
    }
}
