//! A filter that somebody wrote, from JSON.

use oci_spec::runtime::LinuxSeccomp;
use serde_json::Value;

use crate::Error;

const FILTER: &[&str] = &[
    "architectures",
    "defaultAction",
    "defaultErrnoRet",
    "flags",
    "listenerMetadata",
    "listenerPath",
    "syscalls",
];
const RULE: &[&str] = &["action", "args", "errnoRet", "names"];
const ARGUMENT: &[&str] = &["index", "op", "value", "valueTwo"];

/// Reads a filter in the form of `linux.seccomp` of the OCI runtime spec.
///
/// # Errors
/// [`Error::Json`], and [`Error::UnknownField`] for what that form does not have. Whether the filter makes sense says
/// [`crate::compile`].
pub fn from_json(json: &[u8]) -> Result<LinuxSeccomp, Error> {
    let value: Value = serde_json::from_slice(json).map_err(Error::Json)?;
    only(&value, FILTER)?;
    for rule in each(&value, "syscalls") {
        only(rule, RULE)?;
        for argument in each(rule, "args") {
            only(argument, ARGUMENT)?;
        }
    }
    serde_json::from_value(value).map_err(Error::Json)
}

fn each<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn only(value: &Value, known: &[&str]) -> Result<(), Error> {
    let mut fields = value.as_object().into_iter().flat_map(serde_json::Map::keys);
    match fields.find(|field| !known.contains(&field.as_str())) {
        Some(field) => Err(Error::UnknownField(field.clone())),
        None => Ok(()),
    }
}
