//! Packages in TypeScript: until a worker is ready, what idle ones take, and what its calls cost.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tests::{Cli, Rpc};

use super::broker::{Caller, TRIPS, request};
use super::lab::{Lab, processes, pss};
use super::packages::Author;
use super::race::{Contestant, Figures, race, timed};
use super::report::{Bar, Report, Table};
use super::sections::ratio;
use super::survival::connect;
use crate::demo::Host;
use crate::{place, release, say};

/// Packages that run at once.
const MANY: usize = 50;
/// Those of them whose memory is looked at.
const TEN: usize = 10;
/// How long nothing is done. The pulse of a worker is ten seconds.
const STILL: Duration = Duration::from_secs(20);
/// Ticks a second of the kernel's clock for processes: `USER_HZ`, the same on every machine.
const TICKS: f64 = 100.0;

/// Says how long a round trip takes, in milliseconds, as package code sees it.
const CODE: &str = r#"
import { connectHost } from "start-container";
let host: Awaited<ReturnType<typeof connectHost>>;
export async function init() { host = await connectHost(); }
export async function call(_: string, trips: number) {
  const start = performance.now();
  for (let trip = 0; trip < trips; trip++) await host.call("kv.get", { group: "settings", key: "theme" });
  return (performance.now() - start) / trips;
}
"#;
const EMPTY: &str = "export function init() {}";

/// On a host of its own.
pub(super) fn workers(lab: &Lab, report: &mut Report) -> Result<()> {
    let data = lab.work.join("workers");
    fs::create_dir_all(&data)?;
    let mut host = Host::start(&data)?;
    let cli = Cli::at(&release::binary(), &data);
    let deno = tests::image::deno();
    cli.run(["runtime", "add", "deno", "--from", &deno.display().to_string()]).ok();
    let author = Author::trusted(&lab.work.join("workers-author"), &cli)?;
    calls(lab, report, &cli, &author)?;
    ready(lab, report, &host, &author, &deno)?;
    host = many(report, host, &data, &cli, &author)?;
    host.stop()
}

fn manifest(id: &str, script: &str) -> Value {
    let groups = json!({ "reason": "To be measured", "groups": ["settings"] });
    json!({ "manifest": 1, "id": id, "name": id, "version": "1.0.0",
        "limits": { "memoryBytes": 256 << 20 },
        "capabilities": { "kv:read": groups, "kv:write": groups },
        "entries": { "main": { "worker": { "script": script } } } })
}

/// Until `init` was called, against a program that does nothing.
fn ready(lab: &Lab, report: &mut Report, host: &Host, author: &Author, deno: &std::path::Path) -> Result<()> {
    author.install("empty", &manifest("empty", "entries/main.ts"), &[("main.ts", EMPTY)])?;
    let script = lab.work.join("empty.ts");
    fs::write(&script, "")?;
    let mut rpc = connect(host);
    let package = json!({ "packageId": "empty" });
    let run = |rpc: &mut Rpc, method: &str| rpc.call(method, package.clone());
    let figures = race(
        lab.pace,
        vec![
            Contestant::new("deno run of an empty file", |count| {
                lab.time(count, || {
                    let mut bare = Command::new(deno);
                    bare.args(["run", "--quiet", "--no-config", "--no-lock", "--cached-only"]).arg(&script);
                    bare.env("DENO_NO_UPDATE_CHECK", "1");
                    bare
                })
            }),
            Contestant::new("package.activate, until init was called", |count| {
                (0..count)
                    .map(|_| {
                        let time = timed(|| {
                            run(&mut rpc, "package.activate");
                            Ok(())
                        });
                        run(&mut rpc, "package.disable");
                        time
                    })
                    .collect()
            }),
        ],
    );
    report.bar(Bar::at_most(
        "a package's worker ready (init called) against `deno run` of an empty file",
        1.8,
        ratio(&figures, "package.activate", "deno run"),
    ));
    report.table(Table::times("a worker until it is ready (ms)", figures, "deno run"));
    Ok(())
}

