//! What is measured of running containers.

use std::cell::Cell;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tests::cli::Rootfs;

use super::lab::{Idle, Lab, helpers, newcomers, processes, pss};
use super::peers::Peer;
use super::podman::Service;
use super::race::{Contestant, Figures, race, timed};
use super::report::{Bar, Report, Table};
use super::worker;
use crate::image::busybox;
use crate::say;

const TRUE: &[&str] = &["/bin/true"];

/// `true` in a container that runs already, by command line.
pub(super) fn exec(lab: &Lab, report: &mut Report) -> Result<()> {
    with_running(lab, |lab, idle, rootfs, leader| {
        let mut contestants = vec![
            Contestant::new("floor: exec in process", |count| floor_exec(lab, leader, count)),
            Contestant::new("floor: exec as a process", |count| {
                lab.time(count, || {
                    let mut floor = lab.floor();
                    floor.arg("enter").arg(leader.to_string()).args(TRUE);
                    floor
                })
            }),
            Contestant::new("start-container subcontainer exec", |count| {
                lab.time(count, || our_exec(lab, rootfs, TRUE))
            }),
        ];
        for (peer, idle) in idle {
            contestants.push(Contestant::new(exec_name(peer), |count| {
                lab.time_peer(count, || peer.exec(idle.pid, TRUE))
            }));
        }
        let figures = race(lab.pace, contestants);
        report.bar(Bar::at_most(
            "CLI `subcontainer exec` against the calls alone, as a process",
            1.6,
            ratio(&figures, "start-container", "floor: exec as a process"),
        ));
        report.bar(Bar::at_most(
            "CLI `subcontainer exec` against `crun exec`",
            0.35,
            ratio(&figures, "start-container", "crun"),
        ));
        report.table(Table::times("exec of true in a running container (ms)", figures, "crun exec").drawn());
        Ok(())
    })
}

fn exec_name(peer: &Peer) -> String {
    if peer.name == "bwrap" { "bwrap (nsenter)".to_owned() } else { format!("{} exec", peer.name) }
}

fn floor_exec(lab: &Lab, leader: u32, count: usize) -> Result<Vec<f64>> {
    lab.time_floor("exec", count, &[leader.to_string().as_ref()])
}

fn our_exec(lab: &Lab, rootfs: &Rootfs, command: &[&str]) -> Command {
    let mut words = vec!["subcontainer", "exec", &rootfs.path];
    words.extend(command);
    lab.cli.command(words)
}

type Running<'a> = [(&'a Peer, Idle)];

/// With one running container of each engine, and one of ours: its rootfs and its leader.
fn with_running(lab: &Lab, work: impl FnOnce(&Lab, &Running<'_>, &Rootfs, u32) -> Result<()>) -> Result<()> {
    let mut idle = Vec::new();
    for peer in &lab.peers {
        match lab.start(peer, 0) {
            Ok(started) => idle.push((peer, started)),
            Err(error) => say::note(&format!("{} is left out: {error:#}", peer.name)),
        }
    }
    let rootfs = lab.cli.create_fs("busybox");
    let running = lab.cli.launch_idle(&rootfs);
    let info = lab.cli.run(["--json", "subcontainer", "inspect", &rootfs.guid]).ok().json();
    let leader = info["state"]["pid"].as_u64().context("the leader's pid")?;
    let result = work(lab, &idle, &rootfs, u32::try_from(leader)?);
    drop(running);
    lab.cli.destroy_fs(&rootfs);
    for (peer, started) in idle {
        lab.end(peer, 0, &started)?;
    }
    result
}

/// From Node, in one process: our exec, Node's own of a process in no container, and another client's.
pub(super) fn node(lab: &Lab, report: &mut Report) -> Result<()> {
    let ask = |what: &'static str| {
        let node = &lab.node;
        move |count| node.borrow_mut().samples(what, count)
    };
    let podman = Service::start(lab);
    let mut contestants = vec![
        Contestant::new("Node: execFile('/bin/true'), no container", ask("execFile")),
        Contestant::new("SDK: exec(['true'])", ask("exec")),
        Contestant::new("SDK: exec(['true']), contained", ask("execContained")),
        Contestant::new("SDK: a request that does nothing", ask("ping")),
    ];
    match &podman {
        Ok(podman) => contestants
            .push(Contestant::new("dockerode: exec of true on podman", |count| podman.samples(count))),
        Err(error) => report.missing(&format!("dockerode: {error:#}")),
    }
    let figures = race(lab.pace, contestants);
    report.bar(Bar::at_most(
        "exec in a contained one against exec in one that is not",
        1.3,
        ratio(&figures, "SDK: exec(['true']), contained", "SDK: exec(['true'])"),
    ));
    report.bar(Bar::at_most(
        "SDK `exec(['true'])` against Node's `execFile('/bin/true')`",
        0.45,
        ratio(&figures, "SDK: exec", "Node"),
    ));
    report.bar(Bar::at_most(
        "SDK `exec(['true'])` against dockerode on podman",
        0.02,
        ratio(&figures, "SDK: exec", "dockerode"),
    ));
    report.table(Table::times("exec of true from Node (ms)", figures, "Node: execFile").drawn());
    podman.map_or(Ok(()), Service::stop)
}

