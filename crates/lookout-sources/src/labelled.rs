//! Pictures to evaluate with: where each lies, and what it shows.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::SourceError;
use crate::files::plain_name;
use crate::folder::{pictures, shown};
use crate::table::{Table, parts};

/// A picture, and what it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelledPicture {
    /// Names it within its source: its path below the folder, `/` between the parts, or the `file` of
    /// its line.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// What it shows, each once; empty where that is not said.
    pub labels: Vec<String>,
    /// Captions that were written for it.
    pub captions: Vec<String>,
}

impl LabelledPicture {
    /// Reads a source of pictures: a folder, with the folders in it, or a table.
    ///
    /// A folder's pictures come by name. What one shows is the name of the first folder below, where
    /// there is one; each of these must hold a picture. A table `.tsv` has a column headed `file`, relative to the table's folder or to the
    /// folder `pictures` in that, and may
    /// have `label` (one), `labels` (joined by `|`) and `captions` (joined by ` || `); there is no quoting.
    ///
    /// Errs where there is no picture, a name cannot be shown, a folder is a link, a link that is not named
    /// as a picture leads nowhere, or a file stands twice. Pictures are not opened, and may be missing or no
    /// files.
    pub fn read_all(source: &Path) -> Result<Vec<Self>, SourceError> {
        let unreadable = |error| SourceError::Read { path: source.to_path_buf(), source: error };
        if fs::metadata(source).map_err(unreadable)?.is_dir() {
            of_folder(source)
        } else {
            of_table(source)
        }
    }
}

fn of_folder(folder: &Path) -> Result<Vec<LabelledPicture>, SourceError> {
    let named = |below: PathBuf| {
        let path = folder.join(&below);
        let Some(name) = plain_name(below.as_os_str()) else {
            return Err(SourceError::Name { path });
        };
        let label = name.split_once('/').map(|it| it.0.to_owned());
        let (labels, captions) = (label.into_iter().collect(), Vec::new());
        Ok(LabelledPicture { name: name.to_owned(), path, labels, captions })
    };
    let listing = pictures(folder)?;
    let first = |it: &PathBuf| it.components().next().map(|it| PathBuf::from(it.as_os_str()));
    let with_pictures: HashSet<PathBuf> = listing.pictures.iter().filter_map(first).collect();
    let is_empty = |it: &&PathBuf| it.components().count() == 1 && !with_pictures.contains(*it);
    // Passed over without a word, each of these would leave a class out.
    let links = "a link to a folder is not followed and would leave its class out; put the folder itself in \
                 the place of each link";
    refuse(folder, links, &listing.links)?;
    let dangling = "a link that leads nowhere may stand for a folder of pictures; put the folder there, \
                    or remove the link";
    refuse(folder, dangling, &listing.dangling)?;
    let empty = "a folder without pictures would leave its class out; put one in, or remove it";
    refuse(folder, empty, listing.folders.iter().filter(is_empty))?;
    listing.pictures.into_iter().map(named).collect()
}

/// Errs where there are `paths`, which break a rule.
fn refuse<'a>(
    folder: &Path,
    rule: &str,
    paths: impl IntoIterator<Item = &'a PathBuf>,
) -> Result<(), SourceError> {
    let paths: Vec<String> = paths.into_iter().map(|it| shown(it)).collect();
    if paths.is_empty() {
        return Ok(());
    }
    let problem = format!("{rule}: {}", paths.join(", "));
    Err(SourceError::Set { path: folder.to_path_buf(), line: None, problem })
}

fn of_table(path: &Path) -> Result<Vec<LabelledPicture>, SourceError> {
    let table = Table::read(path, &["file"], &["label", "labels", "captions"])?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut pictures = Vec::new();
    for line in table.lines() {
        let line = line?;
        let wrong = |problem: String| SourceError::Set {
            path: path.to_path_buf(),
            line: Some(line.number),
            problem,
        };
        let name = line.get(0);
        if name.is_empty() || plain_name(name.as_ref()).is_none() {
            return Err(wrong(format!("`file` must name a picture, got {name:?}")));
        }
        if let Some(first) = seen.insert(name.to_owned(), line.number) {
            return Err(wrong(format!("{name:?} stands in line {first} already")));
        }
        let mut labels: Vec<String> = Vec::new();
        for label in parts(line.get(1), "\t").chain(parts(line.get(2), "|")) {
            if !labels.iter().any(|it| it == label) {
                labels.push(label.to_owned());
            }
        }
        let captions = parts(line.get(3), "||").map(str::to_owned).collect();
        let (beside, below) = (folder.join(name), folder.join("pictures").join(name));
        let path = if !beside.exists() && below.exists() { below } else { beside };
        pictures.push(LabelledPicture { name: name.to_owned(), path, labels, captions });
    }
    if pictures.is_empty() {
        let expected = "picture below its headings";
        return Err(SourceError::Nothing { path: path.to_path_buf(), expected });
    }
    Ok(pictures)
}
