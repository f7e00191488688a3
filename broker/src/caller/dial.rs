//! `net.connect`: a connection to the outside, whose bytes the host carries. It goes through the same guard as requests do.

use std::sync::Arc;
use std::time::Duration;

use protocol::broker::NetConnectParams;
use tokio::net::TcpStream;

use super::{Caller, kind};
use crate::capability::Capability;
use crate::egress::{self, Target};
use crate::error::{Error, Result};
use crate::grants::{Item, Need};
use crate::meter::Class;

/// Milliseconds that connecting takes at most.
const MAX_TIME: u32 = 30_000;

impl Caller {
    /// Connects to a host and port that were granted. It is written down when the connection is there, or is not.
    ///
    /// # Errors
    /// As any call.
    pub async fn dial(self: &Arc<Self>, params: &str) -> Result<TcpStream> {
        let call: NetConnectParams = self.params(params)?;
        let need = Need { capability: Capability::Net, item: Item::One("hosts", &call.to) };
        let (line, kind) = (self.line("net.connect", &need, String::new()), kind(&need));
        let target = match call.to.parse::<Target>() {
            Ok(target) => target,
            Err(error) => {
                let error = Error::Invalid(format!("{}: {error}", call.to));
                return Err(self.refused(line, kind, error).await);
            }
        };
        let grants = self.grants();
        if let Err(error) = self.allow(&grants, &need, &kind, Class::Act, Ok(()), || Ok(())) {
            return Err(self.refused(line, kind, error).await);
        }
        let within = Duration::from_millis(call.timeout.unwrap_or(MAX_TIME).min(MAX_TIME).into());
        let dialled = {
            let _slot = self.standing.acts.acquire().await;
            self.guard().dial(&egress::Grants::new([call.to.as_str()]), &target, within).await
        };
        match dialled {
            Ok(stream) => {
                self.came(kind, None);
                self.broker.ledger.commit(line, None).await?;
                Ok(stream)
            }
            Err(error) => Err(self.refused(line, kind, error.into()).await),
        }
    }
}
