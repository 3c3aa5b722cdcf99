//! What a repository holds at one commit.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use ureq::http::header;

use crate::address::{Origin, check_path, escape};
use crate::client::Reply;
use crate::{Hub, HubError, RepoId, Revision};

/// The largest answer about a repository, in bytes.
const MAX_ANSWER_BYTES: u64 = 32 << 20;
/// Pages of a listing, each of which has up to 1000 entries at the public hub.
const MAX_PAGES: usize = 20;

/// A repository at one commit.
#[derive(Clone, Debug)]
pub struct Repo {
    pub id: RepoId,
    /// 40 or 64 lower-case hexadecimal digits.
    pub commit: String,
    /// Every file, in order of its path.
    pub files: Vec<File>,
}

/// A file of a repository.
#[derive(Clone, Debug)]
pub struct File {
    /// Below the repository's top folder, with slashes; it leads nowhere else.
    pub path: String,
    pub bytes: u64,
    pub hash: Hash,
}

/// What the bytes of a file must hash to, in lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hash {
    /// Of the bytes: what the hub keeps outside git.
    Sha256(String),
    /// SHA-1 of git's blob, which is a head with the length and the bytes.
    GitBlob(String),
}

impl Hash {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "SHA-256",
            Self::GitBlob(_) => "git's SHA-1",
        }
    }

    pub(crate) fn digits(&self) -> &str {
        match self {
            Self::Sha256(digits) | Self::GitBlob(digits) => digits,
        }
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.digits())
    }
}

#[derive(Deserialize)]
struct Info {
    sha: String,
}

#[derive(Deserialize)]
struct Entry {
    r#type: String,
    path: String,
    #[serde(default)]
    size: u64,
    oid: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

impl Hub {
    /// Finds the commit that `revision` names, and lists its files.
    pub fn open(&self, id: &RepoId, revision: &Revision) -> Result<Repo, HubError> {
        let endpoint = self.endpoint().as_str();
        let base = format!("{endpoint}/api/models/{}", id.as_str());
        let url = format!("{base}/revision/{}", escape(revision.as_str(), false));
        let (reply, bytes) = self.get_small(&url, None, MAX_ANSWER_BYTES)?;
        let info: Info = parse(&reply, &bytes)?;
        if !is_hex(&info.sha, &[40, 64]) {
            return Err(answer(&reply, "`sha`", "a commit's 40 hexadecimal digits", &info.sha));
        }
        let commit = info.sha;

        let mut files = Vec::new();
        let mut seen = BTreeSet::new();
        let mut page = Some(format!("{base}/tree/{commit}?recursive=true"));
        for _ in 0..MAX_PAGES {
            let Some(url) = page else { break };
            let (reply, bytes) = self.get_small(&url, None, MAX_ANSWER_BYTES)?;
            let entries: Vec<Entry> = parse(&reply, &bytes)?;
            for entry in entries {
                check_path(&entry.path)?;
                if entry.r#type != "file" {
                    continue;
                }
                if !seen.insert(entry.path.clone()) {
                    return Err(answer(&reply, "a path", "listed once", &entry.path));
                }
                files.push(File::of(&reply, entry)?);
            }
            page = next_page(&reply, self.endpoint().origin())?;
        }
        if let Some(url) = page {
            let rule = format!("at most {MAX_PAGES} pages long");
            return Err(HubError::Answer {
                url,
                what: "the listing",
                rule,
                got: "more".to_owned(),
            });
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Repo { id: id.clone(), commit, files })
    }

    /// Where the hub has a file.
    pub(crate) fn address(&self, repo: &Repo, file: &File) -> String {
        let Repo { id, commit, .. } = repo;
        let path = escape(&file.path, true);
        format!("{}/{}/resolve/{commit}/{path}", self.endpoint().as_str(), id.as_str())
    }
}

impl Repo {
    /// The file at `path`.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|it| it.path == path)
    }
}

impl File {
    fn of(reply: &Reply, entry: Entry) -> Result<Self, HubError> {
        let Entry { path, size, oid, lfs, .. } = entry;
        let (bytes, hash) = match (lfs, oid) {
            (Some(Lfs { oid, size }), _) if is_hex(&oid, &[64]) => (size, Hash::Sha256(oid)),
            (None, Some(oid)) if is_hex(&oid, &[40]) => (size, Hash::GitBlob(oid)),
            _ => {
                let rule = "listed with its hash (`oid`), without which nothing can be checked";
                return Err(answer(reply, "a file", rule, &path));
            }
        };
        Ok(Self { path, bytes, hash })
    }
}

/// The address of the next page: RFC 8288, as the hub writes it.
fn next_page(reply: &Reply, origin: &Origin) -> Result<Option<String>, HubError> {
    let Some(link) = reply.headers.get(header::LINK).and_then(|it| it.to_str().ok()) else {
        return Ok(None);
    };
    let next = link.split(',').find_map(|it| {
        let (address, rest) = it.trim().strip_prefix('<')?.split_once('>')?;
        rest.contains("rel=\"next\"").then(|| address.to_owned())
    });
    match next {
        Some(url) if Origin::of(&url).as_ref() != Some(origin) => {
            Err(answer(reply, "the listing's next page", "at the endpoint itself", &url))
        }
        next => Ok(next),
    }
}

fn parse<T: serde::de::DeserializeOwned>(reply: &Reply, bytes: &[u8]) -> Result<T, HubError> {
    serde_json::from_slice(bytes).map_err(|err| {
        answer(reply, "the answer", "a hub's JSON; is this a model hub?", &err.to_string())
    })
}

fn answer(reply: &Reply, what: &'static str, rule: &str, got: &str) -> HubError {
    let got = format!("{:?}", got.chars().take(200).collect::<String>());
    HubError::Answer { url: reply.url.clone(), what, rule: rule.to_owned(), got }
}

fn is_hex(text: &str, lengths: &[usize]) -> bool {
    let is_digit = |it: u8| it.is_ascii_digit() || (b'a'..=b'f').contains(&it);
    lengths.contains(&text.len()) && text.bytes().all(is_digit)
}
