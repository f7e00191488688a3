//! What package code may ask the host for. One table: a new kind is one line in it and one form of scope.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lists;
use super::words::{AbsolutePath, Domain, Group, HostPort, Line, Name, PackageId};

/// How much harm a package could do with a capability.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Tier {
    /// To itself.
    Low,
    /// To what the scope names.
    Medium,
    /// To the machine or to other packages.
    High,
}

impl std::fmt::Display for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        })
    }
}

pub use protocol::package::{Scope, Scopes};

/// A capability as a manifest asks for it.
pub trait Ask {
    /// Why, in the author's words to the operator.
    fn reason(&self) -> &Line;
    /// Whether the package also works without.
    fn optional(&self) -> bool;
    /// What it reaches.
    fn scope(&self) -> Scope;
}

/// What the table says of one kind of capability.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// `http:egress`.
    pub name: &'static str,
    /// How much harm it could do.
    pub tier: Tier,
    /// What it allows, in one line.
    pub doc: &'static str,
}

macro_rules! scope {
    ($(#[$doc:meta])* $name:ident $({ $(#[$field_doc:meta])* $field:ident: $item:ty => $text:expr })?) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub struct $name {
            /// Why it is needed: shown to the operator who grants it.
            pub reason: Line,
            /// The package also works without it.
            #[serde(default, skip_serializing_if = "std::ops::Not::not")]
            pub optional: bool,
            $(
                $(#[$field_doc])*
                #[serde(deserialize_with = "lists::scope")]
                #[schemars(length(min = 1))]
                pub $field: Vec<$item>,
            )?
        }

        impl Ask for $name {
            fn reason(&self) -> &Line {
                &self.reason
            }

            fn optional(&self) -> bool {
                self.optional
            }

            fn scope(&self) -> Scope {
                Scope::from([$((stringify!($field).to_owned(), self.$field.iter().map($text).collect()))?])
            }
        }
    };
}

scope! {
    /// Nothing to choose: the capability is granted or not.
    Plain
}
scope! {
    /// Hosts and ports, exactly.
    Hosts {
        /// `api.example.com:443`; no wildcards.
        hosts: HostPort => ToString::to_string
    }
}
scope! {
    /// Directories and files, each with what is beneath it.
    Paths {
        /// Absolute, as the package sees them: `/media/startos/volumes/main`.
        paths: AbsolutePath => ToString::to_string
    }
}
scope! {
    /// Groups of keys.
    Groups {
        /// Of this package's own store.
        groups: Group => ToString::to_string
    }
}
scope! {
    /// Commands, each word for word.
    Commands {
        /// Program and arguments.
        commands: Command => Command::to_string
    }
}
scope! {
    /// Names of things of this package's: volumes, tasks, secrets, channels, images.
    Names {
        /// As the manifest or the operator calls them.
        names: Name => ToString::to_string
    }
}
scope! {
    /// Other packages.
    Packages {
        /// Their ids, as `dependencies` name them.
        packages: PackageId => ToString::to_string
    }
}
scope! {
    /// Host names.
    Domains {
        /// In lower case.
        domains: Domain => ToString::to_string
    }
}

/// Program and arguments, in printable characters: an operator must see what is granted.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Command(#[schemars(length(min = 1))] Vec<String>);

impl TryFrom<Vec<String>> for Command {
    type Error = &'static str;

    fn try_from(words: Vec<String>) -> Result<Self, &'static str> {
        if words.first().is_none_or(String::is_empty) {
            return Err("a command begins with a program");
        }
        if !words.iter().flat_map(|word| word.chars()).all(super::words::is_printable) {
            return Err("a command holds no control characters, nor any that turn or hide text");
        }
        Ok(Self(words))
    }
}

impl From<Command> for Vec<String> {
    fn from(command: Command) -> Self {
        command.0
    }
}

impl std::fmt::Display for Command {
    /// As JSON, so that no two commands look the same.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&serde_json::to_string(&self.0).map_err(|_never| std::fmt::Error)?)
    }
}

