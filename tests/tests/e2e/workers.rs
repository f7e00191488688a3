//! Workers: a package's TypeScript in its own Deno, good code and bad.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Cli, Host, image, isolated};

use crate::packages::{Author, wait_for};

/// A host that can run workers.
pub(super) fn host() -> Host {
    let host = Host::start();
    host.cli().run(["runtime", "add", "deno", "--from", image::deno().to_str().unwrap()]).ok();
    host
}

/// A package with one worker.
fn manifest(id: &str) -> Value {
    json!({
        "manifest": 1, "id": id, "name": id, "version": "1.0.0",
        "limits": { "memoryBytes": 256 << 20, "pids": 128 },
        "entries": { "main": { "worker": {
            "script": "entries/main.ts", "deadlineSeconds": 3, "graceSeconds": 1
        } } }
    })
}

/// Its bundle, installed, with everything granted.
fn install(cli: &Cli, author: &Author, manifest: &Value, code: &str) {
    let id = manifest["id"].as_str().unwrap();
    let package = author.dir.path().join(id);
    fs::create_dir_all(package.join("entries")).unwrap();
    fs::write(package.join("manifest.json"), manifest.to_string()).unwrap();
    fs::write(package.join("entries/main.ts"), code).unwrap();
    let bundle = author.dir.path().join(format!("{id}.bundle")).display().to_string();
    let key = author.dir.path().join("key").display().to_string();
    cli.run(["package", "pack", package.to_str().unwrap(), "-o", &bundle, "--key", &key]).ok();
    cli.run(["package", "install", &bundle]).ok();
    cli.run(["package", "grant", id, "--all"]).ok();
}

pub(super) fn status(cli: &Cli, id: &str) -> String {
    cli.run(["package", "status", id]).ok().out()
}

pub(super) fn info(cli: &Cli, id: &str) -> Value {
    cli.run(["--json", "package", "status", id]).ok().json()
}

pub(super) fn call(cli: &Cli, id: &str, function: &str, input: &Value) -> Value {
    cli.run(["package", "call", id, function, "--input", &input.to_string()]).ok().json()
}

/// Answers, and remembers what happened to it.
const GOOD: &str = r#"
let seen: string[] = [];
interface Core { packageId: string; module: string; generation: number; signal: AbortSignal }
export async function init(core: Core): Promise<void> {
  console.log("hello from", core.packageId);
  seen.push(`init ${core.module} ${core.generation}`);
}
export async function uninit(core: Core): Promise<void> {
  console.log("bye", core.signal.aborted);
}
export async function call(name: string, input: unknown): Promise<unknown> {
  if (name === "echo") return input;
  if (name === "seen") return seen;
  if (name === "wait") await new Promise(() => {});
  throw new TypeError(`nothing is called ${name}`);
}
"#;

#[test]
fn j1_a_worker_runs_is_called_reloaded_and_stopped() {
    isolated(|| {
        let mut host = Host::start();
        let author = Author::trusted(host.cli());
        install(host.cli(), &author, &manifest("notes"), GOOD);
        let said = host.cli().run(["package", "activate", "notes"]).failed(125);
        assert!(said.contains("start-container runtime add deno --from PATH"), "{said}");
        let said = host.cli().run(["doctor"]).out();
        assert!(said.contains("start-container/deno:2.9.6 was not added"), "{said}");
        let wrong = author.dir.path().join("key");
        let said = host.cli().run(["runtime", "add", "deno", "--from", wrong.to_str().unwrap()]).failed(125);
        assert!(said.contains("it is not Deno 2.9.6") && said.contains("sha256"), "{said}");
        host.cli().run(["runtime", "add", "deno", "--from", image::deno().to_str().unwrap()]).ok();

        let cli = host.cli();
        assert_eq!(cli.run(["package", "activate", "notes"]).ok().out(), "notes 1.0.0 is active");
        assert_eq!(call(cli, "notes", "echo", &json!({ "a": [1, "ü"] })), json!({ "a": [1, "ü"] }));
        let said = cli.run(["package", "call", "notes", "nonsense"]).failed(125);
        assert!(said.contains("TypeError: nothing is called nonsense"), "{said}");
        let said = cli.run(["package", "call", "notes", "wait", "--timeout", "1"]).failed(125);
        assert!(said.contains("no answer within 1 s"), "{said}");
        assert!(
            cli.run(["package", "activate", "notes"]).failed(125).contains("is active cannot become active")
        );
        cli.run(["package", "reload", "notes"]).ok();
        assert_eq!(call(cli, "notes", "seen", &Value::Null), json!(["init main 1"]));
        let told = info(cli, "notes");
        assert_eq!(told["worker"]["state"], "running");
        assert_eq!(told["worker"]["modules"], json!([{ "module": "main", "state": "loaded" }]));
        let guid = told["worker"]["guid"].as_str().unwrap().to_owned();
        wait_for("its log", || cli.run(["logs", &guid]).ok().err().contains("bye true\nhello from notes"));

        // It comes back with the host, and not after it was disabled.
        host.kill();
        host.start_again();
        let cli = host.cli();
        wait_for("the worker, after a kill", || info(cli, "notes")["worker"]["state"] == "running");
        assert_eq!(call(cli, "notes", "echo", &json!(1)), json!(1));
        cli.run(["package", "disable", "notes"]).ok();
        assert!(status(cli, "notes").contains("worker     stopped"), "{}", status(cli, "notes"));
        assert!(cli.run(["package", "call", "notes", "echo"]).failed(125).contains("no worker that runs"));
        assert_eq!(cli.run(["--json", "subcontainer", "ls"]).ok().json(), json!([]));
    });
}

