//! Packages by the command line: written, signed, trusted, installed, active.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Cli, Host, image, isolated};

/// Where a package is written.
pub(super) struct Author {
    pub(super) dir: tempfile::TempDir,
    public: String,
}

impl Author {
    /// With a key that the operator trusts.
    pub(super) fn trusted(cli: &Cli) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("key");
        let public = cli.run(["package", "keygen", key.to_str().unwrap()]).ok().out();
        cli.run(["package", "trust", "add", &public, "--name", "author", "--package", "*"]).ok();
        Self { dir, public }
    }

    /// A signed bundle with this manifest and the busybox image.
    pub(super) fn bundle(&self, cli: &Cli, manifest: &Value) -> String {
        let text = |name: &str| manifest[name].as_str().unwrap().to_owned();
        let name = format!("{}-{}", text("id"), text("version"));
        let package = self.dir.path().join(&name);
        fs::create_dir_all(package.join("images")).unwrap();
        fs::write(package.join("manifest.json"), manifest.to_string()).unwrap();
        fs::copy(image::busybox(), package.join("images/main.tar")).unwrap();
        let bundle = self.dir.path().join(format!("{name}.bundle"));
        let (key, out) = (self.dir.path().join("key"), bundle.display().to_string());
        let arguments =
            ["package", "pack", package.to_str().unwrap(), "-o", &out, "--key", key.to_str().unwrap()];
        cli.run(arguments).ok();
        out
    }
}

/// A package with one service.
fn service(version: &str, command: &str) -> Value {
    json!({
        "manifest": 1, "id": "notes", "name": "Notes", "version": version,
        "images": { "main": { "file": "images/main.tar" } },
        "volumes": { "data": {} },
        "limits": { "pids": 64 },
        "entries": { "web": { "service": {
            "program": {
                "image": "main", "command": ["sh", "-c", command], "env": { "GREETING": "hello" },
                "mounts": [{ "path": "/data", "from": { "volume": "data" } }]
            },
            "graceSeconds": 2
        } } }
    })
}

fn volume(cli: &Cli) -> PathBuf {
    cli.data().join("packages/notes/volumes/data")
}

#[track_caller]
pub(crate) fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let start = Instant::now();
    while !there() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

const FOREVER: &str = "echo $GREETING $(hostname) > /data/said; trap 'echo asked >> /data/said; exit 0' TERM; \
    while :; do sleep 0.1; done";

#[test]
fn p4_a_package_is_written_signed_trusted_installed_and_runs() {
    isolated(|| {
        let host = Host::start();
        let cli = host.cli();
        let author = Author::trusted(cli);
        let bundle = author.bundle(cli, &service("1.0.0", FOREVER));
        let shown = cli.run(["package", "inspect", &bundle]).ok().out();
        assert!(shown.contains("notes 1.0.0") && shown.contains("trusted"), "{shown}");
        assert_eq!(cli.run(["package", "install", &bundle]).ok().out(), "notes 1.0.0 is installed");
        assert!(!volume(cli).exists(), "something of it ran already");
        assert_eq!(cli.run(["package", "activate", "notes"]).ok().out(), "notes 1.0.0 is active");
        let said = volume(cli).join("said");
        wait_for("what the service writes", || {
            fs::read_to_string(&said).is_ok_and(|text| text.contains("hello"))
        });
        let list = cli.run(["--json", "package", "ls"]).ok().json();
        assert_eq!(list[0]["run"]["state"], "running");
        assert!(!list.to_string().contains(cli.data().to_str().unwrap()), "it tells a local path: {list}");
        let sandboxes = cli.run(["--json", "sandbox", "ls"]).ok().json();
        assert_eq!(sandboxes.as_array().map(Vec::len), Some(1), "{sandboxes}");
        assert_eq!(sandboxes[0]["settings"]["limits"]["pids"], 64);

        cli.run(["package", "disable", "notes"]).ok();
        assert!(fs::read_to_string(&said).unwrap().contains("asked"), "it was not asked to end");
        assert_eq!(cli.run(["--json", "sandbox", "ls"]).ok().json(), json!([]));
        assert_eq!(cli.run(["--json", "subcontainer", "ls"]).ok().json(), json!([]));
        cli.run(["package", "remove", "notes", "--data"]).ok();
        assert!(!volume(cli).exists());
        let audit = cli.run(["--json", "package", "audit", "--verify"]).ok().json();
        // Installed, active, disabled, removed, and what it kept forgotten.
        assert_eq!(audit["verified"], 5, "{audit}");
    });
}