/// A call of package code, by the SDK in its worker and by a plain client.
fn calls(lab: &Lab, report: &mut Report, cli: &Cli, author: &Author) -> Result<()> {
    author.install("calls", &manifest("calls", "entries/main.js"), &[("main.js", &bundled(lab)?)])?;
    cli.run(["package", "activate", "calls"]).ok();
    let get = request("kv.get", json!({ "group": "settings", "key": "theme" }));
    let mut plain = Caller::connect(cli, "calls")?;
    let trips = TRIPS.to_string();
    let figures = race(
        lab.pace,
        vec![
            Contestant::new("a plain client", |count| plain.trips(&get, count)),
            Contestant::new("the SDK in a worker", |count| {
                (0..count)
                    .map(|_| {
                        let said = cli.run(["package", "call", "calls", "trips", "--input", &trips]).ok();
                        said.out().trim().parse().context("a number")
                    })
                    .collect()
            }),
        ],
    );
    report.bar(Bar::at_most(
        "a call from a worker by the SDK against a plain client's",
        2.0,
        ratio(&figures, "the SDK", "a plain client"),
    ));
    report.table(Table::times("`kv.get` of package code (ms)", figures, "a plain client"));
    cli.run(["package", "disable", "calls"]).ok();
    Ok(())
}

/// The script with the SDK in it, as the template of `package init` makes it.
fn bundled(lab: &Lab) -> Result<String> {
    let (source, out) = (lab.work.join("calls.ts"), lab.work.join("calls.js"));
    fs::write(&source, CODE)?;
    let sdk = place::root().join("sdk/dist/index.js");
    let mut esbuild = Command::new(tests::image::bundler().join("esbuild/bin/esbuild"));
    esbuild.args(["--bundle", "--format=esm", "--platform=node", "--log-level=warning"]);
    esbuild.arg(format!("--alias:start-container={}", sdk.display())).arg(&source);
    say::output(esbuild.arg(format!("--outfile={}", out.display())))?;
    fs::read_to_string(&out).context("read the bundled script")
}

/// A host that starts with fifty of them, and those when they have nothing to do. Gives the host back.
fn many(
    report: &mut Report,
    mut host: Host,
    data: &std::path::Path,
    cli: &Cli,
    author: &Author,
) -> Result<Host> {
    for number in 0..MANY {
        let id = format!("p{number}");
        author.install(&id, &manifest(&id, "entries/main.ts"), &[("main.ts", EMPTY)])?;
        cli.run(["package", "activate", &id]).ok();
    }
    host.stop()?;
    let start = Instant::now();
    host = Host::start(data)?;
    let mut rpc = connect(&host);
    loop {
        let list = rpc.call("package.list", json!({}));
        let all = list["packages"].as_array().context("a list")?;
        let running = all.iter().filter(|package| package["run"]["state"] == "running").count();
        if running == MANY {
            break;
        }
        if start.elapsed() > Duration::from_secs(120) {
            bail!("{running} of {MANY} packages run after two minutes");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let started = start.elapsed().as_secs_f64();
    let all: Vec<u32> = processes()
        .into_iter()
        .filter(|(_, line)| line.starts_with("/bin/deno run"))
        .map(|(pid, _)| pid)
        .collect();
    if all.len() != MANY {
        bail!("{} processes of {MANY} workers", all.len());
    }
    // What is collected after a start is collected.
    std::thread::sleep(STILL);
    let used = || all.iter().chain([&host.pid()]).map(|pid| processor(*pid)).sum::<f64>();
    let before = used();
    std::thread::sleep(STILL);
    let busy = (used() - before) / STILL.as_secs_f64() * 100.0;
    for number in TEN..MANY {
        cli.run(["package", "disable", &format!("p{number}")]).ok();
    }
    let ten: Vec<u32> = all.into_iter().filter(|pid| pss(*pid) > 0.0).collect();
    let largest = ten.iter().map(|pid| pss(*pid)).fold(0.0, f64::max) / 1000.0;
    if ten.len() != TEN {
        bail!("{} workers of {TEN}", ten.len());
    }
    report.bar(Bar::at_most("50 packages: seconds from the host's start until all run", 20.0, started));
    report.bar(Bar::at_most("50 packages that do nothing, with the host: % of one processor", 1.0, busy));
    report.bar(Bar::at_most("a worker that does nothing, of ten: MB (PSS), the largest", 20.0, largest));
    report.table(Table::numbers(
        "packages with workers",
        vec![
            Figures::single("50: seconds until all run", started),
            Figures::single("50: % of one processor, idle", busy),
            Figures::single("10: MB each (PSS), the largest", largest),
        ],
    ));
    Ok(host)
}

/// Seconds of processor time that a process has used: fields 14 and 15 of `/proc/PID/stat`.
pub(super) fn processor(pid: u32) -> f64 {
    let (_, fields) = tests::machine::stat(pid).unwrap_or_default();
    fields.iter().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS
}