/// Code that fails when it is started, and what the operator is told of it.
const FAILS_AT_ONCE: [(&str, &str, &[&str]); 10] = [
    (
        "loop",
        "export function init(): void { for (;;); }",
        &["init of main did not come to its end within 3 s"],
    ),
    ("never", "export const init = (): Promise<void> => new Promise(() => {});", &["within 3 s"]),
    ("missing", "export const init2 = 1;", &["main.ts exports no function init"]),
    ("syntax", "export function init(): void {\n  const x = ;\n}", &["SyntaxError", "entries/main.ts:2:13"]),
    (
        "type",
        "interface A { b: { c: number } }\nexport function init(): void {\n  const a = {} as A;\n  console.log(a.b.c);\n}",
        &[
            "init of main: TypeError: Cannot read properties of undefined (reading 'c')",
            "entries/main.ts:4:19",
        ],
    ),
    (
        "rejects",
        "export async function init(): Promise<void> {\n  Promise.reject(new Error('gone'));\n  await new Promise((r) => setTimeout(r, 2000));\n}",
        &["an error that nobody has caught: Error: gone", "entries/main.ts:2:18"],
    ),
    ("exits", "export function init(): void { Deno.exit(3); }", &["it has ended by itself, with code 3"]),
    (
        "kills",
        "import process from 'node:process';\nexport async function init(): Promise<void> {\n  process.kill(process.pid, 'SIGKILL');\n  await new Promise(() => {});\n}",
        &["SIGKILL has ended it"],
    ),
    (
        "terminates",
        "import process from 'node:process';\nexport async function init(): Promise<void> {\n  process.kill(process.pid);\n  await new Promise(() => {});\n}",
        &["SIGTERM has ended it"],
    ),
    (
        "import",
        "import 'https://example.com/x.ts';\nexport function init(): void {}",
        &["init of main", "example.com"],
    ),
];

#[test]
fn j1_what_fails_at_its_start_is_not_active_and_its_status_says_why() {
    isolated(|| {
        let host = host();
        let cli = host.cli();
        let author = Author::trusted(cli);
        install(cli, &author, &manifest("good"), GOOD);
        cli.run(["package", "activate", "good"]).ok();
        for (id, code, expected) in FAILS_AT_ONCE {
            install(cli, &author, &manifest(id), code);
            let said = cli.run(["package", "activate", id]).failed(125);
            let told = info(cli, id);
            assert_eq!(
                (&told["status"], &told["run"]["state"]),
                (&json!("installed"), &json!("errored")),
                "{id}"
            );
            for part in expected {
                assert!(said.contains(part), "{id}: {said}");
                assert!(status(cli, id).contains(part), "{id}: {}", status(cli, id));
            }
            assert_eq!(call(cli, "good", "echo", &json!(id)), json!(id), "the one beside it");
        }
        assert_eq!(cli.run(["--json", "sandbox", "ls"]).ok().json().as_array().map(Vec::len), Some(1));
        assert_eq!(info(cli, "good")["worker"]["restarts"], 0);
        cli.run(["package", "disable", "good"]).ok();
    });
}

