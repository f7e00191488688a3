//! A request as package code asks for it, and as it is sent: read once, before anybody is connected to.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use url::Url;

use super::error::{Denied, Error, Reason, Result};
use super::target::Target;

/// What package code asks for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `GET`, `HEAD`, `POST`, `PUT`, `PATCH`, `DELETE` or `OPTIONS`.
    pub method: String,
    /// `http://` or `https://`, without name and password.
    pub url: String,
    /// Names and values, in their order. Those that say how a message is framed, or where it goes, are not the caller's.
    pub headers: Vec<(String, String)>,
    /// What is sent.
    pub body: Bytes,
}

/// How much one request may be, and how long it may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Until there is a connection, with TLS: names, addresses, handshakes, again for each redirect.
    pub connect: Duration,
    /// From there until the response's headers.
    pub first_byte: Duration,
    /// From the call to the last byte of the body.
    pub whole: Duration,
    /// Bytes of the request's headers.
    pub request_headers: usize,
    /// Bytes of the request's body.
    pub request_body: u64,
    /// Bytes of the response's headers; at least 8192.
    pub response_headers: usize,
    /// Bytes of the response's body, as it is sent: nothing is decompressed.
    pub response_body: u64,
    /// Redirects that are followed. 0: the redirect is the response.
    pub redirects: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(30),
            whole: Duration::from_secs(120),
            request_headers: 16 << 10,
            request_body: 8 << 20,
            response_headers: 64 << 10,
            response_body: 64 << 20,
            redirects: 5,
        }
    }
}

/// Neither `CONNECT`, which makes a proxy of whoever is asked, nor `TRACE`, which tells what was sent.
const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// How a message is framed and where it goes is for the one who sends it: otherwise one request could be two.
const OURS: [HeaderName; 9] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// All that goes along when a redirect leads to another host: any other header may be a secret of the first one's.
const ANYBODYS: [HeaderName; 4] =
    [header::ACCEPT, header::ACCEPT_LANGUAGE, header::RANGE, header::USER_AGENT];

/// A request that can be sent.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) target: Target,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Ready {
    pub(super) fn new(request: Request, limits: &Limits) -> Result<Self> {
        let method = METHODS.into_iter().find(|method| method.as_str() == request.method);
        let method = method.ok_or_else(|| Error::Invalid(format!("no method {:?}", request.method)))?;
        let (url, target) = read(Url::parse(&request.url))?;
        let mut headers = HeaderMap::new();
        let mut bytes = 0_usize;
        for (name, value) in request.headers {
            bytes = bytes.saturating_add(name.len() + value.len() + 4);
            if bytes > limits.request_headers {
                return Err(Error::TooLarge {
                    what: "request headers",
                    limit: limits.request_headers as u64,
                });
            }
            let parsed = HeaderName::from_bytes(name.as_bytes());
            let parsed = parsed.map_err(|_error| Error::Invalid(format!("no header name: {name:?}")))?;
            if OURS.contains(&parsed) || parsed.as_str().starts_with("proxy-") {
                return Err(Error::Invalid(format!("header {parsed} is not the caller's to set")));
            }
            // Refuses what ends a line.
            let value = HeaderValue::from_str(&value).map_err(|_error| {
                Error::Invalid(format!("header {parsed} has a value with control characters"))
            })?;
            headers.append(parsed, value);
        }
        if request.body.len() as u64 > limits.request_body {
            return Err(Error::TooLarge { what: "request body", limit: limits.request_body });
        }
        Ok(Self { method, url, target, headers, body: request.body })
    }

    /// What is asked for next, when the answer to this is a redirect. The caller's headers stay with the origin that they
    /// were for: scheme, host and port.
    pub(super) fn redirected(&self, status: StatusCode, answer: &HeaderMap) -> Result<Option<Self>> {
        let follows = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
        let Some(location) = answer.get(header::LOCATION).filter(|_| follows) else { return Ok(None) };
        let location = location
            .to_str()
            .map_err(|_error| Error::Invalid("a redirect to what is no address".to_owned()))?;
        let (url, target) = read(self.url.join(location))?;
        let mut next = Self { url, target, ..self.clone() };
        // As browsers do (fetch standard, HTTP-redirect fetch, 12).
        let turns = match status.as_u16() {
            301 | 302 => self.method == Method::POST,
            303 => !matches!(self.method, Method::GET | Method::HEAD),
            _ => false,
        };
        if turns {
            next.method = Method::GET;
            next.body = Bytes::new();
            for name in [
                header::CONTENT_ENCODING,
                header::CONTENT_LANGUAGE,
                header::CONTENT_LOCATION,
                header::CONTENT_TYPE,
            ] {
                next.headers.remove(name);
            }
        }
        if next.url.origin() != self.url.origin() {
            let denied = |reason| Err(Error::Denied(Denied { target: next.target.clone(), reason }));
            if self.url.scheme() == "https" && next.url.scheme() == "http" {
                return denied(Reason::Downgrade);
            }
            if !next.body.is_empty() {
                return denied(Reason::Carries);
            }
            next.headers = ANYBODYS
                .iter()
                .flat_map(|name| {
                    self.headers.get_all(name).iter().map(move |value| (name.clone(), value.clone()))
                })
                .collect();
        }
        Ok(Some(next))
    }

    pub(super) fn encrypted(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// As HTTP/1.1 has it: the path in the first line, the host in a header.
    pub(super) fn message(&self) -> Result<hyper::Request<http_body_util::Full<Bytes>>> {
        let path = &self.url[url::Position::BeforePath..url::Position::AfterQuery];
        let host = &self.url[url::Position::BeforeHost..url::Position::AfterPort];
        let invalid = |error: &dyn std::fmt::Display| Error::Invalid(error.to_string());
        let mut message = hyper::Request::builder()
            .method(self.method.clone())
            .uri(path)
            .body(http_body_util::Full::new(self.body.clone()))
            .map_err(|error| invalid(&error))?;
        *message.headers_mut() = self.headers.clone();
        let host = HeaderValue::from_str(host).map_err(|error| invalid(&error))?;
        message.headers_mut().insert(header::HOST, host);
        Ok(message)
    }
}

/// An address of the web, and where it leads.
/// Where a request for this address would go first.
///
/// # Errors
/// When it is none that a request could be sent to.
pub fn target(url: &str) -> Result<Target> {
    Ok(read(Url::parse(url))?.1)
}

fn read(url: Result<Url, url::ParseError>) -> Result<(Url, Target)> {
    let mut url = url.map_err(|error| Error::Invalid(format!("no address of the web: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Error::Invalid(format!("{} is neither http nor https", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Error::Invalid("an address with a name or a password in it".to_owned()));
    }
    url.set_fragment(None);
    let target = Target::of(&url).ok_or_else(|| Error::Invalid("an address without a host".to_owned()))?;
    Ok((url, target))
}
