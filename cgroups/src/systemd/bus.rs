//! As much of D-Bus as a few calls to systemd's manager take: one connection, one call at a time, answers that are read for
//! their error alone. The libraries that there are bring an executor and some sixty crates for it.
//!
//! Source: the D-Bus specification, "Message Protocol" and "Authentication Protocol".

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::error::{Error, Result};

/// Where systemd listens itself, for root; and where the machine's bus is.
const SOCKETS: [(&str, bool); 2] = [("/run/systemd/private", false), ("/run/dbus/system_bus_socket", true)];
const SYSTEMD: [&str; 2] = ["org.freedesktop.systemd1", "/org/freedesktop/systemd1"];
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
/// The number of a call that nobody answers.
const UNANSWERED: u32 = u32::MAX;
/// No answer to what is asked here is longer.
const LONGEST: usize = 1 << 20;

/// A value of one of the types that are needed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Value {
    /// `s`
    Text(String),
    /// `b`
    Flag(bool),
    /// `t`
    Number(u64),
    /// `i`
    Signed(i32),
    /// `u`
    Unsigned(u32),
    /// `au`
    Numbers(Vec<u32>),
    /// `as`
    Texts(Vec<String>),
}

impl Value {
    fn signature(&self) -> &'static str {
        match self {
            Self::Text(_) => "s",
            Self::Flag(_) => "b",
            Self::Number(_) => "t",
            Self::Signed(_) => "i",
            Self::Unsigned(_) => "u",
            Self::Numbers(_) => "au",
            Self::Texts(_) => "as",
        }
    }
}

/// A message in the making: each value begins at a multiple of its size.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn number(&mut self, number: u32) {
        self.align(4);
        self.0.extend(number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(u32::try_from(text.len()).unwrap_or(0));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.0.push(text.len() as u8);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Text(text) => self.text(text),
            Value::Flag(flag) => self.number(u32::from(*flag)),
            Value::Number(number) => {
                self.align(8);
                self.0.extend(number.to_le_bytes());
            }
            Value::Signed(number) => self.number(number.cast_unsigned()),
            Value::Unsigned(number) => self.number(*number),
            Value::Texts(texts) => self.array(4, |to| texts.iter().for_each(|one| to.text(one))),
            Value::Numbers(numbers) => self.array(4, |to| numbers.iter().for_each(|one| to.number(*one))),
        }
    }

    /// The length of what `fill` writes, without what stands before the first element for its alignment.
    fn array(&mut self, align: usize, fill: impl FnOnce(&mut Self)) {
        self.number(0);
        let at = self.0.len();
        self.align(align);
        let begin = self.0.len();
        fill(self);
        let length = u32::try_from(self.0.len() - begin).unwrap_or(0);
        self.0[at - 4..at].copy_from_slice(&length.to_le_bytes());
    }

    fn field(&mut self, code: u8, typ: &str, text: &str) {
        self.align(8);
        self.0.push(code);
        self.signature(typ);
        if typ == "g" { self.signature(text) } else { self.text(text) }
    }
}

fn message(
    serial: u32,
    interface: &str,
    to: [&str; 2],
    member: &str,
    signature: &str,
    body: &[u8],
) -> Vec<u8> {
    let [destination, path] = to;
    let no_reply = u8::from(serial == UNANSWERED);
    let mut all = Writer(vec![b'l', 1, no_reply, 1]);
    all.number(u32::try_from(body.len()).unwrap_or(0));
    all.number(serial);
    all.array(8, |to| {
        to.field(1, "o", path);
        to.field(2, "s", interface);
        to.field(3, "s", member);
        to.field(6, "s", destination);
        if !signature.is_empty() {
            to.field(8, "g", signature);
        }
    });
    all.align(8);
    all.0.extend(body);
    all.0
}

/// A connection to systemd.
#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    serial: u32,
}

fn failed(what: &str, why: impl std::fmt::Display) -> Error {
    Error::Systemd { what: what.to_owned(), why: why.to_string() }
}

impl Bus {
    /// Connects, as whoever we are.
    pub(super) fn connect() -> Result<Self> {
        let mut last = None;
        for (path, is_bus) in SOCKETS {
            match UnixStream::connect(path) {
                Ok(stream) => {
                    let mut bus = Self { stream, serial: 0 };
                    bus.greet(is_bus)?;
                    return Ok(bus);
                }
                Err(error) => last = Some(error),
            }
        }
        let why = last.map_or_else(String::new, |error| format!("is it running? {error}"));
        Err(failed("connect to systemd", why))
    }

