//! Standard streams of `launch` and `exec`: relayed, and nobody notices.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::cli::{Rootfs, Running, finish};
use tests::terminal::Terminal;
use tests::{Cli, Finished, eventually, isolated};

/// In a container that runs.
fn running(body: impl FnOnce(&Cli, &Rootfs)) {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let idle = cli.launch_idle(&rootfs);
        body(&cli, &rootfs);
        drop(idle);
        cli.destroy_fs(&rootfs);
    });
}

/// A shell outside, in which `$EXEC` is our command up to the rootfs.
fn shell(cli: &Cli, rootfs: &Rootfs, script: &str) -> Finished {
    let exec = cli.command(["subcontainer", "exec", &rootfs.path]);
    let words: Vec<&str> = std::iter::once(exec.get_program())
        .chain(exec.get_args())
        .map(|word| word.to_str().unwrap())
        .collect();
    let mut command = Command::new("sh");
    command.args(["-c", script]).env("EXEC", words.join(" ")).current_dir("/tmp").stdin(Stdio::null());
    finish(command, b"")
}

const NUMBERS: &str = "seq 400000; echo last >&2; exit 3";

fn assert_is_numbers(out: &[u8]) {
    assert_eq!(out.len(), 2_688_895, "some of it is missing, or too much");
    assert!(out.starts_with(b"1\n2\n3\n") && out.ends_with(b"\n399999\n400000\n"));
}

#[test]
fn s19_what_is_written_before_the_end_arrives_whole_wherever_it_goes() {
    running(|cli, rootfs| {
        let ended = cli.exec(rootfs, &[], &["sh", "-c", NUMBERS]);
        assert_eq!((ended.code, ended.err().as_str()), (3, "last"));
        assert_is_numbers(&ended.stdout);
        let said = shell(cli, rootfs, &format!("$EXEC sh -c '{NUMBERS}' >file 2>err; echo $?"));
        assert_eq!((said.out().as_str(), fs::read("/tmp/err").unwrap().as_slice()), ("3", &b"last\n"[..]));
        assert_is_numbers(&fs::read("/tmp/file").unwrap());
        // A file that is appended to.
        let script = format!("echo before >file; $EXEC sh -c '{NUMBERS}' >>file 2>>err; echo after >>file");
        shell(cli, rootfs, &script).ok();
        let file = fs::read("/tmp/file").unwrap();
        assert_is_numbers(&file[b"before\n".len()..file.len() - b"after\n".len()]);
        // A reader that takes its time.
        let slow = shell(cli, rootfs, &format!("$EXEC sh -c '{NUMBERS}' 2>err | {{ sleep 1; cat; }}"));
        assert_is_numbers(&slow.stdout);
        // A socket, as Node gives to its children.
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut command = cli.command(["subcontainer", "exec", &rootfs.path, "sh", "-c", NUMBERS]);
        let child = command.stdout(OwnedFd::from(theirs)).stderr(Stdio::null()).spawn().unwrap();
        drop(command);
        let (mut all, mut socket) = (Vec::new(), ours);
        socket.read_to_end(&mut all).unwrap();
        assert_is_numbers(&all);
        assert_eq!(child.wait_with_output().unwrap().status.code(), Some(3));
        for file in ["file", "err"] {
            fs::remove_file(format!("/tmp/{file}")).unwrap();
        }
    });
}

#[test]
fn s19_output_and_errors_that_go_to_one_place_keep_their_order() {
    running(|cli, rootfs| {
        let script = "for i in $(seq 500); do echo $i; echo $i >&2; done";
        let expected: String = (1..=500).flat_map(|i| [format!("{i}\n"), format!("{i}\n")]).collect();
        for to in ["2>&1 | cat", ">file 2>&1; cat file", ">>file 2>&1; cat file"] {
            let said = shell(cli, rootfs, &format!("rm -f file; $EXEC sh -c '{script}' {to}")).ok();
            assert!(said.stdout == expected.as_bytes(), "{to}: {}", said.out());
        }
        fs::remove_file("/tmp/file").unwrap();
    });
}

