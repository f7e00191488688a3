//! What enters a container, what it brings along, and what it takes from the container's files.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tests::cli::{binary, finish};
use tests::rpc::bytes;
use tests::terminal::Terminal;
use tests::{Cli, Host, attacks, eventually, isolated};

use super::rig::{Arena, DOORS, Door, GUARDED, KINDS, Kind, MARKER, Said, bare, naive_tree, plant_link};

#[test]
fn s6_cve_2019_5736_nothing_that_enters_is_opened_for_writing_or_leaves_a_way_out() {
    isolated(|| {
        for kind in KINDS {
            hunt(kind);
        }
    });
}

fn hunt(kind: &Kind) {
    fs::write(MARKER, "a file outside\n").unwrap();
    // A copy: what fails here must not overwrite the one that all tests use.
    let own = PathBuf::from("/tmp/start-container");
    fs::copy(binary(), &own).unwrap();
    let data = tempfile::tempdir().unwrap();
    let cli = Cli::at(&own, data.path());
    cli.import(&tests::image::busybox(), "busybox");
    let host = Host::on(Cli::at(&own, data.path()));
    let mut rpc = host.connect();
    let make = |rpc: &mut tests::Rpc| {
        let guid = kind.create(rpc, &json!({}));
        let tree = data.path().join("subcontainers").join(&guid);
        fs::copy(attacks::program(), tree.join("attacks")).unwrap();
        fs::write(tree.join("script"), "#!/proc/self/exe\n").unwrap();
        // Our program, where it is executed inside, is loaded by what the image has for that.
        for loader in ["lib64/ld-linux-x86-64.so.2", "lib/ld-linux-aarch64.so.1"] {
            let loader = tree.join(loader);
            fs::create_dir_all(loader.parent().unwrap()).unwrap();
            fs::copy(attacks::interpreter(), loader).unwrap();
        }
        fs::set_permissions(tree.join("script"), fs::Permissions::from_mode(0o755)).unwrap();
        (guid, tree)
    };
    let (guid, tree) = make(&mut rpc);
    let (by_cli, by_cli_tree) = make(&mut rpc);
    rpc.call("subcontainer.launch", GUARDED.launch(&guid, kind));
    let hunters = [json!(["/attacks", "hunt-programs", "2"]), json!(["/attacks", "reach", MARKER, "2"])];
    let mut watch = host.connect();
    let asked: Vec<u64> = hunters
        .iter()
        .map(|command| watch.send("subcontainer.exec", json!({"guid": guid, "command": command})))
        .collect();
    // The leader itself hunts too: it is there before anything else comes.
    let path = by_cli_tree.to_str().unwrap();
    let launch =
        [&["subcontainer", "launch"], kind.flags, &[path, "/attacks", "hunt-programs", "2"]].concat();
    let leader = cli.command(launch).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let rootfs = tests::cli::Rootfs { guid: by_cli.clone(), path: path.to_owned() };
    eventually("the leader runs", || cli.state(&rootfs) == "running");
    for _ in 0..3 {
        for command in ["/proc/self/exe", "/script", "true"] {
            let params = json!({"guid": guid, "command": [command, "sleep"], "timeout": 2000});
            // It fails or runs something of the container's: both are right.
            let _either = rpc.try_call("subcontainer.exec", params);
            for tree in [&tree, &by_cli_tree] {
                let words = ["subcontainer", "exec", tree.to_str().unwrap(), command, "--version"];
                let ended = cli.run(words);
                assert!(!ended.out().starts_with("start-container"), "it ran our binary: {}", ended.out());
            }
        }
    }
    for id in asked {
        let result = watch.answer(id).unwrap();
        let text = String::from_utf8_lossy(&bytes(&result["stdout"])).into_owned();
        Said::read("a hunter by exec", &text, &result.to_string()).all_refused();
    }
    let ended = leader.wait_with_output().unwrap();
    Said::read("a hunter by launch", &String::from_utf8_lossy(&ended.stdout), "").all_refused();
    assert!(fs::read(&own).unwrap() == fs::read(binary()).unwrap(), "the binary was overwritten");
    for guid in [guid, by_cli] {
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    }
    // The control: a program that enters as it is, and is told to execute itself.
    let controls: &[(&Value, bool)] =
        if kind.name == KINDS[0].name { &[(&hunters[0], true), (&hunters[1], false)] } else { &[] };
    let (guid, _) = make(&mut rpc);
    let naive = PathBuf::from("/tmp/naive");
    for (hunter, overwritten) in controls {
        fs::copy(attacks::program(), &naive).unwrap();
        let launched = rpc.call("subcontainer.launch", json!({"guid": guid, "command": ["sleep", "1000"]}));
        let pid = launched["pid"].to_string();
        let id = rpc.send("subcontainer.exec", json!({"guid": guid, "command": hunter}));
        let mut enter = Command::new(&naive);
        enter.args(["naive-enter", &pid, "/proc/self/exe", "sleep"]);
        finish(enter, b"").ok();
        let result = rpc.answer(id).unwrap();
        let text = String::from_utf8_lossy(&bytes(&result["stdout"])).into_owned();
        Said::read("a careless engine", &text, &result.to_string()).all_worked();
        assert_eq!(fs::read(&naive).unwrap().starts_with(b"#!evil"), *overwritten);
        let process = launched["process"].clone();
        rpc.call("subcontainer.kill", json!({"process": process, "signal": "SIGKILL"}));
        rpc.call("subcontainer.wait", json!({"process": process}));
        fs::remove_file(&naive).unwrap();
    }
    rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    drop((rpc, watch, host));
    fs::remove_file(&own).unwrap();
    fs::remove_file(MARKER).unwrap();
}

