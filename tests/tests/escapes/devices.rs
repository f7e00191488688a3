//! Device nodes, files that give privileges, terminals, and the files that are standard streams.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tests::cli::{binary, finish};
use tests::terminal::Terminal;
use tests::{Cli, Host, attacks, isolated};

use super::rig::{Arena, Attempt, GUARDED, KINDS, Kind, MAY_MOUNT, Relaxed, Said, UNCONFINED, bare, outside};

fn volume(name: &str) -> Value {
    json!({"source": {"type": "volume", "volumeId": name}, "mountpoint": "/data"})
}

#[test]
fn s6_root_inside_makes_no_device() {
    isolated(|| {
        let arena = Arena::new();
        let attempt = Attempt::new(&["device"]).mounted(volume("main"));
        attempt.is_refused(&arena);
        attempt.works_with(&arena, &Relaxed { capabilities: &["MKNOD"], ..GUARDED });
    });
}

#[test]
fn s14_a_device_that_somebody_has_left_opens_nothing() {
    isolated(|| {
        let arena = Arena::new();
        let plant = |path: &Path| outside(&["mknod", path.to_str().unwrap(), "c", "1", "5"]);
        let in_rootfs = |root: &Path| plant(&root.join("node"));
        Attempt::new(&["device", "/node"]).prepared(in_rootfs).is_refused(&arena);
        let directory = arena.host.data().join("volumes/main");
        fs::create_dir_all(&directory).unwrap();
        plant(&directory.join("node"));
        Attempt::new(&["device", "/data/node"]).mounted(volume("main")).is_refused(&arena);
        // On a mount that forbids none, it opens the device.
        bare(&["device", directory.join("node").to_str().unwrap()]).all_worked();
    });
}

/// A copy of the attacks that makes whoever runs it root.
fn plant_setuid(path: &Path) {
    fs::copy(attacks::program(), path).unwrap();
    chown(path, Some(0), Some(0)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o6755)).unwrap();
}

