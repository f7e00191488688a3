//! Packages in start-sdk's shape: one that was written against it and ported by the guide, and one that depends on another.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tests::{Cli, image, isolated};

use crate::packages::{Author, wait_for};
use crate::workers::{begin, call, copy, host, info, pack, pack_and_activate, ready, rootfs_of, sdk, status};

/// The diff in the guide: all that is to be changed of the example.
fn diff() -> String {
    let guide = fs::read_to_string(sdk().join("../docs/porting.md")).unwrap();
    let (_, rest) = guide.split_once("```diff\n").expect("a diff in docs/porting.md");
    rest.split_once("```\n").expect("its end").0.to_owned()
}

fn replace(path: &Path, changes: &[(&str, &str)]) {
    let mut text = fs::read_to_string(path).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{}: {from}", path.display());
        text = text.replace(from, to);
    }
    fs::write(path, text).unwrap();
}

/// The package of the guide, ported as that says.
fn ported(cli: &Cli, author: &Author, postgres: &Path) -> PathBuf {
    let package = begin(cli, author, "postgresql", postgres);
    fs::remove_dir_all(package.join("src")).unwrap();
    copy(&sdk().join("examples/postgresql/startos"), &package.join("startos"));
    replace(
        &package.join("pack.mjs"),
        &[("src/index.ts", "startos/host.ts"), ("src/manifest.ts", "startos/host.ts")],
    );
    replace(
        &package.join("tsconfig.json"),
        &[("\"src\"", "\"startos\""), ("\"verbatimModuleSyntax\": true", "\"verbatimModuleSyntax\": false")],
    );
    let mut apply = Command::new("git");
    apply.current_dir(&package).args(["apply", "-"]).stdin(Stdio::piped());
    // Whatever repository is around.
    let mut apply = apply.env("GIT_CEILING_DIRECTORIES", author.dir.path()).spawn().unwrap();
    apply.stdin.take().unwrap().write_all(diff().as_bytes()).unwrap();
    assert!(apply.wait().unwrap().success(), "the diff of docs/porting.md does not fit the example");
    package
}

/// What the database says, asked by TCP with a password.
fn ask(cli: &Cli, sql: &str) -> String {
    let password = "PGPASSWORD=correct horse";
    let command = ["env", password, "psql", "-h", "127.0.0.1", "-AtX", "-c", sql];
    let rootfs = rootfs_of(cli, "postgres");
    cli.run(["subcontainer", "exec", &rootfs].into_iter().chain(command)).ok().out()
}

#[test]
fn j5_a_package_that_was_ported_by_the_guide_runs_and_is_updated() {
    let Some(postgres) = image::postgres() else { tests::skip!("no image of PostgreSQL was made") };
    isolated(|| {
        let host = host();
        let cli = host.cli();
        let author = Author::trusted(cli);
        let package = ported(cli, &author, &postgres);
        let newer = pack(&author, &package, "postgresql", "1.1.0");
        let newer_there = author.dir.path().join("newer");
        fs::rename(newer, &newer_there).unwrap();
        let newer = newer_there.display().to_string();
        let graph = "import { VersionGraph } from \"start-container/package\";\n\
            import { v1_0_0 } from \"./v1.0.0\";\n\
            export const versionGraph = VersionGraph.of({ current: v1_0_0, other: [] });\n";
        fs::write(package.join("startos/versions/index.ts"), graph).unwrap();
        pack_and_activate(cli, &author, &package, "postgresql", "1.0.0");

        // It is well, and says what it wants and what it has.
        wait_for("the database", || ready(cli, "postgresql", "postgres"));
        wait_for("its health", || {
            status(cli, "postgresql").contains("health     Database: success: The database takes connections")
        });
        let told = status(cli, "postgresql");
        assert!(told.contains("task       critical: action:set-password: Nobody can connect"), "{told}");
        assert!(
            told.contains("interface  sql (api): Database, postgresql://postgres@127.0.0.1:5432"),
            "{told}"
        );
        let interfaces = call(cli, "postgresql", "interfaces", &Value::Null);
        assert_eq!((&interfaces[0]["hostId"], &interfaces[0]["port"]), (&json!("main"), &json!(5432)));

        // The action changes what main has read: it runs again, and the task has been done.
        let actions = call(cli, "postgresql", "actions", &Value::Null);
        assert_eq!(actions[0]["prefill"]["password"].as_str().map(str::len), Some(22));
        call(cli, "postgresql", "action:set-password", &json!({ "password": "correct horse" }));
        wait_for("the password", || {
            !status(cli, "postgresql").contains("task ") && ready(cli, "postgresql", "password")
        });
        assert_eq!(ask(cli, "SHOW shared_buffers"), "32MB");
        let made = call(cli, "postgresql", "action:create-database", &json!({ "name": "library" }));
        assert_eq!(made["message"], "library is there");
        let said = cli
            .run(["package", "call", "postgresql", "action:create-database", "--input", "{\"name\":\"-d\"}"])
            .failed(125);
        assert!(said.contains("InputError: name: small letters"), "{said}");

        // The new version has the old one's data, and does with them what its migration says.
        cli.run(["package", "update", &newer]).ok();
        assert_eq!(info(cli, "postgresql")["version"], "1.1.0");
        wait_for("the password, again", || ready(cli, "postgresql", "password"));
        assert_eq!(ask(cli, "SHOW shared_buffers"), "64MB");
        assert_eq!(ask(cli, "SELECT count(*) FROM pg_database WHERE datname = 'library'"), "1");
        assert!(!status(cli, "postgresql").contains("task "), "what was done stays done");
        cli.run(["package", "disable", "postgresql"]).ok();
        assert_eq!(cli.run(["--json", "subcontainer", "ls"]).ok().json(), json!([]));
    });
}

