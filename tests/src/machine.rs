//! A look at the machine: everything a container supervisor could leave behind.
//!
//! Owns the comparison of two looks. Never changes what it looks at.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Which processes a [`Machine`] looks at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Processes {
    /// Every one, for a test alone in its pid namespace.
    All,
    /// The descendants of this process. With it as a child subreaper, an orphan cannot hide from that.
    DescendantsOf(u32),
}

/// What was there at one moment, as one line for each thing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Machine {
    processes_of: Processes,
    things: BTreeSet<String>,
}

impl Machine {
    /// Looks at mounts, cgroups of every hierarchy, network links, processes, `/run/start-container`, and the
    /// entries of `temporary`.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn look(processes_of: Processes, temporary: &[&Path]) -> io::Result<Self> {
        let mut things = BTreeSet::new();
        let mountinfo = fs::read_to_string("/proc/self/mountinfo")?;
        for line in mountinfo.lines() {
            things.insert(format!("mount {}", describe_mount(line)));
        }
        for root in cgroup_roots(&mountinfo) {
            directories_beneath(&root, &mut |path| {
                things.insert(format!("cgroup {}", path.display()));
            });
        }
        // Not /sys/class/net: that shows the network namespace in which /sys was mounted.
        let links = fs::read_to_string("/proc/self/net/dev")?;
        for link in links.lines().filter_map(|line| line.split_once(':')) {
            things.insert(format!("network link {}", link.0.trim()));
        }
        for process in processes(processes_of)? {
            things.insert(process);
        }
        let runtime = Path::new("/run/start-container");
        for directory in temporary.iter().copied().chain([runtime]) {
            // What is known of private networks stays there, as an address does with its container.
            for name in
                names_in(directory)?.into_iter().filter(|name| directory != runtime || name != "networks")
            {
                things.insert(format!("file {}", directory.join(name).display()));
            }
        }
        Ok(Self { processes_of, things })
    }

    /// What is here and was not there `before`.
    #[must_use]
    pub fn added_since(&self, before: &Self) -> Vec<String> {
        self.things.difference(&before.things).cloned().collect()
    }

    /// What was there `before` and is gone.
    #[must_use]
    pub fn gone_since(&self, before: &Self) -> Vec<String> {
        before.things.difference(&self.things).cloned().collect()
    }

    /// Looks again until nothing is left over, or `patience` has passed: a killed process takes a moment to be
    /// reaped, and its mount namespace a moment to go. Returns what is still left then.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn left_after(&self, temporary: &[&Path], patience: Duration) -> io::Result<Vec<String>> {
        let start = Instant::now();
        loop {
            let left = Self::look(self.processes_of, temporary)?.added_since(self);
            if left.is_empty() || start.elapsed() > patience {
                return Ok(left);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Mount point, type, source and root, without the ids that change from boot to boot.
fn describe_mount(line: &str) -> String {
    let (before, after) = line.split_once(" - ").unwrap_or((line, ""));
    let before: Vec<&str> = before.split(' ').collect();
    let after: Vec<&str> = after.split(' ').collect();
    let field = |fields: &[&str], index: usize| fields.get(index).copied().unwrap_or("").to_owned();
    format!(
        "{} ({} of {}, root {})",
        field(&before, 4),
        field(&after, 0),
        field(&after, 1),
        field(&before, 3)
    )
}

fn cgroup_roots(mountinfo: &str) -> Vec<PathBuf> {
    mountinfo
        .lines()
        .filter(|line| line.contains(" - cgroup ") || line.contains(" - cgroup2 "))
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .collect()
}

fn directories_beneath(root: &Path, found: &mut impl FnMut(&Path)) {
    // A cgroup may be removed while we read: that is the opposite of a leak.
    let Ok(entries) = fs::read_dir(root) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found(&entry.path());
            directories_beneath(&entry.path(), found);
        }
    }
}

fn names_in(directory: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(directory) {
        Ok(entries) => {
            Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

struct Process {
    pid: u32,
    parent: u32,
    started: u64,
    command: String,
}

/// One line for each process, zombies too, with its start time, so that a reused pid is not taken for the old
/// process. Kernel threads are left out.
fn processes(of: Processes) -> io::Result<Vec<String>> {
    let all: Vec<Process> = fs::read_dir("/proc")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(read_process)
        .collect();
    let own = std::process::id();
    Ok(all
        .iter()
        .filter(|process| process.pid != own && process.pid != 2 && process.parent != 2)
        .filter(|process| match of {
            Processes::All => true,
            Processes::DescendantsOf(ancestor) => descends_from(process, ancestor, &all),
        })
        .map(|process| {
            format!("process {} ({}), started at {}", process.pid, process.command, process.started)
        })
        .collect())
}

fn descends_from(process: &Process, ancestor: u32, all: &[Process]) -> bool {
    let mut parent = process.parent;
    while parent > 1 {
        if parent == ancestor {
            return true;
        }
        parent = all.iter().find(|candidate| candidate.pid == parent).map_or(0, |found| found.parent);
    }
    parent == ancestor
}

/// The name of a process, and what follows it in `/proc/PID/stat`: state, parent, group, session and the rest.
#[must_use]
pub fn stat(pid: u32) -> Option<(String, Vec<String>)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may itself hold spaces and parentheses.
    let name = stat.get(stat.find('(')? + 1..stat.rfind(')')?)?.to_owned();
    let rest = stat.get(stat.rfind(')')? + 2..)?.split_whitespace().map(str::to_owned).collect();
    Some((name, rest))
}

fn read_process(pid: u32) -> Option<Process> {
    let (name, rest) = stat(pid)?;
    let cmdline = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let command = String::from_utf8_lossy(&cmdline).replace('\0', " ").trim().to_owned();
    let command = if command.is_empty() { format!("[{name}] {}", rest.first()?) } else { command };
    Some(Process { pid, parent: rest.get(1)?.parse().ok()?, started: rest.get(19)?.parse().ok()?, command })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_left_process_and_a_left_file_are_seen() {
        let directory = tempfile::tempdir().unwrap();
        let temporary = [directory.path()];
        let before = Machine::look(Processes::DescendantsOf(std::process::id()), &temporary).unwrap();
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        fs::write(directory.path().join("left"), "").unwrap();
        // Its arguments can be read a moment after it has begun to run its program.
        while read_process(child.id()).is_none_or(|process| process.command != "sleep 1000") {
            std::thread::yield_now();
        }
        let left = before.left_after(&temporary, Duration::ZERO).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        // Other tests run at the same time: their cgroups may be seen too.
        assert!(left.iter().any(|line| line.starts_with("file ") && line.ends_with("/left")), "{left:?}");
        assert!(left.iter().any(|line| line.contains("sleep 1000")), "{left:?}");
    }
}
