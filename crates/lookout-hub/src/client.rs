//! One request after another: who sees the token, where redirects may lead, how long all may take.

use std::sync::Arc;
use std::time::Duration;

use ureq::http::{HeaderMap, StatusCode, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Body};

use crate::address::Origin;
use crate::{Endpoint, HubError, Token};

/// Redirects that one request may take: the public hub needs two.
const MAX_REDIRECTS: usize = 5;
/// The least rate of an answer on the whole, in bytes a second, after a stall's worth of patience.
const MIN_RATE: u64 = 16 << 10;
/// What a small answer may take the time of, in bytes: the usual ones are less.
const SMALL_BYTES: u64 = 256 << 10;

/// What an answer of so many bytes may take.
fn patience(stall: Duration, expected_bytes: u64) -> Duration {
    stall.saturating_add(Duration::from_secs(expected_bytes / MIN_RATE))
}

/// How long a hub may keep us waiting.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a name, and for a connection with its TLS.
    pub connect: Duration,
    /// For the head of an answer, from first to last byte.
    pub response: Duration,
    /// Between two pieces of an answer; also what an answer may take beside 1 s for each 16 KiB.
    pub stall: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            response: Duration::from_secs(60),
            stall: Duration::from_secs(60),
        }
    }
}

/// A hub to fetch from.
#[derive(Debug)]
pub struct Hub {
    agent: Agent,
    endpoint: Endpoint,
    token: Option<Token>,
    stall: Duration,
}

/// An answer that is a success.
pub(crate) struct Reply {
    /// Where it came from in the end, to be shown.
    pub(crate) url: String,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

/// The bytes of a file that are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) start: u64,
    /// Past the last one.
    pub(crate) end: u64,
}

impl Hub {
    /// Prepares to talk to a hub; nothing is sent yet. A token goes to the endpoint's own host
    /// only, and only where nobody can read it on the way.
    pub fn new(
        endpoint: Endpoint,
        token: Option<Token>,
        timeouts: Timeouts,
    ) -> Result<Self, HubError> {
        if token.is_some() && !endpoint.origin().is_private() {
            return Err(HubError::Address {
                what: "the endpoint",
                rule: "one with https, so that nobody reads the token on the way",
                got: endpoint.as_str().to_owned(),
            });
        }
        let found = rustls_native_certs::load_native_certs();
        let roots: Vec<Certificate<'static>> =
            found.certs.iter().map(|it| Certificate::from_der(it).to_owned()).collect();
        if roots.is_empty() && endpoint.origin().is_https() {
            let reasons: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
            let reason =
                if reasons.is_empty() { "none found".to_owned() } else { reasons.join("; ") };
            return Err(HubError::NoRoots { reason });
        }
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(RootCerts::new_with_certs(&roots))
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            // Redirects are followed here, where it is known who may see the token.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(concat!("lookout/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(timeouts.connect))
            .timeout_connect(Some(timeouts.connect))
            .timeout_send_request(Some(timeouts.connect))
            .timeout_recv_response(Some(timeouts.response))
            .timeout_per_read(Some(timeouts.stall))
            .build()
            .new_agent();
        Ok(Self { agent, endpoint, token, stall: timeouts.stall })
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Asks for `url`, or a part of it. An answer of `expected_bytes` has the time that these may
    /// take.
    pub(crate) fn get(
        &self,
        url: &str,
        span: Option<Span>,
        expected_bytes: u64,
    ) -> Result<Reply, HubError> {
        let mut url = url.to_owned();
        let patience = patience(self.stall, expected_bytes);
        for _ in 0..=MAX_REDIRECTS {
            let Some(origin) = Origin::of(&url) else {
                return Err(redirect(&shown(&self.endpoint, &url), "an HTTP address", &url));
            };
            let mut request = self.agent.get(&url).header(header::ACCEPT_ENCODING, "identity");
            if let Some(token) = self.token.as_ref().filter(|_| origin == *self.endpoint.origin()) {
                request = request.header(header::AUTHORIZATION, token.header());
            }
            if let Some(Span { start, end }) = span {
                request = request.header(header::RANGE, format!("bytes={start}-{}", end - 1));
            }
            let request = request.config().timeout_recv_body(Some(patience)).build();
            let reply = request.call().map_err(|source| {
                let (url, source) = (without_query(&url).to_owned(), Box::new(source));
                HubError::Connect { url, source }
            })?;
            let status = reply.status();
            if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                return self.checked(&url, reply);
            }
            url = next(&url, &origin, reply.headers())?;
        }
        let url = without_query(&url).to_owned();
        let rule = format!("an answer after at most {MAX_REDIRECTS} redirects");
        Err(HubError::Answer { url, what: "the answer", rule, got: "another".to_owned() })
    }