/// Code that runs, and does what it is told to.
const BAD: &str = r#"
const kept: unknown[] = [];
export function init(): void {}
export async function call(name: string, _: unknown, core: { tell(told: object): void }): Promise<unknown> {
  switch (name) {
    case "loop": for (;;);
    case "tells": for (;;) core.tell({ tasks: [{ action: "x", severity: "critical" }] });
    case "heap": for (;;) kept.push(Array.from({ length: 10000 }, (_, i) => `${i}`));
    case "buffers": for (;;) kept.push(new Uint8Array(8 << 20).fill(1));
    case "reject": Promise.reject(new RangeError("later")); return 1;
    case "throw": setTimeout(() => { throw new Error("in a timer"); }, 10); return 1;
    case "exit": setTimeout(() => Deno.exit(7), 10); return 1;
    case "output": {
      const { writeSync } = await import("node:fs");
      writeSync(1, '{"jsonrpc":"2.0","method":"ready","params":{"package":"good"}}\n');
      return 1;
    }
    case "answers": {
      const { writeSync } = await import("node:fs");
      for (;;) writeSync(1, '{"jsonrpc":"2.0","id":1,"result":{}}\n');
    }
    case "large": return "x".repeat(2 << 20);
    case "cursor": throw new Error("a\u001b[2Jb");
    case "deaf": Deno.addSignalListener("SIGTERM", () => {}); return 1;
    case "flood": {
      const line = "x".repeat(1000);
      const end = Date.now() + 1500;
      while (Date.now() < end) console.log(line);
      return 1;
    }
  }
}
"#;

/// What is called, and what the status says after it.
const ENDS_LATER: [(&str, &str); 8] = [
    ("tells", "it wrote to the standard output, which is the host's: it tells of itself all the time"),
    ("heap", "its JavaScript heap is full"),
    ("buffers", "out of memory: the kernel has ended it, at the limit of its package (256 MiB)"),
    ("reject", "an error that nobody has caught: RangeError: later"),
    ("throw", "an error that nobody has caught: Error: in a timer"),
    ("exit", "it has ended by itself, with code 7"),
    ("output", "it wrote to the standard output, which is the host's: a message is not as it must be"),
    ("answers", "it wrote to the standard output, which is the host's: an answer to what nobody has asked"),
];

#[test]
fn j3_what_runs_amok_harms_only_itself_and_is_started_again() {
    isolated(|| {
        let host = host();
        let cli = host.cli();
        let author = Author::trusted(cli);
        for (id, code) in [("good", GOOD), ("bad", BAD)] {
            install(cli, &author, &manifest(id), code);
            cli.run(["package", "activate", id]).ok();
        }
        // Its lines are kept within bounds, and nobody waits for them.
        assert_eq!(call(cli, "bad", "flood", &Value::Null), json!(1));
        let said = cli.run(["package", "call", "bad", "large"]).failed(125);
        assert!(said.contains("an answer is longer than 1048576 bytes"), "{said}");
        let said = cli.run(["package", "call", "bad", "cursor"]).failed(125);
        assert!(said.contains("Error: a\u{fffd}[2Jb"), "{said:?}");
        assert_eq!(info(cli, "bad")["worker"]["state"], "running");
        assert_eq!(info(cli, "bad")["worker"]["restarts"], 0);
        for (count, (function, expected)) in ENDS_LATER.into_iter().enumerate() {
            // After four ends it would be in a crash loop, which is another test's.
            if count % 3 == 0 && count > 0 {
                cli.run(["package", "disable", "bad"]).ok();
                cli.run(["package", "activate", "bad"]).ok();
            }
            cli.run(["package", "call", "bad", function, "--timeout", "20"]);
            wait_for(expected, || status(cli, "bad").contains(expected));
            assert_eq!(call(cli, "good", "echo", &json!(function)), json!(function), "the one beside it");
            wait_for("its next start", || info(cli, "bad")["worker"]["state"] == "running");
        }
        let told = info(cli, "good");
        assert_eq!((&told["worker"]["restarts"], &told["worker"]["ended"]), (&json!(0), &Value::Null));

        // That it ignores a signal keeps nobody waiting: it is asked in other words.
        assert_eq!(call(cli, "bad", "deaf", &Value::Null), json!(1));
        let start = Instant::now();
        cli.run(["package", "disable", "bad"]).ok();
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        assert!(!status(cli, "bad").contains("killed"), "{}", status(cli, "bad"));
        cli.run(["package", "activate", "bad"]).ok();

        // It does not hear that it is to end.
        cli.run(["package", "call", "bad", "loop", "--timeout", "1"]).failed(125);
        let start = Instant::now();
        cli.run(["package", "disable", "bad"]).ok();
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        assert!(status(cli, "bad").contains("it did not end within 1 s of being asked to, and was killed"));
        cli.run(["package", "disable", "good"]).ok();
    });
}