/// And one that gives capabilities.
fn plant_capable(path: &Path) {
    fs::copy(attacks::program(), path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    outside(&["setcap", "cap_setuid,cap_dac_override+ep", path.to_str().unwrap()]);
}

#[test]
fn s6_a_setuid_file_or_one_with_capabilities_gives_nothing() {
    isolated(|| {
        let arena = Arena::new();
        let directory = arena.host.data().join("volumes/main");
        fs::create_dir_all(&directory).unwrap();
        let plants: [fn(&Path); 2] = [plant_setuid, plant_capable];
        for plant in plants {
            let in_rootfs = move |root: &Path| plant(&root.join("file"));
            Attempt::command(&["/file", "privileged"]).user("user").prepared(in_rootfs).is_refused(&arena);
            plant(&directory.join("file"));
            let on_volume = Attempt::command(&["/data/file", "privileged"]).user("user");
            on_volume.mounted(volume("main")).is_refused(&arena);
            // Outside, in a place that everybody can reach.
            plant(Path::new("/tmp/file"));
            let mut naive = Command::new("setpriv");
            naive.args(["--reuid=1000", "--regid=1000", "--clear-groups", "/tmp/file", "privileged"]);
            let ended = finish(naive, b"");
            Said::read("naive", &ended.out(), &ended.err()).all_worked();
            fs::remove_file("/tmp/file").unwrap();
        }
    });
}

#[test]
fn s6_cve_2021_41091_no_user_of_the_machine_runs_a_setuid_file_that_a_container_left() {
    isolated(|| {
        // Made by start-container itself, with the modes that it gives.
        let cli = Cli::at(&binary(), Path::new("/tmp/data"));
        cli.import(&tests::image::busybox(), "busybox");
        let host = Host::on(cli);
        let arena = Arena { host };
        let mut found = Vec::new();
        for kind in KINDS {
            let mut rpc = arena.host.connect();
            let guid = arena.rootfs(&mut rpc, kind);
            rpc.call("subcontainer.mount", json!({"guid": guid, "mount": volume("main")}));
            let path = Path::new("/tmp/data/subcontainers").join(&guid);
            let script = "cp /attacks /file && cp /attacks /data/file && chmod 6755 /file /data/file && chmod 777 / /data";
            rpc.output(&guid, &["sh", "-c", script]);
            let as_user = |file: &Path| {
                let mut command = Command::new("setpriv");
                // setpriv keeps its capabilities until it executes something.
                command.args([
                    "--reuid=1000",
                    "--regid=1000",
                    "--clear-groups",
                    "sh",
                    "-c",
                    "exec \"$0\" privileged",
                ]);
                command.arg(file);
                finish(command, b"")
            };
            let upper = Path::new("/tmp/data/rootfs").join(&guid).join("upper/file");
            let on_volume = Path::new("/tmp/data/volumes/main/file");
            let places = [path.join("file"), upper, on_volume.to_path_buf()];
            for place in &places {
                let ended = as_user(place);
                if ended.out().contains("euid 0") {
                    found.push(format!("{}: {}", kind.name, place.display()));
                }
            }
            // The control: it works when the operator has opened the way.
            let ways = ["/tmp/data", "/tmp/data/volumes", "/tmp/data/volumes/main"];
            let modes = ways.map(|way| fs::metadata(way).unwrap().permissions());
            for directory in ways {
                fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
            }
            let ended = as_user(on_volume);
            Said::read("control", &ended.out(), &ended.err()).all_worked();
            for (way, mode) in ways.into_iter().zip(modes) {
                fs::set_permissions(way, mode).unwrap();
            }
            rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
        }
        drop(arena);
        fs::remove_dir_all("/tmp/data").unwrap();
        assert_eq!(found, [""; 0], "AN ESCAPE: a user of the machine becomes root by these");
    });
}

#[test]
fn s6_cve_2022_29162_no_capability_is_inheritable() {
    isolated(|| {
        let arena = Arena::new();
        Attempt::new(&["inheritable"]).is_refused(&arena);
        let mut naive = Command::new("setpriv");
        naive.args(["--inh-caps=+chown,+setuid"]).arg(attacks::program()).arg("inheritable");
        let ended = finish(naive, b"");
        Said::read("naive", &ended.out(), &ended.err()).all_worked();
    });
}

#[test]
fn s6_cve_2017_5226_nothing_is_typed_into_a_terminal() {
    isolated(|| {
        let arena = Arena::new();
        Attempt::new(&["type-into", "x"]).is_refused(&arena);
        // A kernel whose legacy_tiocsti is off asks for the capability.
        Attempt::new(&["type-into", "x"]).works_with(&arena, &MAY_MOUNT);
        // The operator's own terminal, as the standard input of a command whose output goes elsewhere: it stays outside,
        // whatever is allowed.
        let types = |enter: &dyn Fn(&str, &str) -> Vec<String>, relaxed: &Relaxed, kind: &Kind| {
            let mut rpc = arena.host.connect();
            let guid = arena.rootfs(&mut rpc, kind);
            let launched = rpc.call("subcontainer.launch", relaxed.launch(&guid, kind));
            let mut command = Command::new("sh");
            // Said once it has ended: until then what is typed may be for the command.
            let script = "out=$1; shift; \"$@\" >$out.new; mv $out.new $out; read line; echo read-$line-read";
            command.args(["-c", script, "sh", "/tmp/said"]);
            command.args(enter(arena.path(&guid).to_str().unwrap(), &launched["pid"].to_string()));
            let mut terminal = Terminal::start(&command, 24, 80);
            tests::eventually("it has said", || {
                fs::read_to_string("/tmp/said").is_ok_and(|text| text.ends_with('\n'))
            });
            terminal.write("\n");
            let seen = terminal.read_until("-read");
            terminal.end();
            fs::remove_file("/tmp/said").unwrap();
            rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
            seen.contains("read-evil")
        };
        let ours = |root: &str, _: &str| {
            let words = ["subcontainer", "exec", root, "/attacks", "type-into", "evil"];
            let exec = arena.host.cli().command(words);
            let words = std::iter::once(exec.get_program()).chain(exec.get_args());
            words.map(|word| word.to_str().unwrap().to_owned()).collect()
        };
        let bare = |_: &str, _: &str| {
            let program = attacks::program();
            [program.to_str().unwrap(), "type-into", "evil"].map(str::to_owned).to_vec()
        };
        for kind in KINDS {
            assert!(!types(&ours, &GUARDED, kind), "AN ESCAPE, {}", kind.name);
        }
        assert!(!types(&ours, &MAY_MOUNT, &KINDS[0]), "AN ESCAPE by who may mount");
        assert!(types(&bare, &GUARDED, &KINDS[0]), "the control fails");
    });
}

/// What is read from the caller's terminal by those inside, after a command that had it as its standard input.
fn typed_after(arena: &Arena, kind: &Kind, enter: impl Fn(&str, &str) -> Vec<String>) -> Said {
    let mut rpc = arena.host.connect();
    let guid = arena.rootfs(&mut rpc, kind);
    let path = arena.path(&guid);
    let take = json!(["sh", "-c", "/attacks take-terminal 2.5 >/said"]);
    let launched = rpc.call("subcontainer.launch", json!({"guid": guid, "command": take}));
    let mut command = Command::new("sh");
    // Its output goes elsewhere, as it does in a pipeline.
    command.args(["-c", "\"$@\" >/dev/null; touch /tmp/ended; sleep 2", "sh"]);
    command.args(enter(path.to_str().unwrap(), &launched["pid"].to_string()));
    let mut terminal = Terminal::start(&command, 24, 80);
    tests::eventually("the command has ended", || Path::new("/tmp/ended").exists());
    terminal.write("correct-horse\n");
    let said = || fs::read_to_string(path.join("said")).unwrap_or_default();
    tests::eventually("it has said", || said().ends_with('\n'));
    terminal.end();
    let said = Said::read("after a command", &said(), "");
    fs::remove_file("/tmp/ended").unwrap();
    rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    said
}

#[test]
fn s6_the_callers_terminal_is_not_kept_by_those_inside() {
    isolated(|| {
        let arena = Arena::new();
        let naive = typed_after(&arena, &KINDS[0], |_, pid| {
            let program = attacks::program();
            [program.to_str().unwrap(), "naive-enter", pid, "/attacks", "sleep"].map(str::to_owned).to_vec()
        });
        naive.all_worked();
        for kind in KINDS {
            let ours = typed_after(&arena, kind, |root, _| {
                let exec = arena.host.cli().command(["subcontainer", "exec", root, "sleep", "0.5"]);
                let words = std::iter::once(exec.get_program()).chain(exec.get_args());
                words.map(|word| word.to_str().unwrap().to_owned()).collect()
            });
            ours.all_refused();
        }
    });
}

#[test]
fn s6_cve_2023_1523_no_console_is_told_to_paste() {
    isolated(|| {
        let arena = Arena::new();
        Attempt::new(&["console"]).is_refused(&arena);
        Attempt::new(&["console"]).works_with(&arena, &UNCONFINED);
    });
}

/// A file of the operator's, given as a standard stream: the command opens it again through /proc/self/fd.
fn reopens(stream: usize, kind: &Kind) -> Vec<String> {
    let arena = Arena::new();
    let file = Path::new("/tmp/file-of-the-operator");
    let mut escapes = Vec::new();
    let mut rpc = arena.host.connect();
    let guid = arena.rootfs(&mut rpc, kind);
    let path = arena.path(&guid);
    let path = path.to_str().unwrap();
    let number = stream.to_string();
    let words =
        |door: &'static str| ["subcontainer", door, path, "/attacks", "reopen", &number].map(str::to_owned);
    for door in ["launch", "exec"] {
        fs::write(file, "kept\n").unwrap();
        let mut command = arena.host.cli().command(words(door));
        match stream {
            0 => drop(command.stdin(File::open(file).unwrap()).stdout(Stdio::null())),
            _ => drop(command.stdout(File::options().append(true).open(file).unwrap())),
        }
        if door == "exec" {
            rpc.call("subcontainer.launch", json!({"guid": guid}));
        }
        command.stderr(Stdio::null()).status().unwrap();
        if !fs::read_to_string(file).unwrap().starts_with("kept\n") {
            escapes.push(format!("{door} wrote over the file that was descriptor {stream}"));
        }
    }
    rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    // With the file as it is, in the namespaces of the caller.
    fs::write(file, "kept\n").unwrap();
    let mut naive = Command::new(attacks::program());
    naive.args(["reopen", &number]);
    match stream {
        0 => drop(naive.stdin(File::open(file).unwrap()).stdout(Stdio::null())),
        _ => drop(naive.stdout(File::options().append(true).open(file).unwrap())),
    }
    naive.status().unwrap();
    assert!(!fs::read_to_string(file).unwrap().starts_with("kept\n"), "the control fails");
    fs::remove_file(file).unwrap();
    escapes
}

#[test]
fn s6_a_file_given_to_be_read_is_not_written() {
    isolated(|| {
        let escapes: Vec<_> = KINDS.iter().flat_map(|kind| reopens(0, kind)).collect();
        assert_eq!(escapes, [""; 0], "AN ESCAPE");
    });
}

#[test]
fn s6_a_file_given_to_be_appended_to_is_not_written_over() {
    isolated(|| {
        let escapes: Vec<_> = KINDS.iter().flat_map(|kind| reopens(1, kind)).collect();
        assert_eq!(escapes, [""; 0], "AN ESCAPE");
    });
}
