//! The loop of who writes a package: its tests against a host of their own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tests::{Cli, image, isolated};

use crate::packages::{Author, wait_for};
use crate::workers;

/// A new package, with the programs that `npm install` would bring.
pub(super) fn begin(cli: &Cli, author: &Author, id: &str) -> std::path::PathBuf {
    let package = workers::begin(cli, author, id, &image::busybox());
    let programs = package.join("node_modules/.bin");
    fs::create_dir(&programs).unwrap();
    symlink("../typescript/bin/tsc", programs.join("tsc")).unwrap();
    package
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().count() == 0
}

#[test]
fn j5_a_package_is_tested_on_a_host_of_its_own_and_nothing_of_it_stays() {
    isolated(|| {
        let cli = Cli::new();
        let author = Author::trusted(&cli);
        let package = begin(&cli, &author, "my-service");
        let scratch = author.dir.path().join("scratch");
        fs::create_dir(&scratch).unwrap();
        let deno = image::deno();
        let arguments = [
            "package",
            "test",
            package.to_str().unwrap(),
            "--deno",
            deno.to_str().unwrap(),
            "--scratch",
            scratch.to_str().unwrap(),
        ];
        let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count();
        let before = mounts();
        let said = cli.run(arguments).ok().out();
        assert!(said.contains("# pass 2") && said.contains("# fail 0"), "{said}");
        assert!(is_empty(&scratch));

        let bad = package.join("test/bad.test.ts");
        let text = "import { test } from \"node:test\";\n\ntest(\"it fails\", () => {\n  throw new Error(\"as it must\");\n});\n";
        fs::write(&bad, text).unwrap();
        let done = cli.run(arguments);
        assert_eq!(done.code, 1, "{}", done.out());
        assert!(
            done.out().contains("as it must") && done.out().contains("bad.test.ts:4:9"),
            "{}",
            done.out()
        );
        assert!(is_empty(&scratch));

        // What does not compile does not come to a host.
        fs::write(&bad, "export const wrong: number = \"text\";\n").unwrap();
        let done = cli.run(arguments);
        assert!(done.code != 0 && done.out().contains("bad.test.ts(1,14): error TS2322"), "{}", done.out());

        fs::write(&bad, "import { test } from \"node:test\";\n\ntest(\"it hangs\", () => new Promise((r) => setTimeout(r, 1e6)));\n")
            .unwrap();
        let mut child = cli.command(arguments).spawn().unwrap();
        let data = || fs::read_dir(&scratch).unwrap().flatten().map(|entry| entry.path()).next();
        wait_for("its door", || {
            data().is_some_and(|dir| dir.join("packages/my-service/rpc/host.sock").exists())
        });
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert!(is_empty(&scratch));
        assert_eq!(mounts(), before);
    });
}

/// What `package dev` has said so far.
fn said(log: &Path) -> String {
    fs::read_to_string(log).unwrap_or_default()
}

#[test]
fn j5_what_is_saved_runs_a_moment_later_and_an_error_stops_nothing() {
    isolated(|| {
        let host = workers::host();
        let cli = host.cli();
        let author = Author::trusted(cli);
        let package = begin(cli, &author, "my-service");
        let log = author.dir.path().join("log");
        let start = |flags: &[&str]| {
            let mut command = cli.command(["package", "dev", package.to_str().unwrap()]);
            let file = fs::File::create(&log).unwrap();
            command.args(flags).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap()
        };
        let interrupt = |mut child: std::process::Child| {
            let pid = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
            assert!(child.wait().unwrap().success(), "{}", said(&log));
        };
        let patient = |what: &str, there: &dyn Fn() -> bool| {
            let began = std::time::Instant::now();
            while !there() {
                assert!(began.elapsed().as_secs() < 120, "{what} did not come: {}", said(&log));
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        };
        let child = start(&[]);
        patient("its first run", &|| said(&log).contains("waiting for something to be saved"));
        assert!(said(&log).contains("granted, since this is development: "), "{}", said(&log));
        patient("its health", &|| said(&log).contains("web: healthy"));
        let info = || cli.run(["--json", "package", "status", "my-service"]).ok().json();
        let first = info();
        assert!(first["version"].as_str().unwrap().starts_with("0.1.0+dev."), "{first}");

        // Only code: the worker stays, and all that it is in.
        let page = package.join("src/page.ts");
        let good = fs::read_to_string(&page).unwrap();
        let other = good.replace(
            "const { value = \"Hello\" }",
            "console.log(\"loaded anew\");\n  const { value = \"Hello\" }",
        );
        assert_ne!(other, good);
        fs::write(&page, &other).unwrap();
        patient("what was saved", &|| said(&log).contains("my-service reloaded"));
        patient("its log", &|| said(&log).contains("my-service-worker | loaded anew"));
        assert_eq!(
            (&info()["version"], &info()["worker"]["guid"]),
            (&first["version"], &first["worker"]["guid"])
        );

        // A type error, with its place: what ran goes on.
        fs::write(&page, format!("{other}\nexport const wrong: number = \"text\";\n")).unwrap();
        patient("the error", &|| said(&log).contains("error TS2322"));
        assert!(said(&log).contains("src/page.ts:14:14: error TS2322: "), "{}", said(&log));
        assert_eq!(info()["worker"]["state"], "running");

        // An error at its start, with its place in what was written.
        let throws = other
            .replace("  console.log(\"loaded anew\");", "  if (one() > 0) throw new TypeError(\"not so\");");
        fs::write(&page, format!("{throws}\nfunction one(): number {{\n  return 1;\n}}\n")).unwrap();
        patient("what was thrown", &|| said(&log).contains("TypeError: not so"));
        patient("where", &|| said(&log).contains("src/page.ts:8:"));
        fs::write(&page, &good).unwrap();
        patient("it again", &|| {
            info()["worker"]["state"] == "running" && info()["run"]["state"] == "running"
        });

        // The manifest: a new version is installed.
        let manifest = package.join("src/manifest.ts");
        let text = fs::read_to_string(&manifest).unwrap().replace("Serves a page", "Serves one page");
        fs::write(&manifest, text).unwrap();
        patient("the other version", &|| {
            info()["version"] != first["version"] && info()["status"] == "active"
        });
        interrupt(child);
        assert_eq!(info()["status"], "disabled");
        let trusted = |name: &str| cli.run(["package", "trust", "ls"]).ok().out().contains(name);
        assert!(trusted("package dev my-service"));

        // The same key, and the same data; at the end nothing.
        let child = start(&["--rm"]);
        patient("it once more", &|| said(&log).contains("waiting for something to be saved"));
        interrupt(child);
        assert!(said(&log).contains("my-service is removed"), "{}", said(&log));
        assert_eq!(cli.run(["--json", "package", "ls"]).ok().json(), serde_json::json!([]));
        assert_eq!(cli.run(["--json", "subcontainer", "ls"]).ok().json(), serde_json::json!([]));
        assert!(!package.join(".dev").exists());

        // What somebody has installed is not replaced.
        workers::pack_and_activate(cli, &author, &package, "my-service", "0.1.0");
        let mut child = start(&[]);
        assert!(!child.wait().unwrap().success());
        assert!(said(&log).contains("version 0.1.0 is installed, and not by this"), "{}", said(&log));
        assert_eq!(info()["status"], "active");
        cli.run(["package", "disable", "my-service"]).ok();
    });
}
