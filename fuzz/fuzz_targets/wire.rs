//! Any lines on the socket of a package that was granted everything here, one after the other. What one of them has changed
//! the next ones find.
#![no_main]

use std::borrow::Cow;
use std::io;
use std::sync::{Arc, OnceLock};

use broker::chain::{Chain, ChainError};
use broker::egress::{Addresses, Guard, Resolve};
use broker::files::Root;
use broker::hands::{Failed, Hands};
use broker::{Broker, Called, Caller, Databases, Rates};
use libfuzzer_sys::fuzz_target;
use protocol::ErrorKind;
use protocol::broker::{DependencyInfo, LogLevel, ProcessStatusResult, TaskInfo};
use protocol::package::{AuditEntry, AuditLine};
use protocol::stats::StatsResult;
use rusqlite::{Connection, Transaction};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A request, as far as it is the broker's.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

struct World {
    caller: Arc<Caller>,
    broker: Arc<Broker>,
    runtime: tokio::runtime::Runtime,
    _dir: tempfile::TempDir,
}

fuzz_target!(|data: &[u8]| {
    static WORLD: OnceLock<World> = OnceLock::new();
    let world = WORLD.get_or_init(|| World::new().expect("a broker"));
    for line in data.split(|byte| *byte == b'\n') {
        let Ok(Message { method, params }) = serde_json::from_slice(line) else { continue };
        let result = match world.caller.call(&method, params.map_or("{}", RawValue::get)) {
            Called::Now(result) => result,
            Called::Later(_, result) => world.runtime.block_on(result),
        };
        match result {
            // It goes into a line as it is.
            Ok(result) => assert!(serde_json::from_str::<&RawValue>(&result).is_ok() && !result.contains('\n')),
            Err(error) => assert!(!error.to_string().is_empty() && error.data(&method).step == method),
        }
        if world.caller.quarantine().borrow().is_some() {
            world.runtime.block_on(world.broker.lift("fuzz")).expect("lifted");
        }
    }
});

impl World {
    fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        std::fs::create_dir(dir.path().join("volume"))?;
        let connect = || Connection::open(dir.path().join("state.db"));
        let (write, read) = (connect()?, connect()?);
        write.pragma_update(None, "journal_mode", "WAL")?;
        write.pragma_update(None, "synchronous", "OFF")?;
        let often = (1e12, 1e12);
        let rates = Rates { read: often, scan: often, write: often, act: often, tell: often, run: often };
        let guard = Guard::with_resolver(Arc::new(Nowhere));
        let broker =
            Broker::open(Databases { write, read }, Arc::new(NoLog), dir.path(), guard, rates, || 1)?;
        let granted = serde_json::json!({
            "kv:read": { "groups": ["settings"] }, "kv:write": { "groups": ["settings"] },
            "secrets": { "names": ["token"] }, "log:write": {}, "monitor:read": {}, "audit:read": {},
            "notify:send": { "names": ["backup"] }, "http:egress": { "hosts": ["api.example.com:443"] },
            "files:read": { "paths": ["/media/startos/volumes/main"] },
            "files:write": { "paths": ["/media/startos/volumes/main"] },
            "process:run": { "commands": ["[\"date\"]"] },
        });
        let volume = linux::tree::open_dir(&dir.path().join("volume"))?;
        let root = Root { at: "/media/startos/volumes/main".to_owned(), dir: volume, writable: true };
        let caller = broker.admit("fuzz", serde_json::from_value(granted)?, vec![root], Arc::new(NoHands));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { caller, broker, runtime, _dir: dir })
    }
}

/// No name has an address: nothing leaves this machine.
struct Nowhere;

impl Resolve for Nowhere {
    fn resolve<'a>(&'a self, _: &'a str) -> Addresses<'a> {
        Box::pin(async { Err(io::ErrorKind::NotFound.into()) })
    }
}

struct NoLog;

impl Chain for NoLog {
    fn append(&self, _: &Transaction<'_>, entries: &[AuditLine<'_>]) -> Result<(), ChainError> {
        for entry in entries {
            serde_json::from_str::<&RawValue>(entry.detail)?;
        }
        Ok(())
    }

    fn last(&self, _: &Connection, _: &str, _: u32) -> Result<Vec<AuditEntry>, ChainError> {
        Ok(Vec::new())
    }
}

/// Nothing runs here.
struct NoHands;

fn failed<T>() -> Result<T, Failed> {
    Err(Failed { kind: ErrorKind::NotRunning, message: "nothing runs".to_owned() })
}

impl Hands for NoHands {
    fn run(&self, _: &[String], _: Option<&str>) -> Result<String, Failed> {
        failed()
    }

    fn status(&self, _: &str) -> Result<ProcessStatusResult, Failed> {
        failed()
    }

    fn stop(&self, _: &str) -> Result<(), Failed> {
        failed()
    }

    fn run_task(&self, _: &str) -> Result<TaskInfo, Failed> {
        failed()
    }

    fn tasks(&self, _: Option<&str>) -> Result<Vec<TaskInfo>, Failed> {
        failed()
    }

    fn dependency(&self, _: &str) -> Result<DependencyInfo, Failed> {
        failed()
    }

    fn usage(&self) -> Result<StatsResult, Failed> {
        failed()
    }

    fn log(&self, _: LogLevel, message: &str) {
        assert!(!message.contains('\n'));
    }

    fn notify(&self, _: &str, title: &str, message: &str) {
        assert!(!title.contains('\n') && !message.contains('\n'));
    }
}