/// Where the C library of this machine, and a few others, look for what they load.
fn plant_libraries(root: &Path) {
    let library = attacks::library();
    for directory in [
        "lib",
        "lib64",
        "usr/lib",
        "lib/x86_64-linux-gnu",
        "usr/lib/x86_64-linux-gnu",
        "lib/aarch64-linux-gnu",
    ] {
        let directory = root.join(directory);
        fs::create_dir_all(&directory).unwrap();
        for name in ["libnss_evil.so.2", "libnss_files.so.2", "libnss_dns.so.2", "libc.so.6", "libgcc_s.so.1"]
        {
            fs::copy(&library, directory.join(name)).unwrap();
        }
    }
    fs::copy(&library, root.join("evil.so")).unwrap();
    fs::write(root.join("etc/ld.so.preload"), "/evil.so\n").unwrap();
    let nsswitch = "passwd: evil\ngroup: evil\nhosts: evil\ninitgroups: evil\n";
    fs::write(root.join("etc/nsswitch.conf"), nsswitch).unwrap();
}

#[test]
fn s6_cve_2019_14271_no_library_of_the_image_is_loaded_by_us() {
    isolated(|| {
        let arena = Arena::new();
        for kind in KINDS {
            let mut rpc = arena.host.connect();
            let guid = arena.rootfs(&mut rpc, kind);
            let path = arena.path(&guid);
            plant_libraries(&path);
            let root = path.to_str().unwrap();
            let cli = arena.host.cli();
            // Everything that looks into the container's files: users, groups, terminals, file calls.
            let environment = ["--env", "LD_PRELOAD=/evil.so", "--env", "LD_LIBRARY_PATH=/lib"];
            let words =
                [&["subcontainer", "launch", "--user", "user:staff"], &environment[..], &[root, "id"]]
                    .concat();
            cli.run(words).ok();
            let options = json!({"user": "user", "env": {"LD_PRELOAD": "/evil.so"}});
            rpc.call(
                "subcontainer.launch",
                json!({"guid": guid, "options": options, "command": ["sleep", "1000"]}),
            );
            for terminal in [&[][..], &["--force-tty"]] {
                let words = [
                    &["subcontainer", "exec", "--user", "user:staff"],
                    &environment[..],
                    terminal,
                    &[root, "id"],
                ];
                cli.run(words.concat()).ok();
            }
            let params = json!({"guid": guid, "command": ["id"], "options": options});
            let result = rpc.call("subcontainer.exec", params);
            assert_eq!(result["outcome"], json!({"kind": "exit", "code": 0}), "{result}");
            rpc.call("file.write", json!({"guid": guid, "path": "/etc/new", "data": {"text": "x"}}));
            rpc.call("file.readdir", json!({"guid": guid, "path": "/etc"}));
            assert!(!path.join("loaded").exists(), "{:?}", fs::read_to_string(path.join("loaded")));
            assert!(!Path::new("/loaded").exists());
            // The control: a program that lets the C library look a user up where it has gone to.
            let mut naive = Command::new(attacks::naive_lookup());
            naive.arg(&path).arg("user");
            finish(naive, b"").ok();
            let loaded =
                fs::read_to_string(path.join("loaded")).expect("the control fails: nothing was loaded");
            assert!(!loaded.is_empty());
            rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
        }
    });
}

