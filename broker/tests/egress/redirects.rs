//! Where a server sends a request on to.

use std::net::Ipv4Addr;

use broker::egress::{Error, Limits, Reason, Request};
use bytes::Bytes;

use crate::rig::{Names, Server, World, get, hello, redirect, with_headers};

/// Two names on two servers, of which the second one says hello.
fn two(world: &World, grants: &[&str], request: Request) -> broker::egress::Result<(u16, String)> {
    world.names.set("two.example", &[Ipv4Addr::LOCALHOST.into()]);
    world.run(async {
        let response = world.loopback.fetch(&Names::grants(grants), request, &Limits::default()).await?;
        Ok((response.status, response.url))
    })
}

#[test]
fn b7_a_redirect_is_judged_like_a_request() {
    let second = Server::new(hello);
    let to = format!("http://two.example:{}/there", second.port);
    let world = World::with(redirect(302, &to));
    let first = format!("name.example:{}", world.server.port);
    let granted = format!("two.example:{}", second.port);
    let error = two(&world, &[&first], get(&world.url("/"))).unwrap_err();
    assert_eq!(error.to_string(), format!("{granted} is denied: it was not granted"));
    assert_eq!(second.heard(), 0);
    assert_eq!(two(&world, &[&first, &granted], get(&world.url("/"))).unwrap(), (200, to));
    // Granted, but a name of what is inside.
    world.names.set("two.example", &["169.254.169.254".parse().unwrap()]);
    let error = world.fetch_as(&world.loopback, &[&first, &granted], get(&world.url("/"))).unwrap_err();
    let Error::Denied(denied) = error else { panic!("{error}") };
    assert!(matches!(denied.reason, Reason::Special { .. }), "{denied}");
}

#[test]
fn b7_a_redirect_leads_to_the_web_and_not_to_less_than_it_came_from() {
    for to in
        ["file:///etc/passwd", "ftp://two.example/", "http://user:secret@two.example/", "http://", "\u{1}"]
    {
        let world = World::with(redirect(302, to));
        let error = world.fetch(get(&world.url("/")), &Limits::default()).unwrap_err();
        assert!(
            matches!(error, Error::Invalid(_) | Error::Denied(_) | Error::Failed { .. }),
            "{to}: {error}"
        );
        assert_eq!(world.server.heard(), 1);
    }
    // To the same place, in another form.
    let world = World::with(|message, stream| match message.starts_with("GET /there") {
        true => hello(message, stream),
        false => redirect(301, "/there")(message, stream),
    });
    assert_eq!(world.fetch(get(&world.url("/")), &Limits::default()).unwrap().0, 200);
}

#[test]
fn b7_secrets_stay_with_the_host_they_were_for() {
    let second = Server::new(hello);
    let world = World::with(redirect(302, &format!("http://two.example:{}/", second.port)));
    let grants = [format!("name.example:{}", world.server.port), format!("two.example:{}", second.port)];
    let grants: Vec<&str> = grants.iter().map(String::as_str).collect();
    let secrets = ["authorization", "cookie", "x-api-key", "referer"];
    let mut headers: Vec<(&str, &str)> = secrets.iter().map(|name| (*name, "secret")).collect();
    headers.push(("accept", "text/plain"));
    two(&world, &grants, with_headers(get(&world.url("/")), &headers)).unwrap();
    assert_eq!(world.server.messages()[0].matches("secret").count(), secrets.len());
    let message = second.messages().remove(0);
    assert!(!message.contains("secret") && message.contains("accept: text/plain"), "{message}");
    // Within one origin they go along.
    let world = World::with(|message, stream| match message.starts_with("GET /there") {
        true => hello(message, stream),
        false => redirect(302, "/there")(message, stream),
    });
    world.fetch(with_headers(get(&world.url("/")), &headers), &Limits::default()).unwrap();
    assert_eq!(world.server.messages()[1].matches("secret").count(), secrets.len());
}

#[test]
fn b7_a_body_does_not_go_to_another_host_by_redirect() {
    let second = Server::new(hello);
    let grants = |world: &World| {
        [format!("name.example:{}", world.server.port), format!("two.example:{}", second.port)]
    };
    for status in [307, 308] {
        let world = World::with(redirect(status, &format!("http://two.example:{}/", second.port)));
        let post = Request {
            method: "POST".to_owned(),
            body: Bytes::from_static(b"secret"),
            ..get(&world.url("/"))
        };
        let grants = grants(&world);
        let grants: Vec<&str> = grants.iter().map(String::as_str).collect();
        let error = two(&world, &grants, post).unwrap_err();
        assert!(error.to_string().ends_with("would carry the body to another host"), "{error}");
    }
    assert_eq!(second.heard(), 0);
    for status in [301, 302, 303] {
        let world = World::with(redirect(status, &format!("http://two.example:{}/", second.port)));
        let post = Request {
            method: "POST".to_owned(),
            body: Bytes::from_static(b"secret"),
            ..get(&world.url("/"))
        };
        let grants = grants(&world);
        let grants: Vec<&str> = grants.iter().map(String::as_str).collect();
        two(&world, &grants, post).unwrap();
    }
    let messages = second.messages();
    assert_eq!(messages.len(), 3);
    assert!(
        messages.iter().all(|message| message.starts_with("GET / ") && !message.contains("secret")),
        "{messages:?}"
    );
}

#[test]
fn b7_redirects_end() {
    let world = World::with(redirect(302, "/again"));
    let error = world.fetch(get(&world.url("/")), &Limits::default()).unwrap_err();
    assert_eq!(error.to_string(), "more than 5 redirects");
    assert_eq!(world.server.heard(), 6);
    let none = Limits { redirects: 0, ..Limits::default() };
    assert_eq!(world.fetch(get(&world.url("/")), &none).unwrap().0, 302);
}