    fn checked(&self, url: &str, reply: ureq::http::Response<Body>) -> Result<Reply, HubError> {
        let (head, body) = reply.into_parts();
        let url = without_query(url).to_owned();
        let status = head.status;
        if !matches!(status.as_u16(), 200 | 206) {
            let hint = match (status.as_u16(), &self.token) {
                (401 | 403, None) => {
                    "the repository is private, gated or not there; where you have access, give \
                     your token with --token-file"
                }
                (401 | 403, Some(_)) => {
                    "the token does not open this repository; accept its terms on the hub's page, \
                     and check that the token may read it"
                }
                (404, _) => "no such repository, revision or file there; check the spelling",
                (429, _) => "too many requests; try again later",
                (500..=599, _) => "the hub has a fault of its own; try again later",
                _ => "not an answer to what was asked; is this a model hub?",
            };
            return Err(HubError::Status { url, status: status.as_u16(), hint });
        }
        if let Some(encoding) = head.headers.get(header::CONTENT_ENCODING)
            && encoding != "identity"
        {
            let (rule, got) = ("left out, as asked".to_owned(), format!("{encoding:?}"));
            return Err(HubError::Answer { url, what: "Content-Encoding", rule, got });
        }
        Ok(Reply { url, status, headers: head.headers, body })
    }

    /// A whole answer of at most `limit` bytes. It is waited for without a word to the user, so it
    /// has no more time than a small one may take, whatever `limit` is.
    pub(crate) fn get_small(
        &self,
        url: &str,
        span: Option<Span>,
        limit: u64,
    ) -> Result<(Reply, Vec<u8>), HubError> {
        let mut reply = self.get(url, span, limit.min(SMALL_BYTES))?;
        let bytes = reply.body.with_config().limit(limit).read_to_vec();
        let bytes = bytes.map_err(|source| match source {
            ureq::Error::BodyExceedsLimit(_) => HubError::Answer {
                url: reply.url.clone(),
                what: "the answer",
                rule: format!("at most {limit} bytes"),
                got: "more".to_owned(),
            },
            source => HubError::Connect { url: reply.url.clone(), source: Box::new(source) },
        })?;
        Ok((reply, bytes))
    }
}

/// Where a redirect leads. It never leads out of TLS.
fn next(url: &str, origin: &Origin, headers: &HeaderMap) -> Result<String, HubError> {
    let shown = without_query(url).to_owned();
    let location =
        headers.get(header::LOCATION).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let next = if location.starts_with('/') && !location.starts_with("//") {
        let scheme_end = url.find("://").map_or(0, |it| it + 3);
        let host_end = url[scheme_end..].find('/').map_or(url.len(), |it| it + scheme_end);
        format!("{}{location}", &url[..host_end])
    } else {
        location.to_owned()
    };
    match Origin::of(&next) {
        None => Err(redirect(&shown, "an HTTP address", location)),
        Some(it) if origin.is_https() && !it.is_https() => {
            Err(redirect(&shown, "https, as the address before", location))
        }
        Some(_) => Ok(next),
    }
}

fn redirect(url: &str, rule: &str, location: &str) -> HubError {
    HubError::Answer {
        url: url.to_owned(),
        what: "the redirect",
        rule: rule.to_owned(),
        got: format!("{:?}", without_query(location)),
    }
}

fn shown(endpoint: &Endpoint, url: &str) -> String {
    if url.is_empty() { endpoint.as_str().to_owned() } else { without_query(url).to_owned() }
}

/// An address without what may be a secret.
fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_that_drips_a_small_answer_is_left_soon() {
        let stall = Timeouts::default().stall;
        assert_eq!(patience(stall, SMALL_BYTES), stall + Duration::from_secs(16));
        assert_eq!(patience(stall, 1 << 30), stall + Duration::from_secs(65_536));
    }
}
