//! Networks of containers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// Which network a container has.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(tag = "mode", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Network {
    /// The machine's.
    #[default]
    Host,
    /// A loopback of its own, and nothing else.
    None,
    /// Addresses of its own on a bridge, a way out through the machine's, and in from it for published ports.
    Private {
        /// Those on a network of one name reach each other, and resolve each other's names. Default: `default`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        name: Option<String>,
        /// Names beside its id by which they do.
        #[serde(default)]
        #[ts(optional, as = "Option<_>")]
        aliases: Vec<String>,
        /// Ports of the machine that lead to its own: `[ADDRESS:]PORT:PORT[/udp]`, 0 for any free one.
        #[serde(default)]
        #[ts(optional, as = "Option<_>")]
        publish: Vec<String>,
    },
}

/// A container's place in a private network.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct NetworkInfo {
    /// The network's name.
    pub name: String,
    /// Its addresses, with the length of the prefix.
    pub addresses: Vec<String>,
    /// Its names there.
    pub names: Vec<String>,
    /// Its published ports, with those that were chosen.
    pub published: Vec<String>,
}
