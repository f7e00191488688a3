//! The caller's standard streams, and devices of the machine's that stand for something inside.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use rustix::fs::{OFlags, fcntl_getfl, fstat};
use serde_json::json;
use tests::cli::Rootfs;
use tests::terminal::Terminal;
use tests::{attacks, isolated};

use super::rig::{Arena, Attempt, GUARDED, KINDS, Said, bare, outside};

/// Both doors of the command line, in every kind of container: a command in it, with its name.
fn commands(arena: &Arena, words: &[&str], mut each: impl FnMut(&str, Command)) {
    for kind in KINDS {
        let mut rpc = arena.host.connect();
        for door in ["launch", "exec"] {
            let guid = arena.rootfs(&mut rpc, kind);
            let rootfs = Rootfs { path: arena.path(&guid).display().to_string(), guid };
            let flags = if door == "launch" { kind.flags } else { &[] };
            let running = (door == "exec").then(|| arena.host.cli().launch(&rootfs, kind.flags, &[]));
            let words = [&["subcontainer", door], flags, &[&rootfs.path, "/attacks"], words].concat();
            each(&format!("{door}, {}", kind.name), arena.host.cli().command(words));
            drop(running);
            arena.host.cli().destroy_fs(&rootfs);
        }
    }
}

/// Makes a stream, and the other end if it has one.
type Open<'a> = &'a dyn Fn() -> (OwnedFd, Option<OwnedFd>);

/// What an attack on a stream may change for others.
fn state(stream: &OwnedFd) -> (OFlags, u32, u32) {
    let stat = fstat(stream).unwrap();
    (fcntl_getfl(stream).unwrap(), stat.st_mode, stat.st_uid)
}