#[test]
fn j1_a_loop_is_noticed_and_a_crash_loop_has_an_end() {
    isolated(|| {
        let host = host();
        let cli = host.cli();
        let author = Author::trusted(cli);
        install(cli, &author, &manifest("loop"), BAD);
        cli.run(["package", "activate", "loop"]).ok();
        cli.run(["package", "call", "loop", "loop", "--timeout", "1"]).failed(125);
        // It goes well the first time, and never again.
        let crashes = "export function init(core: { generation: number }): void { setTimeout(() => { throw new Error('again'); }, 50); }";
        install(cli, &author, &manifest("crash"), crashes);
        cli.run(["package", "activate", "crash"]).ok();
        wait_for("the crash loop", || info(cli, "crash")["worker"]["state"] == "crashLoop");
        let told = info(cli, "crash");
        assert_eq!((&told["status"], &told["run"]["state"]), (&json!("active"), &json!("errored")));
        let reason = told["run"]["reason"].as_str().unwrap();
        assert!(
            reason.starts_with("its worker has ended 5 times in a row") && reason.contains("again"),
            "{reason}"
        );
        assert_eq!(told["worker"]["restarts"], 4);
        // Whoever has mended it need not wait.
        cli.run(["package", "reload", "crash"]).ok();
        cli.run(["package", "disable", "crash"]).ok();
        let expected = "what it does did not come to its end within 10 s";
        let start = Instant::now();
        while !status(cli, "loop").contains(expected) {
            assert!(start.elapsed() < Duration::from_secs(40), "{}", status(cli, "loop"));
            std::thread::sleep(Duration::from_millis(200));
        }
        cli.run(["package", "disable", "loop"]).ok();
    });
}

/// Tries what it was not granted, and says what came of it.
const CURIOUS: &str = r#"
import { connect } from "node:net";
import { readFileSync, readdirSync } from "node:fs";
import process from "node:process";
const SOCKET = "/media/startos/rpc/host.sock";

/** What is answered to these lines, one after the other. */
function lines(...said: object[]): Promise<string[]> {
  return new Promise((resolve) => {
    const socket = connect({ path: SOCKET });
    let text = "";
    socket.setEncoding("utf8");
    socket.on("data", (chunk: string) => {
      text += chunk;
      if (text.split("\n").length > said.length) socket.destroy();
    });
    socket.on("error", (error: Error) => { text += error.message; });
    socket.on("close", () => resolve(text.split("\n").filter((line) => line !== "")));
    for (const one of said) socket.write(`${JSON.stringify({ jsonrpc: "2.0", ...one })}\n`);
  });
}
const hello = { id: 1, method: "hello", params: { protocol: 1, client: "curious" } };

export function init(): void {}
export async function call(name: string): Promise<unknown> {
  if (name === "hello") return lines(hello);
  if (name === "before") return lines({ id: 2, method: "kv.get", params: { group: "a", key: "b" } });
  if (name === "forged") return lines(hello, { id: 2, method: "kv.set", params: { group: "a", key: "b", value: 1, packageId: "good" } });
  if (name === "own") return lines(hello, { id: 2, method: "kv.set", params: { group: "a", key: "b", value: 1 } });
  const tries: Record<string, () => unknown> = {
    file: () => Deno.readTextFileSync("/etc/passwd"),
    node: () => readFileSync("/worker.js"),
    root: () => readdirSync("/"),
    proc: () => Deno.readTextFileSync("/proc/1/environ"),
    write: () => Deno.writeTextFileSync("/media/startos/entries/main.ts", ""),
    unlink: () => Deno.removeSync(SOCKET),
    environment: () => process.env.PATH,
    system: () => Deno.hostname(),
    program: () => new Deno.Command("/bin/deno").outputSync(),
    network: () => Deno.connect({ hostname: "127.0.0.1", port: 80 }),
    listen: () => Deno.listen({ port: 8080 }),
    web: () => import("https://example.com/x.ts".toString()),
    npm: () => import(["npm", "chalk"].join(":")),
    literal: () => import("file:///etc/passwd"),
    library: () => Deno.dlopen("/lib/x86_64-linux-gnu/libc.so.6", {}),
    input: () => (Deno as { stdin: { isTerminal(): boolean } }).stdin.isTerminal(),
  };
  const said: Record<string, string> = {};
  for (const [what, does] of Object.entries(tries)) {
    try { await does(); said[what] = "done"; } catch (error) { said[what] = (error as Error).message.split("\n")[0]; }
  }
  return said;
}
"#;

