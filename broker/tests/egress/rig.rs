//! A server on loopback that answers as it is told, and a resolver that says what it is told.

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use broker::egress::{Addresses, Grants, Guard, Limits, Request, Resolve, Response, Result};

/// An address that is nobody's business here: never dialled by a test.
pub(crate) const PUBLIC: IpAddr = IpAddr::V4(Ipv4Addr::new(93, 184, 216, 34));

/// Names, and how often somebody asked.
#[derive(Default)]
pub(crate) struct Names {
    known: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
    pub(crate) asked: AtomicUsize,
}

impl Names {
    /// The same answer each time.
    pub(crate) fn set(&self, name: &str, addresses: &[IpAddr]) {
        self.turns(name, &[addresses]);
    }

    /// One answer after the other, and then the last one.
    pub(crate) fn turns(&self, name: &str, answers: &[&[IpAddr]]) {
        let answers = answers.iter().rev().map(|addresses| addresses.to_vec()).collect();
        self.known.lock().unwrap().insert(name.to_owned(), answers);
    }

    pub(crate) fn grants(hosts: &[&str]) -> Grants {
        Grants::new(hosts.iter().copied())
    }
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, name: &'a str) -> Addresses<'a> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut known = self.known.lock().unwrap();
        let answer = match known.get_mut(name) {
            Some(answers) if answers.len() > 1 => Ok(answers.pop().unwrap()),
            Some(answers) => Ok(answers[0].clone()),
            None => Err(std::io::Error::other(format!("nobody knows {name}"))),
        };
        Box::pin(async move { answer })
    }
}

type Answer = dyn Fn(&str, &mut dyn ReadWrite) + Send + Sync;

pub(crate) trait ReadWrite: std::io::Read + std::io::Write {}
impl<T: std::io::Read + std::io::Write> ReadWrite for T {}

/// A server: what it hears, and what it says to it. Ends when it is dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    heard: Arc<Mutex<Vec<String>>>,
    address: std::net::SocketAddr,
    ended: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) fn new(answer: impl Fn(&str, &mut dyn ReadWrite) + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0", answer)
    }

    pub(crate) fn at(
        address: &str,
        answer: impl Fn(&str, &mut dyn ReadWrite) + Send + Sync + 'static,
    ) -> Self {
        Self::on(TcpListener::bind(address).unwrap(), Arc::new(answer), |stream| Some(Box::new(stream)))
    }

    /// `wrap`: TLS, for instance; none where no hands were shaken.
    pub(crate) fn on(
        listener: TcpListener,
        answer: Arc<Answer>,
        wrap: impl Fn(TcpStream) -> Option<Box<dyn ReadWrite>> + Send + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let (heard, ended) = (Arc::default(), Arc::new(AtomicUsize::new(0)));
        let (hears, ends) = (Arc::clone(&heard), Arc::clone(&ended));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ends.load(Ordering::Acquire) > 0 {
                    return;
                }
                let Some(mut stream) = wrap(stream.unwrap()) else { continue };
                let message = read(&mut stream);
                let hears: &Mutex<Vec<String>> = &hears;
                hears.lock().unwrap().push(message.clone());
                answer(&message, &mut stream);
                stream.flush().ok();
            }
        });
        Self { port: address.port(), heard, address, ended }
    }

    /// Connections so far.
    pub(crate) fn heard(&self) -> usize {
        self.heard.lock().unwrap().len()
    }

    pub(crate) fn messages(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(1, Ordering::Release);
        TcpStream::connect(self.address).ok();
    }
}

/// A message with its body.
fn read(stream: &mut dyn ReadWrite) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        bytes.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&bytes).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok();
    bytes.extend(body);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What most servers say.
pub(crate) fn hello(_: &str, stream: &mut dyn ReadWrite) {
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").ok();
}

/// A redirect.
pub(crate) fn redirect(status: u16, to: &str) -> impl Fn(&str, &mut dyn ReadWrite) + Send + Sync + 'static {
    let answer = format!("HTTP/1.1 {status} Elsewhere\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
    move |_, stream| {
        stream.write_all(answer.as_bytes()).ok();
    }
}

/// A server, names, a guard as it is without the operator's word, and one that has it for 127.0.0.1 and 127.0.0.2.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) names: Arc<Names>,
    pub(crate) guard: Guard,
    pub(crate) loopback: Guard,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(hello)
    }

    pub(crate) fn with(answer: impl Fn(&str, &mut dyn ReadWrite) + Send + Sync + 'static) -> Self {
        let names = Arc::new(Names::default());
        let guard = Guard::with_resolver(Arc::clone(&names) as Arc<dyn Resolve>);
        let private = ["127.0.0.1/32", "127.0.0.2/32"].map(|net| net.parse().unwrap());
        let loopback = guard.clone().with_private(private.to_vec());
        names.set("name.example", &[Ipv4Addr::LOCALHOST.into()]);
        Self { server: Server::new(answer), names, guard, loopback }
    }

    pub(crate) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    pub(crate) fn fetch_as(&self, guard: &Guard, grants: &[&str], request: Request) -> Result<Response> {
        self.run(guard.fetch(&Names::grants(grants), request, &Limits::default()))
    }

    /// To the server by its name, which is granted: the response's status and body.
    pub(crate) fn fetch(&self, request: Request, limits: &Limits) -> Result<(u16, Vec<u8>)> {
        let target = format!("name.example:{}", self.server.port);
        self.run(async {
            let mut response = self.loopback.fetch(&Names::grants(&[&target]), request, limits).await?;
            Ok((response.status, response.bytes().await?))
        })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://name.example:{}{path}", self.server.port)
    }
}

pub(crate) fn get(url: &str) -> Request {
    Request { method: "GET".to_owned(), url: url.to_owned(), ..Request::default() }
}

pub(crate) fn with_headers(request: Request, headers: &[(&str, &str)]) -> Request {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Request { headers, ..request }
}
