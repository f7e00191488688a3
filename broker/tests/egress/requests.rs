//! What is asked for, and what is sent.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use broker::egress::{Error, Limits, Reason, Request};
use bytes::Bytes;

use crate::rig::{Names, Server, World, get, hello, with_headers};

#[test]
fn b7_nothing_is_granted_that_was_not_granted_word_for_word() {
    let world = World::new();
    let port = world.server.port;
    let grants = [
        vec![],
        vec![format!("other.example:{port}")],
        vec![format!("name.example:{}", port.wrapping_add(1).max(1))],
        vec![
            format!("*.example:{port}"),
            format!("example:{port}"),
            "name.example".to_owned(),
            String::new(),
        ],
        vec![format!("x.name.example:{port}"), format!("127.0.0.1:{port}")],
    ];
    for granted in grants {
        let granted: Vec<&str> = granted.iter().map(String::as_str).collect();
        let error = world.fetch_as(&world.loopback, &granted, get(&world.url("/"))).unwrap_err();
        let Error::Denied(denied) = error else { panic!("{granted:?}: {error}") };
        assert_eq!(denied.reason, Reason::NotGranted);
        assert_eq!(denied.to_string(), format!("name.example:{port} is denied: it was not granted"));
    }
    assert_eq!((world.server.heard(), world.names.asked.load(Ordering::Relaxed)), (0, 0));
}

#[test]
fn b7_another_way_to_write_a_host_is_the_same_host_or_not_granted() {
    let world = World::new();
    let port = world.server.port;
    let granted = [format!("name.example:{port}"), format!("127.0.0.1:{port}")];
    let granted: Vec<&str> = granted.iter().map(String::as_str).collect();
    for same in ["NAME.example", "n%61me.example", "127.1", "0x7f.0.0.1", "2130706433", "017700000001"] {
        world.fetch_as(&world.loopback, &granted, get(&format!("http://{same}:{port}/"))).unwrap();
    }
    for other in ["name.example.", "127.0.0.2", "[::ffff:127.0.0.1]", "name.example%2eevil.example"] {
        let error =
            world.fetch_as(&world.loopback, &granted, get(&format!("http://{other}:{port}/"))).unwrap_err();
        assert!(matches!(error, Error::Denied(_)), "{other}: {error}");
    }
}

#[test]
fn b7_what_was_granted_is_fetched() {
    let world = World::new();
    let request = Request {
        method: "POST".to_owned(),
        body: Bytes::from_static(b"sent"),
        ..get(&world.url("/a?b=c#d"))
    };
    let answer = world.fetch(with_headers(request, &[("X-Key", "secret")]), &Limits::default()).unwrap();
    assert_eq!(answer, (200, b"hello".to_vec()));
    let message = world.server.messages().remove(0);
    assert!(message.starts_with("POST /a?b=c HTTP/1.1\r\n"), "{message}");
    assert!(message.contains(&format!("host: name.example:{}\r\n", world.server.port)), "{message}");
    assert!(message.contains("x-key: secret\r\n") && message.ends_with("\r\n\r\nsent"), "{message}");
}

#[test]
fn b7_the_address_that_was_judged_is_the_one_that_is_dialled() {
    let world = World::new();
    let port = world.server.port;
    let elsewhere = Server::at(&format!("127.0.0.2:{port}"), hello);
    // A resolver that says something else the second time.
    let [first, second]: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv4Addr::new(127, 0, 0, 2).into()];
    world.names.turns("name.example", &[&[first], &[second]]);
    world.fetch(get(&world.url("/")), &Limits::default()).unwrap();
    assert_eq!(world.names.asked.load(Ordering::Relaxed), 1, "the name was resolved more than once");
    assert_eq!((world.server.heard(), elsewhere.heard()), (1, 0));
    // What it says the second time is judged the second time.
    let second = Ipv4Addr::new(127, 0, 0, 3).into();
    world.names.turns("name.example", &[&[first], &[second]]);
    world.fetch(get(&world.url("/")), &Limits::default()).unwrap();
    let error = world.fetch(get(&world.url("/")), &Limits::default()).unwrap_err();
    assert!(error.to_string().contains("127.0.0.3 is in 127.0.0.0/8"), "{error}");
}

