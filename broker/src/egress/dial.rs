//! From a target to a connection: one look at its addresses, and the ones that were looked at are dialled.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::error::{Denied, Error, Reason, Result};
use super::machine::{Whose, whose};
use super::target::{Host, Target};
use super::{Grants, Guard, address};

/// Addresses that are tried; all are judged.
const TRIED: usize = 8;
/// More addresses than anybody has who means well.
const MOST: usize = 64;

impl Guard {
    /// Connects to what was granted. Every address of the name is judged, and one that may not be reached denies all: a
    /// name that is in two worlds at once has no good reason to be.
    ///
    /// # Errors
    /// A denial where the target was not granted, or one of its addresses may not be reached; else whatever keeps it from
    /// being reached within the time.
    pub async fn dial(&self, grants: &Grants, target: &Target, within: Duration) -> Result<TcpStream> {
        let deadline = Instant::now() + within;
        if !grants.allow(target) {
            return Err(Error::Denied(Denied { target: target.clone(), reason: Reason::NotGranted }));
        }
        let late = |step| Error::TimedOut { step, subject: target.to_string(), limit: within };
        let addresses = match &target.host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => timeout_at(deadline, self.resolver.resolve(name))
                .await
                .map_err(|_late| late("resolve"))?
                .map_err(Error::failed("resolve", target))?,
        };
        if addresses.len() > MOST {
            return Err(Error::failed("connect to", target)("it has more than 64 addresses"));
        }
        let reachable = self.judge(target, &addresses)?;
        let many = u32::try_from(reachable.len().min(TRIED)).unwrap_or(1);
        let mut why = Error::failed("connect to", target)("it has no address that there is a route to");
        for (tried, address) in reachable.into_iter().take(TRIED).enumerate() {
            let now = Instant::now();
            let left = many.saturating_sub(u32::try_from(tried).unwrap_or(many)).max(1);
            let until = now + deadline.saturating_duration_since(now) / left;
            // The address itself: no name is looked up here.
            match timeout_at(until, TcpStream::connect(SocketAddr::new(address, target.port))).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => why = Error::failed("connect to", target)(error),
                Err(_late) => why = late("connect to"),
            }
        }
        Err(why)
    }

    /// Those of the addresses that there is a way to, when each may be reached.
    fn judge(&self, target: &Target, addresses: &[IpAddr]) -> Result<Vec<IpAddr>> {
        let denied = |reason| Err(Error::Denied(Denied { target: target.clone(), reason }));
        let allowed = |address: &IpAddr| self.private.iter().any(|net| net.contains(address));
        let mut reachable = Vec::new();
        for address in addresses {
            let found = address::judge(*address).into_iter().find(|(inner, _)| !allowed(inner));
            if let Some((address, special)) = found {
                return denied(Reason::Special { address, special });
            }
            let whose = match allowed(address) {
                true => Whose::Others,
                false => whose(*address).map_err(|errno| {
                    Error::failed("look up the route to", target)(std::io::Error::from(errno))
                })?,
            };
            match whose {
                Whose::Ours => return denied(Reason::Machine(*address)),
                Whose::Neighbour => return denied(Reason::Neighbour(*address)),
                Whose::Unreachable => {}
                Whose::Others => reachable.push(*address),
            }
        }
        Ok(reachable)
    }
}