/// A container that is made, runs `true`, and is gone.
pub(super) fn cold(lab: &Lab, report: &mut Report) -> Result<()> {
    let scratch = lab.work.join("floor");
    std::fs::create_dir_all(&scratch)?;
    let tree = busybox::tree();
    let number = Cell::new(0);
    let floor = |mode: &'static str| {
        let (tree, scratch, lab) = (&tree, &scratch, &*lab);
        move |count: usize| lab.time_floor(mode, count, &[tree, scratch])
    };
    let mut contestants = vec![
        Contestant::new("floor: spawn only, no container", floor("spawn")),
        Contestant::new("floor: namespaces and overlay", floor("cold")),
        Contestant::new("floor: and OCI mounts, network, seccomp, limits", floor("full")),
        Contestant::new("SDK: create, launch, wait, destroy", |count| {
            lab.node.borrow_mut().samples("cold", count)
        }),
        Contestant::new("start-container create-fs, launch, destroy-fs", |count| {
            (0..count)
                .map(|_| {
                    timed(|| {
                        let rootfs = lab.cli.create_fs("busybox");
                        worker::time(lab.cli.command(["subcontainer", "launch", &rootfs.path, "/bin/true"]))?;
                        worker::time(lab.cli.command(["subcontainer", "destroy-fs", &rootfs.path]))?;
                        Ok(())
                    })
                })
                .collect()
        }),
    ];
    for peer in &lab.peers {
        contestants.push(peer_run(lab, peer, &number));
    }
    let figures = race(lab.pace, contestants);
    report.bar(Bar::at_most(
        "create, launch true, wait, destroy against `crun run`",
        0.7,
        ratio(&figures, "SDK", "crun"),
    ));
    report.table(
        Table::times("a whole life: create, launch true, wait, destroy (ms)", figures, "crun run").drawn(),
    );
    Ok(())
}

/// A whole life in another engine, each container with a number of its own.
fn peer_run<'a>(lab: &'a Lab, peer: &'a Peer, number: &'a Cell<usize>) -> Contestant<'a> {
    Contestant::new(format!("{} run", peer.name), move |count| {
        lab.time_peer(count, || peer.run(number.replace(number.get() + 1) + 1))
    })
}

/// A whole life with all there is to contain somebody else's code. By itself and last: the kernel goes on taking
/// network namespaces apart for a while, and slows down whoever mounts and unmounts meanwhile.
pub(super) fn contained(lab: &Lab, report: &mut Report) -> Result<()> {
    let scratch = lab.work.join("floor");
    std::fs::create_dir_all(&scratch)?;
    let tree = busybox::tree();
    let number = Cell::new(1_000_000);
    let mut contestants = vec![
        Contestant::new("floor: and OCI mounts, network, seccomp, limits", |count| {
            lab.time_floor("full", count, &[&tree, &scratch])
        }),
        Contestant::new("SDK: runOnce, contained", |count| {
            lab.node.borrow_mut().samples("onceContained", count)
        }),
        Contestant::new("SDK: a whole life in four calls, contained", |count| {
            lab.node.borrow_mut().samples("coldContained", count)
        }),
    ];
    for peer in lab.peers.iter().filter(|peer| peer.name == "crun") {
        contestants.push(peer_run(lab, peer, &number));
    }
    let figures = race(lab.pace, contestants);
    report.bar(Bar::at_most(
        "runOnce with user namespace, seccomp, limits and private network against the calls alone",
        1.5,
        ratio(&figures, "SDK: runOnce", "floor"),
    ));
    report.bar(Bar::at_most(
        "and against `crun run`, which has no seccomp and no overlay there",
        0.5,
        ratio(&figures, "SDK: runOnce", "crun"),
    ));
    report.bar(Bar::at_most(
        "the same life in four calls against the calls alone",
        1.5,
        ratio(&figures, "SDK: a whole life", "floor"),
    ));
    report.table(Table::times("a whole life, contained (ms)", figures, "crun run").drawn());
    Ok(())
}

