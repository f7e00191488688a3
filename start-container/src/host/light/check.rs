//! What a request and a response may be. Pure.
//!
//! A response is a stranger's: its status, its headers and the size of its body are looked at here, whatever was looked at
//! where it was made. Whoever passes them on, on a line of HTTP, need not ask again.

use protocol::function::{
    FUNCTION_PART, FetchParams, FunctionRequest, Header, MAX_FUNCTION_HEADERS, MAX_FUNCTION_REQUEST,
    MAX_FUNCTION_RESPONSE,
};
use protocol::{Data, ErrorKind};

use crate::error::{Failure, Result};

/// Headers of one message.
const MOST_HEADERS: usize = 100;
/// Bytes of a path with its query.
const LONGEST_PATH: usize = 8192;

/// A request as a function gets it.
pub(super) fn request(asked: FetchParams) -> Result<FunctionRequest> {
    let FetchParams { package_id, path, method, headers, body } = asked;
    let refused = |why: String| {
        Failure::new(ErrorKind::Invalid, "send request to", &package_id).because(std::io::Error::other(why))
    };
    let method = method.unwrap_or_else(|| "GET".to_owned());
    if method.len() > 32 || !is_token(&method) {
        return Err(refused("its method is none".to_owned()));
    }
    if !path.starts_with('/') || path.len() > LONGEST_PATH || path.chars().any(char::is_control) {
        return Err(refused(format!("a path begins with / and has {LONGEST_PATH} bytes at most")));
    }
    let headers: Vec<Header> =
        headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    check_headers(&headers).map_err(refused)?;
    let body = body.into_bytes().map_err(|error| refused(format!("its body is no base64: {error}")))?;
    if body.len() > MAX_FUNCTION_REQUEST {
        return Err(refused(format!("its body has more than {MAX_FUNCTION_REQUEST} bytes")));
    }
    let (path, query) = path.split_once('?').unwrap_or((&path, ""));
    Ok(FunctionRequest { method, path: path.to_owned(), query: query.to_owned(), headers, body: body.into() })
}

/// Status and headers of a response.
pub(super) fn head(status: u16, headers: &[Header]) -> std::result::Result<(), String> {
    if !(200..=599).contains(&status) {
        return Err(format!("its response has the status {status}: 200 to 599 are possible"));
    }
    check_headers(headers).map_err(|why| format!("its response cannot be sent: {why}"))
}

/// A part of a response's body. `bytes`: those of all parts so far.
pub(super) fn part(body: Data, bytes: &mut usize) -> std::result::Result<Vec<u8>, String> {
    let part = body.into_bytes().map_err(|error| format!("a part of its response is no base64: {error}"))?;
    *bytes = bytes.saturating_add(part.len());
    if part.len() > FUNCTION_PART {
        return Err(format!("a part of its response is longer than {FUNCTION_PART} bytes"));
    }
    if *bytes > MAX_FUNCTION_RESPONSE {
        return Err(format!("its response is longer than {MAX_FUNCTION_RESPONSE} bytes"));
    }
    Ok(part)
}

fn check_headers(headers: &[Header]) -> std::result::Result<(), String> {
    if headers.len() > MOST_HEADERS {
        return Err(format!("it has more than {MOST_HEADERS} headers"));
    }
    if headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAX_FUNCTION_HEADERS {
        return Err(format!("its headers have more than {MAX_FUNCTION_HEADERS} bytes"));
    }
    for (name, value) in headers {
        let shown: String = name.chars().filter(|c| !c.is_control()).take(60).collect();
        if !is_token(name) || name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(format!("{shown:?} is no name of a header"));
        }
        if value.chars().any(|c| c.is_control() && c != '\t') {
            return Err(format!("the value of {shown} has a control character"));
        }
    }
    Ok(())
}

/// RFC 9110, 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(path: &str) -> FetchParams {
        FetchParams {
            package_id: "notes".to_owned(),
            path: path.to_owned(),
            method: None,
            headers: Vec::new(),
            body: Data::default(),
        }
    }

    #[test]
    fn j4_a_request_that_is_none_is_refused() {
        for path in ["", "hello", "/a\nb", "/\u{7f}", &format!("/{}", "x".repeat(LONGEST_PATH))] {
            assert!(request(asked(path)).is_err(), "{path:?}");
        }
        for method in ["", "GET /", "GET\r\n", "Ü", &"A".repeat(33)] {
            assert!(
                request(FetchParams { method: Some(method.to_owned()), ..asked("/") }).is_err(),
                "{method:?}"
            );
        }
        for (name, value) in
            [("", ""), ("a b", ""), ("a\r\nb", ""), ("a:", ""), ("a", "b\r\nset-cookie: c"), ("a", "\0")]
        {
            let headers = vec![(name.to_owned(), value.to_owned())];
            assert!(request(FetchParams { headers, ..asked("/") }).is_err(), "{name:?}: {value:?}");
        }
        let body = Data::Text("x".repeat(MAX_FUNCTION_REQUEST + 1));
        assert!(request(FetchParams { body, ..asked("/") }).is_err());
        let body = Data::Base64("?".to_owned());
        assert!(request(FetchParams { body, ..asked("/") }).is_err());
    }

    #[test]
    fn j4_a_request_as_people_send_it_is_taken_apart() {
        let headers = vec![("X-One".to_owned(), "1".to_owned())];
        let taken = request(FetchParams { headers, ..asked("/a/b?c=d?e") }).unwrap();
        assert_eq!(
            (taken.method.as_str(), taken.path.as_str(), taken.query.as_str()),
            ("GET", "/a/b", "c=d?e")
        );
        assert_eq!(taken.headers, [("x-one".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn j4_a_response_that_could_not_be_sent_is_an_error() {
        for status in [0, 100, 199, 600, 65535] {
            assert!(head(status, &[]).is_err(), "{status}");
        }
        assert!(head(200, &[("x-a".to_owned(), "b".to_owned())]).is_ok());
        for (name, value) in
            [("X-A", ""), ("a\n", ""), ("a", "b\nc"), ("a", &*"x".repeat(MAX_FUNCTION_HEADERS))]
        {
            assert!(head(200, &[(name.to_owned(), value.to_owned())]).is_err(), "{name:?}");
        }
        assert!(head(200, &vec![("a".to_owned(), String::new()); MOST_HEADERS + 1]).is_err());
        let mut bytes = 0;
        assert!(part(Data::Text("x".repeat(FUNCTION_PART + 1)), &mut bytes).is_err());
        let mut bytes = MAX_FUNCTION_RESPONSE - 1;
        assert!(part(Data::Text("x".to_owned()), &mut bytes).is_ok());
        assert!(part(Data::Text("x".to_owned()), &mut bytes).is_err());
    }
}