#[test]
fn b7_a_message_is_one_message() {
    let world = World::new();
    for (name, value) in [
        ("a", "b\r\nHost: other"),
        ("a", "b\n"),
        ("a", "b\0"),
        ("a\r\nb", "c"),
        ("a b", "c"),
        ("a:", "c"),
        ("", "c"),
        ("Host", "other.example"),
        ("Content-Length", "0"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "upgrade"),
        ("Upgrade", "websocket"),
        ("Proxy-Authorization", "Basic eA=="),
        ("Expect", "100-continue"),
    ] {
        let error = world
            .fetch(with_headers(get(&world.url("/")), &[(name, value)]), &Limits::default())
            .unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{name:?}: {value:?}: {error}");
    }
    for method in ["CONNECT", "TRACE", "get", "", "GET /x HTTP/1.1\r\n\r\nGET", "PROPFIND"] {
        let request = Request { method: method.to_owned(), ..get(&world.url("/")) };
        assert!(matches!(world.fetch(request, &Limits::default()), Err(Error::Invalid(_))), "{method:?}");
    }
    for url in [
        "ftp://name.example/",
        "file:///etc/passwd",
        "gopher://name.example/",
        "//name.example/",
        "name.example",
        "http://",
        "http://user@name.example/",
        "http://user:password@name.example/",
        "http://a b/",
    ] {
        assert!(matches!(world.fetch(get(url), &Limits::default()), Err(Error::Invalid(_))), "{url}");
    }
    // In a path they are not what they look like.
    world.fetch(get(&world.url("/a\r\nHost: other\r\n\r\n b")), &Limits::default()).unwrap();
    assert!(
        world.server.messages()[0].starts_with("GET /aHost:%20other%20b HTTP/1.1\r\n"),
        "{:?}",
        world.server.messages()
    );
    assert_eq!(world.server.heard(), 1);
}

/// Run by the next test, with proxies in its environment.
#[test]
fn b7_a_request_with_a_proxy_in_the_environment() {
    let world = World::new();
    world.fetch(get(&world.url("/")), &Limits::default()).unwrap();
    assert!(world.server.messages()[0].starts_with("GET / HTTP/1.1\r\n"));
}

#[test]
fn b7_the_environment_names_no_proxy() {
    let proxy = Server::new(hello);
    let url = format!("http://127.0.0.1:{}", proxy.port);
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "requests::b7_a_request_with_a_proxy_in_the_environment", "--nocapture"]);
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env(name, &url);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    assert_eq!(proxy.heard(), 0);
}

/// A certificate for one name, and the roots that vouch for it.
fn certificate(name: &str) -> (Arc<rustls::ServerConfig>, rustls::RootCertStore) {
    let signed = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(signed.cert.der().clone()).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(signed.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key.into())
        .unwrap();
    (Arc::new(config), roots)
}

fn tls(config: Arc<rustls::ServerConfig>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    Server::on(listener, Arc::new(hello), move |mut stream| {
        let mut connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut stream).ok()?;
        }
        Some(Box::new(rustls::StreamOwned::new(connection, stream)))
    })
}

#[test]
fn b7_a_certificate_is_for_the_name_that_was_granted() {
    let world = World::new();
    let (config, roots) = certificate("name.example");
    let server = tls(config);
    world.names.set("other.example", &[Ipv4Addr::LOCALHOST.into()]);
    let trusting = world.loopback.clone().with_roots(roots);
    let fetch = |guard: &broker::egress::Guard, name: &str| {
        let target = format!("{name}:{}", server.port);
        world.run(async {
            let mut response = guard
                .fetch(&Names::grants(&[&target]), get(&format!("https://{target}/")), &Limits::default())
                .await?;
            response.bytes().await
        })
    };
    assert_eq!(fetch(&trusting, "name.example").unwrap(), b"hello");
    let wrong = fetch(&trusting, "other.example").unwrap_err();
    let why = std::error::Error::source(&wrong).unwrap().to_string();
    assert!(why.contains("not valid for name"), "{wrong}: {why}");
    let (_, strangers) = certificate("name.example");
    let wrong = fetch(&world.loopback.clone().with_roots(strangers), "name.example").unwrap_err();
    let why = std::error::Error::source(&wrong).unwrap().to_string();
    assert!(why.contains("certificate"), "{wrong}: {why}");
    assert_eq!(server.heard(), 1, "a request was sent to whom nobody vouches for");
}
