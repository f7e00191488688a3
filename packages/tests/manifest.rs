//! Manifests as people write them, and as they should not.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use packages::Manifest;
use packages::manifest::{Fault, Syntax};

const YAML: &str = "\
manifest: 1
id: com.example.notes
name: Notes
version: 1.2.3
dependencies:
  postgres:
    version: ^16
    volumes: [shared]
    reason: Keeps the notes
images:
  web:
    file: images/web.tar
  db:
    reference: docker.io/library/postgres@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
volumes:
  main: {}
entries:
  web:
    service:
      program:
        image: web
        command: [serve, --port, '80']
        env: { MODE: production }
        mounts:
          - { path: /data, from: { volume: main } }
          - { path: /www, from: { assets: assets/www } }
          - { path: /db, from: { dependency: { package: postgres, volume: shared } }, readonly: true }
      ports:
        http: { port: 80 }
  worker:
    worker: { script: entries/main.js }
  dump:
    job:
      program: { image: db, command: [pg_dump] }
  api:
    route: { path: /api, to: web, port: http }
capabilities:
  http:egress:
    reason: Looks for new versions
    hosts: ['api.example.com:443']
  kv:read: { reason: Its settings, groups: [settings], optional: true }
limits: { memoryBytes: 268435456 }
health:
  web: { entry: web, probe: { http: { port: http, path: /health } } }
backup: { volumes: [main], before: dump }
";

fn yaml(text: &str) -> Result<Manifest, Fault> {
    Manifest::read(text.as_bytes(), Syntax::Yaml)
}

fn json(text: &str) -> Result<Manifest, Fault> {
    Manifest::read(text.as_bytes(), Syntax::Json)
}

#[test]
fn p1_a_manifest_means_the_same_in_yaml_and_json() {
    let manifest = yaml(YAML).unwrap();
    assert_eq!(json(&manifest.to_json()).unwrap(), manifest);
    assert_eq!(manifest.capabilities.asked().len(), 2);
}

/// Each change of the good manifest, where it must be found, and a word of what must be said.
#[test]
fn p2_what_is_wrong_is_told_with_its_field_and_line() {
    let cases = [
        ("name: Notes", "nmae: Notes", "", true, "unknown field"),
        ("memoryBytes", "memoryByts", "limits.memoryByts", true, "unknown field"),
        ("http:egress:", "http:egres:", "capabilities.http:egres", true, "unknown field"),
        ("hosts: ['api.example.com:443']", "hosts: []", "capabilities.http:egress.hosts", true, "empty list"),
        (
            "hosts: ['api.example.com:443']",
            "hosts: ['*:443']",
            "capabilities.http:egress.hosts[0]",
            true,
            "host and port",
        ),
        (
            "reason: Looks for new versions",
            "optional: false",
            "capabilities.http:egress",
            true,
            "missing field `reason`",
        ),
        ("version: 1.2.3", "version: one", "version", true, "unexpected character"),
        ("id: com.example.notes", "id: ../../etc", "id", true, "package id"),
        ("image: web\n", "image: wob\n", "entries.web.service.program.image", true, "not among the images"),
        (
            "volume: main } }",
            "volume: mian } }",
            "entries.web.service.program.mounts[0].from",
            true,
            "not among the volumes",
        ),
        (
            "volumes: [shared]",
            "volumes: []",
            "entries.web.service.program.mounts[2].from.dependency",
            false,
            "shared",
        ),
        ("file: images/web.tar", "file: web.tar", "images.web.file", true, "beneath images/"),
        ("@sha256:e3b0", ":16#", "images.db.reference", true, "@sha256"),
        (
            "reason: Looks for new versions",
            "reason: \"a\\e[2J\"",
            "capabilities.http:egress.reason",
            true,
            "line of text",
        ),
        ("before: dump", "before: web", "backup.before", true, "no job"),
        ("port: http }\ncap", "port: htpp }\ncap", "entries.api.route.port", false, "no port"),
        ("manifest: 1", "manifest: 2", "manifest", true, "form 1"),
        ("  main: {}\n", "  main: {}\n  main: {}\n", "volumes", true, ""),
        ("    service:\n", "    servant:\n", "entries.web", true, "unknown variant"),
    ];
    for (from, to, field, placed, word) in cases {
        assert_eq!(YAML.matches(from).count(), 1, "{from}");
        let fault = yaml(&YAML.replace(from, to)).unwrap_err();
        assert!(fault.field.starts_with(field), "{to}: {fault:?}");
        assert!(fault.reason.contains(word), "{to}: {fault:?}");
        if placed {
            let text = YAML.replace(from, to);
            let line = text[..text.find(to).unwrap()].matches('\n').count() as u64 + 1;
            let found = fault.place.map_or(0, |(line, _)| line);
            assert!((line..line + 2).contains(&found), "{to}: line {line}: {fault:?}");
        }
    }
}

