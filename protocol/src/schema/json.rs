//! JSON Schema (draft 2020-12) of every message.

use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};

use super::{ERROR_DATA, METHODS, NOTIFICATIONS};
use crate::PROTOCOL_VERSION;

/// One document: `methods` and `notifications` say what each message carries, `$defs` holds the types.
#[must_use]
pub fn json_schema() -> Value {
    let mut generator = SchemaGenerator::default();
    let methods: Map<String, Value> = METHODS
        .iter()
        .map(|method| {
            let params = (method.params.schema)(&mut generator);
            let result = (method.result.schema)(&mut generator);
            (method.name.to_owned(), json!({ "description": method.doc, "params": params, "result": result }))
        })
        .collect();
    let notifications: Map<String, Value> = NOTIFICATIONS
        .iter()
        .map(|notification| {
            let params = (notification.params.schema)(&mut generator);
            (notification.name.to_owned(), json!({ "description": notification.doc, "params": params }))
        })
        .collect();
    let error = (ERROR_DATA.schema)(&mut generator);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "start-container protocol",
        "protocol": PROTOCOL_VERSION,
        "methods": methods,
        "notifications": notifications,
        "errorData": error,
        "$defs": generator.take_definitions(true),
    })
}
