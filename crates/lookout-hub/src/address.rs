//! Names that users and hubs give, checked before they become part of an address or a path.

use std::str::FromStr;

use ureq::http::Uri;

use crate::HubError;

/// The longest path of a file, in bytes; file systems have no more for one name.
const MAX_PATH_BYTES: usize = 255;

/// Where a hub is: scheme, host, port and the path that its own addresses begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Without a slash at its end.
    text: String,
    origin: Origin,
}

/// What may see a token: nothing outside one of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    is_https: bool,
    host: String,
    port: u16,
}

impl Origin {
    /// `None` for what is no HTTP address with a host and without a user's name.
    pub(crate) fn of(address: &str) -> Option<Self> {
        let uri: Uri = address.parse().ok()?;
        let is_https = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return None;
        }
        let port = authority.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        Some(Self { is_https, host: authority.host().to_ascii_lowercase(), port })
    }

    /// Whether what goes there cannot be read on the way.
    pub(crate) fn is_private(&self) -> bool {
        let is_loopback = self.host == "localhost"
            || self.host == "[::1]"
            || self.host.parse::<std::net::Ipv4Addr>().is_ok_and(|it| it.is_loopback());
        self.is_https || is_loopback
    }

    pub(crate) fn is_https(&self) -> bool {
        self.is_https
    }
}

impl Endpoint {
    /// The public hub.
    pub const PUBLIC: &str = "https://huggingface.co";

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Endpoint {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let trimmed = text.trim_end_matches('/');
        match Origin::of(trimmed) {
            Some(origin) if !trimmed.contains(['?', '#']) => {
                Ok(Self { text: trimmed.to_owned(), origin })
            }
            _ => Err(HubError::Address {
                what: "the endpoint",
                rule: "an address such as https://hub.example.org, without user or query",
                got: text.to_owned(),
            }),
        }
    }
}

/// A repository with models: `OWNER/NAME`, or `NAME` alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoId(String);

impl RepoId {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Without its owner.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

impl FromStr for RepoId {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let is_good = |part: &str| {
            (1..=96).contains(&part.len())
                && part.bytes().all(|it| it.is_ascii_alphanumeric() || b"._-".contains(&it))
                && !part.starts_with(['.', '-'])
        };
        let parts = text.split('/');
        if parts.clone().count() <= 2 && parts.clone().all(is_good) {
            return Ok(Self(text.to_owned()));
        }
        Err(HubError::Address {
            what: "the repository",
            rule: "OWNER/NAME, each of A-Z, a-z, 0-9, `.`, `_`, `-`",
            got: text.to_owned(),
        })
    }
}

/// A branch, a tag or a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision(String);

impl Revision {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Revision {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let is_good = |it: u8| it.is_ascii_graphic();
        let has_dots = text.split('/').any(|it| matches!(it, "" | "." | ".."));
        if (1..=200).contains(&text.len()) && text.bytes().all(is_good) && !has_dots {
            return Ok(Self(text.to_owned()));
        }
        Err(HubError::Address {
            what: "the revision",
            rule: "a branch, tag or commit of 1 to 200 printable ASCII characters",
            got: text.to_owned(),
        })
    }
}

/// What proves to a hub who asks. Never shown.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    pub(crate) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

impl FromStr for Token {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let text = text.trim();
        if (1..=4096).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_graphic()) {
            return Ok(Self(text.to_owned()));
        }
        Err(HubError::Address {
            what: "the token",
            rule: "one line of 1 to 4096 printable ASCII characters without spaces",
            // Even a broken one is nobody else's business.
            got: format!("{} bytes", text.len()),
        })
    }
}

/// A path that leads to a file below the folder it is joined to, whatever the hub says.
pub(crate) fn check_path(path: &str) -> Result<(), HubError> {
    let is_good =
        |part: &str| !matches!(part, "" | "." | "..") && !part.eq_ignore_ascii_case(".git");
    let is_plain = !path.chars().any(|it| it.is_control() || it == '\\');
    if path.len() <= MAX_PATH_BYTES && is_plain && path.split('/').all(is_good) {
        return Ok(());
    }
    Err(HubError::Path { got: path.to_owned() })
}

/// `text` as a part of an address; slashes stay where `keep_slashes`.
pub(crate) fn escape(text: &str, keep_slashes: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            b'/' if keep_slashes => escaped.push('/'),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_their_place_are_refused() {
        for path in [
            "../x",
            "a/../x",
            "/etc/passwd",
            "a//b",
            "a/",
            "./a",
            "a\\b",
            "a\0b",
            "a\nb",
            "",
            ".git/config",
            "..",
        ] {
            assert!(check_path(path).is_err(), "{path:?}");
        }
        assert!(check_path(&"a".repeat(256)).is_err());
        for path in ["config.json", "onnx/vision_model.onnx", ".gitattributes", "a b/ü..onnx"] {
            check_path(path).unwrap();
        }
        for repo in ["", "a/b/c", "../b", "a/..", "/b", "a/", "a b", "a/b?x", ".a/b", "-a"] {
            assert!(repo.parse::<RepoId>().is_err(), "{repo:?}");
        }
        assert_eq!("openai/clip-vit_1.5".parse::<RepoId>().unwrap().name(), "clip-vit_1.5");
        assert_eq!("gpt2".parse::<RepoId>().unwrap().name(), "gpt2");
        for revision in ["", "a b", "../x", "refs//x", "ü"] {
            assert!(revision.parse::<Revision>().is_err(), "{revision:?}");
        }
        assert_eq!(escape("refs/pr/1", false), "refs%2Fpr%2F1");
        assert_eq!(escape("a b/ü?#%", true), "a%20b/%C3%BC%3F%23%25");
    }

    #[test]
    fn an_endpoint_is_an_address_without_secrets() {
        for text in [
            "",
            "hub",
            "ftp://hub",
            "https://",
            "https://me:pw@hub",
            "https://hub?x=1",
            "https://hub/#x",
            "file:///etc",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text:?}");
        }
        let endpoint: Endpoint = "https://Hub.example.org/hf/".parse().unwrap();
        assert_eq!(endpoint.as_str(), "https://Hub.example.org/hf");
        assert_eq!(Some(endpoint.origin), Origin::of("https://hub.example.org:443/other"));
        assert!(!Origin::of("http://hub.example.org").unwrap().is_private());
        for private in ["http://localhost:1", "http://127.0.0.1", "http://[::1]:8", "https://x"] {
            assert!(Origin::of(private).unwrap().is_private(), "{private}");
        }
        // A host that only begins like one.
        assert!(!Origin::of("http://127.0.0.1.example.org").unwrap().is_private());
    }

    #[test]
    fn a_token_is_never_shown() {
        let token: Token = " hf_secret\n".parse().unwrap();
        assert_eq!(token.header(), "Bearer hf_secret");
        assert!(!format!("{token:?}").contains("secret"));
        let err = "hf_secret\nhf_other".parse::<Token>().unwrap_err();
        assert!(!format!("{err} {err:?}").contains("secret"));
    }
}
