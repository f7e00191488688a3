//! TypeScript declarations of every type that a message carries.

use std::any::{TypeId, type_name};
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use ts_rs::{Config, TS, TypeVisitor};

use super::{
    ERROR_DATA, METHODS, Method, NOTIFICATIONS, Notification, PACKAGE_METHODS, SHARED_METHODS,
    WORKER_METHODS, WORKER_NOTIFICATIONS,
};
use crate::broker::MAX_PACKAGE_LINE;
use crate::error::{REQUEST_CANCELLED, REQUEST_FAILED};
use crate::{MAX_LINE, PROTOCOL_VERSION};

/// The declarations collected so far, by module of this crate and name.
#[derive(Default)]
pub(super) struct Declarations {
    seen: HashSet<TypeId>,
    modules: BTreeMap<&'static str, BTreeMap<String, String>>,
}

impl TypeVisitor for Declarations {
    fn visit<T: TS + 'static + ?Sized>(&mut self) {
        // Only a type of this crate has a declaration; ts-rs writes a vector or a string in place.
        if !self.seen.insert(TypeId::of::<T>()) || T::output_path().is_none() {
            T::visit_generics(self);
            return;
        }
        let module = type_name::<T>().split("::").nth(1).unwrap_or("protocol");
        let mut text = comment(T::docs().as_deref().unwrap_or_default());
        text.push_str("export ");
        text.push_str(&spread(&T::decl(&config())));
        text.push('\n');
        self.modules.entry(module).or_default().insert(T::ident(&config()), text);
        T::visit_dependencies(self);
        T::visit_generics(self);
    }
}

/// Collects a type and all that it is made of.
pub(super) fn visit<T: TS + 'static>(declarations: &mut Declarations) {
    declarations.visit::<T>();
}

/// A type's name in TypeScript.
pub(super) fn name<T: TS + 'static>() -> String {
    T::name(&config())
}

/// Counts, sizes and times stay below 2^53; a bigint would be one more thing to trip over.
fn config() -> Config {
    Config::new().with_large_int("number")
}

/// The whole file.
///
/// # Panics
/// Never: writing to a string cannot fail.
#[must_use]
pub fn typescript() -> String {
    let mut declarations = Declarations::default();
    for method in METHODS.iter().chain(PACKAGE_METHODS).chain(WORKER_METHODS) {
        (method.params.visit)(&mut declarations);
        (method.result.visit)(&mut declarations);
    }
    for notification in NOTIFICATIONS.iter().chain(WORKER_NOTIFICATIONS) {
        (notification.params.visit)(&mut declarations);
    }
    (ERROR_DATA.visit)(&mut declarations);

    let mut out = String::from("// Generated from protocol/ by `cargo xtask schema`. Do not edit.\n\n");
    let constants = [
        ("The version of this protocol.", "PROTOCOL_VERSION", i64::from(PROTOCOL_VERSION)),
        (
            "The longest line, in bytes without its newline, that either side accepts.",
            "MAX_LINE",
            i64::try_from(MAX_LINE).unwrap_or(i64::MAX),
        ),
        (
            "The longest line on the socket of a package.",
            "MAX_PACKAGE_LINE",
            i64::try_from(MAX_PACKAGE_LINE).unwrap_or(i64::MAX),
        ),
        ("The request was cancelled.", "REQUEST_CANCELLED", i64::from(REQUEST_CANCELLED)),
        ("The request could not be carried out.", "REQUEST_FAILED", i64::from(REQUEST_FAILED)),
    ];
    for (doc, name, value) in constants {
        push(&mut out, format_args!("/** {doc} */\nexport const {name} = {value} as const;\n\n"));
    }
    for (module, types) in &declarations.modules {
        push(&mut out, format_args!("// {module}\n\n"));
        for text in types.values() {
            out.push_str(text);
            out.push('\n');
        }
    }
    out.push_str("// methods\n\n/** Every request: what it takes and what it answers. */\n");
    out.push_str("export type Methods = ");
    methods(&mut out, METHODS);
    out.push_str("\n/** Those that the socket of a package has, too. */\nexport type SharedMethods = Pick<\n  Methods,\n");
    for name in SHARED_METHODS {
        push(&mut out, format_args!("  | {}\n", key(name)));
    }
    out.push_str(
        ">;\n\n/** Every request on the socket of a package: what it takes and what it answers. */\n",
    );
    out.push_str("export type PackageMethods = SharedMethods & ");
    methods(&mut out, PACKAGE_METHODS);
    out.push_str("\n/** Every request of the host to a worker: what it takes and what it answers. */\n");
    out.push_str("export type WorkerMethods = ");
    methods(&mut out, WORKER_METHODS);
    out.push_str("\n/** Every notification: what it carries. */\n");
    notifications(&mut out, "Notifications", NOTIFICATIONS);
    out.push_str("\n/** Every notification of a worker to the host: what it carries. */\n");
    notifications(&mut out, "WorkerNotifications", WORKER_NOTIFICATIONS);
    out
}

