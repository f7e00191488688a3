//! Calls that the host carries out itself, in what belongs to a package: checked here, and written down here when it has.

use std::sync::Arc;

use protocol::ErrorKind;
use protocol::package::AuditOutcome;

use super::{Called, Caller, Kind, Line, kind};
use crate::capability::Capability;
use crate::error::{Error, Result};
use crate::grants::{Item, Need};
use crate::meter::Class;

/// A call that may be carried out. What became of it is to be told by [`Admitted::came`].
#[derive(Debug)]
pub struct Admitted {
    caller: Arc<Caller>,
    line: Line,
    kind: Kind,
    class: Class,
}

/// A call that may not be. It is to be written down before it is told.
#[derive(Debug)]
pub struct Refusal(pub(super) Called);

impl Refusal {
    /// Why not.
    pub async fn told(self) -> Error {
        match self.0 {
            Called::Now(Err(error)) => error,
            Called::Later(_, refused) => refused.await.err().unwrap_or(Error::Audit(String::new())),
            Called::Now(Ok(_)) => Error::Audit(String::new()),
        }
    }
}

impl Caller {
    /// Whether a call of this capability may be carried out. `sense` says whether it makes sense, once it is granted, and gives what
    /// the host is to do.
    ///
    /// # Errors
    /// As any call's.
    pub fn admit<T>(
        self: &Arc<Self>,
        (method, class): (&'static str, Class),
        need: &Need<'_>,
        subject: String,
        sense: impl FnOnce() -> Result<T>,
    ) -> Result<(Admitted, T), Refusal> {
        if let Err(error) = self.not_quarantined() {
            return Err(Refusal(Called::Now(Err(error))));
        }
        let (line, kind) = (self.line(method, need, subject), kind(need));
        let mut made = None;
        let grants = self.grants();
        let allowed = self.allow(&grants, need, &kind, class, Ok(()), || {
            made = Some(sense()?);
            Ok(())
        });
        match (allowed, made) {
            (Ok(_), Some(made)) => Ok((Admitted { caller: Arc::clone(self), line, kind, class }, made)),
            (Ok(_), None) => Err(Refusal(Called::Now(Err(Error::Audit(String::new()))))),
            (Err(error), _) => Err(Refusal(self.refuse(line, kind, error))),
        }
    }

    /// Whether one more message may come that reaches nothing.
    ///
    /// # Errors
    /// When there are too many of them, or the package is in quarantine.
    pub fn nothing(&self) -> Result<()> {
        self.rate()
    }

    /// Whether something of this capability is granted.
    ///
    /// # Errors
    /// What is missing.
    pub fn also(&self, capability: Capability) -> Result<()> {
        let need = Need { capability, item: Item::Nothing };
        self.grants().check(&need).map(drop).map_err(Error::Missing)
    }

    /// What it needs for a subcontainer of this image; for what there is none of, nothing in particular.
    #[must_use]
    pub fn image(name: Option<&str>) -> Need<'_> {
        let item = name.map_or(Item::Nothing, |name| Item::One("names", name));
        Need { capability: Capability::Subcontainers, item }
    }
}

impl Admitted {
    /// Writes down what became of it. What has made or ended something is on disk when this returns; of the rest, what was
    /// denied.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub async fn came(self, failed: Option<(ErrorKind, String)>) -> Result<()> {
        let Self { caller, mut line, kind, class } = self;
        let error = failed.map(|(kind, message)| Error::Failed { kind, message });
        let enough = caller.came(kind, error.as_ref());
        if let Some(error) = &error {
            line.outcome = error.outcome();
            line.reason = error.to_string().into();
        }
        if class != Class::Act && line.outcome != AuditOutcome::Denied {
            caller.broker.ledger.note(line);
            return Ok(());
        }
        caller.broker.ledger.commit(line, None).await?;
        if let Some(why) = enough {
            caller.isolated(why).await;
        }
        Ok(())
    }
}
