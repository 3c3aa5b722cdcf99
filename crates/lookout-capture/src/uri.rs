//! Camera URIs: what names a camera in a configuration.
//!
//! | URI | camera |
//! |---|---|
//! | `dir:///folder?fps=2&loop=false` | the pictures of a folder, by name |
//! | `file:///picture.jpg?fps=1` | one picture |
//! | `v4l2:///dev/video0?size=640x480&format=yuyv&fps=5` | a Video4Linux device |
//!
//! `dir:pictures` and `file:a/b.jpg`, without a slash behind the colon, are relative paths.
//! Everything is percent-decoded, so a `?`, `#`, `&` or `%` in a path is written `%3F`, `%23`,
//! `%26` or `%25`.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::worker::{FrameSize, StreamFormat, WorkerArgs};

/// The schemes that exist.
pub const SCHEMES: [&str; 3] = ["dir", "file", "v4l2"];

/// Frames a second of a folder or picture that does not say.
const DEFAULT_PICTURE_FPS: f64 = 1.0;

/// Where a camera is and how it is asked. Displays as it was written.
#[derive(Clone, PartialEq)]
pub struct CameraUri {
    text: String,
    place: Place,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Place {
    Pictures(PicturePlace),
    Device(WorkerArgs),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PicturePlace {
    pub(crate) path: PathBuf,
    /// One picture, not a folder of them.
    pub(crate) single: bool,
    /// Time from one frame to the next.
    pub(crate) period: Duration,
    /// Start again after the last picture.
    pub(crate) repeat: bool,
}

/// A text is no camera URI. `uri` is always without user and password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CameraUriError {
    /// No `scheme:` in front.
    #[error("camera `{uri}` must begin with one of {}", schemes())]
    NoScheme {
        /// The text.
        uri: String,
    },
    /// A scheme that does not exist.
    #[error("camera `{uri}`: scheme must be one of {}, got `{scheme}:`", schemes())]
    UnknownScheme {
        /// The text.
        uri: String,
        /// The scheme.
        scheme: String,
    },
    /// The path breaks a rule.
    #[error("camera `{uri}`: path must {rule}, got `{got}`")]
    Path {
        /// The text.
        uri: String,
        /// The rule.
        rule: &'static str,
        /// The path.
        got: String,
    },
    /// A `%` without two hexadecimal digits behind it, or `%00`.
    #[error(
        "camera `{uri}`: `%` must be followed by two hexadecimal digits that are not 00, got `{got}`"
    )]
    Escape {
        /// The text.
        uri: String,
        /// The part with the bad escape.
        got: String,
    },
    /// A query key that the scheme does not have.
    #[error("camera `{uri}`: `{key}` must be one of {allowed}")]
    UnknownKey {
        /// The text.
        uri: String,
        /// The key.
        key: String,
        /// The scheme's keys.
        allowed: String,
    },
    /// A query key that stands twice.
    #[error("camera `{uri}`: `{key}` must stand once")]
    RepeatedKey {
        /// The text.
        uri: String,
        /// The key.
        key: String,
    },
    /// A query value out of range.
    #[error("camera `{uri}`: `{key}` must be {rule}, got `{got}`")]
    Value {
        /// The text.
        uri: String,
        /// The key.
        key: &'static str,
        /// The rule.
        rule: &'static str,
        /// The value.
        got: String,
    },
}

fn schemes() -> String {
    SCHEMES.map(|it| format!("`{it}:`")).join(", ")
}

impl CameraUri {
    /// Reads a camera URI. The first fault is reported.
    pub fn parse(text: &str) -> Result<Self, CameraUriError> {
        let uri = redact(text);
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(CameraUriError::NoScheme { uri });
        };
        if rest.contains('#') {
            let rule = "not contain `#`; write it as %23";
            return Err(CameraUriError::Path { got: redact(rest), uri, rule });
        }
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let place = match scheme {
            "dir" | "file" => {
                let query = Query::read(&uri, query, &["fps", "loop"])?;
                Place::Pictures(PicturePlace {
                    path: decode_path(&uri, path)?,
                    single: scheme == "file",
                    period: query
                        .take("fps", "a number from 0.001 to 1000", |it| {
                            it.parse().ok().and_then(period)
                        })?
                        .unwrap_or(Duration::from_secs_f64(1.0 / DEFAULT_PICTURE_FPS)),
                    repeat: query
                        .take("loop", "true or false", |it| it.parse().ok())?
                        .unwrap_or(true),
                })
            }
            "v4l2" => {
                let device = decode_path(&uri, path)?;
                if device.is_relative() {
                    let rule = "be absolute, as in `v4l2:///dev/video0`";
                    return Err(CameraUriError::Path { uri, rule, got: path.to_owned() });
                }
                let query = Query::read(&uri, query, &["size", "format", "fps"])?;
                let default = WorkerArgs::new(device);
                Place::Device(WorkerArgs {
                    size: query
                        .take("size", FrameSize::RULE, |it| FrameSize::from_str(it).ok())?
                        .unwrap_or(default.size),
                    format: query
                        .take("format", StreamFormat::RULE, |it| StreamFormat::from_str(it).ok())?
                        .unwrap_or(default.format),
                    fps: query
                        .take("fps", WorkerArgs::FPS_RULE, |it| {
                            it.parse().ok().filter(|it| WorkerArgs::FPS.contains(it))
                        })?
                        .unwrap_or(default.fps),
                    device: default.device,
                })
            }
            _ => {
                return Err(CameraUriError::UnknownScheme { uri, scheme: scheme.to_owned() });
            }
        };
        // Neither scheme has a host, so nothing in `text` is a user or password.
        Ok(Self { text: text.to_owned(), place })
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }
}

