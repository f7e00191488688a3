//! Templates: pages that are filled in with what was asked for and with keys of the package's own.
//!
//! ```text
//! Hello {{ query.name }}, {% for note in kv:notes/all %}<li>{{ note.title }}</li>{% endfor %}
//! ```
//! Jinja's signs, by minijinja: it is small, safe Rust without an interpreter of its own, and counts its steps. What is put in is
//! escaped for HTML, in every file. `kv:GROUP/KEY` is a key, read through the package's door like any other: what is
//! another package's, or was not granted, is an error. No template includes another, and none writes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::Instant;

use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value, context};
use protocol::Data;
use protocol::broker::{KvGetParams, KvGetResult};
use protocol::function::{FUNCTION_PART, FunctionRequest, Header, MAX_FUNCTION_RESPONSE};

use crate::fault::Fault;
use crate::isolate::{Line, abandon, send};
use crate::modules::read;
use crate::serve::Head;

/// Bytes of one template.
const LONGEST: u64 = 1 << 20;
/// Steps of one page. About a tenth of a second.
const STEPS: u64 = 1_000_000;

/// A template that was read.
pub(crate) struct Template {
    name: String,
    environment: Environment<'static>,
}

thread_local! {
    /// For the page that this thread fills in: where the host is asked, and until when.
    static ASKING: RefCell<Option<(Line, Instant)>> = const { RefCell::new(None) };
}

impl Template {
    /// Reads one, by its path in the bundle.
    pub(crate) fn read(dir: &OwnedFd, path: &str) -> Result<Self, Fault> {
        let text = read(dir, path, LONGEST).map_err(|why| Fault::new(format!("read {path}: {why}")))?;
        let text = String::from_utf8(text).map_err(|_no_text| Fault::new(format!("{path} is not UTF-8")))?;
        Self::of(path, &text)
    }

    fn of(path: &str, text: &str) -> Result<Self, Fault> {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment.set_fuel(Some(STEPS));
        environment.add_function("kv", kv);
        let added = environment.add_template_owned(path.to_owned(), with_keys(text));
        added.map_err(|error| Fault::new(error.to_string()))?;
        Ok(Self { name: path.to_owned(), environment })
    }

    /// The page, in parts.
    pub(crate) fn respond(
        &self,
        request: &FunctionRequest,
        line: &Line,
        deadline: Instant,
    ) -> Result<(Head, Vec<Data>), Fault> {
        if !matches!(request.method.as_str(), "GET" | "HEAD") {
            let headers = vec![("allow".to_owned(), "GET, HEAD".to_owned())];
            return Ok((Head { status: 405, headers }, Vec::new()));
        }
        let page = self.page(request, line, deadline)?;
        let parts = page.chunks(FUNCTION_PART).map(|part| part.to_vec().into()).collect();
        Ok((Head { status: 200, headers: vec![content_type(&self.name)] }, parts))
    }

    fn page(&self, request: &FunctionRequest, line: &Line, deadline: Instant) -> Result<Vec<u8>, Fault> {
        let failed = |error: Error| Fault::new(chain(&error));
        let template = self.environment.get_template(&self.name).map_err(failed)?;
        let headers: BTreeMap<String, String> = request.headers.iter().cloned().collect();
        let values = context! {
            path => request.path.clone(), method => request.method.clone(), query => query(&request.query), headers => headers,
        };
        let mut page = Page { bytes: Vec::new(), deadline };
        ASKING.set(Some((Line::clone(line), deadline)));
        let rendered = template.render_captured_to(values, &mut page).map(drop);
        ASKING.set(None);
        abandon(line);
        rendered.map_err(failed)?;
        Ok(page.bytes)
    }
}

/// With what it came from.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn content_type(name: &str) -> Header {
    let kind = match name.rsplit('.').next() {
        Some("txt" | "md") => "text/plain; charset=utf-8",
        Some("xml") => "application/xml",
        Some("svg") => "image/svg+xml",
        _ => "text/html; charset=utf-8",
    };
    ("content-type".to_owned(), kind.to_owned())
}

/// What is written, within bounds of size and time.
struct Page {
    bytes: Vec<u8>,
    deadline: Instant,
}

