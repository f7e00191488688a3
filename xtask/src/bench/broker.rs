//! What a call of package code costs: the checks and the line in the audit log, over a message that does nothing.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tests::Cli;

use super::lab::Lab;
use super::packages::Author;
use super::race::{Contestant, Figures, race, timed};
use super::report::{Bar, Report, Table};
use super::sections::ratio;

/// Round trips that make one sample: one alone is as long as a wake-up of the scheduler.
pub(super) const TRIPS: usize = 50;
/// Calls on their way at once.
const PIPELINED: usize = 30_000;

/// A package's socket, and a reader of its answers.
pub(super) struct Caller {
    stream: UnixStream,
    answers: BufReader<UnixStream>,
    line: String,
}

impl Caller {
    pub(super) fn connect(cli: &Cli, package: &str) -> Result<Self> {
        let socket = cli.data().join("packages").join(package).join("rpc/host.sock");
        let stream =
            UnixStream::connect(&socket).with_context(|| format!("connect to {}", socket.display()))?;
        let answers = BufReader::with_capacity(64 << 10, stream.try_clone()?);
        let mut caller = Self { stream, answers, line: String::new() };
        caller.ask(&request("hello", json!({ "protocol": 1, "client": "bench" })))?;
        Ok(caller)
    }

    fn ask(&mut self, line: &str) -> Result<()> {
        self.stream.write_all(line.as_bytes())?;
        self.hear()
    }

    fn hear(&mut self) -> Result<()> {
        self.line.clear();
        self.answers.read_line(&mut self.line)?;
        if !self.line.contains("\"result\"") {
            bail!("the host answers {:?}", self.line);
        }
        Ok(())
    }

    /// How long a round trip takes, in milliseconds, so many times.
    pub(super) fn trips(&mut self, line: &str, count: usize) -> Result<Vec<f64>> {
        let trips = |caller: &mut Self| timed(|| (0..TRIPS).try_for_each(|_| caller.ask(line)));
        (0..count).map(|_| Ok(trips(self)? / TRIPS as f64)).collect()
    }

    /// How many a second are answered when nobody waits for one.
    fn pipelined(&mut self, line: &str) -> Result<f64> {
        let all = line.repeat(PIPELINED);
        // A package may read 50,000 times a second: what was used up comes back.
        std::thread::sleep(Duration::from_secs(1));
        let mut stream = self.stream.try_clone()?;
        let start = Instant::now();
        let writer = std::thread::spawn(move || stream.write_all(all.as_bytes()));
        (0..PIPELINED).try_for_each(|_| self.hear())?;
        let rate = PIPELINED as f64 / start.elapsed().as_secs_f64();
        writer.join().ok().context("write the calls")??;
        Ok(rate)
    }
}

pub(super) fn request(method: &str, params: Value) -> String {
    format!("{}\n", json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }))
}

/// A package that may read and write keys, and runs nothing.
fn install(lab: &Lab) -> Result<()> {
    let groups = json!({ "reason": "To be measured", "groups": ["settings"] });
    let manifest = json!({ "manifest": 1, "id": "caller", "name": "Caller", "version": "1.0.0",
        "capabilities": { "kv:read": groups, "kv:write": groups } });
    Author::trusted(&lab.work.join("package"), &lab.cli)?.install("caller", &manifest, &[])?;
    lab.cli.run(["package", "activate", "caller"]).ok();
    Ok(())
}

/// Calls of one package, by round trip and by the thousands.
pub(super) fn broker(lab: &Lab, report: &mut Report) -> Result<()> {
    install(lab)?;
    let ping = request("ping", json!({}));
    let get = request("kv.get", json!({ "group": "settings", "key": "theme" }));
    let set = request("kv.set", json!({ "group": "settings", "key": "theme", "value": { "dark": true } }));
    let (mut first, mut second, mut third) = (
        Caller::connect(&lab.cli, "caller")?,
        Caller::connect(&lab.cli, "caller")?,
        Caller::connect(&lab.cli, "caller")?,
    );
    third.ask(&set)?;
    let figures = race(
        lab.pace,
        vec![
            Contestant::new("ping", |count| first.trips(&ping, count)),
            Contestant::new("kv.get, allowed and written down", |count| second.trips(&get, count)),
        ],
    );
    report.bar(Bar::at_most(
        "an allowed `kv.get` with audit against a ping",
        2.5,
        ratio(&figures, "kv.get", "ping"),
    ));
    report.table(Table::times("a call on a package's socket (ms)", figures, "ping"));
    let rates = (0..lab.pace.rounds).map(|_| third.pipelined(&get)).collect::<Result<Vec<f64>>>()?;
    let slowest = rates.iter().copied().fold(f64::INFINITY, f64::min);
    report.bar(Bar::at_least("allowed `kv.get`s a second, pipelined", 15_000.0, slowest));
    report.table(Table::numbers(
        "calls a second, pipelined",
        vec![Figures::single("kv.get, the slowest round", slowest)],
    ));
    // What was measured was written down.
    lab.cli.run(["package", "audit", "--verify"]).ok();
    lab.cli.run(["package", "disable", "caller"]).ok();
    lab.cli.run(["package", "remove", "caller", "--data"]).ok();
    Ok(())
}