macro_rules! capabilities {
    ($($field:ident, $name:literal, $form:ident, $tier:ident, $doc:literal;)*) => {
        /// What the package asks for. What is not here, it does not get.
        #[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Capabilities {
            $(
                #[doc = $doc]
                #[serde(rename = $name, skip_serializing_if = "Option::is_none")]
                pub $field: Option<$form>,
            )*
        }

        /// Every kind of capability.
        pub const KINDS: &[Kind] = &[$(Kind { name: $name, tier: Tier::$tier, doc: $doc }),*];

        impl Capabilities {
            /// Those that are asked for, in the order of the table.
            #[must_use]
            pub fn asked(&self) -> Vec<(&'static Kind, &dyn Ask)> {
                let all = [$(self.$field.as_ref().map(|ask| ask as &dyn Ask)),*];
                KINDS.iter().zip(all).filter_map(|(kind, ask)| Some((kind, ask?))).collect()
            }
        }
    };
}

capabilities! {
    audit_read, "audit:read", Plain, Low, "Reads what was written down of this package's own calls.";
    dependencies_read, "dependencies:read", Packages, Low, "Sees whether these dependencies of its own are there, and how they are.";
    http_egress, "http:egress", Hosts, Medium, "Sends HTTP requests to these hosts.";
    kv_read, "kv:read", Groups, Low, "Reads keys of these groups of its own store.";
    kv_write, "kv:write", Groups, Low, "Writes keys of these groups of its own store.";
    log_write, "log:write", Plain, Low, "Writes to the host's log.";
    monitor_read, "monitor:read", Plain, Medium, "Reads what the machine and other packages use.";
    monitor_admin, "monitor:admin", Plain, High, "Changes what is monitored, and who is told.";
    node_read, "node:read", Plain, Medium, "Reads what the machine is like: its size, architecture and versions.";
    node_admin, "node:admin", Plain, High, "Restarts and configures the machine.";
    notify_send, "notify:send", Names, Low, "Sends messages to the operator through these channels.";
    static_read, "static:read", Paths, Low, "Reads these files of its own assets and ui.";
    static_write, "static:write", Paths, Medium, "Changes files that are served to browsers.";
    task_read, "task:read", Plain, Low, "Reads what became of its own jobs.";
    task_run, "task:run", Names, Medium, "Runs these jobs of its own.";
    tunnel_admin, "tunnel:admin", Plain, High, "Makes and removes tunnels to the outside.";
    worker_route, "worker:route", Paths, Medium, "Answers requests for these paths.";
    network_plan, "network:plan", Plain, Medium, "Proposes changes of the machine's network.";
    network_apply, "network:apply", Plain, High, "Carries out changes of the machine's network.";
    ddns_admin, "ddns:admin", Domains, High, "Changes where these names point.";
    files_read, "files:read", Paths, Medium, "Reads files beneath these paths.";
    files_write, "files:write", Paths, Medium, "Writes and deletes files beneath these paths.";
    process_run, "process:run", Commands, Medium, "Runs these commands in its own sandbox.";
    net, "net", Hosts, Medium, "Opens connections to these hosts, of any protocol.";
    subcontainers, "subcontainers", Names, Medium, "Runs subcontainers of these images in its own sandbox.";
    volumes, "volumes", Names, Low, "Sees these volumes of its own, and their room.";
    backups, "backups", Names, Medium, "Reads and replaces these volumes for backups.";
    secrets, "secrets", Names, Medium, "Uses these secrets, which cannot be listed.";
    ui_proxy, "ui-proxy", Paths, Medium, "Passes requests for these paths on to its own services.";
    debug, "debug", Plain, High, "Is debugged: its memory and calls are visible to whoever attaches.";
    plugin_admin, "plugin:admin", Plain, High, "Installs, activates and removes packages.";
}

impl Capabilities {
    /// What is asked for, as scopes.
    #[must_use]
    pub fn scopes(&self) -> Scopes {
        self.asked().into_iter().map(|(kind, ask)| (kind.name.to_owned(), ask.scope())).collect()
    }
}

