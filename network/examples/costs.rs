//! What attaching and releasing cost: `unshare -n <this>`, which keeps the machine's own network out of it.
#![allow(clippy::print_stdout, reason = "it is a measurement")]

use std::time::{Duration, Instant};

use network::{Config, Namespace, Networks, Request};

type Error = Box<dyn std::error::Error>;

const TURNS: u32 = 100;

fn main() -> Result<(), Error> {
    // Where there are links, this would be the machine's own namespace.
    let links = std::fs::read_to_string("/proc/self/net/dev")?;
    if links.lines().any(|line| line.contains("eth") || line.contains("scb")) {
        return Err("run it by `unshare -n`".into());
    }
    let directory = tempfile::tempdir()?;
    let networks = Networks::open(std::fs::File::open(directory.path())?.into(), Config::default())?;
    let publishing = Request { publish: vec!["8080:80".parse()?], ..Request::default() };

    let first = Instant::now();
    let attachment = networks.private("first", &Request::default())?;
    say("the first container: bridge, table, settings", first.elapsed());
    networks.release("first")?;
    drop(attachment);
    let last = Instant::now();
    networks.tidy()?;
    say("the last one: link, bridge, table, settings", last.elapsed());

    let _warm = networks.keep_warm()?;
    drop(networks.private("first", &Request::default())?);
    networks.release("first")?;
    median("network none", || drop(Namespace::create()), || ())?;
    for (what, request) in [("private", &Request::default()), ("private, one published port", &publishing)] {
        let mut ready = Vec::new();
        cycle(&networks, &format!("{what}, attach"), &format!("{what}, release"), || {
            networks.private("one", request)
        })?;
        for _ in 0..TURNS {
            ready.push(Namespace::create()?);
        }
        cycle(
            &networks,
            &format!("{what}, namespace made ahead, attach"),
            &format!("{what}, namespace made ahead, release"),
            || match ready.pop() {
                Some(namespace) => networks.private_in("one", request, namespace),
                None => networks.private("one", request),
            },
        )?;
    }
    // With a hundred others there.
    let others: Result<Vec<_>, _> =
        (0..TURNS).map(|number| networks.private(&format!("other-{number}"), &Request::default())).collect();
    cycle(&networks, "private, next to 100 others, attach", "private, next to 100 others, release", || {
        networks.private("one", &Request::default())
    })?;
    drop(others?);
    for number in 0..TURNS {
        networks.release(&format!("other-{number}"))?;
    }
    drop(_warm);
    networks.tidy()?;
    Ok(())
}

/// Attach and release in turns, timed apart.
fn cycle(
    networks: &Networks,
    attach: &str,
    release: &str,
    mut attached: impl FnMut() -> Result<network::Attachment, network::Error>,
) -> Result<(), Error> {
    let (mut attaching, mut releasing) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let start = Instant::now();
        let attachment = attached()?;
        attaching.push(start.elapsed());
        drop(attachment);
        let start = Instant::now();
        networks.release("one")?;
        releasing.push(start.elapsed());
    }
    networks.tidy()?;
    for (what, mut times) in [(attach, attaching), (release, releasing)] {
        times.sort();
        say(what, times.get(times.len() / 2).copied().unwrap_or_default());
    }
    Ok(())
}

fn median(what: &str, mut step: impl FnMut(), mut after: impl FnMut()) -> Result<(), Error> {
    let mut times = Vec::new();
    for _ in 0..TURNS {
        let start = Instant::now();
        step();
        times.push(start.elapsed());
        after();
    }
    times.sort();
    say(what, times.get(times.len() / 2).copied().unwrap_or_default());
    Ok(())
}

fn say(what: &str, time: Duration) {
    println!("{:8.2} ms  {what}", time.as_secs_f64() * 1000.0);
}