    fn greet(&mut self, is_bus: bool) -> Result<()> {
        let fail = |error: std::io::Error| failed("greet systemd", error);
        let limit = Some(Duration::from_secs(30));
        self.stream
            .set_read_timeout(limit)
            .and_then(|()| self.stream.set_write_timeout(limit))
            .map_err(fail)?;
        // The user's number in decimal, each digit in hexadecimal.
        let uid: String = rustix::process::geteuid()
            .as_raw()
            .to_string()
            .bytes()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        self.stream.write_all(format!("\0AUTH EXTERNAL {uid}\r\n").as_bytes()).map_err(fail)?;
        let mut said = Vec::new();
        while !said.ends_with(b"\r\n") && said.len() < 512 {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).map_err(fail)?;
            said.extend(byte);
        }
        if !said.starts_with(b"OK ") {
            return Err(failed("greet systemd", String::from_utf8_lossy(&said).trim()));
        }
        self.stream.write_all(b"BEGIN\r\n").map_err(fail)?;
        if is_bus {
            let bus = ["org.freedesktop.DBus", "/org/freedesktop/DBus"];
            self.serial += 1;
            let hello = message(self.serial, "org.freedesktop.DBus", bus, "Hello", "", &[]);
            self.send("Hello", &hello)?;
        }
        Ok(())
    }

    /// Calls a method of the manager, and waits for its answer. `properties`: the last argument; those of
    /// `StartTransientUnit` are followed by an empty list of further units.
    pub(super) fn call(
        &mut self,
        member: &str,
        arguments: &[Value],
        properties: Option<&[(String, Value)]>,
    ) -> Result<()> {
        let mut body = Writer::default();
        let mut signature: String = arguments.iter().map(Value::signature).collect();
        arguments.iter().for_each(|argument| body.value(argument));
        if let Some(properties) = properties {
            signature.push_str("a(sv)");
            body.array(8, |to| {
                for (name, value) in properties {
                    to.align(8);
                    to.text(name);
                    to.signature(value.signature());
                    to.value(value);
                }
            });
            if member == "StartTransientUnit" {
                signature.push_str("a(sa(sv))");
                body.array(8, |_| {});
            }
        }
        self.serial += 1;
        let call = message(self.serial, MANAGER, SYSTEMD, member, &signature, &body.0);
        self.send(member, &call)
    }

    /// Says something about a unit, without waiting for an answer.
    pub(super) fn tell(&mut self, member: &str, arguments: &[&str]) -> Result<()> {
        let mut body = Writer::default();
        arguments.iter().for_each(|argument| body.text(argument));
        let signature = "s".repeat(arguments.len());
        let call = message(UNANSWERED, MANAGER, SYSTEMD, member, &signature, &body.0);
        self.stream.write_all(&call).map_err(|error| failed(member, error))
    }

    /// Sends a call and reads until its answer is there: signals may come before it.
    fn send(&mut self, member: &str, call: &[u8]) -> Result<()> {
        let fail = |error: std::io::Error| failed(member, error);
        self.stream.write_all(call).map_err(fail)?;
        loop {
            let mut head = [0; 16];
            self.stream.read_exact(&mut head).map_err(fail)?;
            let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
            let [body, fields] = [number(4) as usize, (number(12) as usize).next_multiple_of(8)];
            if head[0] != b'l' || body > LONGEST || fields > LONGEST {
                return Err(failed(member, "the answer is no message"));
            }
            let mut rest = vec![0; fields + body];
            self.stream.read_exact(&mut rest).map_err(fail)?;
            let (fields, body) = rest.split_at(fields);
            match head[1] {
                2 if answers(fields, self.serial) => return Ok(()),
                3 if answers(fields, self.serial) => return Err(failed(member, first_text(body))),
                _ => {}
            }
        }
    }
}

/// Whether the fields of a header name the call that this answers (field 5, a number).
fn answers(fields: &[u8], serial: u32) -> bool {
    let mut wanted = vec![5, 1, b'u', 0];
    wanted.extend(serial.to_le_bytes());
    fields.chunks(8).any(|chunk| chunk == wanted)
        || fields.windows(8).step_by(4).any(|window| window == wanted)
}

/// What an error says.
fn first_text(body: &[u8]) -> String {
    let length = body.first_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize);
    let text = body.get(4..4_usize.saturating_add(length)).unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o1_a_message_is_laid_out_as_d_bus_says() {
        let made = message(7, "i.f", ["d.e", "/p"], "M", "s", b"\x01\0\0\0x\0");
        assert_eq!(&made[..16], b"l\x01\0\x01\x06\0\0\0\x07\0\0\0\x47\0\0\0");
        // The first field: the path, an object's, in a structure of eight bytes and more.
        assert_eq!(&made[16..27], b"\x01\x01o\0\x02\0\0\0/p\0");
        // The body begins at a multiple of eight.
        assert_eq!(&made[made.len() - 6..], b"\x01\0\0\0x\0");
        assert_eq!((made.len() - 6) % 8, 0);
    }

    #[test]
    fn o1_an_array_counts_its_elements_and_not_what_aligns_them() {
        let mut writer = Writer::default();
        writer.array(8, |to| to.value(&Value::Number(1)));
        assert_eq!(writer.0, [8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn o1_the_answer_to_another_call_is_none() {
        let fields = b"\x05\x01u\0\x02\0\0\0";
        assert!(answers(fields, 2));
        assert!(!answers(fields, 3));
        assert_eq!(first_text(b"\x03\0\0\0why\0"), "why");
        assert_eq!(first_text(b"\xff\xff\xff\xff"), "");
    }
}