impl Write for Page {
    fn write(&mut self, part: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + part.len() > MAX_FUNCTION_RESPONSE {
            return Err(std::io::Error::other(format!(
                "the page is longer than {MAX_FUNCTION_RESPONSE} bytes"
            )));
        }
        if Instant::now() >= self.deadline {
            return Err(std::io::Error::other("it did not come to its end in time"));
        }
        self.bytes.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The first value of each name.
fn query(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for part in text.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        found.entry(decoded(name)).or_insert_with(|| decoded(value));
    }
    found
}

/// Percent signs and pluses, as a form writes them.
fn decoded(text: &str) -> String {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let [byte, more @ ..] = rest {
        let hex = more.get(..2).filter(|_| *byte == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        let coded = hex.filter(|hex| !hex.starts_with('+')).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(coded.unwrap_or(if *byte == b'+' { b' ' } else { *byte }));
        rest = if coded.is_some() { &more[2..] } else { more };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// `kv("group/key")`: the value of a key; none where there is none.
fn kv(name: String) -> Result<Value, Error> {
    let failed = |why: String| Error::new(ErrorKind::InvalidOperation, format!("kv:{name}: {why}"));
    let Some((group, key)) = name.split_once('/') else {
        return Err(failed("it is written kv:GROUP/KEY".to_owned()));
    };
    let Some((line, deadline)) = ASKING.with_borrow(Clone::clone) else {
        return Err(failed("nobody is there to be asked".to_owned()));
    };
    let params = KvGetParams { group: group.to_owned(), key: key.to_owned() };
    let params = serde_json::to_string(&params).map_err(|error| failed(error.to_string()))?;
    let id = send(&line, "kv.get", &params).map_err(failed)?;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let received = line.borrow_mut().as_mut().map(|door| door.receive(left));
        let answer = match received {
            Some(Ok(Some(answer))) => answer,
            Some(Ok(None)) | None => return Err(failed("the host has not answered in time".to_owned())),
            Some(Err(error)) => {
                *line.borrow_mut() = None;
                return Err(failed(format!("the host has ended the connection: {error}")));
            }
        };
        if answer.id != id {
            continue;
        }
        if let Some(error) = answer.error {
            let told: serde_json::Value = serde_json::from_str(error.get()).unwrap_or_default();
            return Err(failed(told["message"].as_str().unwrap_or("it was refused").to_owned()));
        }
        let result = answer.result.as_deref().map_or("{}", |result| result.get());
        let found: KvGetResult = serde_json::from_str(result).map_err(|error| failed(error.to_string()))?;
        return serde_json::from_value(found.value).map_err(|error| failed(error.to_string()));
    }
}

/// Writes `kv:GROUP/KEY` in the tags of a template as the call that it is.
fn with_keys(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("{{").into_iter().chain(rest.find("{%")).min() {
        let end = if rest[start..].starts_with("{{") { "}}" } else { "%}" };
        out.push_str(&rest[..start]);
        let length = rest[start..].find(end).map_or(rest.len() - start, |at| at + 2);
        tag(&rest[start..start + length], &mut out);
        rest = &rest[start + length..];
    }
    out.push_str(rest);
    out
}

fn tag(text: &str, out: &mut String) {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    let ends = |c: char| c.is_whitespace() || "|,)]}%\"'\\".contains(c);
    let (mut quote, mut before) = (None, ' ');
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let key = rest.strip_prefix("kv:").filter(|_| quote.is_none() && !is_word(before));
        if let Some(key) = key {
            let name = &key[..key.find(ends).unwrap_or(key.len())];
            out.push_str(&format!("kv(\"{name}\")"));
            rest = &key[name.len()..];
            before = ')';
            continue;
        }
        quote = match quote {
            None if matches!(next, '"' | '\'') => Some(next),
            Some(open) if open == next && before != '\\' => None,
            other => other,
        };
        out.push(next);
        before = next;
        rest = &rest[next.len_utf8()..];
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;

    fn rendered(text: &str, query: &str) -> Result<String, String> {
        let template = Template::of("entries/a.html", text).map_err(|Fault(fault)| fault.message)?;
        let request = FunctionRequest {
            method: "GET".into(),
            path: "/a".into(),
            query: query.into(),
            ..Default::default()
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        let page = template.page(&request, &Rc::default(), deadline).map_err(|Fault(fault)| fault.message)?;
        Ok(String::from_utf8(page).unwrap())
    }

    #[test]
    fn t2_a_key_is_written_as_a_call() {
        for (text, expected) in [
            ("{{kv:notes/title}}", "{{kv(\"notes/title\")}}"),
            ("{{ kv:notes/a.b|upper }} kv:x/y", "{{ kv(\"notes/a.b\")|upper }} kv:x/y"),
            (
                "{% for n in kv:notes/all %}{{n}}{% endfor %}",
                "{% for n in kv(\"notes/all\") %}{{n}}{% endfor %}",
            ),
            ("{{ 'kv:a/b' }}{{ \"kv:a/b\" }}{{ xkv:1 }}", "{{ 'kv:a/b' }}{{ \"kv:a/b\" }}{{ xkv:1 }}"),
            ("{{ kv:a/é }}{{", "{{ kv(\"a/é\") }}{{"),
        ] {
            assert_eq!(with_keys(text), expected);
        }
    }

    #[test]
    fn t2_what_is_put_in_is_escaped_and_what_has_no_end_is_ended() {
        let page = rendered(
            "{{ path }} {{ query.name }} {% for c in 'ab' %}<{{ c }}>{% endfor %}",
            "name=%3Cb%3E+%26",
        );
        assert_eq!(page.unwrap(), "&#x2f;a &lt;b&gt; &amp; <a><b>");
        let error = rendered("a\n{{ 1 +* 2 }}", "").unwrap_err();
        assert!(error.contains("syntax error") && error.contains("entries/a.html:2"), "{error}");
        let error =
            rendered("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "")
                .unwrap_err();
        assert!(error.contains("fuel"), "{error}");
        let error = rendered("{% for a in range(9999) %}{{ 'x' * 9999 }}{% endfor %}", "").unwrap_err();
        assert!(error.contains("longer than 4194304 bytes"), "{error}");
        assert!(rendered("{{ nothing.at.all }}", "").is_err());
        assert!(rendered("{% include 'entries/b.html' %}", "").is_err());
    }
}
