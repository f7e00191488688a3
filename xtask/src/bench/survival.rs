//! What 200 containers cost a host that has nothing to do, and the next one when it was killed.

use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tests::Rpc;

use super::growth::resident;
use super::lab::Lab;
use super::race::{Figures, wait_until_quiet};
use super::report::{Bar, Report, Table};
use super::still::Woken;
use crate::demo::Host;
use crate::image::busybox;

const COUNT: usize = 200;

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
    let woken = Woken::look(host.pid(), &inits)?;
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
    woken.report("200", report);
    let adopted = adopted.iter().map(|ms| Figures::single("from its start to its list", *ms)).collect();
    report.table(Table::numbers("the next host with 200 running (ms)", adopted));
    Ok(())
}

pub(super) fn connect(host: &Host) -> Rpc {
    let mut rpc = Rpc::connect(&host.socket());
    rpc.hello();
    rpc
}