#[test]
fn s6_cve_2024_21626_no_working_directory_leads_outside() {
    isolated(|| {
        let arena = Arena::new();
        let mut rpc = arena.host.connect();
        let cli = arena.host.cli();
        let attack = ["/attacks", "reach", MARKER];
        let mut started = 0;
        for kind in KINDS {
            let guid = arena.rootfs(&mut rpc, kind);
            let path = arena.path(&guid);
            let root = path.to_str().unwrap();
            // By a link of the image's, too.
            plant_link(&path.join("link"), "/proc/self/fd/8");
            let mut directories: Vec<String> =
                (0..24).map(|number| format!("/proc/self/fd/{number}")).collect();
            directories.push("/link".to_owned());
            directories.push("/proc/1/cwd".to_owned());
            directories.push("/proc/self/cwd/../../..".to_owned());
            for door in DOORS {
                if door == Door::Exec {
                    rpc.call("subcontainer.launch", GUARDED.launch(&guid, kind));
                }
                for cwd in &directories {
                    let launch =
                        [&["subcontainer", "launch", "--workdir", cwd], kind.flags, &[root], &attack[..]];
                    let output = match door {
                        Door::Launch => cli.run(launch.concat()).out(),
                        Door::Exec => {
                            let exec = ["subcontainer", "exec", "--workdir", cwd, root];
                            cli.run([&exec[..], &attack].concat()).out()
                        }
                        Door::Host => {
                            let params = json!({"guid": guid, "command": attack, "options": {"cwd": cwd}});
                            let result = rpc.try_call("subcontainer.exec", params);
                            let text = result.map(|result| bytes(&result["stdout"])).unwrap_or_default();
                            String::from_utf8_lossy(&text).into_owned()
                        }
                    };
                    // Refused before it ran, or nowhere else than inside.
                    if !output.is_empty() {
                        started += 1;
                        Said::read(format!("{door:?}, {cwd}"), &output, "").all_refused();
                    }
                }
            }
            rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
        }
        assert!(started > 0, "the attack never ran");
        let tree = naive_tree();
        fs::create_dir_all(tree.path().join("proc")).unwrap();
        let script = "mount -t proc proc $R/proc; exec $R/attacks naive-chroot $R /proc/self/fd/7 /attacks reach /tmp/marker";
        super::rig::naive(|_| (), script).all_worked();
    });
}

#[test]
fn s6_environment_directory_terminal_and_descriptors_are_not_inherited() {
    isolated(|| {
        let arena = Arena::new();
        fs::create_dir("/tmp/elsewhere").unwrap();
        let attack = ["/attacks", "inherited", "SECRET_OF_THE_CALLER"];
        // On a terminal, in a directory, with a variable, with descriptors: but with other standard streams.
        let on_terminal = |words: &[String]| {
            let mut command = Command::new("sh");
            let script = "cd /tmp/elsewhere; export SECRET_OF_THE_CALLER=x; exec 8</ 9</etc/passwd; \
                \"$@\" </dev/null 2>&1 | cat >/tmp/said; exit 0";
            command.args(["-c", script, "sh"]).args(words);
            let terminal = Terminal::start(&command, 24, 80);
            terminal.end();
            let said = fs::read_to_string("/tmp/said").unwrap();
            fs::remove_file("/tmp/said").unwrap();
            Said::read(format!("{words:?}"), &said, "")
        };
        let by_cli = |words: &[&str]| -> Vec<String> {
            let command = arena.host.cli().command(words);
            let program = command.get_program().to_str().unwrap().to_owned();
            let arguments = command.get_args().map(|argument| argument.to_str().unwrap().to_owned());
            std::iter::once(program).chain(arguments).collect()
        };
        let mut rpc = arena.host.connect();
        for kind in KINDS {
            let guid = arena.rootfs(&mut rpc, kind);
            let path = arena.path(&guid);
            let root = path.to_str().unwrap();
            on_terminal(&by_cli(&[&["subcontainer", "launch"], kind.flags, &[root], &attack].concat()))
                .all_refused();
            rpc.call("subcontainer.launch", GUARDED.launch(&guid, kind));
            on_terminal(&by_cli(&[&["subcontainer", "exec", root], &attack[..]].concat())).all_refused();
            let said = rpc.output(&guid, &attack);
            Said::read("host", &said, "").all_refused();
            rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
        }
        // The control: each of these is what a child has when nobody sees to it.
        let program = attacks::program().to_str().unwrap().to_owned();
        let bare: Vec<String> =
            std::iter::once(program).chain(attack[1..].iter().map(|word| (*word).to_owned())).collect();
        let said = on_terminal(&bare);
        said.all_worked();
        for what in [
            "environment",
            "controlling terminal",
            "session of another",
            "descriptor, 8",
            "working directory",
        ] {
            assert!(said.lines.iter().any(|line| line.contains(what)), "the control fails: {what}: {said:?}");
        }
        fs::remove_dir("/tmp/elsewhere").unwrap();
    });
}

#[test]
fn s6_our_init_is_not_changed_for_other_containers() {
    isolated(|| {
        let arena = Arena::new();
        for kind in KINDS {
            let mut rpc = arena.host.connect();
            let guid = arena.rootfs(&mut rpc, kind);
            rpc.call("subcontainer.launch", GUARDED.launch(&guid, kind));
            // One file in memory is the first program of every container of the host's.
            let said = rpc.output(&guid, &["/attacks", "change-mask", "/proc/1/exe"]);
            Said::read(kind.name, &said, "").all_refused();
            let other = arena.rootfs(&mut rpc, kind);
            rpc.call("subcontainer.launch", GUARDED.launch(&other, kind));
            assert_eq!(rpc.output(&other, &["echo", "fine"]), "fine\n");
            for guid in [guid, other] {
                rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
            }
        }
        // A program of the outside's, by somebody in its namespaces.
        fs::copy(attacks::program(), "/tmp/program").unwrap();
        bare(&["change-mask", "/tmp/program"]).all_worked();
        fs::remove_file("/tmp/program").unwrap();
    });
}
