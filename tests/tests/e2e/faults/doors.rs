//! The two doors that a scenario goes through.

use std::fs::File;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::look::{Lab, is_stopped, kill_leaders};
use super::{Asked, scenarios, wait};

/// Containers that were answered for, with the ids of their leaders: nobody may lose them.
pub(super) type Kept = Vec<(String, i64)>;

/// How a scenario ended.
pub(super) enum Ended {
    Whole(Kept),
    Killed(Kept),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Door {
    CommandLine,
    Host,
}

impl Door {
    pub(super) const ALL: [Self; 2] = [Self::CommandLine, Self::Host];

    pub(super) fn scenarios(self) -> Vec<&'static str> {
        match self {
            Self::CommandLine => scenarios::COMMANDS.iter().map(|(name, _)| *name).collect(),
            Self::Host => scenarios::CALLS.iter().map(|(name, _)| *name).collect(),
        }
    }

    pub(super) fn run(self, lab: &mut Lab, scenario: &str, asked: &Asked) -> Ended {
        match self {
            Self::CommandLine => scenarios::commands(lab, scenario, asked),
            Self::Host => host(lab, scenario, asked),
        }
    }
}

/// A host with this in its environment, and a client that makes the calls of the scenario.
fn host(lab: &Lab, scenario: &str, asked: &Asked) -> Ended {
    let mut command = lab.cli().command(["daemon"]);
    asked.to(&mut command);
    let log_path = lab.cli().data().join("host.log");
    let log = File::create(&log_path).unwrap();
    let mut host = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let start = Instant::now();
    while !std::fs::read_to_string(&log_path).unwrap_or_default().contains("listening on") {
        if host.try_wait().unwrap().is_some() {
            return Ended::Killed(Vec::new());
        }
        go_on(&host);
        assert!(start.elapsed() < Duration::from_secs(20), "the host does not start");
        std::thread::sleep(Duration::from_millis(1));
    }
    let (_, calls) = scenarios::CALLS.iter().find(|(name, _)| *name == scenario).unwrap();
    let out = lab.scratch().join("told");
    // Where an init is killed meanwhile, calls may fail, and the next one follows.
    let stopping = matches!(asked, Asked::Fault(fault) if fault.signal == "STOP");
    let tree = lab.scratch().join("tree");
    let mut client = std::process::Command::new("python3")
        .args(["-c", &format!("{}{calls}", scenarios::CLIENT)])
        .arg(lab.cli().data().join("rpc/host.sock"))
        .arg(tree)
        .arg(if stopping { "tolerant" } else { "strict" })
        .arg(lab.package())
        .stdout(File::create(&out).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    let whole = loop {
        if let Some(status) = client.try_wait().unwrap() {
            break status.success();
        }
        if host.try_wait().unwrap().is_some() {
            client.wait().unwrap();
            break false;
        }
        go_on(&host);
        assert!(start.elapsed() < Duration::from_secs(30), "the client hangs");
        std::thread::sleep(Duration::from_micros(500));
    };
    let kept = told(&std::fs::read_to_string(&out).unwrap());
    if host.try_wait().unwrap().is_none() {
        let pid = rustix::process::Pid::from_child(&host);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }
    let ended = wait(&mut host);
    if stopping {
        // Whoever's init was killed is none of ours to keep.
        return Ended::Whole(Vec::new());
    }
    if ended.success() && whole { Ended::Whole(kept) } else { Ended::Killed(kept) }
}

fn go_on(host: &Child) {
    if is_stopped(host.id()) {
        kill_leaders();
        rustix::process::kill_process(rustix::process::Pid::from_child(host), rustix::process::Signal::CONT)
            .unwrap();
    }
}

/// What the client was told runs, and has not asked to end.
fn told(text: &str) -> Kept {
    let mut kept = Kept::new();
    for line in text.lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["launched", guid, pid] => kept.push((guid.to_owned(), pid.parse().unwrap())),
            ["destroying", guid] => kept.retain(|(kept, _)| kept != guid),
            _ => {}
        }
    }
    kept
}