#[test]
fn s15_a_service_sees_the_assets_of_its_bundle_and_changes_none() {
    isolated(|| {
        let host = Host::start();
        let cli = host.cli();
        let author = Author::trusted(cli);
        let assets = author.dir.path().join("notes-1.0.0/assets");
        fs::create_dir_all(assets.join("deep")).unwrap();
        fs::write(assets.join("words"), "of the bundle").unwrap();
        fs::write(assets.join("deep/er"), "and deeper").unwrap();
        let mut manifest = service(
            "1.0.0",
            "cat /media/startos/assets/words /else/er /one > /data/said.new 2>&1; id -u >> /data/said.new; \
                (echo x > /media/startos/assets/new; echo x > /else/er; rm /one) 2>> /data/said.new; \
                mv /data/said.new /data/said; sleep 1000",
        );
        let mounts = &mut manifest["entries"]["web"]["service"]["program"]["mounts"];
        mounts.as_array_mut().unwrap().extend([
            json!({ "path": "/else", "from": { "assets": "assets/deep" } }),
            json!({ "path": "/one", "from": { "assets": "assets" }, "subpath": "words" }),
        ]);
        cli.run(["package", "install", &author.bundle(cli, &manifest)]).ok();
        // What a host has for others is not a package's.
        fs::create_dir_all(cli.data().join("assets")).unwrap();
        fs::write(cli.data().join("assets/words"), "of the host").unwrap();
        cli.run(["package", "activate", "notes"]).ok();
        let said = volume(cli).join("said");
        wait_for("what the service writes", || said.exists());
        let said = fs::read_to_string(said).unwrap();
        assert!(said.starts_with("of the bundleand deeperof the bundle0\n"), "{said}");
        assert_eq!(said.matches("Read-only file system").count(), 2, "{said}");
        assert!(said.contains("busy"), "{said}");
        cli.run(["package", "disable", "notes"]).ok();
        // Nothing of it was changed: it starts again.
        cli.run(["package", "activate", "notes"]).ok();
        cli.run(["package", "disable", "notes"]).ok();
    });
}

#[test]
fn s15_a_pointer_leads_only_where_the_manifest_says_it_depends() {
    isolated(|| {
        let host = Host::start();
        let cli = host.cli();
        let author = Author::trusted(cli);
        let pointing = |dependencies: Value| {
            let mut manifest = service("1.0.0", FOREVER);
            manifest["dependencies"] = dependencies;
            let from = json!({ "dependency": { "package": "db", "volume": "main" } });
            let mounts = &mut manifest["entries"]["web"]["service"]["program"]["mounts"];
            mounts.as_array_mut().unwrap().push(json!({ "path": "/db", "from": from, "readonly": true }));
            manifest
        };
        let package = author.dir.path().join("notes-1.0.0");
        fs::create_dir_all(package.join("images")).unwrap();
        fs::copy(image::busybox(), package.join("images/main.tar")).unwrap();
        for undeclared in [
            json!({}),
            json!({ "db": { "version": "*" } }),
            json!({ "db": { "version": "*", "volumes": ["other"] } }),
        ] {
            fs::write(package.join("manifest.json"), pointing(undeclared).to_string()).unwrap();
            let said = cli.run(["package", "pack", package.to_str().unwrap()]).failed(125);
            assert!(said.contains("volume main is not among the volumes of dependencies.db"), "{said}");
        }
        let mut db = service("1.0.0", FOREVER);
        db["id"] = json!("db");
        db["volumes"] = json!({ "main": {}, "other": {} });
        let mounts = &mut db["entries"]["web"]["service"]["program"]["mounts"];
        *mounts = json!([{ "path": "/data", "from": { "volume": "main" } }]);
        cli.run(["package", "install", &author.bundle(cli, &db)]).ok();
        cli.run(["package", "activate", "db"]).ok();
        let mut declared = pointing(json!({ "db": { "version": "^1", "volumes": ["main"] } }));
        declared["entries"]["web"]["service"]["program"]["command"][2] = json!(
            "until grep -q hello /db/said; do sleep 0.1; done; echo x > /db/said; cat /db/said > /data/said; sleep 1000"
        );
        cli.run(["package", "install", &author.bundle(cli, &declared)]).ok();
        cli.run(["package", "activate", "notes"]).ok();
        let said = volume(cli).join("said");
        wait_for("what the service reads", || {
            fs::read_to_string(&said).is_ok_and(|text| text.contains("hello"))
        });
        cli.run(["package", "disable", "db", "--dependents"]).ok();
    });
}

#[test]
fn p9_an_active_package_comes_back_with_the_host() {
    isolated(|| {
        let mut host = Host::start();
        let author = Author::trusted(host.cli());
        let bundle = author.bundle(host.cli(), &service("1.0.0", FOREVER));
        host.cli().run(["package", "install", &bundle]).ok();
        host.cli().run(["package", "activate", "notes"]).ok();
        let said = volume(host.cli()).join("said");
        for killed in [false, true] {
            wait_for("the service", || fs::read_to_string(&said).is_ok_and(|text| text.contains("hello")));
            if killed {
                host.kill()
            } else {
                host.stop()
            }
            fs::remove_file(&said).unwrap();
            host.start_again();
        }
        wait_for("the service, after a kill", || said.exists());
        wait_for("one sandbox", || {
            host.cli().run(["--json", "sandbox", "ls"]).ok().json().as_array().map(Vec::len) == Some(1)
        });
        host.cli().run(["package", "disable", "notes"]).ok();
    });
}