/// A package of one version or another, that writes down what is done to its data.
const STEPS: &str = r#"
import { Actions, IMPOSSIBLE, setupManifest, StartSdk, VersionGraph, VersionInfo } from "start-container/package";

const VERSION: string = "2.0.0";
export const manifest = setupManifest({
  manifest: 1, id: "steps", name: "Steps", version: VERSION,
  volumes: { main: {} },
  entries: { main: { worker: { script: "entries/main.js" } } },
  capabilities: {
    "kv:read": { reason: "Versions", groups: ["sdk"] },
    "kv:write": { reason: "Versions", groups: ["sdk"] },
    "files:read": { reason: "Steps", paths: ["/media/startos/volumes/main"] },
    "files:write": { reason: "Steps", paths: ["/media/startos/volumes/main"] },
  },
});
const sdk = StartSdk.of().withManifest(manifest).build(true);
const file = sdk.FileHelper.string({ base: sdk.volumes.main, subpath: "steps" });
const step = (name: string) => async ({ effects }: Parameters<Parameters<typeof sdk.setupMain>[0]>[0]): Promise<void> => {
  await file.write(effects, `${(await file.read().once()) ?? ""}${name} `);
};
const read = sdk.Action.withoutInput(
  "read",
  { name: "Read", description: "", warning: null, allowedStatuses: "any", group: null, visibility: "enabled" },
  async () => ({ version: "1", title: "", message: await file.read().once(), result: null }),
);
const v1 = VersionInfo.of({ version: "1.0.0:0", releaseNotes: "", migrations: { up: IMPOSSIBLE, down: IMPOSSIBLE } });
const v2 = VersionInfo.of({ version: "2.0.0:0", releaseNotes: "", migrations: { up: step("up"), down: step("down") } });
const versions = VERSION === "2.0.0" ? VersionGraph.of({ current: v2, other: [v1] }) : VersionGraph.of({ current: v1, other: [] });
const begin = sdk.setupOnInit(async (effects, kind) => {
  await step(String(kind))({ effects });
  if (kind === "install") await sdk.action.createOwnTask(effects, read, "important");
});
export const { init, uninit, call } = sdk.serve({
  init: sdk.setupInit(versions, begin),
  uninit: sdk.setupUninit(versions),
  actions: Actions.of().addAction(read),
});
"#;