#[test]
fn j3_a_worker_reaches_nothing_but_its_own_door() {
    isolated(|| {
        let host = host();
        let cli = host.cli();
        let author = Author::trusted(cli);
        let mut asking = manifest("curious");
        asking["capabilities"] = json!({ "kv:write": { "reason": "Keeps", "groups": ["a"] } });
        install(cli, &author, &asking, CURIOUS);
        install(cli, &author, &manifest("good"), GOOD);
        cli.run(["package", "activate", "good"]).ok();
        cli.run(["package", "activate", "curious"]).ok();
        let said = call(cli, "curious", "tries", &Value::Null);
        for (what, came) in said.as_object().unwrap() {
            assert_ne!(came, "done", "{what}: {said}");
        }
        assert!(said["unlink"].as_str().unwrap().contains("Read-only file system"), "{said}");
        assert!(said["environment"].as_str().unwrap().contains("env access"), "{said}");
        assert!(said["literal"].as_str().unwrap().contains("read access"), "{said}");

        // Its own door, and who it is there is not for it to say.
        let said = call(cli, "curious", "hello", &Value::Null);
        assert!(said[0].as_str().unwrap().contains("\"packageId\":\"curious\""), "{said}");
        let said = call(cli, "curious", "before", &Value::Null);
        assert!(said[0].as_str().unwrap().contains("outOfOrder"), "{said}");
        let said = call(cli, "curious", "forged", &Value::Null);
        assert!(said[1].as_str().unwrap().contains("unknown field `packageId`"), "{said}");
        let said = call(cli, "curious", "own", &Value::Null);
        assert!(said[1].as_str().unwrap().contains("revision"), "{said}");
        assert_eq!(info(cli, "curious")["calls"]["done"], 1);
        assert_eq!(info(cli, "good")["calls"], Value::Null);

        // What it was granted is taken back: it is disabled, and calls no more.
        cli.run(["package", "grant", "curious", "--revoke", "kv:write"]).ok();
        assert!(cli.run(["package", "call", "curious", "own"]).failed(125).contains("no worker that runs"));
        assert_eq!(info(cli, "curious")["status"], "disabled");
        cli.run(["package", "disable", "good"]).ok();
    });
}

pub(super) fn sdk() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk").canonicalize().unwrap()
}

/// What `npm install` would give, without asking a registry.
pub(super) fn install_npm_packages(package: &Path) {
    let (modules, npm, sdk) = (package.join("node_modules"), image::bundler(), sdk());
    assert!(sdk.join("dist/package/index.js").exists(), "run `npm run build` in sdk/ first");
    fs::create_dir(&modules).unwrap();
    symlink(&sdk, modules.join("start-container")).unwrap();
    for name in ["esbuild", "@esbuild"] {
        symlink(npm.join(name), modules.join(name)).unwrap();
    }
    for name in ["typescript", "@typescript", "@types", "undici-types", "zod"] {
        let there = sdk.join("node_modules").join(name);
        if there.exists() {
            symlink(there, modules.join(name)).unwrap();
        }
    }
}

/// Copies what is in a directory, into one that may be there already.
pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}

/// A new package, as `package init` and `npm install` leave it.
pub(super) fn begin(cli: &Cli, author: &Author, id: &str, image: &Path) -> PathBuf {
    let package = author.dir.path().join(id);
    cli.run(["package", "init", package.to_str().unwrap(), "--sdk", sdk().to_str().unwrap()]).ok();
    fs::copy(image, package.join("images/main.tar")).unwrap();
    install_npm_packages(&package);
    package
}

