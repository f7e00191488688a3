//! The golden messages, which the SDK's tests read too, mean the same to both languages.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use protocol::schema::{
    ERROR_DATA, METHODS, Method, NOTIFICATIONS, Notification, PACKAGE_METHODS, WORKER_METHODS,
    WORKER_NOTIFICATIONS,
};
use serde_json::Value;

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn read(name: &str) -> Vec<Value> {
    let path = golden().join(format!("{name}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a sender wrote is still there after parsing; only defaults were added.
fn assert_kept(sent: &Value, understood: &Value, what: &str) {
    match (sent, understood) {
        (Value::Object(sent), Value::Object(understood)) => {
            for (key, value) in sent {
                let kept = understood.get(key).unwrap_or_else(|| panic!("{what}: {key} was lost"));
                assert_kept(value, kept, &format!("{what}.{key}"));
            }
        }
        (Value::Array(sent), Value::Array(understood)) => {
            assert_eq!(sent.len(), understood.len(), "{what}");
            for (index, (sent, understood)) in sent.iter().zip(understood).enumerate() {
                assert_kept(sent, understood, &format!("{what}[{index}]"));
            }
        }
        _ => assert_eq!(sent, understood, "{what}"),
    }
}

#[test]
fn j5_every_golden_request_and_response_survives_a_round_trip() {
    survive(METHODS, "");
}

/// Those that this version only knows by name are alike: one of them stands for all.
fn on_a_packages_socket() -> Vec<&'static Method> {
    let only_named =
        |method: &Method| method.doc.starts_with("Not in this version") && method.name != "monitor.admin";
    PACKAGE_METHODS.iter().filter(|method| !only_named(method)).collect()
}

#[test]
fn j5_so_does_every_one_on_the_socket_of_a_package() {
    survive(on_a_packages_socket(), "package/");
}

#[test]
fn j5_and_every_one_to_a_worker() {
    survive(WORKER_METHODS, "worker/");
}

fn survive(methods: impl IntoIterator<Item = &'static Method>, directory: &str) {
    for method in methods {
        let exchanges = read(&format!("{directory}{}", method.name));
        assert!(!exchanges.is_empty(), "{}", method.name);
        for exchange in exchanges {
            let what = format!("{}: {}", method.name, exchange["note"]);
            assert_eq!(exchange["request"]["method"], method.name);
            assert_eq!(exchange["request"]["id"], exchange["response"]["id"], "{what}");
            let sent = &exchange["request"]["params"];
            let understood =
                method.params.reparse(sent.clone()).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_kept(sent, &understood, &what);
            match exchange["response"].get("error") {
                None => {
                    let sent = &exchange["response"]["result"];
                    let understood = method.result.reparse(sent.clone());
                    assert_kept(sent, &understood.unwrap_or_else(|error| panic!("{what}: {error}")), &what);
                }
                Some(error) => {
                    assert!(error["code"].is_i64() && error["message"].is_string(), "{what}");
                    if let Some(data) = error.get("data") {
                        assert_eq!(&ERROR_DATA.reparse(data.clone()).expect(&what), data);
                    }
                }
            }
        }
    }
}

#[test]
fn j5_every_golden_notification_survives_a_round_trip() {
    notifications(NOTIFICATIONS, "notifications");
    notifications(WORKER_NOTIFICATIONS, "worker/notifications");
}

fn notifications(table: &[Notification], file: &str) {
    let mut seen = BTreeSet::new();
    for message in read(file) {
        let notification = table.iter().find(|known| message["method"] == known.name).expect("known");
        seen.insert(notification.name);
        let params = notification.params.reparse(message["params"].clone()).expect(notification.name);
        assert_eq!(params, message["params"]);
    }
    assert_eq!(seen.len(), table.len());
}

#[test]
fn j5_no_golden_file_is_left_over() {
    let known = METHODS.iter().map(|method| method.name).chain(["notifications", "package", "worker"]);
    left_over(golden(), known.collect());
    let to_workers = WORKER_METHODS.iter().map(|method| method.name).chain(["notifications"]);
    left_over(golden().join("worker"), to_workers.collect());
    left_over(golden().join("package"), on_a_packages_socket().iter().map(|method| method.name).collect());
}

fn left_over(directory: PathBuf, known: BTreeSet<&str>) {
    let name = |entry: std::io::Result<fs::DirEntry>| {
        let name = entry.expect("entry").file_name().to_string_lossy().into_owned();
        name.trim_end_matches(".json").to_owned()
    };
    let present: BTreeSet<String> = fs::read_dir(directory).expect("golden").map(name).collect();
    assert_eq!(present, known.into_iter().map(str::to_owned).collect());
}

#[test]
fn j5_unknown_parameters_are_refused() {
    let exec = METHODS.iter().find(|method| method.name == "subcontainer.exec").expect("exec");
    let error = exec
        .params
        .reparse(serde_json::json!({ "guid": "g", "command": ["true"], "privileged": true }))
        .expect_err("an unknown parameter");
    assert!(error.to_string().contains("privileged"), "{error}");
}

#[test]
fn j5_committed_files_are_what_the_types_say() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    for (path, content) in protocol::schema::files() {
        let committed = fs::read_to_string(root.join(path)).unwrap_or_default();
        assert!(committed == content, "{path} is out of date: run `cargo xtask schema`");
    }
}
