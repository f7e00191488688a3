//! A machine in a network namespace, with a way out to an internet in another, and containers.
#![allow(dead_code, reason = "no test file uses all of it")]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use network::{Attachment, Config, Networks, Request};

/// How long a call may take that should be answered.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a call is waited for that should not be answered.
const DOUBT: Duration = Duration::from_millis(300);

/// The machine's addresses on its way out, and the internet's.
pub(crate) const MACHINE: &str = "203.0.113.2";
pub(crate) const MACHINE6: &str = "2001:db8::2";
pub(crate) const INTERNET: &str = "203.0.113.1";
pub(crate) const INTERNET6: &str = "2001:db8::1";

/// Runs a program that must succeed; returns what it said.
pub(crate) fn run(line: &str) -> String {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// This thread's network namespace is the machine's: only inside `tests::isolate::isolated`.
pub(crate) struct Lab {
    pub(crate) internet: OwnedFd,
    pub(crate) directory: tempfile::TempDir,
}

impl Lab {
    /// A machine with a way out, IPv4 and IPv6, that forwards nothing.
    pub(crate) fn new() -> Self {
        let lab = Self::offline();
        // A machine's way out has long asked whether its addresses are anybody else's.
        let no_question = || std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").unwrap();
        no_question();
        linux::netns::within(lab.internet.as_fd(), no_question).unwrap();
        let here = format!("/proc/{}/fd/{}", std::process::id(), lab.internet.as_raw_fd());
        run(&format!("ip link add up0 type veth peer name eth0 netns {here}"));
        run(&format!("ip addr add {MACHINE}/24 dev up0"));
        run(&format!("ip addr add {MACHINE6}/64 dev up0 nodad"));
        run("ip link set up0 up");
        linux::netns::within(lab.internet.as_fd(), || {
            run("ip link set lo up");
            run(&format!("ip addr add {INTERNET}/24 dev eth0"));
            run(&format!("ip addr add {INTERNET6}/64 dev eth0 nodad"));
            run("ip link set eth0 up");
        })
        .unwrap();
        run(&format!("ip route add default via {INTERNET}"));
        std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "1").unwrap();
        // To ask for a link has the kernel notice that it is connected.
        run("ip link show up0");
        linux::netns::within(lab.internet.as_fd(), || run("ip link show eth0")).unwrap();
        lab
    }

    /// A machine with nothing but `lo`.
    pub(crate) fn offline() -> Self {
        assert!(tests::isolate::inside(), "this would change the machine's own network");
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "0").unwrap();
        let (internet, ()) = linux::netns::create(|| ()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("resolv.conf"), "nameserver 203.0.113.1\n").unwrap();
        Self { internet, directory }
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            resolv_conf: self.directory.path().join("resolv.conf"),
            resolved: self.directory.path().join("resolved.conf"),
            ..Config::default()
        }
    }

    pub(crate) fn state(&self) -> PathBuf {
        let path = self.directory.path().join("networks");
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    pub(crate) fn networks(&self) -> Networks {
        Networks::open(std::fs::File::open(self.state()).unwrap().into(), self.config()).unwrap()
    }
}

/// Everything that private networks may leave on a machine.
pub(crate) fn traces() -> Vec<String> {
    let mut traces: Vec<String> =
        run("ip -o link").lines().map(|line| line.split(": ").nth(1).unwrap().to_owned()).collect();
    for family in ["-4", "-6"] {
        let routes = run(&format!("ip {family} route show table all"));
        // The kernel adds and completes those of the lab's own links in its own time.
        let others = routes.lines().filter(|line| !line.contains("dev up0") && !line.contains("dev lo"));
        traces.extend(others.map(|line| format!("route {line}")));
    }
    traces.extend(run("nft list tables").lines().map(str::to_owned));
    for sysctl in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv6/conf/up0/accept_ra"] {
        let value = std::fs::read_to_string(format!("/proc/sys/{sysctl}")).unwrap_or_default();
        traces.push(format!("{sysctl}={}", value.trim()));
    }
    traces.sort();
    traces
}

pub(crate) fn request(network: &str, aliases: &[&str], publish: &[&str]) -> Request {
    Request {
        network: Some(network.to_owned()),
        aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
        publish: publish.iter().map(|text| text.parse().unwrap()).collect(),
    }
}

/// The container's address of a family.
pub(crate) fn v4(attachment: &Attachment) -> IpAddr {
    attachment.endpoint.addresses[0].addr()
}

pub(crate) fn v6(attachment: &Attachment) -> IpAddr {
    attachment.endpoint.addresses[1].addr()
}

/// Answers each caller with the address it is called from, until dropped. Its socket is of the namespace in which
/// it was made.
pub(crate) struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// In a namespace, or here.
    pub(crate) fn tcp(netns: Option<BorrowedFd<'_>>, address: &str) -> Self {
        let listen = || TcpListener::bind(address).unwrap();
        let listener = inside(netns, listen);
        listener.set_nonblocking(true).unwrap();
        Self::start(move || {
            if let Ok((mut stream, peer)) = listener.accept() {
                stream.set_nonblocking(false).unwrap();
                // A caller may be gone already.
                _ = write!(stream, "{}", canonical(peer));
            }
        })
    }

    pub(crate) fn udp(netns: Option<BorrowedFd<'_>>, address: &str) -> Self {
        let socket = inside(netns, || UdpSocket::bind(address).unwrap());
        socket.set_nonblocking(true).unwrap();
        Self::start(move || {
            if let Ok((_, peer)) = socket.recv_from(&mut [0; 64]) {
                _ = socket.send_to(canonical(peer).as_bytes(), peer);
            }
        })
    }

    fn start(serve: impl Fn() + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                serve();
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn canonical(peer: SocketAddr) -> String {
    peer.ip().to_canonical().to_string()
}

pub(crate) fn inside<T: Send>(netns: Option<BorrowedFd<'_>>, work: impl FnOnce() -> T + Send) -> T {
    match netns {
        Some(netns) => linux::netns::within(netns, work).unwrap(),
        None => work(),
    }
}

/// Calls a TCP server; returns as whom it saw us.
pub(crate) fn call(netns: Option<BorrowedFd<'_>>, address: IpAddr, port: u16) -> std::io::Result<String> {
    try_call(netns, address, port, PATIENCE)
}

fn try_call(
    netns: Option<BorrowedFd<'_>>,
    address: IpAddr,
    port: u16,
    patience: Duration,
) -> std::io::Result<String> {
    inside(netns, || {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address, port), patience)?;
        stream.set_read_timeout(Some(patience))?;
        let mut said = String::new();
        stream.read_to_string(&mut said)?;
        Ok(said)
    })
}

/// Fails if a call is answered.
pub(crate) fn assert_unreachable(netns: Option<BorrowedFd<'_>>, address: IpAddr, port: u16) {
    let answer = try_call(netns, address, port, DOUBT);
    assert!(answer.is_err(), "{address}:{port} answered {answer:?}");
}

/// Asks a UDP server; returns as whom it saw us.
pub(crate) fn ask(netns: Option<BorrowedFd<'_>>, address: IpAddr, port: u16) -> std::io::Result<String> {
    inside(netns, || {
        let any: SocketAddr = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
        let socket = UdpSocket::bind(any)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect((address, port))?;
        socket.send(b"who am I?")?;
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    })
}

/// Waits until something holds.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn read(file: &OwnedFd) -> String {
    std::fs::read_to_string(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap()
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
