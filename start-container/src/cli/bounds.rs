//! Flags that `subcontainer launch` and `sandbox create` share: networks.

use clap::Args;
use protocol::ErrorKind;
use protocol::network::Network;

use crate::error::{Failure, Result};

#[derive(Debug, Args)]
pub(super) struct Networking {
    /// Its network: "host" (the machine's), "none", "private", or "private:NAME" for one that others are on, too
    /// [default: host; in a sandbox, that one's; of a sandbox, none]
    #[arg(long, value_name = "NETWORK")]
    network: Option<String>,
    /// A name by which others on its private network resolve it
    #[arg(long, value_name = "NAME")]
    network_alias: Vec<String>,
    /// A port of the machine that leads to one of its own, in a private network; 0 for any free one
    #[arg(short, long, value_name = "[ADDRESS:]PORT:PORT[/udp]")]
    publish: Vec<String>,
}

impl Networking {
    /// None: nothing was said.
    pub(super) fn read(&self) -> Result<Option<Network>> {
        let (aliases, publish) = (self.network_alias.clone(), self.publish.clone());
        let refused = |text: &str, why: &'static str| {
            Err(Failure::new(ErrorKind::Invalid, "read network", text).because(std::io::Error::other(why)))
        };
        let Some(text) = self.network.as_deref() else {
            return match publish.is_empty() && aliases.is_empty() {
                true => Ok(None),
                false => refused("(none given)", "ports and names need a private one"),
            };
        };
        let network = match text.split_once(':') {
            None if text == "private" => Network::Private { name: None, aliases, publish },
            Some(("private", name)) => Network::Private { name: Some(name.to_owned()), aliases, publish },
            None if text == "host" => Network::Host,
            None if text == "none" => Network::None,
            _ => return refused(text, "none of host, none, private, private:NAME"),
        };
        let private = matches!(network, Network::Private { .. });
        if !(private || self.publish.is_empty() && self.network_alias.is_empty()) {
            return refused(text, "ports and names need a private one");
        }
        Ok(Some(network))
    }
}
