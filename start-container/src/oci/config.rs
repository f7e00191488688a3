//! `config.json`: read, completed, checked. What is wrong with it is said with the name of the field.

use std::path::Path;

use oci_spec::runtime::{Capability, LinuxNamespaceType as Ns, Process, Spec};
use protocol::ErrorKind;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::log::Log;
use crate::error::{Failure, Result};

/// Reads the Spec of a bundle.
pub(super) fn read(bundle: &Path, log: &Log) -> Result<Spec> {
    let path = bundle.join("config.json");
    let mut value = read_json(&path)?;
    complete(&mut value, log);
    let spec: Spec = typed(&path, value)?;
    check(&spec)?;
    Ok(spec)
}

/// Reads an OCI `process`.
pub(super) fn read_process(path: &Path, log: &Log) -> Result<Process> {
    let mut value = read_json(path)?;
    complete_process(&mut value, log);
    let process: Process = typed(path, value)?;
    check_process(&process)?;
    Ok(process)
}

/// Reads a value from a file, or from standard input if that is named `-`.
pub(super) fn read_json(path: &Path) -> Result<Value> {
    let fail =
        |error: std::io::Error| Failure::new(ErrorKind::NotFound, "read", path.display()).because(error);
    let text = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin()).map_err(fail)?
    } else {
        std::fs::read_to_string(path).map_err(fail)?
    };
    serde_json::from_str(&text)
        .map_err(|error| Failure::new(ErrorKind::Invalid, "parse", path.display()).because(error))
}

/// A value as a type, or the field that is not.
pub(super) fn typed<T: DeserializeOwned>(path: &Path, value: Value) -> Result<T> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let field = error.path().to_string();
        Failure::new(ErrorKind::Invalid, format!("parse {}: field", path.display()), field)
            .because(error.into_inner())
    })
}

/// What may be left out, and what is left out when nobody knows it.
fn complete(value: &mut Value, log: &Log) {
    if let Some(process) = value.get_mut("process").filter(|process| !process.is_null()) {
        complete_process(process, log);
    }
    let calls = value.pointer_mut("/linux/seccomp/syscalls").and_then(Value::as_array_mut);
    for rule in calls.into_iter().flatten() {
        // Some write an errno with every action.
        let errno = rule.get("action").and_then(Value::as_str);
        if !matches!(errno, Some("SCMP_ACT_ERRNO" | "SCMP_ACT_TRACE"))
            && let Some(rule) = rule.as_object_mut()
        {
            rule.remove("errnoRet");
        }
    }
    nulls(value);
}

fn complete_process(process: &mut Value, log: &Log) {
    let Some(object) = process.as_object_mut() else { return };
    object.entry("user").or_insert_with(|| Value::Object(Map::new()));
    object.entry("cwd").or_insert_with(|| Value::String(String::new()));
    // A capability of a newer kernel is not one that can be given here.
    let sets = object.get_mut("capabilities").and_then(Value::as_object_mut);
    for (set, names) in sets.into_iter().flatten() {
        let Some(names) = names.as_array_mut() else { continue };
        names.retain(|name| {
            let known = serde_json::from_value::<Capability>(name.clone()).is_ok();
            if !known {
                log.warn(&format!("process.capabilities.{set}: {name} is ignored, nobody knows it"));
            }
            known
        });
    }
    nulls(process);
}

/// Go writes absent lists as null.
fn nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(nulls),
        _ => {}
    }
}

