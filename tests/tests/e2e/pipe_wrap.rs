//! `pipe-wrap`: a command that can reopen its own output.

use std::os::unix::net::UnixStream;
use std::process::Stdio;

use tests::{Cli, isolated};

#[test]
fn s4_output_can_be_reopened_though_ours_is_a_socket() {
    isolated(|| {
        let cli = Cli::new();
        let script = "echo one; echo two > /dev/stdout; echo three > /dev/stderr; exit 4";
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (errors, their_errors) = UnixStream::pair().unwrap();
        // The control: without us, a socket cannot be opened through /dev/stdout.
        let mut plain = std::process::Command::new("sh");
        plain
            .args(["-c", "echo x > /dev/stdout"])
            .stdout(Stdio::from(std::os::fd::OwnedFd::from(theirs.try_clone().unwrap())));
        assert!(!plain.stderr(Stdio::null()).status().unwrap().success());
        drop(plain);

        let mut command = cli.command(["pipe-wrap", "sh", "-c", script]);
        command.stdout(Stdio::from(std::os::fd::OwnedFd::from(theirs)));
        command.stderr(Stdio::from(std::os::fd::OwnedFd::from(their_errors)));
        let mut child = command.spawn().unwrap();
        drop(command);
        assert_eq!(child.wait().unwrap().code(), Some(4));
        let read = |mut stream: UnixStream| {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
            text
        };
        assert_eq!(read(ours), "one\ntwo\n");
        assert_eq!(read(errors), "three\n");
    });
}

#[test]
fn s4_signals_and_exit_codes_pass_through() {
    isolated(|| {
        let cli = Cli::new();
        assert_eq!(cli.run(["pipe-wrap", "sh", "-c", "kill -TERM $$"]).code, 143);
        assert_eq!(cli.run(["pipe-wrap", "no-such-command"]).code, 127);
    });
}