#[test]
fn p6_a_service_that_ends_or_does_not_start_is_told() {
    isolated(|| {
        let host = Host::start();
        let cli = host.cli();
        let author = Author::trusted(cli);
        let mut broken = service("1.0.0", "true");
        broken["entries"]["web"]["service"]["program"]["command"] = json!(["/no/such/program"]);
        cli.run(["package", "install", &author.bundle(cli, &broken)]).ok();
        let said = cli.run(["package", "activate", "notes"]).failed(125);
        assert!(said.contains("start service web") && said.contains("/no/such/program"), "{said}");
        let list = cli.run(["--json", "package", "ls"]).ok().json();
        assert_eq!((&list[0]["status"], &list[0]["run"]["state"]), (&json!("installed"), &json!("errored")));
        assert_eq!(cli.run(["--json", "sandbox", "ls"]).ok().json(), json!([]), "its sandbox was left");

        cli.run(["package", "update", &author.bundle(cli, &service("1.1.0", "exit 3"))]).ok();
        cli.run(["package", "activate", "notes"]).ok();
        wait_for("its end", || {
            let list = cli.run(["--json", "package", "ls"]).ok().json();
            list[0]["run"]["reason"].as_str().is_some_and(|reason| reason.contains("service web has ended"))
        });
        cli.run(["package", "disable", "notes"]).ok();
    });
}

#[test]
fn p7_consent_is_asked_for_and_shown_item_by_item() {
    isolated(|| {
        let host = Host::start();
        let cli = host.cli();
        let author = Author::trusted(cli);
        let asking = |version: &str, hosts: Value| {
            json!({ "manifest": 1, "id": "notes", "name": "Notes", "version": version,
                "capabilities": { "http:egress": { "reason": "News", "hosts": hosts } } })
        };
        let first = author.bundle(cli, &asking("1.0.0", json!(["a.example:443"])));
        let said = cli.run(["package", "install", &first]).ok().err();
        assert!(said.contains("+ http:egress a.example:443"), "{said}");
        let said = cli.run(["package", "activate", "notes"]).failed(125);
        assert!(said.contains("asks for what was not granted: http:egress (a.example:443)"), "{said}");
        cli.run(["package", "grant", "notes", "http:egress"]).ok();
        cli.run(["package", "activate", "notes"]).ok();
        let second = author.bundle(cli, &asking("1.1.0", json!(["a.example:443", "b.example:443"])));
        let said = cli.run(["package", "update", &second]).failed(125);
        assert!(said.contains("(b.example:443)"), "{said}");
        let list = cli.run(["--json", "package", "ls"]).ok().json();
        assert_eq!((&list[0]["version"], &list[0]["status"]), (&json!("1.0.0"), &json!("active")));
        cli.run(["package", "update", &second, "--grant-all"]).ok();
        assert_eq!(cli.run(["package", "grant", "notes"]).ok().out().matches("  = ").count(), 2);
        assert_eq!(cli.run(["package", "rollback", "notes"]).ok().out(), "notes 1.0.0 is active");
        cli.run(["package", "grant", "notes", "--revoke", "http:egress"]).ok();
        let list = cli.run(["--json", "package", "ls"]).ok().json();
        assert_eq!(list[0]["status"], "disabled");
    });
}

#[test]
fn p2_what_the_operator_does_not_trust_is_not_installed() {
    isolated(|| {
        let host = Host::start();
        let cli = host.cli();
        let author = Author::trusted(cli);
        let bundle = author.bundle(cli, &service("1.0.0", FOREVER));
        cli.run(["package", "trust", "revoke", &author.public]).ok();
        let said = cli.run(["package", "install", &bundle]).failed(125);
        assert!(said.contains("was revoked") && said.contains("hint: to trust a key"), "{said}");
        assert!(cli.run(["package", "verify", &bundle]).failed(125).contains("was revoked"));
        let bundles = fs::read_dir(cli.data().join("bundles/sha256")).unwrap().count();
        assert_eq!(bundles, 0);
    });
}