impl FromStr for CameraUri {
    type Err = CameraUriError;

    fn from_str(text: &str) -> Result<Self, CameraUriError> {
        Self::parse(text)
    }
}

impl fmt::Display for CameraUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for CameraUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CameraUri({:?})", self.text)
    }
}

/// Hides what stands before an `@`, from the slashes on: a password may hold any character, so
/// the last `@` counts, wherever it is.
fn redact(text: &str) -> String {
    let Some(at) = text.rfind('@') else { return text.to_owned() };
    let start = text.find("//").map_or(0, |it| it + 2).min(at);
    format!("{}…{}", &text[..start], &text[at..])
}

fn period(fps: f64) -> Option<Duration> {
    (0.001..=1000.0).contains(&fps).then(|| Duration::from_secs_f64(fps.recip()))
}

/// `///a/b` and `/a/b` are absolute, `a/b` is relative; a host is an error.
fn decode_path(uri: &str, path: &str) -> Result<PathBuf, CameraUriError> {
    let fail = |rule| Err(CameraUriError::Path { uri: uri.to_owned(), rule, got: redact(path) });
    let local = match path.strip_prefix("//") {
        Some(absolute) if absolute.starts_with('/') => absolute,
        Some(_) => return fail("have three slashes in front, or none if it is relative"),
        None => path,
    };
    if local.is_empty() {
        return fail("not be empty");
    }
    let bytes = decode_percent(uri, local)?;
    Ok(PathBuf::from(OsString::from_vec(bytes)))
}

fn decode_percent(uri: &str, text: &str) -> Result<Vec<u8>, CameraUriError> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digit = |it: Option<u8>| it.and_then(|it| char::from(it).to_digit(16));
        let value = match (digit(bytes.next()), digit(bytes.next())) {
            (Some(high), Some(low)) => u8::try_from(high * 16 + low).unwrap_or(0),
            _ => 0,
        };
        if value == 0 {
            let (uri, got) = (uri.to_owned(), redact(text));
            return Err(CameraUriError::Escape { uri, got });
        }
        decoded.push(value);
    }
    Ok(decoded)
}

/// The pairs behind the `?`.
struct Query<'a> {
    uri: &'a str,
    pairs: Vec<(String, String)>,
}