#[test]
fn s19_what_is_not_read_stays_for_who_comes_next() {
    running(|cli, rootfs| {
        // The loop of every shell script; from a file, a pipe, a socket.
        let list = "while read line; do echo got $line; $EXEC true; done";
        let file: String = (1..=20).map(|i| format!("{i}\n")).collect();
        fs::write("/tmp/file", &file).unwrap();
        let expected: String = (1..=20).map(|i| format!("got {i}\n")).collect();
        for script in [format!("{list} <file"), format!("cat file | {list}")] {
            assert_eq!(shell(cli, rootfs, &script).ok().out() + "\n", expected, "{script}");
        }
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(b"first\nsecond\n").unwrap();
        let theirs = OwnedFd::from(theirs);
        for (command, expected) in
            [("true", ""), ("read a; echo $a", "first\n"), ("read a; echo $a", "second\n")]
        {
            let mut command = cli.command(["subcontainer", "exec", &rootfs.path, "sh", "-c", command]);
            let output = command.stdin(theirs.try_clone().unwrap()).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
        }
        // What it has read is gone, and nothing else.
        for from in ["<file", "<<E\n$(cat file)\nE\n"] {
            let script = format!("{{ $EXEC sh -c 'read a; read b; echo $b'; head -n 1; }} {from}");
            assert_eq!(shell(cli, rootfs, &script).ok().out(), "2\n3", "{from}");
        }
        let script = "cat file | { $EXEC sh -c 'read a; read b; echo $b'; head -n 1; }";
        assert_eq!(shell(cli, rootfs, script).ok().out(), "2\n3");
        // A file that is larger than all that is on the way.
        let script = "seq 400000 >large; { $EXEC sh -c 'read a'; cat; } <large | wc -c";
        assert_eq!(shell(cli, rootfs, script).ok().out(), "2688893");
        fs::remove_file("/tmp/file").unwrap();
        fs::remove_file("/tmp/large").unwrap();
    });
}

#[test]
fn s19_input_is_whole_and_has_an_end() {
    running(|cli, rootfs| {
        for from in ["seq 400000 |", "seq 400000 >large; <large", "{ echo 1; sleep 0.3; seq 2 400000; } |"] {
            let said = shell(cli, rootfs, &format!("{from} $EXEC wc -c")).ok();
            assert_eq!(said.out(), "2688895", "{from}");
        }
        fs::remove_file("/tmp/large").unwrap();
        for from in ["</dev/null", "<&-", "</tmp", "echo -n |"] {
            let script = match from.strip_suffix('|') {
                Some(_) => format!("{from} $EXEC wc -c"),
                None => format!("$EXEC wc -c {from}"),
            };
            assert_eq!(shell(cli, rootfs, &script).ok().out(), "0", "{from}");
        }
    });
}

#[test]
fn s8_a_reader_that_goes_ends_the_writer() {
    running(|cli, rootfs| {
        let start = Instant::now();
        let script = "{ $EXEC yes; echo $? >code; } | head -n 1; cat code";
        assert_eq!(shell(cli, rootfs, script).ok().out(), "y\n141");
        fs::remove_file("/tmp/code").unwrap();
        // One that writes nothing is told, too, when it asks.
        let script = "$EXEC sh -c 'exec sleep 0.5; exit 4' | true";
        shell(cli, rootfs, script).ok();
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    });
}

#[test]
fn s8_a_full_disk_is_told() {
    running(|cli, rootfs| {
        let said = shell(cli, rootfs, "$EXEC echo lost >/dev/full; echo $?");
        assert_eq!(said.out(), "125");
        assert!(said.err().contains("pass on output"), "{}", said.err());
    });
}

#[test]
fn s6_what_is_left_running_keeps_nobody_waiting() {
    running(|cli, rootfs| {
        let start = Instant::now();
        let ended = cli.exec(rootfs, &[], &["sh", "-c", "(sleep 1000 &) ; seq 100000"]).ok();
        assert_eq!(ended.stdout.len(), 588_895);
        // Not even one that goes on writing.
        let ended = cli
            .exec(rootfs, &[], &["sh", "-c", "(while :; do echo more; done &) ; sleep 0.3; echo mine >&2"])
            .ok();
        assert_eq!(ended.err(), "mine");
        let script = "(trap '' HUP; while :; do echo more; done &) ; sleep 0.3; exit 5";
        assert_eq!(cli.exec(rootfs, &["--force-tty"], &["sh", "-c", script]).code, 5);
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    });
}

#[test]
fn s10_any_user_opens_its_streams_by_name() {
    running(|cli, rootfs| {
        let script = "echo out >/dev/stdout; echo err >/dev/stderr; cat /dev/stdin";
        let words = ["subcontainer", "exec", "--user", "1000", &rootfs.path, "sh", "-c", script];
        let ended = cli.run_with_input(b"in\n", words).ok();
        assert_eq!((ended.out().as_str(), ended.err().as_str()), ("out\nin", "err"));
    });
}

