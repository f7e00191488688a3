//! TLS to the outside: the certificate is for the name that was granted, and by somebody the machine trusts.

use std::io;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::target::Host;

/// Whom to trust; read from the machine with the first request that needs it.
#[derive(Clone, Default)]
pub(super) struct Client(Arc<OnceLock<Arc<ClientConfig>>>);

impl Client {
    pub(super) fn with_roots(roots: RootCertStore) -> Self {
        let client = Self::default();
        if let Ok(config) = config(roots) {
            client.0.get_or_init(|| Arc::new(config));
        }
        client
    }

    fn config(&self) -> io::Result<Arc<ClientConfig>> {
        if let Some(config) = self.0.get() {
            return Ok(Arc::clone(config));
        }
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        let (added, _unreadable) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            return Err(io::Error::other("this machine has no certificates of authorities"));
        }
        let config = Arc::new(config(roots).map_err(io::Error::other)?);
        Ok(Arc::clone(self.0.get_or_init(|| config)))
    }

    /// Shakes hands as a client.
    pub(super) async fn connect(&self, stream: TcpStream, host: &Host) -> io::Result<TlsStream<TcpStream>> {
        let name = match host {
            Host::Name(name) => ServerName::try_from(name.clone()).map_err(io::Error::other)?,
            Host::Address(address) => ServerName::IpAddress((*address).into()),
        };
        TlsConnector::from(self.config()?).connect(name, stream).await
    }
}

fn config(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A session that is taken up again tells the server that two packages live on one machine.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}