impl<'a> Query<'a> {
    fn read(uri: &'a str, text: &str, allowed: &[&str]) -> Result<Self, CameraUriError> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in text.split('&').filter(|it| !it.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let text = |it| Ok(String::from_utf8_lossy(&decode_percent(uri, it)?).into_owned());
            let (key, value) = (text(key)?, text(value)?);
            let uri = uri.to_owned();
            if !allowed.contains(&key.as_str()) {
                let allowed = allowed.iter().map(|it| format!("`{it}`")).collect::<Vec<_>>();
                return Err(CameraUriError::UnknownKey { uri, key, allowed: allowed.join(", ") });
            }
            if pairs.iter().any(|it| it.0 == key) {
                return Err(CameraUriError::RepeatedKey { uri, key });
            }
            pairs.push((key, value));
        }
        Ok(Self { uri, pairs })
    }

    fn take<T>(
        &self,
        key: &'static str,
        rule: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, CameraUriError> {
        let Some((_, value)) = self.pairs.iter().find(|it| it.0 == key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| {
            let (uri, got) = (self.uri.to_owned(), value.clone());
            CameraUriError::Value { uri, key, rule, got }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pictures(text: &str) -> PicturePlace {
        match CameraUri::parse(text).unwrap().place {
            Place::Pictures(it) => it,
            Place::Device(it) => panic!("{text} is {it:?}"),
        }
    }

    #[test]
    fn a_folder_or_picture_has_a_path_and_a_rate() {
        let place = |path: &str, single, period, repeat| PicturePlace {
            path: PathBuf::from(path),
            single,
            period: Duration::from_millis(period),
            repeat,
        };
        let cases = [
            ("dir:///a/b", place("/a/b", false, 1000, true)),
            ("dir:/a/b?fps=2", place("/a/b", false, 500, true)),
            ("dir:a/b?loop=false&fps=0.5", place("a/b", false, 2000, false)),
            ("file:///a%20b/%C3%A9%3F.jpg", place("/a b/é?.jpg", true, 1000, true)),
            ("file:a.jpg?fps=1000", place("a.jpg", true, 1, true)),
        ];
        for (text, expected) in cases {
            assert_eq!(pictures(text), expected, "{text}");
            assert_eq!(CameraUri::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_device_has_defaults_for_what_is_not_said() {
        let args = |text: &str| match CameraUri::parse(text).unwrap().place {
            Place::Device(it) => it,
            Place::Pictures(it) => panic!("{text} is {it:?}"),
        };
        let video0 = PathBuf::from("/dev/video0");
        assert_eq!(args("v4l2:///dev/video0"), WorkerArgs::new(video0.clone()));
        assert_eq!(
            args("v4l2:///dev/video0?format=mjpeg&size=320x180&fps=30"),
            WorkerArgs {
                size: FrameSize::from_str("320x180").unwrap(),
                format: StreamFormat::Mjpeg,
                fps: 30,
                ..WorkerArgs::new(video0)
            }
        );
    }

    #[test]
    fn every_fault_names_part_rule_and_value() {
        let cases = [
            ("front door", "camera `front door` must begin with one of `dir:`, `file:`, `v4l2:`"),
            (
                "rtsp://me:s3cret@10.0.0.2/s",
                "camera `rtsp://…@10.0.0.2/s`: scheme must be one of `dir:`, `file:`, `v4l2:`, got `rtsp:`",
            ),
            (
                "dir://me:p/w@host/a",
                "camera `dir://…@host/a`: path must have three slashes in front, or none if it is relative, got `//…@host/a`",
            ),
            ("dir:?fps=1", "camera `dir:?fps=1`: path must not be empty, got ``"),
            ("dir:a#b", "camera `dir:a#b`: path must not contain `#`; write it as %23, got `a#b`"),
            (
                "dir:100%",
                "camera `dir:100%`: `%` must be followed by two hexadecimal digits that are not 00, got `100%`",
            ),
            (
                "dir:a%00",
                "camera `dir:a%00`: `%` must be followed by two hexadecimal digits that are not 00, got `a%00`",
            ),
            ("dir:a?rate=1", "camera `dir:a?rate=1`: `rate` must be one of `fps`, `loop`"),
            ("dir:a?fps=1&fps=2", "camera `dir:a?fps=1&fps=2`: `fps` must stand once"),
            (
                "dir:a?fps=NaN",
                "camera `dir:a?fps=NaN`: `fps` must be a number from 0.001 to 1000, got `NaN`",
            ),
            (
                "dir:a?fps=0",
                "camera `dir:a?fps=0`: `fps` must be a number from 0.001 to 1000, got `0`",
            ),
            ("dir:a?loop", "camera `dir:a?loop`: `loop` must be true or false, got ``"),
            (
                "v4l2:video0",
                "camera `v4l2:video0`: path must be absolute, as in `v4l2:///dev/video0`, got `video0`",
            ),
            (
                "v4l2:/dev/video0?size=641x480",
                "camera `v4l2:/dev/video0?size=641x480`: `size` must be WIDTHxHEIGHT, each from 16 to 8192, the width even, got `641x480`",
            ),
            (
                "v4l2:/dev/video0?format=h264",
                "camera `v4l2:/dev/video0?format=h264`: `format` must be mjpeg or yuyv, got `h264`",
            ),
            (
                "v4l2:/dev/video0?fps=2.5",
                "camera `v4l2:/dev/video0?fps=2.5`: `fps` must be a whole number from 1 to 240, got `2.5`",
            ),
        ];
        for (text, message) in cases {
            let error = CameraUri::parse(text).unwrap_err();
            assert_eq!(error.to_string(), message);
            assert!(!format!("{error:?}").contains("s3cret"));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "(dir|file|v4l2)?:?/{0,3}[a-z%@#?&=0-9é]{0,20}") {
            drop(CameraUri::parse(&text));
        }
    }
}
