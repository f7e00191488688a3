//! The command line itself: its commands, its flags, its exit codes.

use std::fs;

use rustix::process::Signal;
use tests::{Cli, isolated};

#[test]
fn s1_help_names_every_command_and_shows_a_first_try() {
    let cli = Cli::new();
    let help = cli.run(["--help"]).ok().out();
    for word in ["subcontainer", "image", "daemon", "bind-mount", "pipe-wrap", "Exit codes"] {
        assert!(help.contains(word), "{word} is missing in:\n{help}");
    }
    let help = cli.run(["subcontainer", "--help"]).ok().out();
    for word in ["create-fs", "destroy-fs", "launch", "exec", "ls", "inspect", "stats", "update", "attach"] {
        assert!(help.contains(word), "{word} is missing in:\n{help}");
    }
}

#[test]
fn s1_ls_inspect_and_stats_show_what_runs() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        assert_eq!(cli.state(&rootfs), "created");
        let running = cli.launch_idle(&rootfs);
        let list = cli.run(["--json", "subcontainer", "ls"]).ok().json();
        assert_eq!(list[0]["guid"], rootfs.guid.as_str(), "{list}");
        assert_eq!(list[0]["state"]["status"], "running", "{list}");
        assert!(cli.run(["subcontainer", "ls"]).ok().out().contains(&rootfs.guid));
        let stats = cli.run(["--json", "subcontainer", "stats", &rootfs.guid]).ok().json();
        assert_eq!(stats["processes"], 1, "{stats}");
        assert!(stats["memoryBytes"].as_u64().unwrap() > 0, "{stats}");
        running.signal(Signal::TERM);
        assert_eq!(running.end().code, 143, "the idle init ends on SIGTERM");
        assert_eq!(cli.state(&rootfs), "exited");
        cli.destroy_fs(&rootfs);
        assert_eq!(cli.run(["--json", "subcontainer", "ls"]).ok().json(), serde_json::json!([]));
    });
}

#[test]
fn s1_run_makes_a_container_for_one_command_and_leaves_nothing() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let nothing =
            || assert_eq!(cli.run(["--json", "subcontainer", "ls"]).ok().json(), serde_json::json!([]));
        let said = cli.run(["run", "busybox", "sh", "-c", "echo $$; echo x >/file; exit 3"]);
        assert_eq!((said.code, said.out().as_str()), (3, "1"), "{}", said.err());
        nothing();
        let contained =
            ["run", "--userns", "--network", "none", "-m", "64m", "--rootfs-size", "32m", "-e", "A=b"];
        let script = "cut -c1-11 /proc/self/uid_map; ls /sys/class/net; echo $A";
        let said = cli.run(contained.iter().chain(&["busybox", "sh", "-c", script])).ok().out();
        assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["0", "lo", "b"]);
        // The image's own command reads what is ours to read.
        assert_eq!(cli.run_with_input(b"echo from $0\n", ["run", "busybox"]).ok().out(), "from /bin/sh");
        nothing();
        assert_eq!(cli.run(["run", "nobodys", "true"]).code, 125);
        assert_eq!(cli.run(["run", "busybox", "nope"]).code, 127);
        assert_eq!(cli.run(["run", "-u", "stranger", "busybox", "true"]).code, 125);
        nothing();
        // Asked to end, it takes everything away.
        let mut command = cli.command(["run", "busybox", "sh", "-c", "echo on; exec sleep 7333"]);
        let mut running = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut on = [0; 3];
        std::io::Read::read_exact(running.stdout.as_mut().unwrap(), &mut on).unwrap();
        let pid = rustix::process::Pid::from_raw(i32::try_from(running.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
        running.wait().unwrap();
        let left = cli.run(["--json", "subcontainer", "ls"]).ok().json();
        // Killed, it cannot: what ran has ended, and the files are there for `rm`.
        cli.run(["rm", left[0]["guid"].as_str().unwrap()]).ok();
        nothing();
    });
}

