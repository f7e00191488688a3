//! Every kind of call: what it needs, and what is done. A new kind is one type with one implementation of [`Call`], and one
//! line in [`find`].

use std::time::Duration;

use protocol::broker::{
    AuditReadParams, AuditReadResult, DeletedResult, DependencyParams, FilesDeleteParams, FilesListParams,
    FilesReadParams, FilesWriteParams, HttpFetchParams, HttpFetchResult, HttpHeader, KvDeleteParams,
    KvGetParams, KvKey, KvListParams, KvListResult, KvSetParams, KvSetResult, LogWriteParams,
    NotifySendParams, ProcessParams, ProcessRunParams, ProcessRunResult, SecretParams, SecretResult,
    SetSecretParams, TaskReadParams, TaskRunParams,
};
use protocol::subcontainer::Empty;
use protocol::{Data, ErrorKind};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::caller::{Act, Caller};
use crate::capability::Capability;
use crate::egress;
use crate::error::{Error, Result};
use crate::files::{self, MAX_CHUNK, Place, check_path};
use crate::grants::{Item, Missing};
use crate::hands::Failed;
use crate::meter::Class;
use crate::store::{self, MAX_VALUE, secrets};

/// One kind of call.
pub(crate) trait Call: DeserializeOwned + Send + 'static {
    const METHOD: &'static str;
    const CAPABILITY: Capability;
    const CLASS: Class;
    /// Bytes that an answer may have.
    const ANSWER: usize = 4096;

    /// What of the capability it needs. `text` is where something can be put together.
    fn item<'a>(&'a self, text: &'a mut String) -> Item<'a>;

    /// What exactly it is about, for the audit log, where that is more than the item.
    fn subject(&self) -> String {
        String::new()
    }

    /// Whether it may be at all, whatever is granted.
    fn may_be(&self) -> Result<()> {
        Ok(())
    }

    /// Whether it makes sense.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Does it. `by` is the path that it was granted by.
    fn act(self, caller: &Caller, by: Option<&str>) -> Act;
}

/// Takes a request that was found by its name.
pub(crate) type Take<T> = fn(&std::sync::Arc<Caller>, &str) -> T;

macro_rules! calls {
    ($($call:ty),* $(,)?) => {
        /// The kind of call of this name.
        pub(crate) fn find(method: &str) -> Option<Take<crate::caller::Called>> {
            match method {
                $(<$call>::METHOD => Some(Caller::take::<$call>),)*
                _ => None,
            }
        }

        /// Every method, and the capability that it needs.
        pub const METHODS: &[(&str, Capability)] = &[$((<$call>::METHOD, <$call>::CAPABILITY)),*];
    };
}

calls! {
    KvGetParams, KvSetParams, KvListParams, KvDeleteParams,
    SecretParams, SetSecretParams, later::DeleteSecret,
    FilesReadParams, FilesWriteParams, FilesListParams, FilesDeleteParams,
    ProcessRunParams, later::ProcessStatus, later::ProcessStop,
    LogWriteParams, NotifySendParams, later::MonitorRead, AuditReadParams,
    later::MonitorAdmin, own::NodeRead, later::NodeAdmin, own::StaticRead, later::StaticWrite, TaskReadParams,
    TaskRunParams, later::TunnelAdmin, later::WorkerRoute, later::NetworkPlan, later::NetworkApply, later::DdnsAdmin,
    own::Volumes, DependencyParams, later::Backups, later::UiProxy, later::Debug,
    later::PluginAdmin, HttpFetchParams,
}

fn json(answer: &impl Serialize) -> Result<String> {
    serde_json::to_string(answer).map_err(|error| Error::Invalid(error.to_string()))
}

fn empty() -> Result<String> {
    json(&Empty {})
}

fn number(revision: i64) -> u64 {
    revision.unsigned_abs()
}

