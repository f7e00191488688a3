//! A client of the host's socket: newline-delimited JSON-RPC 2.0, nothing hidden, so that a test can also say what
//! no good client would.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// One connection.
#[derive(Debug)]
pub struct Rpc {
    reader: BufReader<UnixStream>,
    next: u64,
    answers: VecDeque<Value>,
    /// Notifications that came between answers.
    pub notifications: Vec<Value>,
}

/// An error response.
#[derive(Clone, Debug, PartialEq)]
pub struct RpcError {
    /// The JSON-RPC code.
    pub code: i64,
    /// For people.
    pub message: String,
    /// `data.kind`, `data.step`, `data.subject`, where they are.
    pub data: Value,
}

impl RpcError {
    /// `data.kind`.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.data["kind"].as_str().unwrap_or("")
    }

    /// `data.step`.
    #[must_use]
    pub fn step(&self) -> &str {
        self.data["step"].as_str().unwrap_or("")
    }

    /// `data.subject`.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.data["subject"].as_str().unwrap_or("")
    }
}

/// What a message holds as text or in base64.
///
/// # Panics
/// When it is neither.
#[must_use]
#[track_caller]
pub fn bytes(data: &Value) -> Vec<u8> {
    match (data["text"].as_str(), data["base64"].as_str()) {
        (Some(text), None) => text.as_bytes().to_vec(),
        (None, Some(text)) => STANDARD.decode(text).expect("base64"),
        _ => panic!("neither text nor base64: {data}"),
    }
}

impl Rpc {
    /// Connects, and says nothing.
    ///
    /// # Panics
    /// When nobody listens.
    #[must_use]
    #[track_caller]
    pub fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap_or_else(|error| panic!("connect: {error}"));
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set a time limit");
        stream.set_write_timeout(Some(Duration::from_secs(60))).expect("set a time limit");
        Self { reader: BufReader::new(stream), next: 1, answers: VecDeque::new(), notifications: Vec::new() }
    }

    /// Says hello.
    #[track_caller]
    pub fn hello(&mut self) {
        let hello = self.call("hello", json!({"protocol": 1, "client": "tests"}));
        assert_eq!(hello["protocol"], 1);
    }

    /// The socket itself.
    #[must_use]
    pub fn stream(&self) -> &UnixStream {
        self.reader.get_ref()
    }

    /// Sends one request and returns its id, without waiting.
    #[track_caller]
    pub fn send(&mut self, method: &str, params: Value) -> u64 {
        let id = self.next;
        self.next += 1;
        self.send_line(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string());
        id
    }

    /// Sends one notification.
    #[track_caller]
    pub fn notify(&mut self, method: &str, params: Value) {
        self.send_line(&json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string());
    }

    /// Sends one line, whatever it says.
    ///
    /// # Panics
    /// When the host has closed the connection.
    #[track_caller]
    pub fn send_line(&mut self, line: &str) {
        self.try_send_line(line).unwrap_or_else(|error| panic!("send: {error}"));
    }

    /// Sends one line, whatever it says.
    ///
    /// # Errors
    /// When the host has closed the connection.
    pub fn try_send_line(&mut self, line: &str) -> std::io::Result<()> {
        let mut stream = self.stream();
        stream.write_all(line.as_bytes())?;
        stream.write_all(b"\n")
    }

    /// The next line from the host; `None` when it has closed the connection.
    ///
    /// # Panics
    /// When it is silent for a minute or does not speak JSON.
    #[track_caller]
    pub fn receive(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => {
                Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("not JSON: {error}: {line}")))
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("the host says nothing: {error}"),
        }
    }

    /// Everything that comes until the host closes the connection, of one that carries bytes by now.
    ///
    /// # Panics
    /// When the host is silent for a minute.
    #[must_use]
    #[track_caller]
    pub fn rest(mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.reader.read_to_end(&mut bytes).unwrap_or_else(|error| panic!("the host says nothing: {error}"));
        bytes
    }

    /// The answer to the request with this id; others are kept for whoever asks for them.
    ///
    /// # Errors
    /// The error that the host answered with.
    ///
    /// # Panics
    /// When the connection ends first.
    #[track_caller]
    pub fn answer(&mut self, id: u64) -> Result<Value, RpcError> {
        loop {
            if let Some(position) = self.answers.iter().position(|answer| answer["id"] == id) {
                let mut answer = self.answers.remove(position).unwrap_or_default();
                return match answer.get("error") {
                    None => Ok(answer["result"].take()),
                    Some(error) => Err(RpcError {
                        code: error["code"].as_i64().unwrap_or(0),
                        message: error["message"].as_str().unwrap_or("").to_owned(),
                        data: error["data"].clone(),
                    }),
                };
            }
            let message = self.receive().unwrap_or_else(|| panic!("the host closed the connection"));
            if message.get("method").is_some() {
                self.notifications.push(message);
            } else {
                self.answers.push_back(message);
            }
        }
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// The error that the host answered with.
    #[track_caller]
    pub fn try_call(&mut self, method: &str, params: Value) -> Result<Value, RpcError> {
        let id = self.send(method, params);
        self.answer(id)
    }

    /// Sends a request and waits for its result.
    ///
    /// # Panics
    /// When the host answers with an error.
    #[track_caller]
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.try_call(method, params).unwrap_or_else(|error| panic!("{method}: {error:?}"))
    }

    /// Sends a request that must fail.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn call_fails(&mut self, method: &str, params: Value) -> RpcError {
        match self.try_call(method, params) {
            Err(error) => error,
            Ok(result) => panic!("{method} succeeded: {result}"),
        }
    }

    /// Makes a throw-away rootfs over the image and returns its guid.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn create_fs(&mut self, image: &str) -> String {
        let made = self.call("subcontainer.createFs", json!({"imageId": image, "throwaway": true}));
        made["guid"].as_str().expect("a guid").to_owned()
    }

    /// Runs a command to its end in one round trip.
    #[track_caller]
    pub fn exec(&mut self, guid: &str, command: &[&str]) -> Value {
        self.call("subcontainer.exec", json!({"guid": guid, "command": command}))
    }

    /// Runs a command that must end with 0, and returns its output as text.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn output(&mut self, guid: &str, command: &[&str]) -> String {
        let result = self.exec(guid, command);
        assert_eq!(result["outcome"], json!({"kind": "exit", "code": 0}), "{result}");
        String::from_utf8(bytes(&result["stdout"])).expect("text")
    }
}
