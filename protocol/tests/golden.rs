//! The golden messages, which the SDK's tests read too, mean the same to both languages.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use protocol::schema::{ERROR_DATA, METHODS, NOTIFICATIONS};
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
    for method in METHODS {
        let exchanges = read(method.name);
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
    let mut seen = BTreeSet::new();
    for message in read("notifications") {
        let notification = NOTIFICATIONS.iter().find(|known| message["method"] == known.name).expect("known");
        seen.insert(notification.name);
        let params = notification.params.reparse(message["params"].clone()).expect(notification.name);
        assert_eq!(params, message["params"]);
    }
    assert_eq!(seen.len(), NOTIFICATIONS.len());
}

#[test]
fn j5_no_golden_file_is_left_over() {
    let known: BTreeSet<String> =
        METHODS.iter().map(|method| method.name.to_owned()).chain(["notifications".to_owned()]).collect();
    let present: BTreeSet<String> = fs::read_dir(golden())
        .expect("golden")
        .map(|entry| entry.expect("entry").path().file_stem().expect("stem").to_string_lossy().into_owned())
        .collect();
    assert_eq!(present, known);
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
