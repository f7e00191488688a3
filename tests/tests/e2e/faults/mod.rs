//! The fault matrix: every step that takes something of the machine or gives it back, with SIGKILL right before and right
//! after it, for the command line and the host; and with the container's init killed there. Then a host starts, and
//! everything is compared with the machine before.
//!
//! The list of steps is the program's own ([`linux::step`]): one that no scenario reaches fails [`every_step_is_reached`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use linux::step::Step;
use tests::isolated;

mod doors;
mod look;
mod scenarios;

use doors::{Door, Ended};
use look::Lab;

/// One point at which a process ends.
#[derive(Clone, Debug)]
struct Fault {
    step: String,
    when: &'static str,
    nth: usize,
    signal: &'static str,
}

impl Fault {
    fn variable(&self) -> String {
        format!("{}:{}:{}:{}", self.step, self.when, self.nth, self.signal)
    }
}

/// What a program under test gets into its environment.
#[derive(Clone, Debug)]
enum Asked {
    Log(PathBuf),
    Fault(Fault),
}

impl Asked {
    fn to(&self, command: &mut Command) {
        match self {
            Self::Log(file) => drop(command.env("START_CONTAINER_STEPS", file)),
            Self::Fault(fault) => drop(command.env("START_CONTAINER_FAULT", fault.variable())),
        }
    }
}

/// Steps by name, and how often a scenario reaches each.
type Reached = BTreeMap<String, usize>;

fn record(lab: &mut Lab, door: Door, scenario: &str) -> Reached {
    let log = lab.scratch().join("steps");
    let ended = door.run(lab, scenario, &Asked::Log(log.clone()));
    assert!(matches!(ended, Ended::Whole(_)), "{door:?} {scenario} did not come to its end");
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    std::fs::remove_file(&log).ok();
    lab.repair();
    let mut reached = Reached::new();
    for line in text.lines() {
        *reached.entry(line.to_owned()).or_default() += 1;
    }
    assert!(!reached.is_empty(), "{door:?} {scenario} reaches no step: is this a debug build?");
    reached
}

fn soak() -> bool {
    std::env::var_os("START_CONTAINER_SOAK").is_some()
}

/// Which times of a step are tried: the first and, of who is killed himself, the last; or every one in a soak.
fn times(count: usize, signal: &str) -> Vec<usize> {
    if soak() {
        (1..=count).collect()
    } else if count > 1 && signal == "KILL" {
        vec![1, count]
    } else {
        vec![1]
    }
}

/// Walks through one door's scenarios, and says how many steps and faults there were.
#[expect(clippy::print_stdout, reason = "the count is part of the promise, and read by xtask")]
fn walk(door: Door, signal: &'static str) {
    isolated(|| {
        let mut lab = Lab::new();
        let scenarios = door.scenarios();
        let reached: Vec<Reached> = scenarios.iter().map(|name| record(&mut lab, door, name)).collect();
        lab.remember();
        let (mut steps, mut faults) = (BTreeSet::new(), 0);
        for (scenario, reached) in scenarios.iter().zip(&reached) {
            let own = scenarios::own_steps(scenario).filter(|_| !soak());
            let tried = reached.iter().filter(|(step, _)| own.is_none_or(|own| own.contains(&step.as_str())));
            for fault in tried.flat_map(|(step, count)| faults_of(step, *count, signal)) {
                let ended = door.run(&mut lab, scenario, &Asked::Fault(fault.clone()));
                let mut problems = Vec::new();
                match ended {
                    // What comes after the first of its kind may not be reached when others are faster.
                    Ended::Whole(_) if fault.nth > 1 => {}
                    Ended::Whole(_) if signal == "KILL" => problems.push("not reached".to_owned()),
                    Ended::Whole(kept) | Ended::Killed(kept) => {
                        faults += 1;
                        steps.insert(fault.step.clone());
                        problems.extend(lab.lost(&kept));
                    }
                }
                lab.repair();
                problems.extend(lab.left());
                // What stays would be found again after each that follows.
                let at = format!("{door:?} {scenario} {}", fault.variable());
                assert!(problems.is_empty(), "{at}:\n  {}", problems.join("\n  "));
            }
        }
        println!(
            "fault matrix: {door:?}, {signal}: {} of {} steps, {faults} faults, nothing left and nothing lost",
            steps.len(),
            Step::ALL.len()
        );
    });
}

/// Before and after each of the times that are tried.
fn faults_of(step: &str, count: usize, signal: &'static str) -> Vec<Fault> {
    let when = |nth| ["before", "after"].map(|when| Fault { step: step.to_owned(), when, nth, signal });
    times(count, signal).into_iter().flat_map(when).collect()
}

#[test]
fn every_step_is_reached() {
    isolated(|| {
        let mut lab = Lab::new();
        let mut all = Reached::new();
        for door in Door::ALL {
            for scenario in door.scenarios() {
                all.extend(record(&mut lab, door, scenario));
            }
        }
        let missing: Vec<_> =
            Step::ALL.iter().map(|step| step.name()).filter(|name| !all.contains_key(*name)).collect();
        assert!(missing.is_empty(), "no scenario reaches {missing:?}");
    });
}

#[test]
fn s26_the_command_line_is_killed_at_every_step() {
    walk(Door::CommandLine, "KILL");
}

#[test]
fn s26_the_host_is_killed_at_every_step() {
    walk(Door::Host, "KILL");
}

#[test]
fn s26_init_is_killed_at_every_step_of_the_command_line() {
    walk(Door::CommandLine, "STOP");
}

#[test]
fn s26_init_is_killed_at_every_step_of_the_host() {
    walk(Door::Host, "STOP");
}

/// Waits for a child; when it stops itself, kills the first processes of all containers and lets it go on.
fn wait(child: &mut Child) -> std::process::ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if look::is_stopped(child.id()) {
            look::kill_leaders();
            let pid = rustix::process::Pid::from_child(child);
            rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
        }
        assert!(start.elapsed() < Duration::from_secs(30), "it hangs");
        std::thread::sleep(Duration::from_micros(500));
    }
}
