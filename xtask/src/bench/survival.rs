//! What 200 containers cost a host that has nothing to do, and the next one when it was killed.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tests::Rpc;

use super::growth::resident;
use super::lab::Lab;
use super::race::{Figures, wait_until_quiet};
use super::report::{Bar, Report, Table};
use crate::demo::Host;
use crate::image::busybox;

const COUNT: usize = 200;
/// How long nothing is done.
const STILL: Duration = Duration::from_secs(5);

/// On a host of its own, which is killed.
pub(super) fn survival(lab: &Lab, report: &mut Report) -> Result<()> {
    let data = lab.work.join("survival");
    std::fs::create_dir_all(&data)?;
    let mut host = Host::start(&data)?;
    host.import("busybox", &busybox::archive())?;
    let mut rpc = connect(&host);
    let (mut guids, mut inits) = (Vec::new(), Vec::new());
    for _ in 0..COUNT {
        let made = json!({"imageId": "busybox", "throwaway": true, "detached": true});
        let made = rpc.call("subcontainer.createFs", made)["guid"].clone();
        let launched = rpc.call("subcontainer.launch", json!({"guid": made}));
        inits.push(u32::try_from(launched["pid"].as_u64().context("a pid")?)?);
        guids.push(made);
    }
    let mut adopted = Vec::new();
    for _ in 0..lab.pace.rounds {
        host.kill()?;
        wait_until_quiet();
        let start = Instant::now();
        host = Host::start(&data)?;
        rpc = connect(&host);
        let list = rpc.call("subcontainer.list", json!({}));
        adopted.push(start.elapsed().as_secs_f64() * 1e3);
        let running = list["subcontainers"].as_array().context("a list")?.iter();
        let running = running.filter(|info| info["state"]["status"] == "running").count();
        if running != COUNT {
            bail!("{running} of {COUNT} run after the host was killed");
        }
    }
    // Threads that were needed for that have ended.
    std::thread::sleep(Duration::from_secs(12));
    let woken_so_far = || (switches(host.pid()), inits.iter().map(|pid| switches(*pid)).sum::<f64>());
    let before = woken_so_far();
    std::thread::sleep(STILL);
    let after = woken_so_far();
    if inits.iter().any(|pid| switches(*pid) == 0.0) {
        bail!("an init has ended while nothing was done");
    }
    let size = resident(host.pid()) / 1024.0;
    for guid in guids {
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    }
    drop(rpc);
    host.stop()?;
    let slowest = adopted.iter().copied().fold(0.0, f64::max);
    report.bar(Bar::at_most(
        "200 running, host killed: milliseconds until the next one has all",
        1000.0,
        slowest,
    ));
    report.bar(Bar::at_most("200 idle: the host, MiB resident", 40.0, size));
    report.bar(Bar::at_most(
        "200 idle: context switches of the host's threads in 5 s",
        0.0,
        after.0 - before.0,
    ));
    report.bar(Bar::at_most("200 idle: context switches of their inits in 5 s", 0.0, after.1 - before.1));
    let adopted = adopted.iter().map(|ms| Figures::single("from its start to its list", *ms)).collect();
    report.table(Table::numbers("the next host with 200 running (ms)", adopted));
    Ok(())
}

pub(super) fn connect(host: &Host) -> Rpc {
    let mut rpc = Rpc::connect(&host.socket());
    rpc.hello();
    rpc
}

/// How often any thread of a process was given a processor.
fn switches(pid: u32) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok())
        .flat_map(|status| status.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| line.contains("ctxt_switches:"))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok())
        .sum()
}