/// Many that do nothing.
pub(super) fn idle(lab: &Lab, report: &mut Report) -> Result<()> {
    const COUNT: usize = 200;
    let mut times = Vec::new();
    let mut sizes = Vec::new();
    let mut besides = Vec::new();

    let before = processes();
    let host_before = pss(lab.host.pid());
    super::race::wait_until_quiet();
    let started = lab.node.borrow_mut().ask("idle", COUNT)?;
    std::thread::sleep(Duration::from_secs(1));
    let leaders = super::growth::pids(&started)?;
    if leaders.len() != COUNT {
        bail!("{} of {COUNT} run", leaders.len());
    }
    let extra = helpers(&before, &leaders);
    let all: f64 = leaders.iter().map(|pid| pss(*pid)).sum();
    let growth = (pss(lab.host.pid()) - host_before).max(0.0);
    let ours = (all + growth) / COUNT as f64;
    times.push(Figures::single("start-container (SDK)", started["ms"].as_f64().context("ms")?));
    sizes.push(Figures::single("start-container: init and the host's growth", ours));
    sizes.push(Figures::single("start-container: init alone", all / COUNT as f64));
    besides.push(Figures::single("start-container", extra));
    lab.node.borrow_mut().ask("idleEnd", 0)?;

    for peer in &lab.peers {
        let count = if peer.name == "podman" { 10 } else { COUNT };
        super::race::wait_until_quiet();
        let before = processes();
        let start = Instant::now();
        let running: Vec<Idle> = (0..count).map(|number| lab.start(peer, number)).collect::<Result<_>>()?;
        let elapsed = start.elapsed().as_secs_f64() * 1000.0;
        let inits: Vec<u32> = running.iter().map(|idle| idle.pid).collect();
        let extra = newcomers(&before, &inits);
        let helper_size: f64 = extra.iter().map(|(pid, _)| pss(*pid)).sum();
        let name =
            if count == COUNT { peer.name.to_owned() } else { format!("{} ({count} of them)", peer.name) };
        times.push(Figures::single(&name, elapsed * COUNT as f64 / count as f64));
        sizes.push(Figures::single(&format!("{name}: helpers alone"), helper_size / count as f64));
        besides.push(Figures::single(&name, extra.len() as f64 * COUNT as f64 / count as f64));
        for (number, idle) in running.into_iter().enumerate() {
            lab.end(peer, number, &idle)?;
        }
    }
    report.bar(Bar::at_most("200 idle: KiB (PSS) of each, init and the host's growth", 700.0, ours));
    report.bar(Bar::at_most("200 idle: processes besides init", 0.0, extra));
    report.table(Table::numbers("200 idle: time to start all (ms)", times));
    report.table(Table::numbers("200 idle: memory of each (KiB PSS)", sizes));
    report.table(Table::numbers("200 idle: processes besides the first in each", besides));
    Ok(())
}

/// 1 GiB out of a container.
pub(super) fn stdout(lab: &Lab, report: &mut Report) -> Result<()> {
    const WRITER: &[&str] = &["/bin/dd", "if=/dev/zero", "bs=65536", "count=16384"];
    let pace = super::race::Pace { slice: Duration::ZERO, ..lab.pace };
    with_running(lab, |lab, idle, rootfs, leader| {
        let mut contestants = vec![
            Contestant::new("floor: unrelayed pipe", |count| {
                drain(count, || {
                    let mut floor = lab.floor();
                    floor.arg("enter").arg(leader.to_string()).args(WRITER);
                    floor
                })
            }),
            Contestant::new("start-container subcontainer exec, to a pipe", |count| {
                drain(count, || our_exec(lab, rootfs, WRITER))
            }),
            Contestant::new("SDK: spawn, stdout read in Node", |count| {
                lab.node.borrow_mut().samples("stdout", count)
            }),
        ];
        for (peer, idle) in idle.iter().filter(|(peer, _)| matches!(peer.name, "crun" | "runc" | "podman")) {
            contestants.push(Contestant::new(exec_name(peer), |count| {
                lab.worker.borrow_mut().drain((0..count).map(|_| peer.exec(idle.pid, WRITER)).collect())
            }));
        }
        let figures = race(pace, contestants);
        let rate = 1.0 / ratio(&figures, "SDK", "floor");
        report.bar(Bar::at_least("1 GiB of stdout to the SDK against the unrelayed rate", 0.7, rate));
        let rate = 1.0 / ratio(&figures, "start-container subcontainer exec", "floor");
        report.bar(Bar::at_least(
            "1 GiB of stdout to a pipe, by CLI, against the unrelayed rate",
            0.95,
            rate,
        ));
        report.table(Table::times("1 GiB of stdout (ms)", figures, "floor: unrelayed"));
        Ok(())
    })
}

fn drain(count: usize, command: impl Fn() -> Command) -> Result<Vec<f64>> {
    (0..count).map(|_| worker::drain(command())).collect()
}

/// The ratio between the contestants whose names begin so.
pub(super) fn ratio(figures: &[Figures], ours: &str, theirs: &str) -> f64 {
    let find = |name: &str| figures.iter().find(|figures| figures.name.starts_with(name));
    match (find(ours), find(theirs)) {
        (Some(ours), Some(theirs)) => ours.ratio_to(theirs),
        _ => f64::NAN,
    }
}
