//! `config.json`: read, completed, checked. What is wrong with it is said with the name of the field.

use std::path::Path;

use network::devices::Device;
use oci_spec::runtime::{Capability, Linux, LinuxNamespaceType as Ns, Process, Spec};
use protocol::ErrorKind;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::log::Log;
use crate::error::{Failure, Result};

/// The program of a container without a process.
pub(super) const NO_PROGRAM: &str = "";

/// Reads the Spec of a bundle.
pub(super) fn read(bundle: &Path, name: Option<&Path>, log: &Log) -> Result<Spec> {
    let path = bundle.join(name.unwrap_or(Path::new("config.json")));
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
    // Only `start` needs one.
    if let Some(spec) = value.as_object_mut()
        && spec.get("process").is_none_or(Value::is_null)
    {
        spec.insert("process".to_owned(), serde_json::json!({"cwd": "/", "args": [NO_PROGRAM]}));
    }
    if let Some(process) = value.get_mut("process") {
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

/// Of entries with one name the last holds, in its place: two of a name in an environment mean what each program
/// likes.
pub(super) fn last_of_each<T>(env: &mut Vec<T>, name: impl Fn(&T) -> Option<&str>) {
    let again: Vec<bool> = (0..env.len())
        .map(|at| {
            let own = name(&env[at]);
            own.is_some() && env[at + 1..].iter().any(|later| name(later) == own)
        })
        .collect();
    let mut again = again.into_iter();
    env.retain(|_| again.next() != Some(true));
}

fn complete_process(process: &mut Value, log: &Log) {
    let Some(object) = process.as_object_mut() else { return };
    object.entry("user").or_insert_with(|| Value::Object(Map::new()));
    object.entry("cwd").or_insert_with(|| Value::String(String::new()));
    if let Some(env) = object.get_mut("env").and_then(Value::as_array_mut) {
        last_of_each(env, |entry| entry.as_str().and_then(|text| text.split_once('=')).map(|(name, _)| name));
    }
    // The library's names for these are not the specification's.
    let flags = object.get_mut("scheduler").and_then(|scheduler| scheduler.get_mut("flags"));
    for flag in flags.and_then(Value::as_array_mut).into_iter().flatten() {
        let other = match flag.as_str() {
            Some("SCHED_FLAG_RESET_ON_FORK") => "SCHED_RESET_ON_FORK",
            Some("SCHED_FLAG_DL_OVERRUN") => "SCHED_FLAG_D_L_OVERRUN",
            _ => continue,
        };
        *flag = Value::from(other);
    }
    // A capability of a newer kernel is not one that can be given here.
    let sets = object.get_mut("capabilities").and_then(Value::as_object_mut);
    let mut unknown = std::collections::BTreeSet::new();
    for (_, names) in sets.into_iter().flatten() {
        let Some(names) = names.as_array_mut() else { continue };
        names.retain(|name| {
            // What is no name at all is refused with the rest.
            let Some(text) = name.as_str() else { return true };
            let known = serde_json::from_value::<Capability>(name.clone()).is_ok();
            if !known {
                unknown.insert(text.to_owned());
            }
            known
        });
    }
    if !unknown.is_empty() {
        let names = unknown.into_iter().collect::<Vec<_>>().join(" ");
        log.warn(&format!("process: ignoring unknown or unavailable capabilities: [{names}]"));
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
        let devices = net_devices(linux);
        for (index, device) in devices.iter().enumerate() {
            let field = format!("linux.netDevices[{}]", device.name);
            for name in [&device.name, &device.inside] {
                if !Device::is_name(name) {
                    return Err(invalid(&field, &format!("{name:?} is no name of a link")));
                }
            }
            if devices[..index].iter().any(|other| other.inside == device.inside) {
                return Err(invalid(&field, &format!("another one is {} inside, too", device.inside)));
            }
            if !linux.namespaces().iter().flatten().any(|one| one.typ() == Ns::Network) {
                return Err(invalid(&field, "needs a network namespace"));
            }
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

/// `linux.netDevices`, in the order of their names.
pub(super) fn net_devices(linux: &Linux) -> Vec<Device> {
    let all = linux.net_devices().iter().flatten();
    let mut devices: Vec<Device> = all
        .map(|(name, device)| {
            let inside = device.name().clone().filter(|inside| !inside.is_empty());
            Device { name: name.clone(), inside: inside.unwrap_or_else(|| name.clone()) }
        })
        .collect();
    devices.sort_by(|one, other| one.name.cmp(&other.name));
    devices
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
        Log::open(None, super::super::log::Format::Text, false).unwrap()
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

    /// Every place in a value that holds a word, a number or a truth, or a list or an object.
    fn places(value: &Value, at: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    found.push(format!("{at}/{key}"));
                    places(value, &format!("{at}/{key}"), found);
                }
            }
            Value::Array(list) => {
                for (index, value) in list.iter().enumerate() {
                    found.push(format!("{at}/{index}"));
                    places(value, &format!("{at}/{index}"), found);
                }
            }
            _ => {}
        }
    }

    #[test]
    fn o1_every_field_of_a_wrong_type_is_named() {
        let hook = json!([{"path": "/x", "args": ["x"], "env": ["A=b"], "timeout": 1}]);
        let whole = json!({
            "hostname": "a", "domainname": "b", "annotations": {"c": "d"},
            "hooks": {"prestart": hook, "createRuntime": hook, "createContainer": hook, "startContainer": hook,
                "poststart": hook, "poststop": hook},
            "mounts": [{"destination": "/m", "type": "bind", "source": "/s", "options": ["bind"],
                "uidMappings": [{"containerID": 0, "hostID": 1, "size": 2}]}],
            "process": {"args": ["true"], "cwd": "/", "terminal": true, "env": ["A=b"], "noNewPrivileges": true,
                "consoleSize": {"height": 1, "width": 2}, "user": {"uid": 1, "gid": 2, "umask": 3, "additionalGids": [4]},
                "capabilities": {"bounding": ["CAP_KILL"], "ambient": ["CAP_KILL"]}, "oomScoreAdj": 5,
                "rlimits": [{"type": "RLIMIT_CORE", "soft": 1, "hard": 2}], "apparmorProfile": "p", "selinuxLabel": "l",
                "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 1},
                "scheduler": {"policy": "SCHED_OTHER", "nice": 1, "flags": ["SCHED_FLAG_RECLAIM"]},
                "execCPUAffinity": {"initial": "0", "final": "1"}},
            "root": {"path": "rootfs", "readonly": true},
            "linux": {"cgroupsPath": "/x", "sysctl": {"a": "b"}, "maskedPaths": ["/a"], "readonlyPaths": ["/b"],
                "namespaces": [{"type": "pid", "path": "/p"}], "timeOffsets": {"monotonic": {"secs": 1, "nanosecs": 2}},
                "uidMappings": [{"containerID": 0, "hostID": 1, "size": 2}], "rootfsPropagation": "slave",
                "devices": [{"path": "/d", "type": "c", "major": 1, "minor": 2, "fileMode": 3, "uid": 4, "gid": 5}],
                "personality": {"domain": "LINUX"}, "intelRdt": {"closID": "c", "schemata": ["L3:0=1"]},
                "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0"}, "netDevices": {"eth0": {"name": "e"}},
                "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
                    "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
                        "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}]},
                "resources": {"devices": [{"allow": true, "type": "c", "major": 1, "minor": 2, "access": "r"}],
                    "memory": {"limit": 1, "swap": 2}, "cpu": {"shares": 1, "quota": 2, "period": 3, "cpus": "0"},
                    "pids": {"limit": 1}, "blockIO": {"weight": 1}, "unified": {"a": "b"},
                    "hugepageLimits": [{"pageSize": "2MB", "limit": 1}]}},
        });
        let mut all = Vec::new();
        places(&whole, "", &mut all);
        assert!(all.len() > 150, "{}", all.len());
        for place in all {
            let sentence = refused(|config| {
                for (key, value) in whole.as_object().unwrap() {
                    config[key] = value.clone();
                }
                let there = config.pointer_mut(&place).unwrap();
                *there = if there.is_string() {
                    json!(["of", "another", "type"])
                } else {
                    json!("of another type")
                };
            });
            let field =
                place.split('/').skip(1).fold(String::new(), |field, part| match part.parse::<u32>() {
                    Ok(index) => format!("{field}[{index}]"),
                    Err(_) if field.is_empty() => part.to_owned(),
                    Err(_) => format!("{field}.{part}"),
                });
            assert!(sentence.contains(&field), "{field}: {sentence}");
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