/// `npm run pack`, in its two steps. The bundle.
pub(super) fn pack(author: &Author, package: &Path, id: &str, version: &str) -> String {
    for arguments in [&["node_modules/typescript/bin/tsc", "-p", "."][..], &["pack.mjs"]] {
        let mut node = Command::new("node");
        node.current_dir(package).args(arguments).env("START_CONTAINER_BIN", tests::cli::binary());
        let done = node.env("PACKAGE_KEY", author.dir.path().join("key")).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success() && !err.contains("WARNING"), "{arguments:?}: {out}{err}");
    }
    package.join(format!("{id}-{version}.bundle.tar.zst")).display().to_string()
}

/// The same; and the bundle installed, granted and active.
pub(super) fn pack_and_activate(cli: &Cli, author: &Author, package: &Path, id: &str, version: &str) {
    cli.run(["package", "install", &pack(author, package, id, version)]).ok();
    cli.run(["package", "grant", id, "--all"]).ok();
    cli.run(["package", "activate", id]).ok();
}

/// The rootfs of the subcontainer whose name ends like this.
pub(super) fn rootfs_of(cli: &Cli, name: &str) -> String {
    let all = cli.run(["--json", "subcontainer", "ls"]).ok().json();
    let ends = |one: &&Value| one["name"].as_str().is_some_and(|known| known.ends_with(name));
    let found = all.as_array().unwrap().iter().find(ends).unwrap_or_else(|| panic!("{all}"));
    cli.data().join("subcontainers").join(found["guid"].as_str().unwrap()).display().to_string()
}

pub(super) fn ready(cli: &Cli, id: &str, daemon: &str) -> bool {
    call(cli, id, "daemons", &Value::Null)[daemon]["ready"] == json!(true)
}

#[test]
fn p1_a_package_in_typescript_is_begun_packed_and_serves_its_page() {
    isolated(|| {
        let host = host();
        let cli = host.cli();
        let author = Author::trusted(cli);
        let package = begin(cli, &author, "my-service", &image::busybox());
        let again = cli.run(["package", "init", package.to_str().unwrap()]);
        assert!(again.failed(125).contains("write over package.json"));
        pack_and_activate(cli, &author, &package, "my-service", "0.1.0");
        wait_for("its web server", || ready(cli, "my-service", "web"));
        let rootfs = rootfs_of(cli, "web");
        let page = || {
            cli.run(["subcontainer", "exec", &rootfs, "wget", "-qO-", "http://127.0.0.1:8080/"]).ok().out()
        };
        assert!(page().contains("<h1>Hello</h1>"), "{}", page());

        let actions = call(cli, "my-service", "actions", &Value::Null);
        assert_eq!(actions[0]["id"], "set-title");
        assert_eq!(actions[0]["spec"]["title"]["type"], "text");
        let said =
            cli.run(["package", "call", "my-service", "action:set-title", "--input", "{}"]).failed(125);
        assert!(said.contains("InputError: title: it is missing"), "{said}");
        let done = call(cli, "my-service", "action:set-title", &json!({ "title": "Mine & <yours>" }));
        assert_eq!(done["message"], "It is Mine & <yours> now");
        assert!(page().contains("<h1>Mine &amp; &lt;yours></h1>"), "{}", page());

        // What was set stays; what ran does not.
        cli.run(["package", "disable", "my-service"]).ok();
        assert_eq!(cli.run(["--json", "subcontainer", "ls"]).ok().json(), json!([]));
        cli.run(["package", "activate", "my-service"]).ok();
        let filled = call(cli, "my-service", "actions", &Value::Null)[0]["prefill"].clone();
        assert_eq!(filled, json!({ "title": "Mine & <yours>" }));
        cli.run(["package", "disable", "my-service"]).ok();
    });
}

