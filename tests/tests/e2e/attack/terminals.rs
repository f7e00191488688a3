//! Terminals and streams that are used badly.

use std::fs::{self, File};
use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use tests::cli::Running;
use tests::{Cli, Host, eventually, isolated};

use super::{attach, destroy, read_until, rootfs};

#[test]
fn s21_a_terminal_carries_much_both_ways_at_once() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let _running = cli.launch_idle(&rootfs);
        let input = "line\n".repeat(100_000);
        let script = "stty -echo; seq 200000; wc -l";
        let exec = ["subcontainer", "exec", "--force-tty", &rootfs.path, "sh", "-c", script];
        let ended = cli.run_with_input(input.as_bytes(), exec).ok();
        let lines = ended.out();
        assert!(lines.contains("\r\n199999\r\n200000\r\n"), "the output has gaps");
        assert_eq!(lines.lines().last().map(str::trim), Some("100000"), "the input has gaps");
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s8_a_terminal_that_nobody_reads_still_ends_with_a_signal() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let _running = cli.launch_idle(&rootfs);
        let mut command = cli.command(["subcontainer", "exec", "--force-tty", &rootfs.path, "yes"]);
        let input = File::open("/dev/zero").unwrap();
        let child = command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut running = Running { child };
        let stdout = running.child.stdout.take().unwrap();
        // How much a pipe takes depends on how it came: it is full when it takes no more.
        let (mut count, mut since) = (0, Instant::now());
        eventually("its output is full", || {
            let now = rustix::io::ioctl_fionread(&stdout).unwrap();
            if now != count {
                (count, since) = (now, Instant::now());
            }
            count > 0 && since.elapsed() > Duration::from_millis(200)
        });
        running.signal(Signal::TERM);
        eventually("it has ended", || running.child.try_wait().unwrap().is_some());
        drop(stdout);
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s19_the_end_of_input_is_one_after_a_partial_line_too() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let _running = cli.launch_idle(&rootfs);
        let exec = ["subcontainer", "exec", "--force-tty", &rootfs.path, "cat"];
        for (input, count) in [("abc", 1), ("abc\n", 1), ("", 0), ("abc\nabc", 2)] {
            let start = Instant::now();
            let out = cli.run_with_input(input.as_bytes(), exec).ok().out();
            // Each line twice: what was typed, and what the command wrote.
            assert_eq!(out.matches("abc").count(), 2 * count, "{input:?}: {out:?}");
            assert!(start.elapsed() < Duration::from_secs(3), "{input:?} took {:?}", start.elapsed());
        }
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s21_a_terminal_can_be_left_and_attached_to_again_and_loses_nothing() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        let script = "for i in 1 2 3 4 5; do until [ -e /go$i ]; do sleep 0.01; done; \
            echo output-$i; touch /done$i; done; read line; echo typed-$line; sleep 1000";
        let streams = json!({"terminal": {"rows": 24, "cols": 80}});
        let params = json!({"guid": guid, "command": ["sh", "-c", script], "streams": streams});
        let process = rpc.call("subcontainer.spawn", params)["process"].clone();
        let again = || {
            let mut attached = None;
            eventually("it can be attached to again", || {
                attached = attach(&host, &process, "terminal").ok();
                attached.is_some()
            });
            attached.unwrap()
        };
        for i in 1..=5 {
            drop(again());
            fs::write(rootfs(&host, &guid).join(format!("go{i}")), "").unwrap();
            let done = rootfs(&host, &guid).join(format!("done{i}"));
            eventually("it has written", || done.exists());
            read_until(&mut again(), &format!("output-{i}"));
        }
        let mut terminal = again();
        terminal.write_all(b"word\n").unwrap();
        read_until(&mut terminal, "typed-word");
        destroy(&mut rpc, &guid);
    });
}