/// What `asked` has that `granted` does not. Each item is its own: to grant one host is not to grant another.
#[must_use]
pub fn missing(asked: &Scopes, granted: &Scopes) -> Scopes {
    let mut missing = Scopes::new();
    for (name, scope) in asked {
        let Some(has) = granted.get(name) else {
            missing.insert(name.clone(), scope.clone());
            continue;
        };
        for (field, items) in scope {
            let left: BTreeSet<String> = items
                .iter()
                .filter(|item| !has.get(field).is_some_and(|has| covers(field, has, item)))
                .cloned()
                .collect();
            if !left.is_empty() {
                missing.entry(name.clone()).or_default().insert(field.clone(), left);
            }
        }
    }
    missing
}

/// What is asked for and granted: nothing is kept that a new version does not ask for, or it would be granted unasked
/// to the one after.
#[must_use]
pub fn common(asked: &Scopes, granted: &Scopes) -> Scopes {
    let mut common = asked.clone();
    for (name, scope) in missing(asked, granted) {
        if scope.is_empty() {
            common.remove(&name);
            continue;
        }
        let Some(kept) = common.get_mut(&name) else { continue };
        for (field, items) in scope {
            if let Some(kept) = kept.get_mut(&field) {
                kept.retain(|item| !items.contains(item));
            }
        }
        if kept.values().all(BTreeSet::is_empty) {
            common.remove(&name);
        }
    }
    common
}

/// A path covers what is beneath it, by directory boundary; everything else covers itself.
fn covers(field: &str, granted: &BTreeSet<String>, item: &str) -> bool {
    granted.contains(item)
        || field == "paths"
            && granted.iter().any(|path| {
                path == "/" || item.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('/'))
            })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(json: &str) -> Scopes {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn b2_one_grant_of_a_kind_does_not_grant_all_of_that_kind() {
        let asked = scopes(r#"{"http:egress": {"hosts": ["a:443", "b:443"]}, "kv:read": {"groups": ["g"]}}"#);
        let granted = scopes(r#"{"http:egress": {"hosts": ["a:443"]}}"#);
        let left = scopes(r#"{"http:egress": {"hosts": ["b:443"]}, "kv:read": {"groups": ["g"]}}"#);
        assert_eq!(missing(&asked, &granted), left);
    }

    #[test]
    fn b4_an_empty_list_grants_nothing() {
        let asked = scopes(r#"{"files:read": {"paths": ["/a"]}}"#);
        for granted in ["{}", r#"{"files:read": {}}"#, r#"{"files:read": {"paths": []}}"#] {
            assert_eq!(missing(&asked, &scopes(granted)), asked, "{granted}");
        }
    }

    #[test]
    fn b4_a_path_covers_what_is_beneath_it_and_not_what_begins_like_it() {
        let granted = scopes(r#"{"files:read": {"paths": ["/a/b"]}}"#);
        let asks = |path: &str| scopes(&format!(r#"{{"files:read": {{"paths": ["{path}"]}}}}"#));
        for inside in ["/a/b", "/a/b/c"] {
            assert!(missing(&asks(inside), &granted).is_empty(), "{inside}");
        }
        for outside in ["/", "/a", "/a/bc", "/b"] {
            assert!(!missing(&asks(outside), &granted).is_empty(), "{outside}");
        }
    }

    #[test]
    fn b3_every_name_stands_once_in_the_table() {
        let names: BTreeSet<&str> = KINDS.iter().map(|kind| kind.name).collect();
        assert_eq!(names.len(), KINDS.len());
        let promised = "audit:read http:egress kv:read kv:write log:write monitor:read monitor:admin node:read \
            node:admin notify:send static:read static:write task:read task:run tunnel:admin worker:route \
            network:plan network:apply ddns:admin files:read files:write process:run net subcontainers volumes \
            backups secrets ui-proxy debug";
        for name in promised.split_whitespace() {
            assert!(names.contains(name), "{name}");
        }
    }
}