#[test]
fn s23_who_does_not_read_costs_no_memory_and_no_time() {
    running(|cli, rootfs| {
        let mut command = cli.command(["subcontainer", "exec", &rootfs.path, "cat", "/dev/zero"]);
        let child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut running = Running { child };
        let stdout = running.child.stdout.take().unwrap();
        let status = |name: &str| {
            let text = fs::read_to_string(format!("/proc/{}/{name}", running.child.id())).unwrap();
            match name {
                "statm" => text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096,
                _ => text
                    .rsplit(')')
                    .next()
                    .unwrap()
                    .split(' ')
                    .skip(12)
                    .take(2)
                    .map(|n| n.parse::<u64>().unwrap())
                    .sum(),
            }
        };
        eventually("the pipe is full", || rustix::io::ioctl_fionread(&stdout).unwrap() > 60_000);
        std::thread::sleep(Duration::from_millis(300));
        let (memory, time) = (status("statm"), status("stat"));
        std::thread::sleep(Duration::from_millis(1500));
        assert!(status("stat") - time <= 2, "it is busy doing nothing");
        assert!(status("statm") <= memory + (1 << 20), "it gathers what nobody reads");
        assert!(memory < 32 << 20, "{memory}");
    });
}

#[test]
fn s21_a_terminal_that_is_output_alone_is_one_inside() {
    running(|cli, rootfs| {
        let exec = cli.command(["subcontainer", "exec", &rootfs.path, "sh", "-c"]);
        let mut command = Command::new("sh");
        let script = "test -t 0 || test -t 1 && test -t 2 && echo only-'output'; stty size <&1; echo a; echo b >&2; exit 7";
        command.args(["-c", "\"$@\" </dev/null; echo code-$?-", "sh"]);
        command.arg(exec.get_program()).args(exec.get_args()).arg(script);
        let mut terminal = Terminal::start(&command, 33, 111);
        terminal.read_until("only-output\r\n");
        terminal.read_until("33 111\r\n");
        terminal.read_until("a\r\nb\r\n");
        terminal.read_until("code-7-");
        terminal.end();
    });
}

#[test]
fn s21_a_terminal_that_is_input_alone_is_read_line_by_line() {
    running(|cli, rootfs| {
        let exec = cli.command(["subcontainer", "exec", &rootfs.path, "cat"]);
        let mut command = Command::new("sh");
        command.args(["-c", "\"$@\" | sed 's/^/seen-/'; echo over", "sh"]);
        command.arg(exec.get_program()).args(exec.get_args());
        let mut terminal = Terminal::start(&command, 24, 80);
        terminal.write("one\n");
        terminal.read_until("one\r\n");
        terminal.write("two\n\u{4}");
        terminal.read_until("seen-one\r\nseen-two\r\nover");
        terminal.end();
    });
}

#[test]
fn s21_in_the_background_nothing_is_read_from_the_terminal() {
    running(|cli, rootfs| {
        let exec = cli.command(["subcontainer", "exec", &rootfs.path, "cat"]);
        let mut command = Command::new("sh");
        let script = "set -m; \"$@\" </dev/tty >/tmp/got & sleep 1; read line; echo mine-$line; fg >/dev/null; echo over";
        command.args(["-c", script, "sh"]).arg(exec.get_program()).args(exec.get_args());
        let mut terminal = Terminal::start(&command, 24, 80);
        terminal.write("word\n");
        terminal.read_until("mine-word");
        terminal.write("for-it\n\u{4}");
        terminal.read_until("over");
        terminal.end();
        assert_eq!(fs::read_to_string("/tmp/got").unwrap(), "for-it\n");
        fs::remove_file("/tmp/got").unwrap();
    });
}

#[test]
fn s19_a_launched_command_has_its_streams_relayed_too() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let mut command = cli.command([
            "subcontainer",
            "launch",
            &rootfs.path,
            "sh",
            "-c",
            "read a; echo got $a; sleep 1000",
        ]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut running = Running { child };
        running.child.stdin.take().unwrap().write_all(b"word\n").unwrap();
        let mut line = String::new();
        BufReader::new(running.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "got word\n");
        running.signal(Signal::TERM);
        running.signal(Signal::KILL);
        cli.destroy_fs(&rootfs);
        let file = OpenOptions::new().create(true).append(true).open("/tmp/out").unwrap();
        let rootfs = cli.create_fs("busybox");
        let mut command = cli.command(["subcontainer", "launch", &rootfs.path, "sh", "-c", NUMBERS]);
        let status = command.stdout(file).stderr(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(3));
        let mut all = Vec::new();
        File::open("/tmp/out").unwrap().read_to_end(&mut all).unwrap();
        assert_is_numbers(&all);
        fs::remove_file("/tmp/out").unwrap();
        cli.destroy_fs(&rootfs);
    });
}