fn notifications(out: &mut String, name: &str, notifications: &[Notification]) {
    push(out, format_args!("export type {name} = {{\n"));
    for notification in notifications {
        push(
            out,
            format_args!(
                "  /** {} */\n  {}: {};\n",
                notification.doc,
                key(notification.name),
                (notification.params.name)()
            ),
        );
    }
    out.push_str("};\n");
}

fn methods(out: &mut String, methods: &[Method]) {
    out.push_str("{\n");
    for method in methods {
        push(
            out,
            format_args!(
                "  /** {} */\n  {}: {{ params: {}; result: {} }};\n",
                method.doc,
                key(method.name),
                (method.params.name)(),
                (method.result.name)(),
            ),
        );
    }
    out.push_str("};\n");
}

fn push(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    out.write_fmt(arguments).unwrap_or_default();
}

fn key(name: &str) -> String {
    if name.chars().all(char::is_alphanumeric) { name.to_owned() } else { format!("\"{name}\"") }
}

fn comment(docs: &str) -> String {
    docs.trim_start().to_owned()
}

/// Puts each member of an object type, which ts-rs writes in one line, on a line of its own.
fn spread(declaration: &str) -> String {
    let mut out = String::new();
    let mut depth = 0_usize;
    // Of tuples and parameters of types, whose commas are their own.
    let mut within = 0_usize;
    let mut rest = declaration;
    while let Some(first) = rest.chars().next() {
        if rest.starts_with("/*") {
            let end = rest.find("*/").map_or(rest.len(), |at| at + 2);
            let lines: Vec<&str> = rest[..end].lines().map(str::trim).collect();
            let indent = "  ".repeat(depth);
            match lines.as_slice() {
                ["/**", one, "*/"] => out.push_str(&format!("/** {} */", one.trim_start_matches("* "))),
                lines => out.push_str(&lines.join(&format!("\n{indent} "))),
            }
            out.push('\n');
            out.push_str(&indent);
            rest = rest[end..].trim_start();
            continue;
        }
        rest = &rest[first.len_utf8()..];
        match first {
            '{' => {
                depth += 1;
                out.push('{');
                newline(&mut out, depth);
                rest = rest.trim_start();
            }
            '}' => {
                depth -= 1;
                while out.ends_with([' ', '\n']) {
                    out.pop();
                }
                if out.ends_with(',') {
                    out.pop();
                    out.push(';');
                } else if !out.ends_with(['{', ';']) {
                    out.push(';');
                }
                if out.ends_with('{') {
                    out.push('}');
                } else {
                    newline(&mut out, depth);
                    out.push('}');
                }
            }
            '"' => {
                let end = rest.find('"').map_or(rest.len(), |at| at + 1);
                let word = &rest[..end - 1];
                rest = &rest[end..];
                if rest.starts_with(':') && word.chars().all(char::is_alphanumeric) {
                    out.push_str(word);
                } else {
                    push(&mut out, format_args!("\"{word}\""));
                }
            }
            '[' | '<' => {
                within += 1;
                out.push(first);
            }
            ']' | '>' => {
                within = within.saturating_sub(1);
                out.push(first);
            }
            ',' if depth > 0 && within == 0 => {
                out.push(';');
                newline(&mut out, depth);
                rest = rest.trim_start();
            }
            '\n' => {}
            other => out.push(other),
        }
    }
    out
}

fn newline(out: &mut String, depth: usize) {
    out.push('\n');
    out.push_str(&"  ".repeat(depth));
}
