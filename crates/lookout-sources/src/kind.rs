//! What a file or folder is, told by its name and by what is in it.

use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use crate::SourceError;
use crate::files::is_picture_ending;

/// A kind of source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`crate::Spec::Tsv`].
    Tsv,
    /// [`crate::Spec::Folder`].
    Pairs,
    /// [`crate::Spec::Coco`].
    Coco,
    /// [`crate::Spec::WebDataset`].
    WebDataset,
    /// [`crate::Spec::Embeddings`].
    Embeddings,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Tsv, Self::Pairs, Self::Coco, Self::WebDataset, Self::Embeddings];

    /// The kind that `path` is: a file by the ending of its name, a folder by what is in it. Errs
    /// when it cannot be read, and when it could be none or several.
    pub fn of(path: &Path) -> Result<Self, SourceError> {
        let unreadable = |source| SourceError::Read { path: path.to_path_buf(), source };
        let unknown = |problem| SourceError::Kind { path: path.to_path_buf(), problem };
        if !fs::metadata(path).map_err(unreadable)?.is_dir() {
            let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
            return match ending.as_str() {
                "tsv" | "txt" => Ok(Self::Tsv),
                "json" => Ok(Self::Coco),
                "tar" => Ok(Self::WebDataset),
                _ => Err(unknown("its name ends neither in .tsv, .txt, .json nor .tar")),
            };
        }
        let (mut pictures, mut folders, mut tars, mut embeddings) = (false, false, false, false);
        for entry in fs::read_dir(path).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let ending = name.rsplit_once('.').map_or("", |it| it.1);
            embeddings |= name.starts_with("img_emb") || name.starts_with("text_emb");
            tars |= ending == "tar";
            pictures |= is_picture_ending(ending);
            folders |= !name.starts_with('.') && entry.file_type().is_ok_and(|it| it.is_dir());
        }
        match (pictures, tars, embeddings) {
            (true, false, false) => Ok(Self::Pairs),
            (false, true, false) => Ok(Self::WebDataset),
            (false, false, true) => Ok(Self::Embeddings),
            // Its pictures may lie further down.
            (false, false, false) if folders => Ok(Self::Pairs),
            (false, false, false) => Err(unknown(
                "it holds neither pictures, .tar files nor img_emb_N.npy or text_emb_N.npy",
            )),
            _ => Err(unknown("it holds more than one of pictures, .tar files and embeddings")),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Tsv => "tsv",
            Self::Pairs => "pairs",
            Self::Coco => "coco",
            Self::WebDataset => "webdataset",
            Self::Embeddings => "embeddings",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let found = Self::ALL.into_iter().find(|it| it.name() == text);
        found.ok_or_else(|| SourceError::KindName { got: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_names_and_folders_by_what_they_hold() {
        let cases: [(&[&str], Result<Kind, &str>); 12] = [
            (&["x.tsv"], Ok(Kind::Tsv)),
            (&["x.TXT"], Ok(Kind::Tsv)),
            (&["x.json"], Ok(Kind::Coco)),
            (&["x.tar"], Ok(Kind::WebDataset)),
            (&["x.csv"], Err("its name ends neither")),
            (&["x/1.JPG", "x/1.txt"], Ok(Kind::Pairs)),
            (&["x/inner/1.png"], Ok(Kind::Pairs)),
            (&["x/0.tar", "x/0_stats.json", "x/0.parquet"], Ok(Kind::WebDataset)),
            (&["x/img_emb/img_emb_0.npy", "x/metadata/metadata_0.parquet"], Ok(Kind::Embeddings)),
            (&["x/text_emb_0.npy"], Ok(Kind::Embeddings)),
            (&["x/0.tar", "x/1.jpg"], Err("more than one")),
            (&["x/.hidden/1.jpg", "x/readme"], Err("it holds neither")),
        ];
        for (files, expected) in cases {
            let folder = tempfile::tempdir().unwrap();
            for file in files {
                let path = folder.path().join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, b"").unwrap();
            }
            let top = Path::new(files[0]).iter().next().unwrap();
            let got = Kind::of(&folder.path().join(top));
            match (got, expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{files:?}"),
                (Err(got), Err(expected)) => {
                    assert!(got.to_string().contains(expected), "{files:?}: {got}");
                }
                (got, _) => panic!("{files:?}: {got:?}"),
            }
        }
        assert!(matches!(Kind::of(Path::new("/no/such")), Err(SourceError::Read { .. })));
    }

    #[test]
    fn a_kind_is_read_as_it_is_written() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_string().parse::<Kind>().unwrap(), kind);
        }
        let error = "csv".parse::<Kind>().unwrap_err().to_string();
        assert!(error.contains("\"csv\"") && error.contains("webdataset"), "{error}");
    }
}
