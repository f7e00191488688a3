//! JSON Schema (draft 2020-12) of every message.

use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};

use super::{
    ERROR_DATA, METHODS, Method, NOTIFICATIONS, Notification, PACKAGE_METHODS, SHARED_METHODS,
    WORKER_METHODS, WORKER_NOTIFICATIONS,
};
use crate::PROTOCOL_VERSION;

/// One document: `methods` and `notifications` say what each message carries, `$defs` holds the types.
#[must_use]
pub fn json_schema() -> Value {
    let mut generator = SchemaGenerator::default();
    let (methods, mut package_methods, worker_methods) = (
        methods(METHODS, &mut generator),
        methods(PACKAGE_METHODS, &mut generator),
        methods(WORKER_METHODS, &mut generator),
    );
    let shared = SHARED_METHODS.iter().filter_map(|name| methods.get_key_value(*name));
    package_methods.extend(shared.map(|(name, method)| (name.clone(), method.clone())));
    let worker_notifications = notifications(WORKER_NOTIFICATIONS, &mut generator);
    let notifications = notifications(NOTIFICATIONS, &mut generator);
    let error = (ERROR_DATA.schema)(&mut generator);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "start-container protocol",
        "protocol": PROTOCOL_VERSION,
        "methods": methods,
        "packageMethods": package_methods,
        "workerMethods": worker_methods,
        "notifications": notifications,
        "workerNotifications": worker_notifications,
        "errorData": error,
        "$defs": generator.take_definitions(true),
    })
}

fn notifications(notifications: &[Notification], generator: &mut SchemaGenerator) -> Map<String, Value> {
    let one = |notification: &Notification| {
        let params = (notification.params.schema)(generator);
        (notification.name.to_owned(), json!({ "description": notification.doc, "params": params }))
    };
    notifications.iter().map(one).collect()
}

fn methods(methods: &[Method], generator: &mut SchemaGenerator) -> Map<String, Value> {
    let one = |method: &Method| {
        let params = (method.params.schema)(generator);
        let result = (method.result.schema)(generator);
        (method.name.to_owned(), json!({ "description": method.doc, "params": params, "result": result }))
    };
    methods.iter().map(one).collect()
}