#[test]
fn s2_environment_comes_from_image_file_and_flags_in_that_order() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let file = cli.data().join("env");
        fs::write(&file, "A=file\nB=file\n# a comment\n\nSPACED=a b c\n").unwrap();
        let file = file.to_str().unwrap();
        let rootfs = cli.create_fs("busybox");
        let _running = cli.launch_idle(&rootfs);
        let flags = ["--env-file", file, "-e", "B=flag", "--env", "C=1=2"];
        let script = "echo $A,$B,$C,$SPACED,$PATH";
        let said = cli.exec(&rootfs, &flags, &["sh", "-c", script]).ok().out();
        assert_eq!(said, "file,flag,1=2,a b c,/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s2_workdir_and_user_and_flags_of_the_command_stay_its_own() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let _running = cli.launch_idle(&rootfs);
        assert_eq!(cli.exec(&rootfs, &["-w", "/etc"], &["pwd"]).ok().out(), "/etc");
        assert_eq!(
            cli.exec(&rootfs, &["-u", "user:staff"], &["sh", "-c", "id -u; id -g; id -G"]).ok().out(),
            "1000\n50\n50"
        );
        assert_eq!(cli.exec(&rootfs, &[], &["echo", "-e", "-w", "--user", "x"]).ok().out(), "-w --user x");
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s5_launch_without_a_command_reaps_orphans_and_stops_on_sigterm() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let running = cli.launch_idle(&rootfs);
        // The sleep loses its parent, becomes a child of PID 1 and ends there.
        let _ = cli.exec(&rootfs, &[], &["sh", "-c", "(sleep 0.1 &) ; true"]).ok();
        std::thread::sleep(std::time::Duration::from_millis(400));
        let zombies = cli
            .exec(&rootfs, &[], &["sh", "-c", "grep -l '^State:.Z' /proc/[0-9]*/status | wc -l"])
            .ok()
            .out();
        assert_eq!(zombies, "0");
        let proc = std::path::Path::new(&rootfs.path).join("proc/1");
        assert!(proc.exists(), "its proc can be seen from outside while it runs");
        running.signal(Signal::TERM);
        assert_eq!(running.end().code, 143);
        assert!(!proc.exists(), "and not after that");
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s5_a_launched_command_is_pid_1_or_a_child_of_our_init() {
    isolated(|| {
        let cli = Cli::with_busybox();
        for (flags, pid) in [(vec![], "1"), (vec!["--init"], "not 1")] {
            let rootfs = cli.create_fs("busybox");
            let mut words = vec!["subcontainer", "launch"];
            words.extend(flags);
            words.extend([rootfs.path.as_str(), "sh", "-c", "[ $$ = 1 ] && echo 1 || echo not 1; exit 7"]);
            let ended = cli.run(words);
            assert_eq!((ended.out().as_str(), ended.code), (pid, 7), "{}", ended.err());
            cli.destroy_fs(&rootfs);
        }
    });
}

#[test]
fn s8_exit_codes_are_the_commands_own_and_a_shells() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let _running = cli.launch_idle(&rootfs);
        let code = |command: &[&str]| cli.exec(&rootfs, &[], command).code;
        assert_eq!(code(&["true"]), 0);
        assert_eq!(code(&["sh", "-c", "exit 42"]), 42);
        assert_eq!(code(&["sh", "-c", "kill -KILL $$"]), 137);
        assert_eq!(code(&["sh", "-c", "kill -USR1 $$"]), 128 + 10);
        assert_eq!(code(&["no-such-command"]), 127);
        assert_eq!(code(&["/etc/passwd"]), 126);
        assert_eq!(code(&["/etc"]), 126);
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s8_signals_are_passed_on() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let _running = cli.launch_idle(&rootfs);
        for signal in [Signal::INT, Signal::HUP, Signal::USR1, Signal::USR2, Signal::WINCH, Signal::TERM] {
            let number = signal.as_raw();
            let script =
                format!("trap 'echo got; exit 3' {number}; echo ready; while :; do sleep 0.05; done");
            let mut command = cli.command(["subcontainer", "exec", &rootfs.path, "sh", "-c", &script]);
            let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
            let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
            let mut line = String::new();
            std::io::BufRead::read_line(&mut output, &mut line).unwrap();
            assert_eq!(line, "ready\n");
            rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
            line.clear();
            std::io::BufRead::read_line(&mut output, &mut line).unwrap();
            assert_eq!(line, "got\n", "signal {number}");
            assert_eq!(child.wait().unwrap().code(), Some(3));
        }
        cli.destroy_fs(&rootfs);
    });
}