#[test]
fn j4_a_function_in_typescript_shares_the_store_with_its_package() {
    isolated(|| {
        let host = host();
        let cli = host.cli();
        let author = Author::trusted(cli);
        let package = begin(cli, &author, "my-service", &image::busybox());
        let functions = package.join("src/functions");
        fs::create_dir(&functions).unwrap();
        fs::write(
            package.join("src/words.ts"),
            "export const greet = (who: string): string => `Hello, ${who}`;\n",
        )
        .unwrap();
        let text = r#"
            import type { UrlFunction } from "start-container/package";
            import { greet } from "../words.ts";

            export default (async (request, host) => {
              const { value } = await host.kv("settings").get<string>("title");
              return Response.json({ said: greet(request.query.who ?? "you"), title: value ?? null });
            }) satisfies UrlFunction;
        "#;
        fs::write(functions.join("hello.ts"), text).unwrap();
        let manifest = fs::read_to_string(package.join("src/manifest.ts")).unwrap();
        let worker = r#"main: { worker: { script: "entries/main.js" } }"#;
        let entry = r#"hello: { urlFunction: { function: "entries/functions/hello.js", path: "/hello" } }"#;
        assert!(manifest.contains(worker));
        let manifest = manifest.replace(worker, &format!("{worker}, {entry}"));
        fs::write(package.join("src/manifest.ts"), manifest).unwrap();
        pack_and_activate(cli, &author, &package, "my-service", "0.1.0");
        let fetch = || cli.run(["package", "fetch", "my-service", "/hello?who=Ada"]).ok().json();
        assert_eq!(fetch(), json!({ "said": "Hello, Ada", "title": null }));
        call(cli, "my-service", "action:set-title", &json!({ "title": "Mine" }));
        assert_eq!(fetch(), json!({ "said": "Hello, Ada", "title": "Mine" }));

        // A type that does not fit is told before anything is packed.
        fs::write(functions.join("hello.ts"), text.replace("request.query.who", "request.nothing")).unwrap();
        let check = ["node_modules/typescript/bin/tsc", "-p", "."];
        let checked = Command::new("node").args(check).current_dir(&package).output().unwrap();
        let said = String::from_utf8_lossy(&checked.stdout);
        assert!(!checked.status.success() && said.contains("src/functions/hello.ts"), "{said}");
        cli.run(["package", "disable", "my-service"]).ok();
    });
}

/// The example of the SDK, active.
pub(super) fn people(cli: &Cli, author: &Author, postgres: &Path) {
    let package = begin(cli, author, "people", postgres);
    let example = sdk().join("examples/people");
    fs::remove_file(package.join("src/page.ts")).unwrap();
    fs::create_dir(package.join("assets")).unwrap();
    for part in ["src", "assets"] {
        for file in fs::read_dir(example.join(part)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), package.join(part).join(file.file_name())).unwrap();
        }
    }
    pack_and_activate(cli, author, &package, "people", "1.0.0");
}

#[test]
fn p1_the_example_is_a_database_with_a_web_application_in_front_of_it() {
    let Some(postgres) = image::postgres() else { tests::skip!("no image of PostgreSQL was made") };
    isolated(|| {
        let host = host();
        let cli = host.cli();
        let author = Author::trusted(cli);
        people(cli, &author, &postgres);
        wait_for("its web application", || ready(cli, "people", "web"));
        let health = call(cli, "people", "health", &Value::Null);
        let told: Vec<_> =
            health.as_array().unwrap().iter().map(|one| (&one["name"], &one["result"])).collect();
        assert!(told.contains(&(&json!("Database"), &json!("success"))), "{health}");

        let ada = json!({ "name": "Ada <3", "born": 1815 });
        assert_eq!(call(cli, "people", "action:add", &ada)["result"]["count"], 1);
        let hostile = json!({ "name": "x'; DROP TABLE people; --", "born": null });
        assert_eq!(call(cli, "people", "action:add", &hostile)["result"]["count"], 2);
        let ask = "use IO::Socket::INET; $s = IO::Socket::INET->new('127.0.0.1:8080'); \
            print $s \"GET / HTTP/1.0\\r\\n\\r\\n\"; print <$s>";
        let page = cli.run(["subcontainer", "exec", &rootfs_of(cli, "web"), "perl", "-e", ask]).ok().out();
        assert!(page.contains("<li>Ada &lt;3, 1815</li>") && page.contains("<li>x'; DROP TABLE"), "{page}");

        // The data is the volume's.
        cli.run(["package", "disable", "people"]).ok();
        assert_eq!(cli.run(["--json", "subcontainer", "ls"]).ok().json(), json!([]));
        cli.run(["package", "activate", "people"]).ok();
        wait_for("the database, again", || ready(cli, "people", "table"));
        let grace = json!({ "name": "Grace", "born": 1906 });
        assert_eq!(call(cli, "people", "action:add", &grace)["result"]["count"], 3);
        cli.run(["package", "disable", "people"]).ok();
    });
}
