//! HTTP/1.1 over a connection of the dialer's, one for each request and each redirect.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::header::HeaderMap;
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::error::{Error, Result};
use super::request::{Limits, Ready, Request};
use super::{Grants, Guard};

/// Bytes of the body that are given at once.
const CHUNK: usize = 64 << 10;
/// Lines of headers in a response.
const HEADERS: usize = 128;

/// A response whose headers are there. Dropped, it ends the connection.
#[derive(Debug)]
pub struct Response {
    /// Of three digits.
    pub status: u16,
    /// Names in lower case, and values as they came: they need not be text.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Where it came from, after redirects.
    pub url: String,
    body: Body,
}

#[derive(Debug)]
struct Body {
    incoming: Incoming,
    /// Of the frame that is being given.
    rest: Bytes,
    left: u64,
    limits: Limits,
    deadline: Instant,
    subject: String,
    /// What reads and writes; ends with this.
    _connection: JoinSet<()>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Guard {
    /// Sends a request, and follows where it is redirected to, each time from the beginning: grants, addresses, dial.
    ///
    /// # Errors
    /// A denial where it, or a redirect, may not be; else what kept it from being sent or answered within the limits.
    pub async fn fetch(&self, grants: &Grants, request: Request, limits: &Limits) -> Result<Response> {
        let deadline = Instant::now() + limits.whole;
        let mut next = Ready::new(request, limits)?;
        let mut redirects = 0;
        loop {
            let subject = next.target.to_string();
            let answered = timeout_at(deadline, self.once(grants, &next, limits)).await;
            let late =
                |_late| Error::TimedOut { step: "fetch from", subject: subject.clone(), limit: limits.whole };
            let (answer, connection) = answered.map_err(late)??;
            let redirected = match limits.redirects {
                0 => None,
                _ => next.redirected(answer.status(), answer.headers())?,
            };
            let Some(redirected) = redirected else {
                return response(&next, answer, connection, limits, deadline);
            };
            redirects += 1;
            if redirects > limits.redirects {
                return Err(Error::Redirects(limits.redirects));
            }
            next = redirected;
        }
    }

    /// One connection, one request.
    async fn once(
        &self,
        grants: &Grants,
        request: &Ready,
        limits: &Limits,
    ) -> Result<(hyper::Response<Incoming>, JoinSet<()>)> {
        let target = &request.target;
        let message = request.message()?;
        let until = Instant::now() + limits.connect;
        let stream = self.dial(grants, target, limits.connect).await?;
        let stream: Box<dyn Stream> = if request.encrypted() {
            let hands = timeout_at(until, self.tls.connect(stream, &target.host)).await;
            let late = |_late| Error::TimedOut {
                step: "agree on TLS with",
                subject: target.to_string(),
                limit: limits.connect,
            };
            Box::new(hands.map_err(late)?.map_err(Error::failed("agree on TLS with", target))?)
        } else {
            Box::new(stream)
        };
        let failed = || Error::failed("send a request to", target);
        let (mut sender, connection) = http1::Builder::new()
            .max_headers(HEADERS)
            .max_buf_size(limits.response_headers.max(8192))
            .handshake(TokioIo::new(stream))
            .await
            .map_err(failed())?;
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            // What goes wrong with it is told by the request and by the body.
            _ = connection.await;
        });
        let answer = timeout(limits.first_byte, sender.send_request(message)).await;
        let late = |_late| Error::TimedOut {
            step: "get an answer from",
            subject: target.to_string(),
            limit: limits.first_byte,
        };
        let answer = answer.map_err(late)?.map_err(failed())?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Error::failed("send a request to", target)("it wants to speak another protocol"));
        }
        Ok((answer, connections))
    }
}

fn response(
    request: &Ready,
    answer: hyper::Response<Incoming>,
    connection: JoinSet<()>,
    limits: &Limits,
    deadline: Instant,
) -> Result<Response> {
    let (head, incoming) = answer.into_parts();
    let limit = limits.response_body;
    if request.method != Method::HEAD && incoming.size_hint().lower() > limit {
        return Err(Error::TooLarge { what: "response body", limit });
    }
    let body = Body {
        incoming,
        rest: Bytes::new(),
        left: limit,
        limits: limits.clone(),
        deadline,
        subject: request.target.to_string(),
        _connection: connection,
    };
    Ok(Response {
        status: head.status.as_u16(),
        headers: pairs(&head.headers),
        url: request.url.to_string(),
        body,
    })
}

fn pairs(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}

impl Response {
    /// More of the body, at most 64 KiB at once; none at its end. As fast as it is asked for: what nobody takes stays with
    /// the sender.
    ///
    /// # Errors
    /// When the body is over its limit, late, or breaks off.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        let body = &mut self.body;
        while body.rest.is_empty() {
            let late = |_late| Error::TimedOut {
                step: "read the body from",
                subject: body.subject.clone(),
                limit: body.limits.whole,
            };
            let frame = timeout_at(body.deadline, body.incoming.frame()).await.map_err(late)?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(Error::failed("read the body from", &body.subject))?;
            // Trailers are nobody's.
            let Ok(data) = frame.into_data() else { continue };
            body.left = body
                .left
                .checked_sub(data.len() as u64)
                .ok_or(Error::TooLarge { what: "response body", limit: body.limits.response_body })?;
            body.rest = data;
        }
        let most = body.rest.len().min(CHUNK);
        Ok(Some(body.rest.split_to(most)))
    }

    /// The whole body, within the limit of the request.
    ///
    /// # Errors
    /// As [`Response::chunk`].
    pub async fn bytes(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}
