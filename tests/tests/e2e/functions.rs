//! Light functions: a package's small JavaScript in an isolate for each call, good code and bad.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Cli, Host, isolated};

use crate::packages::{Author, wait_for};

/// A package with entries and the files beneath `entries/`, installed, with everything granted.
fn install(cli: &Cli, author: &Author, id: &str, entries: &Value, files: &[(&str, &str)]) {
    let groups = json!({ "reason": "To keep notes", "groups": ["notes"] });
    let manifest = json!({
        "manifest": 1, "id": id, "name": id, "version": "1.0.0",
        "limits": { "memoryBytes": 256 << 20, "pids": 64 },
        "capabilities": {
            "kv:read": groups, "kv:write": groups, "log:write": { "reason": "To say what it does" }
        },
        "entries": entries,
    });
    let package = author.dir.path().join(id);
    for (name, text) in files {
        let path = package.join("entries").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    fs::write(package.join("manifest.json"), manifest.to_string()).unwrap();
    let bundle = author.dir.path().join(format!("{id}.bundle")).display().to_string();
    let key = author.dir.path().join("key").display().to_string();
    cli.run(["package", "pack", package.to_str().unwrap(), "-o", &bundle, "--key", &key]).ok();
    cli.run(["package", "install", &bundle]).ok();
    cli.run(["package", "grant", id, "--all"]).ok();
}

fn url(file: &str, path: &str) -> Value {
    json!({ "urlFunction": { "function": format!("entries/{file}"), "path": path } })
}

fn info(cli: &Cli, id: &str) -> Value {
    cli.run(["--json", "package", "status", id]).ok().json()
}

fn fetch(cli: &Cli, id: &str, path: &str) -> String {
    cli.run(["package", "fetch", id, path]).ok().out()
}

fn refused(cli: &Cli, id: &str, path: &str) -> String {
    cli.run(["package", "fetch", id, path]).failed(125)
}

const HELLO: &str = r#"
import { greeting } from "./lib/words.js";
let calls = 0;
export default async function (request, host) {
  calls += 1;
  if (request.headers.has("x-from")) console.log("called by", request.headers.get("x-from"));
  return new Response(`${greeting} ${request.query.name ?? "you"}, ${request.method} ${calls}`, {
    status: 201, headers: { "x-words": "two" },
  });
}
"#;

const NOTES: &str = r#"
export default {
  async fetch(request, host) {
    const notes = host.kv("notes");
    if (request.method === "PUT") {
      const { title } = await request.json();
      await notes.set(title, { title, length: request.body.length });
      await host.log(`kept ${title}`);
      return { status: 204 };
    }
    const keys = [];
    for await (const { key } of notes.list()) keys.push(key);
    return Response.json({ keys, first: (await notes.get(keys[0] ?? "none")).value ?? null });
  },
};
"#;

const LARGE: &str = r#"
export default function (request) {
  const size = Number(request.query.size);
  if (request.query.how === "whole") return new Uint8Array(size).fill(97);
  return { body: (async function* () {
    for (let at = 0; at < size; at += 100000) {
      await new Promise((done) => setTimeout(done, 1));
      yield "b".repeat(Math.min(100000, size - at));
    }
  })() };
}
"#;

#[test]
fn j4_a_function_answers_requests_with_what_it_was_granted() {
    isolated(|| {
        let mut host = Host::start();
        let author = Author::trusted(host.cli());
        let entries = json!({
            "hello": url("hello.js", "/hello"), "notes": url("notes.js", "/notes"), "large": url("large.js", "/large"),
        });
        let files = [
            ("hello.js", HELLO),
            ("lib/words.js", "export const greeting = 'good morning';"),
            ("notes.js", NOTES),
            ("large.js", LARGE),
        ];
        let cli = host.cli();
        install(cli, &author, "notes", &entries, &files);
        assert!(refused(cli, "notes", "/hello").contains("it is not active, or has none"));
        cli.run(["package", "activate", "notes"]).ok();

        let said =
            cli.run(["package", "fetch", "notes", "/hello?name=W%C3%B6rld", "-i", "-H", "X-From: me"]).ok();
        let expected =
            "201\ncontent-type: text/plain; charset=utf-8\nx-words: two\n\ngood morning Wörld, GET 1";
        // In no order that is promised.
        let mut lines: Vec<&str> = said.out().leak().lines().collect();
        lines[1..3].sort_unstable();
        assert_eq!(lines.join("\n"), expected);
        // An isolate for each call: nothing of the one before is there.
        assert_eq!(fetch(cli, "notes", "/hello"), "good morning you, GET 1");
        let guid = info(cli, "notes")["functions"]["process"]["guid"].as_str().unwrap().to_owned();
        wait_for("what it printed", || cli.run(["logs", &guid]).ok().err().contains("hello: called by me"));

        let put = ["package", "fetch", "notes", "/notes", "-X", "PUT", "--data", r#"{"title":"one"}"#];
        assert_eq!(cli.run(put).ok().out(), "");
        let told: Value = serde_json::from_str(&fetch(cli, "notes", "/notes")).unwrap();
        assert_eq!(told, json!({ "keys": ["one"], "first": { "title": "one", "length": 15 } }));
        for call in ["kv.set", "kv.list", "log.write"] {
            wait_for("its line in the audit log", || {
                cli.run(["package", "audit", "notes"]).ok().out().contains(call)
            });
        }

        for (how, letter) in [("whole", "a"), ("parts", "b")] {
            for size in [0, 1, 262_144, 262_145, 1_000_000] {
                let body = fetch(cli, "notes", &format!("/large?how={how}&size={size}"));
                assert!(body == letter.repeat(size), "{how} {size}: {} bytes", body.len());
            }
        }

        // What the operator takes back is refused from the next call on, and written down.
        cli.run(["package", "grant", "notes", "--revoke", "kv:read"]).ok();
        cli.run(["package", "disable", "notes"]);
        host.kill();
        host.start_again();
        let cli = host.cli();
        cli.run(["package", "grant", "notes", "--all"]).ok();
        cli.run(["package", "activate", "notes"]).ok();
        assert_eq!(fetch(cli, "notes", "/hello"), "good morning you, GET 1");
        cli.run(["package", "disable", "notes"]).ok();
        assert_eq!(info(cli, "notes")["functions"]["process"]["state"], "stopped");
        assert_eq!(cli.run(["--json", "subcontainer", "ls"]).ok().json(), json!([]));
    });
}

const GOOD: &str = "export default (request) => `good ${request.query.n}`;";

/// Code that is told of when its package is activated: what is said.
const FAILS_AT_ONCE: [(&str, &str, &[&str]); 9] = [
    ("syntax", "export default function () {\n  const x = ;\n}", &["SyntaxError", "entries/main.js:2"]),
    ("missing", "export const init = 1;", &["entries/main.js has no default export that is a function"]),
    ("value", "export default 'hello';", &["entries/main.js has no default export that is a function"]),
    ("throws", "const a = undefined;\na.b;\nexport default () => {};", &["TypeError", "entries/main.js:2"]),
    ("bare", "import 'lodash';\nexport default () => {};", &["an import begins with ./ or ../"]),
    ("above", "import '../../../../etc/passwd';\nexport default () => {};", &["it leads out of entries/"]),
    ("absolute", "import '/etc/passwd';\nexport default () => {};", &["an import begins with ./ or ../"]),
    ("nothing", "import './nothing.js';\nexport default () => {};", &["there is no such file in the bundle"]),
    ("loop", "for (;;);", &["it did not come to its end within 5 s"]),
];

#[test]
fn j4_what_cannot_be_a_function_is_told_when_it_is_activated() {
    isolated(|| {
        let host = Host::start();
        let cli = host.cli();
        let author = Author::trusted(cli);
        install(cli, &author, "good", &json!({ "main": url("main.js", "/") }), &[("main.js", GOOD)]);
        cli.run(["package", "activate", "good"]).ok();
        for (id, code, expected) in FAILS_AT_ONCE {
            install(cli, &author, id, &json!({ "main": url("main.js", "/") }), &[("main.js", code)]);
            let said = cli.run(["package", "activate", id]).failed(125);
            let status = cli.run(["package", "status", id]).ok().out();
            for part in ["loading main"].iter().chain(expected) {
                assert!(said.contains(part), "{id}: {said}");
                assert!(status.contains(part), "{id}: {status}");
            }
            assert_eq!(fetch(cli, "good", &format!("/?n={id}")), format!("good {id}"), "the one beside it");
        }
        cli.run(["package", "disable", "good"]).ok();
    });
}

/// Does what it is told to.
const BAD: &str = r#"
export default async function (request, host) {
  const kept = [];
  switch (request.query.what) {
    case "loop": for (;;);
    case "tries": for (;;) try { for (;;); } catch {} finally { continue; }
    case "waits": return Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    case "long-error": throw new Error("x".repeat(3 << 20));
    case "headers": return { headers: { "x-a": "x".repeat(2 << 20) } };
    case "async-loop": for (;;) await null;
    case "regex": return String(/^(a+)+$/.test("a".repeat(40) + "b"));
    case "heap": for (;;) kept.push({ a: [1, 2, 3], text: `${kept.length}` });
    case "text": { let text = "x"; for (;;) text = text + text; }
    case "buffers": for (;;) kept.push(new Uint8Array(1 << 20).fill(1));
    case "one-buffer": return String(new ArrayBuffer(200 << 20).byteLength);
    case "shared": return String(new SharedArrayBuffer(200 << 20).byteLength);
    case "grows": { const b = new ArrayBuffer(1, { maxByteLength: 1 << 30 }); b.resize(1 << 29); return String(b.byteLength); }
    case "deep": { const down = (n) => down(n + 1) + 1; return String(down(0)); }
    case "nested": { let text = "[".repeat(1 << 20); return String(JSON.parse(text)); }
    case "never": return new Promise(() => {});
    case "throws": throw new RangeError("on purpose");
    case "throws-text": throw "only text";
    case "rejects": return Promise.reject(new Error("later"));
    case "number": return 7;
    case "status": return { status: 42 };
    case "header": return { headers: { "x-a": "b\r\nset-cookie: c=d" } };
    case "huge": return "x".repeat(5 << 20);
    case "huge-parts": return { body: (function* () { for (;;) yield "x".repeat(100000); })() };
    case "body": return { body: [1, 2] };
    case "import": return (await import(request.query.from)).default;
    case "eval-import": return await new Function("return import('/etc/passwd')")();
    case "denied": return (await host.kv("others").get("a")).value;
    case "nonsense": return await host.call("no.such", {});
    case "flood": { for (let n = 0; n < 100; n++) kept.push(host.call("ping")); await Promise.all(kept); return "ok"; }
    case "proto": { Promise.prototype.then = () => { throw 1; }; Uint8Array.prototype.toBase64 = () => "?"; return "fine"; }
  }
}
"#;

const ENDS: [(&str, &str); 29] = [
    ("tries", "it did not come to its end within 5 s"),
    ("waits", "TypeError"),
    ("long-error", "Error: xxxx"),
    ("headers", "its headers are longer than 32768 bytes"),
    ("loop", "it did not come to its end within 5 s"),
    ("async-loop", "it did not come to its end within 5 s"),
    ("regex", "it did not come to its end within 5 s"),
    ("heap", "out of memory: a call may use 32 MiB, array buffers included"),
    ("text", "InternalError: string too long"),
    ("buffers", "out of memory: a call may use 32 MiB, array buffers included"),
    ("one-buffer", "out of memory: a call may use 32 MiB, array buffers included"),
    ("shared", "out of memory: a call may use 32 MiB, array buffers included"),
    ("grows", "out of memory: a call may use 32 MiB, array buffers included"),
    ("deep", "Maximum call stack size exceeded"),
    ("nested", "Maximum call stack size exceeded"),
    ("never", "it waits for a promise that nothing is left to settle"),
    ("throws", "RangeError: on purpose"),
    ("throws-text", "it threw \"only text\", which is no Error"),
    ("rejects", "Error: later"),
    ("number", "it returned neither a Response"),
    ("status", "its response has the status 42"),
    ("header", "the value of x-a has a control character"),
    ("huge", "its response is longer than 4194304 bytes"),
    ("huge-parts", "its response is longer than 4194304 bytes"),
    ("body", "a body is text, bytes, or an iterable of these"),
    ("import&from=../../etc/passwd", "it leads out of entries/"),
    ("eval-import", "an import begins with ./ or ../"),
    ("denied", "HostError"),
    ("nonsense", "HostError"),
];

#[test]
fn j4_what_runs_amok_ends_in_an_error_and_nothing_else_notices() {
    isolated(|| {
        let host = Host::start();
        let cli = host.cli();
        let author = Author::trusted(cli);
        for (id, code) in [("good", GOOD), ("bad", BAD)] {
            install(cli, &author, id, &json!({ "main": url("main.js", "/") }), &[("main.js", code)]);
            cli.run(["package", "activate", id]).ok();
        }
        for (what, expected) in ENDS {
            let said = refused(cli, "bad", &format!("/?what={what}"));
            assert!(said.contains(expected), "{what}: {said}");
            assert_eq!(fetch(cli, "good", "/?n=1"), "good 1", "the one beside it, after {what}");
        }
        assert!(refused(cli, "bad", "/nothing").contains("no urlFunction and no template has this path"));
        assert!(refused(cli, "bad", "/main").contains("no urlFunction and no template has this path"));
        assert!(refused(cli, "bad", "/?what=flood").contains("64 calls wait for an answer already"));
        cli.run(["package", "fetch", "bad", "/?what=proto"]);
        for id in ["good", "bad"] {
            let told = info(cli, id);
            let process = &told["functions"]["process"];
            assert_eq!(
                (&process["state"], &process["restarts"]),
                (&json!("running"), &json!(0)),
                "{id}: {told}"
            );
        }
        for id in ["good", "bad"] {
            cli.run(["package", "disable", id]).ok();
        }
    });
}

/// The process that runs the functions of a package.
fn process(cli: &Cli, id: &str) -> u32 {
    let guid = info(cli, id)["functions"]["process"]["guid"].as_str().unwrap().to_owned();
    let listed = cli.run(["--json", "top", &guid]).ok().json();
    let all = listed["processes"].as_array().or(listed.as_array()).unwrap().clone();
    let found = all.iter().find(|one| one.to_string().contains("functions")).unwrap_or(&all[0]);
    u32::try_from(found["pid"].as_u64().unwrap()).unwrap()
}

#[test]
fn j4_a_process_that_is_killed_ends_its_calls_and_comes_back() {
    isolated(|| {
        let host = Host::start();
        let cli = host.cli();
        let author = Author::trusted(cli);
        for (id, code) in [("good", GOOD), ("bad", BAD)] {
            install(cli, &author, id, &json!({ "main": url("main.js", "/") }), &[("main.js", code)]);
            cli.run(["package", "activate", id]).ok();
        }
        let pid = process(cli, "bad");
        let status = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).unwrap();
        let field = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        assert!(field("Seccomp:").ends_with('2') && field("NoNewPrivs:").ends_with('1'), "{status}");
        assert!(field("CapEff:").ends_with("0000000000000000"), "{status}");
        assert!(!field("Uid:").split_whitespace().any(|id| id == "0"), "{status}");
        std::thread::scope(|scope| {
            let call = scope.spawn(|| refused(cli, "bad", "/?what=loop"));
            std::thread::sleep(Duration::from_millis(500));
            assert!(
                std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success()
            );
            let said = call.join().unwrap();
            assert!(said.contains("its function runner has ended during the call"), "{said}");
        });
        wait_for("why it ended", || {
            cli.run(["package", "status", "bad"]).ok().out().contains("SIGKILL has ended it")
        });
        let start = Instant::now();
        wait_for("its next start", || info(cli, "bad")["functions"]["process"]["state"] == "running");
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        assert!(refused(cli, "bad", "/?what=throws").contains("RangeError: on purpose"));
        assert_eq!(info(cli, "bad")["functions"]["process"]["restarts"], 1);
        assert_eq!(info(cli, "good")["functions"]["process"]["restarts"], 0);
        assert_eq!(fetch(cli, "good", "/?n=1"), "good 1");
        for id in ["good", "bad"] {
            cli.run(["package", "disable", id]).ok();
        }
    });
}

/// Counts how often it has run.
const TICK: &str = r#"
export default async function ({ scheduledTime }, host) {
  if ((await host.kv("notes").get("fail")).value) throw new TypeError("as it was told");
  await host.kv("notes").update("ticks", (ticks = 0) => ticks + 1);
  const slow = (await host.kv("notes").get("slow")).value;
  if (slow) await new Promise((done) => setTimeout(done, slow));
  console.log("ticked", typeof scheduledTime);
}
"#;

const KEYS: &str = r#"
export default async function (request, host) {
  if (request.method === "PUT") await host.kv("notes").set(request.query.key, await request.json());
  return Response.json((await host.kv("notes").get(request.query.key)).value ?? null);
}
"#;

fn set(cli: &Cli, key: &str, value: &Value) {
    let path = format!("/keys?key={key}");
    cli.run(["package", "fetch", "notes", &path, "-X", "PUT", "--data", &value.to_string()]).ok();
}

#[test]
fn t1_a_function_runs_when_it_is_due_and_when_it_is_asked_to() {
    isolated(|| {
        let host = Host::start();
        let cli = host.cli();
        let author = Author::trusted(cli);
        let tick = json!({ "scheduledFunction": { "function": "entries/tick.js", "schedule": "* * * * *" } });
        let entries = json!({ "tick": tick, "keys": url("keys.js", "/keys") });
        install(cli, &author, "notes", &entries, &[("tick.js", TICK), ("keys.js", KEYS)]);
        cli.run(["package", "activate", "notes"]).ok();
        let begun = Instant::now();
        let scheduled = || info(cli, "notes")["functions"]["scheduled"][0].clone();
        wait_for("its next time", || scheduled()["next"].as_u64().is_some());

        let ran = cli.run(["--json", "package", "run", "notes", "tick"]).ok().json();
        assert_eq!((&ran["outcome"]["kind"], &ran["error"]), (&json!("exit"), &Value::Null), "{ran}");
        assert!(fetch(cli, "notes", "/keys?key=ticks").parse::<u32>().unwrap() >= 1);

        // Its end is told, whatever it is.
        set(cli, "fail", &json!(true));
        let said = cli.run(["package", "run", "notes", "tick"]).failed(125);
        assert!(said.contains("TypeError: as it was told"), "{said}");
        let status = cli.run(["package", "status", "notes"]).ok().out();
        assert!(
            status.contains("scheduled  tick (* * * * *): failed") && status.contains("as it was told"),
            "{status}"
        );
        let events = cli.run(["events"]).ok().out();
        assert!(events.contains("tick of notes has run"), "{events}");
        assert!(events.contains("tick of notes has failed: "), "{events}");
        set(cli, "fail", &json!(false));

        // Not twice at a time.
        set(cli, "slow", &json!(3000));
        std::thread::scope(|scope| {
            scope.spawn(|| cli.run(["package", "run", "notes", "tick"]));
            wait_for("its run", || scheduled()["last"]["running"] == json!(true));
            let said = cli.run(["package", "run", "notes", "tick"]).failed(125);
            assert!(said.contains("it runs already"), "{said}");
        });
        set(cli, "slow", &json!(0));
        assert!(cli.run(["package", "run", "notes", "keys"]).failed(125).contains("find job keys"));

        // By itself, when the minute is full.
        let so_far = scheduled()["last"]["runs"].as_u64().unwrap();
        while scheduled()["last"]["runs"].as_u64().unwrap() == so_far {
            assert!(begun.elapsed() < Duration::from_secs(150), "{}", scheduled());
            std::thread::sleep(Duration::from_millis(500));
        }
        wait_for("its end", || scheduled()["last"]["running"] == json!(false));
        assert_eq!(scheduled()["last"]["error"], Value::Null, "{}", scheduled());
        cli.run(["package", "disable", "notes"]).ok();
        assert_eq!(scheduled()["next"], Value::Null);
    });
}

const PAGE: &str = "<h1>{{ kv:notes/title }}</h1>{{ path }} {{ query.q }}\n\
    {% for note in kv:notes/all %}<li>{{ note.text }}</li>{% else %}none{% endfor %}";

#[test]
fn t2_a_template_is_filled_in_with_what_is_the_packages_own() {
    isolated(|| {
        let host = Host::start();
        let cli = host.cli();
        let author = Author::trusted(cli);
        let page = |name: &str, path: &str| json!({ "template": { "file": format!("entries/{name}.html"), "path": path } });
        let entries = json!({
            "page": page("page", "/"), "other": page("other", "/other"), "system": page("system", "/system"),
            "endless": page("endless", "/endless"), "large": page("large", "/large"),
            "keys": url("keys.js", "/keys"),
        });
        let files = [
            ("page.html", PAGE),
            ("other.html", "{{ kv:others/secret }}"),
            ("system.html", "{{ kv:_system/a }}"),
            (
                "endless.html",
                "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}",
            ),
            ("large.html", "{% for a in range(9000) %}{{ 'x' * 9000 }}{% endfor %}"),
            ("keys.js", KEYS),
        ];
        install(cli, &author, "notes", &entries, &files);
        cli.run(["package", "activate", "notes"]).ok();
        set(cli, "title", &json!("<script>"));
        assert_eq!(fetch(cli, "notes", "/?q=a"), "<h1>&lt;script&gt;</h1>&#x2f; a\nnone");
        set(cli, "all", &json!([{ "text": "a & b" }, { "text": "'" }]));
        let expected = "<h1>&lt;script&gt;</h1>&#x2f; &lt;b&gt;\n<li>a &amp; b</li><li>&#x27;</li>";
        assert_eq!(fetch(cli, "notes", "/?q=%3Cb%3E"), expected);
        let said = cli.run(["package", "fetch", "notes", "/", "-i"]).ok().out();
        assert!(said.starts_with("200\ncontent-type: text/html; charset=utf-8\n"), "{said}");
        let said = cli.run(["--json", "package", "fetch", "notes", "/", "-X", "DELETE"]);
        assert!(said.out().contains("405"), "{}", said.out());
        for (path, expected) in [
            ("/other", "kv:others/secret"),
            ("/system", "kv:_system/a"),
            ("/endless", "fuel"),
            ("/large", "longer than 4194304 bytes"),
        ] {
            let said = refused(cli, "notes", path);
            assert!(said.contains(expected), "{path}: {said}");
        }
        let lines = cli.run(["package", "audit", "notes"]).ok().out();
        assert!(lines.contains("denied"), "{lines}");
        assert_eq!(info(cli, "notes")["functions"]["process"]["restarts"], 0);
        let wrong = json!({ "page": page("page", "/") });
        install(cli, &author, "wrong", &wrong, &[("page.html", "a\n{% for %}")]);
        let said = cli.run(["package", "activate", "wrong"]).failed(125);
        assert!(said.contains("syntax error") && said.contains("entries/page.html:2"), "{said}");
        cli.run(["package", "disable", "notes"]).ok();
    });
}
