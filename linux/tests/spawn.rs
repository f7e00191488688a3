//! `linux::spawn`: what a script does, and what it says when it cannot.
#![allow(clippy::unwrap_used, reason = "a test fails loudly")]

use std::ffi::{CStr, CString};
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use linux::pidfd::{ExitStatus, wait};
use linux::spawn::{Capabilities, Credentials, FailedStep, Mounted, Op, Program, Script, new, spawn};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

fn null() -> Arc<OwnedFd> {
    Arc::new(rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap())
}

fn script(argv: &[&CStr]) -> Script {
    let null = null();
    let program = Program::Candidates(vec![argv[0].to_owned()]);
    let argv = argv.iter().map(|arg| (*arg).to_owned()).collect();
    let envp = vec![c"PATH=/bin:/usr/bin".to_owned()];
    Script { envp, ..Script::of(program, argv, [Arc::clone(&null), Arc::clone(&null), null]) }
}

fn sh(text: &str) -> Script {
    script(&[c"/bin/sh", c"-c", &CString::new(text).unwrap()])
}

/// Runs a script with its standard output in a pipe.
fn output(mut script: Script) -> (ExitStatus, String) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    script.stdio[1] = Arc::new(write);
    let process = spawn(&script).unwrap();
    drop(script);
    let mut text = String::new();
    std::fs::File::from(read).read_to_string(&mut text).unwrap();
    (wait(&process.pidfd).unwrap(), text)
}

#[test]
fn s7_success_means_that_the_program_runs() {
    let process = spawn(&sh("exit 7")).unwrap();
    assert_eq!(wait(&process.pidfd).unwrap(), ExitStatus::Exited(7));
}

#[test]
fn s7_the_failed_step_is_named_with_its_errno() {
    let mut script = sh("true");
    script.ops.push(Op::NewKeyring);
    script.ops.push(Op::WorkingDirectory(c"/no/such/directory".to_owned()));
    let error = spawn(&script).unwrap_err();
    assert_eq!(error.errno, Errno::NOENT);
    assert_eq!(error.step, FailedStep::Op("change to working directory /no/such/directory".into()));
    assert_eq!(
        error.to_string(),
        "change to working directory /no/such/directory: No such file or directory (os error 2)"
    );
    assert_eq!(rustix::process::wait(rustix::process::WaitOptions::empty()).unwrap_err(), Errno::CHILD);
}

#[test]
fn s8_the_first_candidate_that_can_be_executed_is() {
    let mut script = sh("exit 3");
    let candidates = [c"/no/such/sh", c"/etc/passwd", c"/etc/passwd/sh", c"/bin/sh"];
    script.program = Program::Candidates(candidates.iter().map(|path| (*path).to_owned()).collect());
    let process = spawn(&script).unwrap();
    assert_eq!(wait(&process.pidfd).unwrap(), ExitStatus::Exited(3));
}

#[test]
fn s8_absent_and_not_executable_are_told_apart() {
    let absent = spawn(&script(&[c"/no/such/program"])).unwrap_err();
    assert_eq!((absent.step, absent.errno), (FailedStep::Exec("/no/such/program".into()), Errno::NOENT));
    let denied = spawn(&script(&[c"/etc/passwd"])).unwrap_err();
    assert_eq!((denied.step, denied.errno), (FailedStep::Exec("/etc/passwd".into()), Errno::ACCESS));
}

#[test]
fn no_descriptor_of_the_parent_is_left() {
    // Deliberately without close-on-exec, and at a high number.
    let leaked = rustix::io::dup(null()).unwrap();
    let high = dup_high(&leaked);
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    rustix::io::fcntl_setfd(&high, rustix::io::FdFlags::empty()).unwrap();
    let (_, listing) = output(sh("ls /proc/self/fd | sort -n | tr '\\n' ' '"));
    // 3 is the directory that `ls` reads.
    assert_eq!(listing, "0 1 2 3 ");
}

fn dup_high(fd: &OwnedFd) -> OwnedFd {
    rustix::io::fcntl_dupfd_cloexec(fd, 500).unwrap()
}

