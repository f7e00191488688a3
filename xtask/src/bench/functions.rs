//! Light functions: what a call costs in an isolate of its own, and how many of them a processor carries.

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tests::{Cli, Rpc};

use super::lab::{Lab, processes};
use super::packages::Author;
use super::race::{Contestant, Figures, race, timed};
use super::report::{Bar, Report, Table};
use super::survival::connect;
use super::workers::processor;
use crate::demo::Host;
use crate::release;

/// Callers at once.
const CALLERS: usize = 4;
/// Calls of each of them.
const CALLS: usize = 1000;

/// Two modules, so that imports are measured, too.
const FILES: [(&str, &str); 2] = [
    (
        "hello.js",
        "import { greeting } from './words.js';\n\
         export default (request) => Response.json({ said: `${greeting} ${request.query.name ?? 'you'}` });",
    ),
    ("words.js", "export const greeting = 'good morning';"),
];
const PAGE: (&str, &str) =
    ("page.html", "<p>{{ path }}{% for n in range(20) %}<li>{{ n }}</li>{% endfor %}</p>");

/// On a host of its own.
pub(super) fn functions(lab: &Lab, report: &mut Report) -> Result<()> {
    let data = lab.work.join("functions");
    fs::create_dir_all(&data)?;
    let mut host = Host::start(&data)?;
    let cli = Cli::at(&release::binary(), &data);
    let author = Author::trusted(&lab.work.join("functions-author"), &cli)?;
    let manifest = json!({ "manifest": 1, "id": "light", "name": "light", "version": "1.0.0",
        "limits": { "memoryBytes": 256 << 20 },
        "entries": {
            "hello": { "urlFunction": { "function": "entries/hello.js", "path": "/hello" } },
            "page": { "template": { "file": "entries/page.html", "path": "/page" } } } });
    author.install("light", &manifest, &[FILES[0], FILES[1], PAGE])?;
    cli.run(["package", "activate", "light"]).ok();
    calls(lab, report, &host);
    at_once(report, &host)?;
    cli.run(["package", "disable", "light"]).ok();
    host.stop()
}

fn fetch(rpc: &mut Rpc, path: &str) -> Result<()> {
    let answer: Value = rpc.call("package.fetch", json!({ "packageId": "light", "path": path }));
    if answer["status"] != 200 {
        bail!("{answer}");
    }
    Ok(())
}

/// One after the other, from the socket and back: each in an isolate that is new.
fn calls(lab: &Lab, report: &mut Report, host: &Host) {
    let (mut function, mut page) = (connect(host), connect(host));
    let figures = race(
        lab.pace,
        vec![
            Contestant::new("a function", |count| {
                (0..count).map(|_| timed(|| fetch(&mut function, "/hello"))).collect()
            }),
            Contestant::new("a template", |count| {
                (0..count).map(|_| timed(|| fetch(&mut page, "/page"))).collect()
            }),
        ],
    );
    let median = figures.iter().find(|one| one.name == "a function").map_or(f64::NAN, Figures::median);
    report.bar(Bar::at_most("a call of a light function, isolate and all (ms, median)", 2.0, median));
    report.table(Table::times("`package.fetch` (ms)", figures, "a function"));
}

/// As many as there are, and what of the processors they take: the process that runs them, and the host.
fn at_once(report: &mut Report, host: &Host) -> Result<()> {
    let runs = |line: &str| line.starts_with("/bin/start-container functions");
    let found = processes().into_iter().find(|(_, line)| runs(line)).map(|(pid, _)| pid);
    let runner = found.context("the process that runs functions")?;
    let used = || processor(runner) + processor(host.pid());
    let (before, start) = (used(), Instant::now());
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut rpc = connect(host);
                    (0..CALLS).try_for_each(|_| fetch(&mut rpc, "/hello"))
                })
            })
            .collect();
        callers
            .into_iter()
            .try_for_each(|caller| caller.join().unwrap_or_else(|_panicked| bail!("a caller has panicked")))
    })?;
    let calls = (CALLERS * CALLS) as f64;
    let (elapsed, busy) = (start.elapsed().as_secs_f64(), used() - before);
    report.bar(Bar::at_least(
        "calls of light functions for each second of a processor, the host's included",
        1000.0,
        calls / busy,
    ));
    report.table(Table::numbers(
        "light functions, four callers at once",
        vec![
            Figures::single("calls a second", calls / elapsed),
            Figures::single("calls for each second of a processor", calls / busy),
        ],
    ));
    Ok(())
}