#[test]
fn p2_json_faults_have_line_and_column_too() {
    let fault = json("{\n  \"manifest\": 1,\n  \"id\": \"A\"\n}").unwrap_err();
    assert_eq!((fault.field.as_str(), fault.place), ("id", Some((3, 4))));
    for (bad, word) in [
        (r#"{"manifest":1,"id":"a","id":"b","name":"n","version":"1.0.0"}"#, "duplicate field"),
        (r#"{"manifest":1,"id":"a","name":"n","version":"1.0.0","volumes":{"v":{},"v":{}}}"#, "twice"),
        (r#"{"manifest":1,"id":"a","name":"n","version":"1.0.0"} {}"#, "follows"),
        (r#"{"manifest":1,"id":"a","name":"n","version":"1.0.0","backup":{"volumes":[]}}"#, "empty"),
        (r#"{"manifest":1,"id":"a","name":"a\nb","version":"1.0.0"}"#, "line of text"),
        ("", "EOF"),
        ("null", "invalid type"),
    ] {
        let fault = json(bad).unwrap_err();
        assert!(fault.reason.contains(word), "{bad}: {fault}");
    }
    assert!(json(&"[".repeat(100_000)).is_err());
}

#[test]
fn p2_yaml_that_grows_as_it_is_read_is_refused() {
    let bomb = "manifest: 1\nid: &a a\nname: *a\nversion: 1.0.0\n";
    assert!(yaml(bomb).is_err(), "an anchor");
    assert!(yaml(&format!("{YAML}---\n{YAML}")).is_err(), "two documents");
    assert!(yaml(&"- ".repeat(100_000)).is_err(), "depth");
    assert!(yaml(&YAML.replace("name: Notes", "name: !include /etc/passwd")).is_err(), "a tag");
    assert!(Manifest::read(&vec![b' '; 2 << 20], Syntax::Yaml).is_err(), "size");
    assert!(Manifest::read(b"\xff\xfe", Syntax::Yaml).is_err(), "no UTF-8");
}

#[test]
fn p4_entries_that_require_each_other_in_a_circle_are_refused() {
    let service =
        |requires: &str| format!("{{ service: {{ program: {{ image: web }}, requires: [{requires}] }} }}");
    let text = |a: &str, b: &str| {
        format!(
            "manifest: 1\nid: a\nname: n\nversion: 1.0.0\nimages: {{ web: {{ file: images/w }} }}\nentries:\n  a: {}\n  b: {}\n",
            service(a),
            service(b)
        )
    };
    yaml(&text("b", "")).unwrap();
    assert!(yaml(&text("b", "a")).unwrap_err().reason.contains("requires itself"));
    assert!(yaml(&text("a", "")).unwrap_err().reason.contains("requires itself"));
}

#[test]
fn s15_a_pointer_mounts_only_what_the_manifest_declares_as_a_dependency() {
    let good = yaml(YAML).unwrap();
    let pointer = |package: &str, volume: &str| packages::manifest::entry::Pointer {
        package: package.parse().unwrap(),
        volume: volume.parse().unwrap(),
    };
    assert!(good.may_point_to(&pointer("postgres", "shared")));
    assert!(!good.may_point_to(&pointer("postgres", "main")));
    assert!(!good.may_point_to(&pointer("mysql", "shared")));
}

#[test]
fn b6_a_command_shows_what_it_is() {
    let asks = |command: &str| {
        json(&format!(
            r#"{{"manifest":1,"id":"a","name":"n","version":"1.0.0","capabilities":{{
                "process:run":{{"reason":"r","commands":[{command}]}}}}}}"#
        ))
    };
    asks(r#"["pg_dump", "-Fc", ""]"#).unwrap();
    for bad in ["[]", r#"[""]"#, r#"["a\u202eb"]"#, r#"["a\u001b[2J"]"#, r#"["a", "b\n"]"#] {
        assert!(asks(bad).is_err(), "{bad}");
    }
}