#[test]
fn s6_streams_of_the_caller_are_not_changed_for_those_who_share_them() {
    isolated(|| {
        with_a_null_of_ones_own(|| {
            let arena = Arena::new();
            let pipe = || {
                let (read, write) = rustix::pipe::pipe().unwrap();
                (write, Some(read))
            };
            let socket = || {
                let (ours, theirs) = UnixStream::pair().unwrap();
                (OwnedFd::from(theirs), Some(OwnedFd::from(ours)))
            };
            let file = || (OwnedFd::from(File::create("/tmp/given").unwrap()), None);
            let null =
                || (OwnedFd::from(File::options().read(true).write(true).open("/dev/null").unwrap()), None);
            let streams: [(&str, Open<'_>); 4] =
                [("pipe", &pipe), ("socket", &socket), ("file", &file), ("null", &null)];
            let spoiled = |mut command: Command, stream: &OwnedFd| {
                command.stdin(Stdio::null()).stderr(Stdio::null());
                let before = state(stream);
                command.stdout(stream.try_clone().unwrap()).status().unwrap();
                state(stream) != before
            };
            for (name, open) in streams {
                commands(&arena, &["spoil", "1"], |at, command| {
                    let (stream, other) = open();
                    assert!(
                        !spoiled(command, &stream),
                        "AN ESCAPE: {at}: a {name} of the caller was changed"
                    );
                    if let Some(other) = other {
                        drop(stream);
                        let mut said = String::new();
                        File::from(other).read_to_string(&mut said).unwrap();
                        // Its own it may change, and still is heard.
                        assert!(said.starts_with("worked") || said.is_empty(), "{at}: {said}");
                    }
                });
                let stream = open();
                let mut naive = Command::new(attacks::program());
                naive.args(["spoil", "1"]);
                assert!(spoiled(naive, &stream.0), "{name}: the control fails");
            }
            fs::remove_file("/tmp/given").unwrap();
        })
    });
}

#[test]
fn s6_a_pipe_that_is_shared_is_not_listened_in_to() {
    isolated(|| {
        let arena = Arena::new();
        let said = |mut command: Command| {
            let (read, write) = rustix::pipe::pipe().unwrap();
            command.stdin(Stdio::null()).stdout(write.try_clone().unwrap()).stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let mut write = File::from(write);
            let mut errors = child.stderr.take().unwrap();
            while child.try_wait().unwrap().is_none() {
                write.write_all(b"secret\n").unwrap();
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            drop((read, command));
            let mut text = String::new();
            errors.read_to_string(&mut text).unwrap();
            Said::read("a pipe", &text, "")
        };
        commands(&arena, &["listen-in", "1"], |_, command| said(command).all_refused());
        let mut naive = Command::new(attacks::program());
        naive.args(["listen-in", "1"]);
        said(naive).all_worked();
    });
}

/// A `/dev/null` that is this test's own: if something is changed, it is not the machine's.
fn with_a_null_of_ones_own(body: impl FnOnce()) {
    outside(&["mknod", "-m", "666", "/tmp/null", "c", "1", "3"]);
    outside(&["mount", "--bind", "/tmp/null", "/dev/null"]);
    body();
    outside(&["umount", "/dev/null"]);
    fs::remove_file("/tmp/null").unwrap();
}

#[test]
fn s6_no_device_of_the_machine_is_changed_by_what_stands_for_it_inside() {
    isolated(|| {
        with_a_null_of_ones_own(|| {
            let arena = Arena::new();
            let mode = || fs::metadata("/dev/null").unwrap().permissions().mode();
            let before = mode();
            // As the standard stream of a command of the host's, where there is none. Root inside may have put
            // something else in its place.
            for kind in KINDS {
                for replace in
                    ["true", "rm /dev/null && ln -s zero /dev/null", "rm /dev/null; mkfifo /dev/null"]
                {
                    let mut rpc = arena.host.connect();
                    let guid = arena.rootfs(&mut rpc, kind);
                    rpc.call("subcontainer.launch", GUARDED.launch(&guid, kind));
                    rpc.output(&guid, &["sh", "-c", replace]);
                    let spoil = "stat -Lc %t:%T /proc/self/fd/0; /attacks spoil 0; chmod 600 /proc/self/fd/0; echo x >&0";
                    let said = rpc.output(&guid, &["sh", "-c", spoil]);
                    assert!(said.starts_with("1:3\n"), "{}: {replace}: its input is {said}", kind.name);
                    assert_eq!(mode(), before, "AN ESCAPE: {}: {replace}", kind.name);
                    rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
                }
            }
            // As a mask.
            for mask in ["/proc/kcore", "/proc/timer_list", "/proc/keys"] {
                let attempt = Attempt::new(&["change-mask", mask]);
                attempt.is_refused(&arena);
                assert_eq!(mode(), before, "AN ESCAPE: {mask}");
            }
            bare(&["change-mask", "/dev/null"]).all_worked();
            assert_ne!(mode(), before, "the control fails");
        });
    });
}

#[test]
fn s6_the_terminal_that_is_output_is_not_the_callers() {
    isolated(|| {
        let arena = Arena::new();
        let mut rpc = arena.host.connect();
        for kind in KINDS {
            let guid = arena.rootfs(&mut rpc, kind);
            let path = arena.path(&guid).display().to_string();
            let list = "for fd in 0 1 2; do stat -Lc given-%d-%i-%t-%T. /proc/self/fd/$fd; done; test -t 1 && test -t 2 && echo all-of-them";
            rpc.call("subcontainer.launch", GUARDED.launch(&guid, kind));
            let exec = arena.host.cli().command(["subcontainer", "exec", &path, "sh", "-c", list]);
            let mut command = Command::new("sh");
            command.args(["-c", "stat -Lc theirs-%d-%i-%t-%T. /proc/self/fd/1; echo | \"$@\"", "sh"]);
            command.arg(exec.get_program()).args(exec.get_args());
            let mut terminal = Terminal::start(&command, 24, 80);
            let seen = terminal.read_until("all-of-them");
            terminal.end();
            let id = |word: &str| -> Vec<String> {
                let parts = seen.split(word).skip(1);
                parts.map(|part| part.split('.').next().unwrap().to_owned()).collect()
            };
            let (given, theirs) = (id("given-"), id("theirs-"));
            assert_eq!((given.len(), theirs.len()), (3, 1), "{seen}");
            assert!(!given.contains(&theirs[0]), "AN ESCAPE: {}: {seen}", kind.name);
            rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
        }
    });
}