#[test]
fn kept_descriptors_come_in_order_from_three_on() {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let mut script = sh("echo first >&3; readlink /proc/self/fd/4");
    // The first is in the way of where the second goes.
    let second = Arc::new(rustix::fs::open("/etc", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap());
    script.keep = vec![Arc::new(write), second];
    let (status, text) = output(script);
    assert_eq!((status, text.as_str()), (ExitStatus::Exited(0), "/etc\n"));
    let mut first = String::new();
    std::fs::File::from(read).read_to_string(&mut first).unwrap();
    assert_eq!(first, "first\n");
}

#[test]
fn signals_are_at_their_defaults_and_none_is_blocked() {
    // Rust's runtime ignores SIGPIPE, and a signalfd blocks what it reads.
    let _blocked = linux::signalfd::SignalFd::new(&[1, 2, 15]).unwrap();
    let (_, text) = output(sh("grep -E 'SigBlk|SigIgn' /proc/self/status"));
    let zero = "0".repeat(16);
    assert_eq!(text, format!("SigBlk:\t{zero}\nSigIgn:\t{zero}\n"));
}

#[test]
fn s6_a_new_pid_namespace_has_the_program_as_pid_1() {
    let mut script = sh("echo $$ $(hostname)");
    script.namespaces = new::PID | new::UTS;
    script.ops.push(Op::Hostname(c"inside".to_owned()));
    let (_, text) = output(script);
    assert_eq!(text, "1 inside\n");
}

#[test]
fn s6_a_second_process_joins_the_namespaces_of_the_first() {
    let mut first = sh("sleep 100");
    first.namespaces = new::PID | new::UTS | new::IPC | new::MOUNT;
    first.ops.push(Op::Hostname(c"joined".to_owned()));
    let first = spawn(&first).unwrap();
    let handle = Arc::new(first.pidfd);
    let mut second = sh("hostname; test $$ -lt 50 && echo inside");
    second.container = Some(Arc::clone(&handle));
    second.ops.push(Op::JoinNamespaces {
        process: Arc::clone(&handle),
        namespaces: new::UTS | new::IPC | new::MOUNT,
    });
    let (_, text) = output(second);
    assert_eq!(text, "joined\ninside\n");
    // This thread's own children are outside again.
    let (_, pid) = output(sh("echo $$"));
    assert!(pid.trim().parse::<i32>().unwrap() > 50, "{pid}");
    linux::pidfd::send_signal(&handle, linux::signal::Signal::KILL).unwrap();
    wait(&handle).unwrap();
}

#[test]
fn s10_credentials_are_all_set_and_capabilities_gone() {
    let mut script = sh("id -u; id -g; id -G; grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status");
    script.closed_ops.push(Op::Credentials(Credentials {
        uid: 4711,
        gid: 4712,
        groups: vec![4713, 4714],
        capabilities: Capabilities { bounding: 1 << 7, ..Capabilities::default() },
        no_new_privileges: true,
    }));
    let (_, text) = output(script);
    let expected =
        "4711\n4712\n4712 4713 4714\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000080\nNoNewPrivs:\t1\n";
    assert_eq!(text, expected);
}

#[test]
fn s6_a_thread_with_a_small_bounding_set_starts_processes_with_no_more() {
    let bounded = |bounding: u64| {
        let mut script = sh("grep CapBnd /proc/self/status");
        let capabilities = Capabilities { bounding, ..Capabilities::default() };
        script.closed_ops.push(Op::Credentials(Credentials {
            uid: 0,
            gid: 0,
            groups: vec![],
            capabilities,
            no_new_privileges: true,
        }));
        output(script).1
    };
    let small = move || {
        linux::caps::bound_thread(0xa0).unwrap();
        linux::caps::bound_thread(0xa0).unwrap();
        [0x80, 0xa0, 0xff].map(bounded)
    };
    let expected = ["80", "a0", "a0"].map(|set| format!("CapBnd:\t{set:0>16}\n"));
    assert_eq!(std::thread::spawn(small).join().unwrap(), expected);
    assert_eq!(bounded(0xff), "CapBnd:\t00000000000000ff\n", "another thread has what it had");
}

#[test]
fn s11_a_mountpoint_that_is_a_link_is_refused() {
    let dir = tempfile_dir();
    std::os::unix::fs::symlink("/tmp", dir.join("proc")).unwrap();
    let mut script = sh("true");
    script.namespaces = new::MOUNT | new::PID;
    const MS_PRIVATE: u64 = 1 << 18;
    script.ops = vec![
        Op::RootPropagation(MS_PRIVATE),
        Op::EnterRoot(std::ffi::CString::new(dir.as_os_str().as_encoded_bytes()).unwrap()),
        Op::Mount {
            source: Mounted::New { fs: c"proc".to_owned(), options: Vec::new(), attributes: 0 },
            target: c"proc".to_owned(),
        },
    ];
    let error = spawn(&script).unwrap_err();
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!((error.step, error.errno), (FailedStep::Op("mount proc on /proc".into()), Errno::LOOP));
}

#[test]
fn a_sealed_program_runs_and_cannot_be_opened_for_writing() {
    let bytes = std::fs::read("/bin/sleep").unwrap();
    let mut script = script(&[c"sleep", c"100"]);
    script.program = Program::File(Arc::new(linux::memfd::memfd_sealed(c"sleep", &bytes).unwrap()));
    let process = spawn(&script).unwrap();
    let exe = format!("/proc/{}/exe", process.pid.as_raw_nonzero());
    let opened = rustix::fs::open(&exe, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    assert!(matches!(opened, Err(Errno::TXTBSY | Errno::PERM | Errno::ACCESS)), "{opened:?}");
    linux::pidfd::send_signal(&process.pidfd, linux::signal::Signal::KILL).unwrap();
    wait(process.pidfd.as_fd()).unwrap();
}

#[test]
fn many_threads_spawn_at_once() {
    let threads: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(|| {
                for _ in 0..50 {
                    let process = spawn(&script(&[c"/bin/true"])).unwrap();
                    assert_eq!(wait(&process.pidfd).unwrap(), ExitStatus::Exited(0));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

fn tempfile_dir() -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!("linux-spawn-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    dir
}

#[test]
fn s6_a_container_that_begins_in_a_vestibule_never_had_the_machines_mounts() {
    use rustix::mount::{OpenTreeFlags as F, open_tree};
    let own = std::fs::read_link("/proc/thread-self/ns/mnt").unwrap();
    let vestibule = Arc::new(linux::mount::vestibule().unwrap());
    // The root alone, without what is mounted on it.
    let root = open_tree(rustix::fs::CWD, "/", F::OPEN_TREE_CLONE | F::OPEN_TREE_CLOEXEC).unwrap();
    let proc = Mounted::New { fs: c"proc".to_owned(), options: Vec::new(), attributes: 0 };
    let mut script = sh("cat /proc/self/mountinfo");
    script.namespaces = new::MOUNT | new::PID;
    script.vestibule = Some(Arc::clone(&vestibule));
    script.ops = vec![
        Op::Mount { source: Mounted::Tree(Arc::new(root)), target: c"root".to_owned() },
        Op::EnterRoot(linux::mount::VESTIBULE_PLACE.to_owned()),
        Op::Mount { source: proc, target: c"proc".to_owned() },
        // Whatever needs the machine's null device finds it.
        Op::Mask { target: c"proc/cpuinfo".to_owned() },
        Op::PivotRoot,
    ];
    let (status, text) = output(script.clone());
    assert_eq!(status, ExitStatus::Exited(0));
    let places: Vec<&str> = text.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    assert_eq!(places, ["/", "/proc", "/proc/cpuinfo"], "{text}");
    // This thread is where it was, and so is it after a start that failed.
    assert_eq!(std::fs::read_link("/proc/thread-self/ns/mnt").unwrap(), own);
    script.ops = vec![Op::EnterRoot(c"/absent".to_owned())];
    assert!(matches!(spawn(&script).unwrap_err().step, FailedStep::Op(_)));
    assert_eq!(std::fs::read_link("/proc/thread-self/ns/mnt").unwrap(), own);
}