#[test]
fn p4_entries_without_a_runner_say_so_and_without_a_host_commands_do() {
    isolated(|| {
        let mut host = Host::start();
        let author = Author::trusted(host.cli());
        let worker = json!({ "manifest": 1, "id": "notes", "name": "Notes", "version": "1.0.0",
            "entries": { "w": { "route": { "path": "/w", "to": "v" } },
                "v": { "handler": { "component": "entries/v.wasm" } } } });
        let package = author.dir.path().join("notes-1.0.0");
        fs::create_dir_all(package.join("entries")).unwrap();
        fs::write(package.join("entries/v.wasm"), "x").unwrap();
        let bundle = author.bundle(host.cli(), &worker);
        host.cli().run(["package", "install", &bundle]).ok();
        let said = host.cli().run(["package", "activate", "notes"]).failed(125);
        assert!(
            said.contains("entry v is a handler: nothing runs entries of this kind in this release"),
            "{said}"
        );
        host.stop();
        let said = host.cli().run(["package", "ls"]).failed(125);
        assert!(said.contains("hint: start it: start-container daemon"), "{said}");
    });
}

/// Lays an OCI artifact out in a directory: a manifest with one layer.
fn artifact(dir: &std::path::Path, bundle: &str) {
    let blob = |bytes: &[u8]| {
        let sum = tests::cli::finish(
            {
                let mut command = std::process::Command::new("sha256sum");
                command.stdin(std::process::Stdio::piped());
                command
            },
            bytes,
        );
        let hex = sum.ok().out()[..64].to_owned();
        fs::write(dir.join("blobs/sha256").join(&hex), bytes).unwrap();
        (format!("sha256:{hex}"), bytes.len())
    };
    fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    let (config, config_size) = blob(b"{}");
    let (layer, size) = blob(&fs::read(bundle).unwrap());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": config_size },
        "layers": [{ "mediaType": "application/vnd.start-container.bundle.v1", "digest": layer, "size": size }]
    });
    let (manifest, size) = blob(manifest.to_string().as_bytes());
    let index = json!({ "schemaVersion": 2, "manifests": [
        { "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest, "size": size }
    ] });
    fs::write(dir.join("index.json"), index.to_string()).unwrap();
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

#[test]
fn p8_a_bundle_comes_from_a_registry() {
    isolated(|| {
        let host = Host::start();
        let cli = host.cli();
        let registry = super::registry::Registry::start(cli);
        let author = Author::trusted(cli);
        let bundle = author.bundle(cli, &service("1.0.0", FOREVER));
        let layout = author.dir.path().join("layout");
        artifact(&layout, &bundle);
        registry.push_from(&format!("oci:{}", layout.display()), "team/notes:1");
        let source = "oci://127.0.0.1:5000/team/notes:1";
        let said = cli.run(["package", "install", "--insecure", source]).ok().out();
        assert_eq!(said, "notes 1.0.0 is installed");
        registry.push_from(&format!("oci-archive:{}", image::busybox().display()), "library/busybox:1");
        let image = "oci://127.0.0.1:5000/library/busybox:1";
        let said = cli.run(["package", "install", "--insecure", image]).failed(125);
        assert!(said.contains("no layer of type application/vnd.start-container.bundle.v1"), "{said}");
        cli.run(["package", "trust", "revoke", "author"]).ok();
        cli.run(["package", "remove", "notes"]).ok();
        let said = cli.run(["package", "install", "--insecure", source]).failed(125);
        assert!(said.contains("was revoked"), "{said}");
    });
}

#[test]
fn p1_an_install_whose_host_is_killed_leaves_all_or_nothing() {
    isolated(|| {
        let mut host = Host::start();
        let author = Author::trusted(host.cli());
        let mut noise = vec![0_u8; 24 << 20];
        let mut state = 1_u64;
        for byte in &mut noise {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
        let assets = author.dir.path().join("notes-1.0.0/assets");
        fs::create_dir_all(&assets).unwrap();
        fs::write(assets.join("noise"), noise).unwrap();
        let bundle = author.bundle(host.cli(), &service("1.0.0", FOREVER));
        let mut seen = [0, 0];
        for round in 0..12_u64 {
            let install = host.cli().command(["package", "install", &bundle]).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(round * round * 6));
            host.kill();
            let mut install = install;
            install.wait().unwrap();
            host.start_again();
            let list = host.cli().run(["--json", "package", "ls"]).ok().json();
            let count =
                |dir: &str| fs::read_dir(host.cli().data().join("bundles").join(dir)).unwrap().count();
            let installed = list.as_array().unwrap().len();
            assert_eq!((count("sha256"), count("tmp")), (installed, 0), "round {round}: {list}");
            seen[installed] += 1;
            if installed == 1 {
                host.cli().run(["package", "activate", "notes"]).ok();
                host.cli().run(["package", "disable", "notes"]).ok();
                host.cli().run(["package", "remove", "notes"]).ok();
            }
            host.cli().run(["package", "audit", "--verify"]).ok();
        }
        assert!(seen[0] > 0, "it was always installed before it was killed");
    });
}