/// A call about one key of the package's own store: what it needs, and what must be right about it.
macro_rules! about_a_key {
    () => {
        fn item<'a>(&'a self, _: &'a mut String) -> Item<'a> {
            Item::One("groups", &self.group)
        }

        fn subject(&self) -> String {
            self.key.clone()
        }

        fn may_be(&self) -> Result<()> {
            store::check_group(&self.group)
        }

        fn check(&self) -> Result<()> {
            store::check_key(&self.key)
        }
    };
}

/// A call about one file or directory.
macro_rules! about_a_file {
    () => {
        fn item<'a>(&'a self, _: &'a mut String) -> Item<'a> {
            Item::Path(&self.path)
        }

        fn may_be(&self) -> Result<()> {
            check_path(&self.path)
        }
    };
}

impl Call for KvGetParams {
    const METHOD: &'static str = "kv.get";
    const CAPABILITY: Capability = Capability::KvRead;
    const CLASS: Class = Class::Read;

    about_a_key!();

    fn act(self, caller: &Caller, _: Option<&str>) -> Act {
        Act::Now(caller.read(|database| {
            let found = store::get(database, caller.package(), &self.group, &self.key)?;
            let (value, revision) = found.unwrap_or_else(|| ("null".to_owned(), 0));
            // As it was written: it is JSON already.
            Ok(format!(r#"{{"value":{value},"revision":{revision}}}"#))
        }))
    }
}

impl Call for KvSetParams {
    const METHOD: &'static str = "kv.set";
    const CAPABILITY: Capability = Capability::KvWrite;
    const CLASS: Class = Class::Write;

    about_a_key!();

    fn act(self, caller: &Caller, _: Option<&str>) -> Act {
        let value = self.value.to_string();
        if value.len() > MAX_VALUE {
            let why = format!("a value has {MAX_VALUE} bytes of JSON at most, not {}", value.len());
            return Act::Now(Err(Error::Invalid(why)));
        }
        let package = caller.shared_package();
        Act::Change(Box::new(move |database| {
            let set = store::set(database, &package, (&self.group, &self.key), &value, self.if_revision)?;
            Ok(set.and_then(|revision| json(&KvSetResult { revision: number(revision) })))
        }))
    }
}

impl Call for KvListParams {
    const METHOD: &'static str = "kv.list";
    const CAPABILITY: Capability = Capability::KvRead;
    const CLASS: Class = Class::Scan;

    fn item<'a>(&'a self, _: &'a mut String) -> Item<'a> {
        Item::One("groups", &self.group)
    }

    fn may_be(&self) -> Result<()> {
        store::check_group(&self.group)
    }

    fn act(self, caller: &Caller, _: Option<&str>) -> Act {
        let limit = self.limit.unwrap_or(1000).clamp(1, 1000);
        let after = self.after.as_deref().unwrap_or("");
        let listed = caller.read(|database| {
            store::list(database, (caller.package(), &self.group), &self.prefix, after, limit + 1)
        });
        Act::Now(listed.and_then(|mut listed| {
            let more = listed.len() > limit as usize;
            listed.truncate(limit as usize);
            let keys =
                listed.into_iter().map(|(key, revision)| KvKey { key, revision: number(revision) }).collect();
            json(&KvListResult { keys, more })
        }))
    }
}

impl Call for KvDeleteParams {
    const METHOD: &'static str = "kv.delete";
    const CAPABILITY: Capability = Capability::KvWrite;
    const CLASS: Class = Class::Write;

    about_a_key!();

    fn act(self, caller: &Caller, _: Option<&str>) -> Act {
        let package = caller.shared_package();
        Act::Change(Box::new(move |database| {
            let deleted = store::delete(database, &package, (&self.group, &self.key), self.if_revision)?;
            Ok(deleted.and_then(|deleted| json(&DeletedResult { deleted })))
        }))
    }
}

impl Call for SecretParams {
    const METHOD: &'static str = "secrets.get";
    const CAPABILITY: Capability = Capability::Secrets;
    const CLASS: Class = Class::Read;

    fn item<'a>(&'a self, _: &'a mut String) -> Item<'a> {
        Item::One("names", &self.name)
    }

    fn act(self, caller: &Caller, _: Option<&str>) -> Act {
        let found =
            caller.with_keys(|keys, database| secrets::get(database, keys, caller.package(), &self.name));
        Act::Now(found.and_then(|value| json(&SecretResult { value: value.map(Data::from) })))
    }
}

impl Call for SetSecretParams {
    const METHOD: &'static str = "secrets.set";
    const CAPABILITY: Capability = Capability::Secrets;
    const CLASS: Class = Class::Write;

    fn item<'a>(&'a self, _: &'a mut String) -> Item<'a> {
        Item::One("names", &self.name)
    }

    fn act(self, caller: &Caller, _: Option<&str>) -> Act {
        let value = match bytes(self.value) {
            Ok(value) => value,
            Err(error) => return Act::Now(Err(error)),
        };
        let (package, keys) = (caller.shared_package(), caller.keys());
        Act::Change(Box::new(move |database| {
            // Here, and not before: the key may be exchanged meanwhile.
            let sealed = keys.with(database, |keys| secrets::seal(keys, &package, &self.name, &value));
            match sealed {
                Ok((key, value)) => {
                    Ok(secrets::set(database, &package, &self.name, (key, &value))?.and_then(|()| empty()))
                }
                Err(error) => Ok(Err(error)),
            }
        }))
    }
}

fn bytes(data: Data) -> Result<Vec<u8>> {
    data.into_bytes().map_err(|error| Error::Invalid(error.to_string()))
}

impl Call for FilesReadParams {
    const METHOD: &'static str = "files.read";
    const CAPABILITY: Capability = Capability::FilesRead;
    const CLASS: Class = Class::Read;
    const ANSWER: usize = MAX_CHUNK / 3 * 4 + 4096;

    about_a_file!();

    fn act(self, caller: &Caller, by: Option<&str>) -> Act {
        let length = self.length.map_or(MAX_CHUNK, |length| (length as usize).min(MAX_CHUNK));
        on_file(caller, by, self.path, false, move |place| json(&place.read(self.offset, length)?))
    }
}

impl Call for FilesWriteParams {
    const METHOD: &'static str = "files.write";
    const CAPABILITY: Capability = Capability::FilesWrite;
    const CLASS: Class = Class::Write;

    about_a_file!();

    fn act(self, caller: &Caller, by: Option<&str>) -> Act {
        let bytes = match bytes(self.data) {
            Ok(bytes) if bytes.len() <= MAX_CHUNK => bytes,
            Ok(bytes) => {
                let why = format!("one call writes {MAX_CHUNK} bytes at most, not {}", bytes.len());
                return Act::Now(Err(Error::Invalid(why)));
            }
            Err(error) => return Act::Now(Err(error)),
        };
        on_file(caller, by, self.path, true, move |place| {
            if self.append {
                place.append(&bytes)?
            } else {
                place.write(&bytes)?
            }
            empty()
        })
    }
}

impl Call for FilesListParams {
    const METHOD: &'static str = "files.list";
    const CAPABILITY: Capability = Capability::FilesRead;
    const CLASS: Class = Class::Scan;
    const ANSWER: usize = 512 << 10;

    about_a_file!();

    fn act(self, caller: &Caller, by: Option<&str>) -> Act {
        on_file(caller, by, self.path, false, move |place| {
            json(&place.list(self.after.as_deref().unwrap_or(""))?)
        })
    }
}

impl Call for FilesDeleteParams {
    const METHOD: &'static str = "files.delete";
    const CAPABILITY: Capability = Capability::FilesWrite;
    const CLASS: Class = Class::Write;

    about_a_file!();

    fn act(self, caller: &Caller, by: Option<&str>) -> Act {
        on_file(caller, by, self.path, false, move |place| {
            json(&DeletedResult { deleted: place.delete(self.recursive)? })
        })
    }
}

/// Does something with a file where one may wait for the disk.
fn on_file(
    caller: &Caller,
    by: Option<&str>,
    path: String,
    make: bool,
    work: impl FnOnce(&Place) -> Result<String> + Send + 'static,
) -> Act {
    let (roots, by) = (caller.roots(), by.unwrap_or_default().to_owned());
    Act::Work(Box::new(move || work(&files::Place::find(&roots, &by, &path, make)?)))
}

impl Call for ProcessRunParams {
    const METHOD: &'static str = "process.run";
    const CAPABILITY: Capability = Capability::ProcessRun;
    const CLASS: Class = Class::Act;

    fn item<'a>(&'a self, text: &'a mut String) -> Item<'a> {
        // As the manifest's commands are written: no two look the same.
        *text = serde_json::to_string(&self.command).unwrap_or_default();
        Item::One("commands", text)
    }

    fn act(self, caller: &Caller, _: Option<&str>) -> Act {
        let hands = caller.hands();
        Act::Work(Box::new(move || {
            let process = hands.run(&self.command, self.service.as_deref())?;
            json(&ProcessRunResult { process })
        }))
    }
}

/// Bytes of a request's body, and of a response's.
const MAX_BODY: u64 = 512 << 10;
/// Milliseconds that a request takes at most.
const MAX_TIME: u32 = 30_000;

impl Call for HttpFetchParams {
    const METHOD: &'static str = "http.fetch";
    const CAPABILITY: Capability = Capability::HttpEgress;
    const CLASS: Class = Class::Act;
    const ANSWER: usize = 1 << 20;

    fn item<'a>(&'a self, text: &'a mut String) -> Item<'a> {
        // What cannot be read goes nowhere: see `may_be`.
        *text = egress::target(&self.url).map(|target| target.to_string()).unwrap_or_default();
        Item::One("hosts", text)
    }

    fn subject(&self) -> String {
        // Behind the question mark are tokens, more often than not.
        let url = self.url.split(['?', '#']).next().unwrap_or_default();
        format!("{} {url}", self.method.as_deref().unwrap_or("GET"))
    }

    fn may_be(&self) -> Result<()> {
        egress::target(&self.url).map(drop).map_err(Error::from)
    }

    fn act(self, caller: &Caller, _: Option<&str>) -> Act {
        let body = match self.body.map(bytes).transpose() {
            Ok(body) => body.unwrap_or_default(),
            Err(error) => return Act::Now(Err(error)),
        };
        let request = egress::Request {
            method: self.method.unwrap_or_else(|| "GET".to_owned()),
            url: self.url,
            headers: self.headers.into_iter().map(|HttpHeader { name, value }| (name, value)).collect(),
            body: body.into(),
        };
        let limits = egress::Limits {
            whole: Duration::from_millis(self.timeout.unwrap_or(MAX_TIME).min(MAX_TIME).into()),
            request_body: MAX_BODY,
            response_body: MAX_BODY,
            ..egress::Limits::default()
        };
        let granted = caller.grants();
        let grants = egress::Grants::new(granted.items(Self::CAPABILITY, "hosts"));
        let guard = caller.guard();
        Act::Wait(Box::pin(async move {
            let mut response = guard.fetch(&grants, request, &limits).await?;
            let body = response.bytes().await?;
            let header = |(name, value): (String, Vec<u8>)| {
                let value = String::from_utf8_lossy(&value).into_owned();
                HttpHeader { name, value }
            };
            let headers = std::mem::take(&mut response.headers).into_iter().map(header).collect();
            let (status, url) = (response.status, response.url.clone());
            json(&HttpFetchResult { status, url, headers, body: Data::from(body) })
        }))
    }
}

impl From<egress::Error> for Error {
    fn from(error: egress::Error) -> Self {
        match error {
            egress::Error::Denied(egress::Denied { target, reason: egress::Reason::NotGranted }) => {
                Self::Missing(Missing::one(Capability::HttpEgress, "hosts", &target.to_string()))
            }
            egress::Error::Denied(denied) => Self::Denied(denied.to_string()),
            egress::Error::Invalid(why) => Self::Invalid(why),
            error => {
                let mut message = error.to_string();
                if let Some(source) = std::error::Error::source(&error) {
                    message = format!("{message}: {source}");
                }
                let kind = match error {
                    egress::Error::TimedOut { .. } => ErrorKind::TimedOut,
                    egress::Error::TooLarge { .. } | egress::Error::Redirects(_) => ErrorKind::Exhausted,
                    _ => ErrorKind::Network,
                };
                Self::Failed { kind, message }
            }
        }
    }
}

impl Call for LogWriteParams {
    const METHOD: &'static str = "log.write";
    const CAPABILITY: Capability = Capability::LogWrite;
    const CLASS: Class = Class::Tell;

    fn item<'a>(&'a self, _: &'a mut String) -> Item<'a> {
        Item::Nothing
    }

    fn act(self, caller: &Caller, _: Option<&str>) -> Act {
        caller.hands().log(self.level, &plain(&self.message, 8 << 10));
        Act::Now(empty())
    }
}

impl Call for NotifySendParams {
    const METHOD: &'static str = "notify.send";
    const CAPABILITY: Capability = Capability::NotifySend;
    const CLASS: Class = Class::Tell;

    fn item<'a>(&'a self, _: &'a mut String) -> Item<'a> {
        Item::One("names", &self.channel)
    }

    fn act(self, caller: &Caller, _: Option<&str>) -> Act {
        caller.hands().notify(&self.channel, &plain(&self.title, 200), &plain(&self.message, 4 << 10));
        Act::Now(empty())
    }
}

/// Whether a terminal shows it as one would think: it moves no cursor, and neither turns nor hides text.
pub(crate) fn is_shown(one: char) -> bool {
    !one.is_control()
        && !matches!(one, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Text that other people's terminals can show, in one line that is not too long.
fn plain(text: &str, most: usize) -> String {
    let mut plain = String::new();
    let flat = text.chars().map(|one| if one == '\n' || one == '\t' { ' ' } else { one });
    for one in flat.filter(|one| is_shown(*one)) {
        if plain.len() + one.len_utf8() > most {
            break;
        }
        plain.push(one);
    }
    plain
}

impl Call for AuditReadParams {
    const METHOD: &'static str = "audit.read";
    const CAPABILITY: Capability = Capability::AuditRead;
    const CLASS: Class = Class::Scan;
    const ANSWER: usize = 512 << 10;

    fn item<'a>(&'a self, _: &'a mut String) -> Item<'a> {
        Item::Nothing
    }

    fn act(self, caller: &Caller, _: Option<&str>) -> Act {
        let last = self.last.unwrap_or(100).clamp(1, 1000);
        Act::Now(caller.last_lines(last).and_then(|entries| json(&AuditReadResult { entries })))
    }
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        let Failed { kind, message } = failed;
        // What the sandbox has refused is no denial of the broker's: it is told as it is.
        let kind = if kind == ErrorKind::Denied { ErrorKind::Internal } else { kind };
        Self::Failed { kind, message }
    }
}

mod own;

/// Calls whose parameters are those of others, or that this version only knows by name.
mod later {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    #[serde(transparent)]
    pub(crate) struct DeleteSecret(SecretParams);

    impl Call for DeleteSecret {
        const METHOD: &'static str = "secrets.delete";
        const CAPABILITY: Capability = Capability::Secrets;
        const CLASS: Class = Class::Write;

        fn item<'a>(&'a self, _: &'a mut String) -> Item<'a> {
            Item::One("names", &self.0.name)
        }

        fn act(self, caller: &Caller, _: Option<&str>) -> Act {
            let package = caller.shared_package();
            Act::Change(Box::new(move |database| {
                let deleted = secrets::delete(database, &package, &self.0.name)?;
                Ok(json(&DeletedResult { deleted }))
            }))
        }
    }

    #[derive(Deserialize)]
    #[serde(transparent)]
    pub(crate) struct ProcessStatus(ProcessParams);

    impl Call for ProcessStatus {
        const METHOD: &'static str = "process.status";
        const CAPABILITY: Capability = Capability::ProcessRun;
        const CLASS: Class = Class::Read;

        fn item<'a>(&'a self, _: &'a mut String) -> Item<'a> {
            Item::Nothing
        }

        fn subject(&self) -> String {
            self.0.process.chars().take(64).collect()
        }

        fn act(self, caller: &Caller, _: Option<&str>) -> Act {
            Act::Now(
                caller.hands().status(&self.0.process).map_err(Error::from).and_then(|status| json(&status)),
            )
        }
    }

    #[derive(Deserialize)]
    #[serde(transparent)]
    pub(crate) struct ProcessStop(ProcessParams);

    impl Call for ProcessStop {
        const METHOD: &'static str = "process.stop";
        const CAPABILITY: Capability = Capability::ProcessRun;
        const CLASS: Class = Class::Act;

        fn item<'a>(&'a self, _: &'a mut String) -> Item<'a> {
            Item::Nothing
        }

        fn subject(&self) -> String {
            self.0.process.chars().take(64).collect()
        }

        fn act(self, caller: &Caller, _: Option<&str>) -> Act {
            let hands = caller.hands();
            Act::Work(Box::new(move || {
                hands.stop(&self.0.process)?;
                empty()
            }))
        }
    }

    #[derive(Deserialize)]
    #[serde(transparent)]
    pub(crate) struct MonitorRead(
        #[allow(dead_code, reason = "it has no parameters, and is refused with some")] Empty,
    );

    impl Call for MonitorRead {
        const METHOD: &'static str = "monitor.read";
        const CAPABILITY: Capability = Capability::MonitorRead;
        const CLASS: Class = Class::Read;

        fn item<'a>(&'a self, _: &'a mut String) -> Item<'a> {
            Item::Nothing
        }

        fn act(self, caller: &Caller, _: Option<&str>) -> Act {
            let hands = caller.hands();
            Act::Work(Box::new(move || json(&hands.usage()?)))
        }
    }

    macro_rules! not_yet {
        ($($name:ident $method:literal $capability:ident;)*) => {
            $(
                #[derive(Deserialize)]
                pub(crate) struct $name {}

                impl Call for $name {
                    const METHOD: &'static str = $method;
                    const CAPABILITY: Capability = Capability::$capability;
                    const CLASS: Class = Class::Read;

                    fn item<'a>(&'a self, _: &'a mut String) -> Item<'a> {
                        Item::Nothing
                    }

                    fn act(self, _: &Caller, _: Option<&str>) -> Act {
                        Act::Now(Err(Error::Unavailable(Self::METHOD)))
                    }
                }
            )*
        };
    }

    not_yet! {
        MonitorAdmin "monitor.admin" MonitorAdmin;
        NodeAdmin "node.admin" NodeAdmin;
        StaticWrite "static.write" StaticWrite;
        TunnelAdmin "tunnel.admin" TunnelAdmin;
        WorkerRoute "worker.route" WorkerRoute;
        NetworkPlan "network.plan" NetworkPlan;
        NetworkApply "network.apply" NetworkApply;
        DdnsAdmin "ddns.admin" DdnsAdmin;
        Backups "backups.read" Backups;
        UiProxy "uiProxy.route" UiProxy;
        Debug "debug.attach" Debug;
        PluginAdmin "plugin.admin" PluginAdmin;
    }
}