#[test]
fn j5_data_go_with_the_version_up_and_down_or_the_package_does_not_start() {
    isolated(|| {
        let host = host();
        let cli = host.cli();
        let author = Author::trusted(cli);
        let package = begin(cli, &author, "steps", &image::busybox());
        fs::remove_dir_all(package.join("src")).unwrap();
        fs::remove_dir_all(package.join("images")).unwrap();
        fs::create_dir(package.join("src")).unwrap();
        replace(&package.join("pack.mjs"), &[("src/manifest.ts", "src/index.ts")]);
        fs::write(package.join("src/index.ts"), STEPS).unwrap();
        let newer = pack(&author, &package, "steps", "2.0.0");
        fs::write(package.join("src/index.ts"), STEPS.replace("string = \"2.0.0\"", "string = \"1.0.0\""))
            .unwrap();
        let kept = author.dir.path().join("newer").display().to_string();
        fs::rename(newer, &kept).unwrap();
        pack_and_activate(cli, &author, &package, "steps", "1.0.0");
        let steps =
            || call(cli, "steps", "action:read", &Value::Null)["message"].as_str().unwrap().to_owned();

        // A task is kept, also by another version; what is read with it has done it.
        wait_for("its task", || status(cli, "steps").contains("task       important: action:read"));
        cli.run(["package", "update", &kept]).ok();
        wait_for("its task, again", || status(cli, "steps").contains("task       important: action:read"));
        assert_eq!(steps(), "install up update ");
        wait_for("that it is done", || !status(cli, "steps").contains("task "));
        cli.run(["package", "reload", "steps"]).ok();
        assert_eq!(steps(), "install up update null ");
        cli.run(["package", "rollback", "steps"]).ok();
        assert_eq!(steps(), "install up update null down update ");

        // An old version does not touch data that a newer one has left, and says why.
        cli.run(["package", "update", &kept]).ok();
        cli.run(["package", "disable", "steps"]).ok();
        cli.run(["package", "rollback", "steps"]).ok();
        let said = cli.run(["package", "activate", "steps"]).failed(125);
        assert!(said.contains("the data is of 2.0.0:0, and cannot be migrated to 1.0.0:0"), "{said}");
        assert_eq!(info(cli, "steps")["status"], "disabled");
        cli.run(["package", "update", &kept]).ok();
        cli.run(["package", "activate", "steps"]).ok();
        assert_eq!(steps(), "install up update null down update up update null ");
        cli.run(["package", "disable", "steps"]).ok();
    });
}

#[test]
fn s15_the_example_reads_the_volume_of_the_package_that_it_depends_on_and_no_more() {
    isolated(|| {
        let host = host();
        let cli = host.cli();
        let author = Author::trusted(cli);
        let page = begin(cli, &author, "my-service", &image::busybox());
        pack_and_activate(cli, &author, &page, "my-service", "0.1.0");
        let package = begin(cli, &author, "mirror", &image::busybox());
        fs::remove_dir_all(package.join("src")).unwrap();
        copy(&sdk().join("examples/mirror/src"), &package.join("src"));
        pack_and_activate(cli, &author, &package, "mirror", "1.0.0");
        wait_for("its web server", || ready(cli, "mirror", "web"));
        let rootfs = rootfs_of(cli, "mirror-web");
        let inside = |command: &str| cli.run(["subcontainer", "exec", &rootfs, "sh", "-c", command]);
        let page = || inside("wget -qO- http://127.0.0.1:8080/").ok().out();
        assert!(page().contains("<h1>Hello</h1>"), "{}", page());

        // What the other one writes is seen at once; nothing can be written, and nothing else is there.
        call(cli, "my-service", "action:set-title", &json!({ "title": "Ours" }));
        assert!(page().contains("<h1>Ours</h1>"), "{}", page());
        for change in ["echo x > /www/index.html", "rm /www/index.html", "mount -o remount,rw /www"] {
            assert_ne!(inside(change).code, 0, "{change}");
        }
        assert_eq!(inside("ls -A /www /www/..").ok().out().matches("index.html").count(), 1);
        assert!(page().contains("<h1>Ours</h1>"), "{}", page());

        // It knows how the other one is, who cannot leave unasked.
        wait_for("the other one's health", || {
            status(cli, "mirror").contains("health     The page's own server: success")
        });
        let said = cli.run(["package", "disable", "my-service"]).failed(125);
        assert!(said.contains("mirror needs my-service"), "{said}");
        cli.run(["package", "disable", "mirror"]).ok();

        // The same code with a manifest that does not name the volume, or not the package.
        let (manifest, source) = (package.join("src/manifest.ts"), package.join("src/main.ts"));
        replace(&manifest, &[(", volumes: [\"main\"]", "")]);
        replace(&manifest, &[("1.0.0", "1.0.1")]);
        let bundle = pack(&author, &package, "mirror", "1.0.1");
        cli.run(["package", "update", &bundle]).ok();
        cli.run(["package", "activate", "mirror"]).ok();
        let refused = "no volume of a dependency that the manifest's dependencies name";
        let web = || call(cli, "mirror", "daemons", &Value::Null)["web"].to_string();
        wait_for("that it is refused", || web().contains(refused));
        cli.run(["package", "disable", "mirror"]).ok();
        replace(&manifest, &[("packages: [\"my-service\"]", "packages: [\"another\"]")]);
        replace(&source, &[("\"my-service\"", "\"another\"")]);
        let mut node = Command::new("node");
        let node =
            node.current_dir(&package).arg("pack.mjs").env("START_CONTAINER_BIN", tests::cli::binary());
        let done = node.output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && said.contains("another is not among the dependencies"), "{said}");
        cli.run(["package", "disable", "my-service"]).ok();
    });
}
