//! How much a request may be, and how long it may take.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use broker::egress::{Error, Limits, Request};
use bytes::Bytes;

use crate::rig::{Names, ReadWrite, World, get, with_headers};

const SHORT: Duration = Duration::from_millis(300);

/// The step that took too long.
fn late(result: broker::egress::Result<(u16, Vec<u8>)>, since: Instant) -> &'static str {
    assert!(since.elapsed() < Duration::from_secs(5), "it took {:?}", since.elapsed());
    match result {
        Err(Error::TimedOut { step, .. }) => step,
        other => panic!("{other:?}"),
    }
}

#[test]
fn b7_a_server_that_says_nothing_is_given_up() {
    let world = World::with(|_, _| std::thread::sleep(Duration::from_secs(2)));
    let limits = Limits { first_byte: SHORT, ..Limits::default() };
    let start = Instant::now();
    assert_eq!(late(world.fetch(get(&world.url("/")), &limits), start), "get an answer from");
    let limits = Limits { whole: SHORT, ..Limits::default() };
    let start = Instant::now();
    assert_eq!(late(world.fetch(get(&world.url("/")), &limits), start), "fetch from");
}

#[test]
fn b7_a_server_that_never_finishes_is_given_up() {
    let drip = |_: &str, stream: &mut dyn ReadWrite| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").ok();
        while stream.write_all(b"1\r\nx\r\n").and_then(|()| stream.flush()).is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let world = World::with(drip);
    let limits = Limits { whole: SHORT, ..Limits::default() };
    let start = Instant::now();
    assert_eq!(late(world.fetch(get(&world.url("/")), &limits), start), "read the body from");
    // Nor one whose headers never end.
    let world = World::with(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n").ok();
        while stream.write_all(b"a: b\r\n").and_then(|()| stream.flush()).is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let limits = Limits { first_byte: SHORT, ..Limits::default() };
    let start = Instant::now();
    assert_eq!(late(world.fetch(get(&world.url("/")), &limits), start), "get an answer from");
}

#[test]
fn b7_nobody_who_listens_and_does_not_accept_holds_a_request_up() {
    // Hands are never shaken: to TLS, it is silence.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("name.example:{}", listener.local_addr().unwrap().port());
    let world = World::new();
    let limits = Limits { connect: SHORT, ..Limits::default() };
    let start = Instant::now();
    let roots = rustls::RootCertStore::empty();
    let guard = world.loopback.clone().with_roots(roots);
    let result =
        world.run(guard.fetch(&Names::grants(&[&target]), get(&format!("https://{target}/")), &limits));
    assert_eq!(late(result.map(|_| (0, Vec::new())), start), "agree on TLS with");
}

#[test]
fn b7_a_response_is_no_larger_than_it_may_be() {
    let limits = Limits { response_body: 1000, ..Limits::default() };
    let said = World::with(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n").ok();
    });
    let unsaid = World::with(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok();
        stream.write_all(&[b'x'; 1001]).ok();
    });
    for world in [said, unsaid] {
        let error = world.fetch(get(&world.url("/")), &limits).unwrap_err();
        assert_eq!(error.to_string(), "response body over the limit of 1000 bytes");
    }
    let world = World::with(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok();
        stream.write_all(&[b'x'; 1000]).ok();
    });
    assert_eq!(world.fetch(get(&world.url("/")), &limits).unwrap().1.len(), 1000);
}

#[test]
fn b7_a_body_comes_in_pieces() {
    let world = World::with(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").ok();
        stream.write_all(&vec![b'x'; 1_000_000]).ok();
    });
    let target = format!("name.example:{}", world.server.port);
    let sizes = world.run(async {
        let grants = Names::grants(&[&target]);
        let mut response =
            world.loopback.fetch(&grants, get(&world.url("/")), &Limits::default()).await.unwrap();
        let mut sizes = Vec::new();
        while let Some(chunk) = response.chunk().await.unwrap() {
            sizes.push(chunk.len());
        }
        sizes
    });
    assert_eq!(sizes.iter().sum::<usize>(), 1_000_000);
    assert!(sizes.iter().all(|size| (1..=64 << 10).contains(size)), "{sizes:?}");
}

#[test]
fn b7_headers_are_no_more_than_they_may_be() {
    let many = World::with(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n").ok();
        stream.write_all("a: b\r\n".repeat(1000).as_bytes()).ok();
        stream.write_all(b"\r\n").ok();
    });
    let long = World::with(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\na: ").ok();
        stream.write_all(&vec![b'x'; 1 << 20]).ok();
        stream.write_all(b"\r\n\r\n").ok();
    });
    for world in [many, long] {
        let error = world.fetch(get(&world.url("/")), &Limits::default()).unwrap_err();
        assert!(matches!(error, Error::Failed { .. }), "{error}");
    }
    let world = World::new();
    let (large, limits) = ("x".repeat(16 << 10), Limits::default());
    let error = world.fetch(with_headers(get(&world.url("/")), &[("a", &large)]), &limits).unwrap_err();
    assert_eq!(error.to_string(), "request headers over the limit of 16384 bytes");
    let body = Bytes::from(vec![0; (8 << 20) + 1]);
    let error = world.fetch(Request { body, ..get(&world.url("/")) }, &limits).unwrap_err();
    assert_eq!(error.to_string(), "request body over the limit of 8388608 bytes");
    assert_eq!(world.server.heard(), 0);
}

#[test]
fn b7_a_name_has_no_more_addresses_than_can_be_meant() {
    let world = World::new();
    let addresses: Vec<std::net::IpAddr> = vec![std::net::Ipv4Addr::LOCALHOST.into(); 65];
    world.names.set("name.example", &addresses[1..]);
    world.fetch(get(&world.url("/")), &Limits::default()).unwrap();
    world.names.set("name.example", &addresses);
    let error = world.fetch(get(&world.url("/")), &Limits::default()).unwrap_err();
    assert!(matches!(error, Error::Failed { .. }), "{error}");
}

#[test]
fn b7_what_is_no_answer_is_an_error() {
    for answer in
        ["", "HTTP/1.1", "hello", "HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"]
    {
        let world = World::with(move |_, stream| {
            stream.write_all(answer.as_bytes()).ok();
        });
        let error = world.fetch(get(&world.url("/")), &Limits::default()).unwrap_err();
        assert!(matches!(error, Error::Failed { .. }), "{answer:?}: {error}");
    }
    // A body that breaks off is not one that ended.
    let world = World::with(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").ok();
    });
    let error = world.fetch(get(&world.url("/")), &Limits::default()).unwrap_err();
    assert!(error.to_string().starts_with("cannot read the body from"), "{error}");
}
