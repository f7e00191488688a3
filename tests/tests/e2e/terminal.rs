//! Terminals.

use tests::terminal::Terminal;
use tests::{Cli, isolated};

#[test]
fn s21_a_terminal_outside_is_a_terminal_inside_and_follows_its_size() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let _running = cli.launch_idle(&rootfs);
        let command = cli.command(["subcontainer", "exec", &rootfs.path, "sh"]);
        let mut terminal = Terminal::start(&command, 33, 111);
        terminal.write("test -t 0 && test -t 1 && test -t 2 && echo all-'terminals'; stty size\n");
        terminal.read_until("all-terminals");
        terminal.read_until("33 111");
        terminal.resize(44, 122);
        terminal.write("sleep 0.2; stty size\n");
        terminal.read_until("44 122");
        terminal.write("exit 9\n");
        assert_eq!(terminal.end().1, Some(9));
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s21_ctrl_c_reaches_the_command_and_not_us() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let _running = cli.launch_idle(&rootfs);
        let script = "trap 'echo in''terrupted; exit 5' INT; echo rea''dy; while :; do sleep 0.05; done";
        let command = cli.command(["subcontainer", "exec", &rootfs.path, "sh", "-c", script]);
        let mut terminal = Terminal::start(&command, 24, 80);
        terminal.read_until("ready");
        terminal.write("\u{3}");
        terminal.read_until("interrupted");
        assert_eq!(terminal.end().1, Some(5));
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s21_a_terminal_is_forced_with_a_size_and_stderr_stays_apart() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let _running = cli.launch_idle(&rootfs);
        let flags = ["--force-tty", "--pty-size", "11:22"];
        let said = cli.exec(&rootfs, &flags, &["sh", "-c", "test -t 1 && stty size; echo error >&2"]).ok();
        assert_eq!((said.out().trim(), said.err().trim()), ("11 22", "error"));
        let flags = ["--force-tty", "--force-stderr-tty"];
        let said = cli.exec(&rootfs, &flags, &["sh", "-c", "test -t 2 && echo yes; echo error >&2"]).ok();
        assert_eq!((said.out().trim(), said.err().trim()), ("yes", "error"));
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s21_attach_passes_signals_on_and_ends_as_the_leader_ends() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let script = "trap 'exit 6' USR1; while :; do sleep 0.05; done";
        let running = cli.launch(&rootfs, &[], &["sh", "-c", script]);
        let mut attached = cli.command(["subcontainer", "attach", &rootfs.path]).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(300));
        let pid = rustix::process::Pid::from_child(&attached);
        rustix::process::kill_process(pid, rustix::process::Signal::USR1).unwrap();
        assert_eq!(running.end().code, 6);
        assert_eq!(attached.wait().unwrap().code(), Some(6), "the real exit code");
        cli.destroy_fs(&rootfs);
    });
}