fn check(spec: &Spec) -> Result<()> {
    let version = spec.version();
    if version.is_empty() {
        return Err(invalid("ociVersion", "missing"));
    }
    if version.split('.').next() != Some("1") {
        return Err(invalid("ociVersion", &format!("{version} is not supported")));
    }
    let root = spec.root().as_ref().ok_or_else(|| invalid("root", "missing"))?;
    if root.path().as_os_str().is_empty() {
        return Err(invalid("root.path", "empty"));
    }
    let process = spec.process().as_ref().ok_or_else(|| invalid("process", "missing"))?;
    check_process(process)?;
    if let Some(linux) = spec.linux() {
        // Refused, not dropped: what was asked for would not hold.
        if linux.intel_rdt().is_some() {
            return Err(invalid("linux.intelRdt", "is not supported"));
        }
        if linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty()) {
            return Err(invalid("linux.netDevices", "is not supported"));
        }
    }
    let has = |typ: Ns| {
        let namespaces = spec.linux().iter().flat_map(|linux| linux.namespaces().iter().flatten());
        namespaces.into_iter().any(|namespace| namespace.typ() == typ)
    };
    if spec.hostname().as_ref().is_some_and(|name| !name.is_empty()) && !has(Ns::Uts) {
        return Err(invalid("hostname", "needs a uts namespace"));
    }
    if spec.domainname().as_ref().is_some_and(|name| !name.is_empty()) && !has(Ns::Uts) {
        return Err(invalid("domainname", "needs a uts namespace"));
    }
    Ok(())
}

fn check_process(process: &Process) -> Result<()> {
    if process.args().as_ref().is_none_or(|args| args.is_empty()) {
        return Err(invalid("process.args", "empty"));
    }
    if !process.cwd().is_absolute() {
        return Err(invalid("process.cwd", &format!("{:?} is not an absolute path", process.cwd())));
    }
    for entry in process.env().iter().flatten() {
        if entry.contains('\0') {
            return Err(invalid("process.env", "holds a NUL byte"));
        }
    }
    let mut seen = Vec::new();
    for (index, limit) in process.rlimits().iter().flatten().enumerate() {
        if seen.contains(&limit.typ()) {
            return Err(invalid(
                &format!("process.rlimits[{index}].type"),
                &format!("{} is there twice", limit.typ()),
            ));
        }
        if limit.soft() > limit.hard() {
            return Err(invalid(&format!("process.rlimits[{index}].soft"), "is above the hard limit"));
        }
        seen.push(limit.typ());
    }
    Ok(())
}

/// A field that makes no sense.
pub(super) fn invalid(field: &str, what: &str) -> Failure {
    Failure::new(ErrorKind::Invalid, format!("read config {field}:"), what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn log() -> Log {
        Log::open(None, super::super::log::Format::Text).unwrap()
    }

    fn refused(change: impl FnOnce(&mut Value)) -> String {
        let mut value = json!({
            "ociVersion": "1.2.0", "root": {"path": "rootfs"},
            "process": {"args": ["true"], "cwd": "/"}, "linux": {}
        });
        change(&mut value);
        complete(&mut value, &log());
        let spec = typed::<Spec>(Path::new("config.json"), value);
        spec.and_then(|spec| check(&spec)).unwrap_err().sentence()
    }

    #[test]
    fn o1_what_is_wrong_is_said_with_the_name_of_the_field() {
        let cases: [(&str, Value, &str); 7] = [
            ("/process/args", json!([]), "process.args: empty"),
            ("/process/cwd", json!("here"), "process.cwd:"),
            ("/process/args", json!("true"), "field process.args"),
            ("/linux", json!({"namespaces": [{"type": "pid"}, {"type": "pdi"}]}), "linux.namespaces[1].type"),
            ("/ociVersion", json!("2.0.0"), "ociVersion: 2.0.0"),
            ("/root/path", json!(""), "root.path: empty"),
            ("/linux", json!({"resources": {"memory": {"limit": "1g"}}}), "linux.resources.memory.limit"),
        ];
        for (place, value, said) in cases {
            let sentence = refused(|config| *config.pointer_mut(place).unwrap() = value);
            assert!(sentence.contains(said), "{place}: {sentence}");
        }
    }

    #[test]
    fn o1_a_capability_that_nobody_knows_is_left_out() {
        let mut process =
            json!({"args": ["true"], "cwd": "/", "capabilities": {"bounding": ["CAP_KILL", "CAP_FLY"]}});
        complete_process(&mut process, &log());
        assert_eq!(process["capabilities"]["bounding"], json!(["CAP_KILL"]));
    }
}
