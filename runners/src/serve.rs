//! What the host asks of this process, and who does it: threads that have an isolate for each call.
//!
//! ```text
//! ready ──▶ module.load: compiled, its exports looked at ──▶ module.call … ──▶ module.unload
//! standard input has ended ──▶ the process ends
//! a call that does not end in time, though it was interrupted ──▶ says so on standard error, and the process ends
//! ```

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, Read as _, Write as _};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::Data;
use protocol::function::{
    FUNCTION_PART, FunctionRequest, FunctionResponse, Header, MAX_FUNCTION_HEADERS, MAX_FUNCTION_RESPONSE,
    NextPartParams, NextPartResult, RunFunctionParams,
};
use protocol::subcontainer::Empty;
use protocol::worker::{
    CallModuleParams, CallModuleResult, LoadModuleParams, ModuleInfo, ModuleKind, ModuleState,
    ModuleStatusResult, UnloadModuleParams, WorkerFault, WorkerReadyParams,
};
use rquickjs::{Function, Promise, Value};
use rustix::fs::{CWD, Mode, OFlags};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::fault::Fault;
use crate::isolate::{Call, Inside, Line};
use crate::modules::{Compiled, Texts, keep};
use crate::template::Template;

const ENTRIES: &str = "/media/startos/entries";
/// Calls that are carried out at a time.
const THREADS: usize = 4;
/// Bytes of a thread's stack: several times what JavaScript may use of it.
const STACK: usize = 4 << 20;
/// For a request, with all of its response; and for what is looked at when a module is loaded.
const TO_ANSWER: Duration = Duration::from_secs(5);
/// For what runs at certain times.
const TO_RUN: Duration = Duration::from_secs(60);
/// How long an isolate may take to be interrupted.
const TO_BE_INTERRUPTED: Duration = Duration::from_secs(2);
/// How often it is looked for one that was not.
const LOOK: Duration = Duration::from_millis(250);
/// The longest line of the host's.
const LONGEST_LINE: u64 = 4 << 20;

/// A request of the host's.
#[derive(Deserialize)]
struct Request {
    id: u64,
    method: String,
    #[serde(default)]
    params: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct Answer<'a, R> {
    jsonrpc: &'static str,
    id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<R>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Thrown<'a>>,
}

#[derive(Serialize)]
struct Thrown<'a> {
    code: i32,
    message: &'a str,
    data: &'a WorkerFault,
}

/// What threads do.
enum Task {
    Load(u64, LoadModuleParams),
    Call(u64, CallModuleParams),
}

#[derive(Clone)]
enum Loaded {
    Function { script: String, modules: Compiled },
    Template(Arc<Template>),
}

/// What all threads know.
#[derive(Default)]
struct Shared {
    modules: Mutex<BTreeMap<String, Loaded>>,
    /// Bodies that are under way: who gives their next part.
    bodies: Mutex<HashMap<u64, Sender<u64>>>,
    last_body: AtomicU64,
    /// What each thread does, and until when it may take.
    busy: Mutex<HashMap<usize, (String, Instant)>>,
    /// Some thread does something.
    begun: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the functions of one package, until standard input ends.
pub fn main() -> ExitCode {
    // A panic is a fault of ours: the host starts another process, and says what this one wrote last.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        hook(info);
        std::process::abort();
    }));
    let shared = Arc::new(Shared::default());
    let (tasks, waiting) = channel();
    let waiting = Arc::new(Mutex::new(waiting));
    for number in 0..THREADS {
        let (shared, waiting) = (Arc::clone(&shared), Arc::clone(&waiting));
        let work = move || Thread { number, shared, line: Rc::default(), texts: texts() }.work(&waiting);
        if let Err(error) = std::thread::Builder::new().stack_size(STACK).spawn(work) {
            complain(&format!("start a thread: {error}"));
            return ExitCode::FAILURE;
        }
    }
    let watched = Arc::clone(&shared);
    std::thread::spawn(move || watch(&watched));
    let ready = WorkerReadyParams { runtime: "quickjs-ng".to_owned() };
    write(&serde_json::json!({ "jsonrpc": "2.0", "method": "ready", "params": ready }));
    let mut input = std::io::stdin().lock();
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut input).take(LONGEST_LINE).read_until(b'\n', &mut line) {
            Ok(1..) if line.ends_with(b"\n") => {}
            _ => return ExitCode::SUCCESS,
        }
        match serde_json::from_slice::<Request>(&line) {
            Ok(request) => shared.take(request, &tasks),
            Err(error) => {
                complain(&format!("a line of the host's is no request: {error}"));
                return ExitCode::FAILURE;
            }
        }
    }
}

/// The scripts of the package. A directory that is not there has none.
fn texts() -> Option<Texts> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, ENTRIES, flags, Mode::empty()).ok().map(Texts::new)
}

/// Ends the process when a call goes on though its time is over. Sleeps while nothing runs.
fn watch(shared: &Shared) {
    loop {
        let idle = |busy: &mut HashMap<_, _>| busy.is_empty();
        let waited = shared.begun.wait_while(lock(&shared.busy), idle);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        std::thread::sleep(LOOK);
        let now = Instant::now();
        let stuck = lock(&shared.busy).values().find(|(_, end)| now > *end + TO_BE_INTERRUPTED).cloned();
        if let Some((what, _)) = stuck {
            complain(&format!("{what} did not come to its end in time, and cannot be interrupted"));
            std::process::exit(1);
        }
    }
}

fn complain(what: &str) {
    _ = writeln!(std::io::stderr(), "{what}");
}

/// To the host. It may be gone: then standard input ends, too.
fn write(message: &impl Serialize) {
    let Ok(mut line) = serde_json::to_vec(message) else { return };
    line.push(b'\n');
    _ = std::io::stdout().lock().write_all(&line);
}

fn answer<R: Serialize>(id: u64, result: Result<R, Fault>) {
    match result {
        Ok(result) => write(&Answer { jsonrpc: "2.0", id, result: Some(result), error: None }),
        Err(Fault(fault)) => {
            let error = Thrown { code: -32000, message: &fault.message, data: &fault };
            write(&Answer::<()> { jsonrpc: "2.0", id, result: None, error: Some(error) });
        }
    }
}

fn parse<'a, T: Deserialize<'a>>(params: Option<&'a RawValue>) -> Result<T, Fault> {
    serde_json::from_str(params.map_or("{}", RawValue::get))
        .map_err(|error| Fault::new(format!("the host asks for something else: {error}")))
}

impl Shared {
    /// Takes a request; what may take time is a thread's.
    fn take(&self, Request { id, method, params }: Request, tasks: &Sender<Task>) {
        let params = params.as_deref();
        let task = match method.as_str() {
            "module.load" => parse(params).map(|params| Some(Task::Load(id, params))),
            "module.call" => parse::<CallModuleParams>(params).map(|call| self.next_part(id, call)),
            "module.status" => {
                answer(id, Ok(self.status()));
                return;
            }
            "module.unload" => parse::<UnloadModuleParams>(params).map(|params| {
                lock(&self.modules).remove(&params.module);
                answer(id, Ok(Empty {}));
                None
            }),
            other => Err(Fault::new(format!("there is no method {other}"))),
        };
        match task {
            // Threads live as long as the process.
            Ok(Some(task)) => _ = tasks.send(task),
            Ok(None) => {}
            Err(fault) => answer::<Empty>(id, Err(fault)),
        }
    }

    /// The next part of a body is for the thread that has it; anything else is a call.
    fn next_part(&self, id: u64, call: CallModuleParams) -> Option<Task> {
        if call.function != "next" {
            return Some(Task::Call(id, call));
        }
        let sent = serde_json::from_value::<NextPartParams>(call.input).ok().is_some_and(
            |NextPartParams { more }| lock(&self.bodies).get(&more).is_some_and(|body| body.send(id).is_ok()),
        );
        if !sent {
            answer::<Empty>(id, Err(Fault::new("its time was over before all of its body was taken")));
        }
        None
    }

    fn status(&self) -> ModuleStatusResult {
        let names = lock(&self.modules).keys().cloned().collect::<Vec<_>>();
        let modules = names.into_iter().map(|module| ModuleInfo { module, state: ModuleState::Loaded });
        ModuleStatusResult { modules: modules.collect() }
    }
}

/// A thread that carries calls out, one after the other.
struct Thread {
    number: usize,
    shared: Arc<Shared>,
    line: Line,
    texts: Option<Texts>,
}

impl Thread {
    fn work(&self, waiting: &Mutex<Receiver<Task>>) {
        loop {
            let Ok(task) = lock(waiting).recv() else { return };
            match task {
                Task::Load(id, params) => {
                    let loaded = self.load(&params);
                    answer(
                        id,
                        loaded.map(|loaded| {
                            lock(&self.shared.modules).insert(params.module, loaded);
                            Empty {}
                        }),
                    );
                }
                Task::Call(id, params) => self.call(id, params),
            }
            lock(&self.shared.busy).remove(&self.number);
        }
    }

    fn isolate<'a>(&'a self, entry: &'a str, modules: Compiled, limit: Duration) -> Result<Call<'a>, Fault> {
        let texts = self.texts.clone().ok_or_else(|| Fault::new("its bundle has no entries"))?;
        let deadline = self.begin(entry, limit);
        Ok(Call { entry, modules, texts, line: &self.line, limit, deadline })
    }

    /// From now on the watch looks at what this thread does. Until when it may take.
    fn begin(&self, entry: &str, limit: Duration) -> Instant {
        let deadline = Instant::now() + limit;
        lock(&self.shared.busy).insert(self.number, (entry.to_owned(), deadline));
        self.shared.begun.notify_one();
        deadline
    }

    /// Compiles a module and what it imports, and looks at what it exports.
    fn load(&self, params: &LoadModuleParams) -> Result<Loaded, Fault> {
        let script = params.script.clone();
        let mut call = self.isolate(&params.module, &[], TO_ANSWER)?;
        call.texts = call.texts.keeping();
        let texts = call.texts.clone();
        match params.kind {
            ModuleKind::Function => {}
            ModuleKind::Template => {
                return Template::read(texts.dir(), &script)
                    .map(|template| Loaded::Template(Arc::new(template)));
            }
            ModuleKind::Worker => return Err(Fault::new("this process runs functions and templates")),
        }
        let compiled = call.run(|inside| {
            handler(inside, &script)?;
            Ok(keep(texts.take()))
        });
        Ok(Loaded::Function { script, modules: compiled? })
    }

    fn call(&self, id: u64, CallModuleParams { module, function, input }: CallModuleParams) {
        let Some(loaded) = lock(&self.shared.modules).get(&module).cloned() else {
            answer::<Empty>(id, Err(Fault::new(format!("no function {module} is loaded"))));
            return;
        };
        let (mut asked, mut opened) = (id, None);
        let mut bodies = Bodies { shared: &self.shared, asked: &mut asked, opened: &mut opened };
        let done = match (function.as_str(), &loaded) {
            ("fetch", Loaded::Function { script, modules }) => asks(input).and_then(|request| {
                self.isolate(&module, modules, TO_ANSWER)?.run(|inside| {
                    let (mut body, head) = Body::of(inside, handler(inside, script)?, request)?;
                    bodies.respond(head, inside.deadline, || body.next(inside))
                })
            }),
            ("fetch", Loaded::Template(template)) => asks(input).and_then(|request: FunctionRequest| {
                let deadline = self.begin(&module, TO_ANSWER);
                let (head, parts) = template.respond(&request, &self.line, deadline)?;
                let mut parts = parts.into_iter();
                bodies.respond(head, deadline, || Ok(parts.next()))
            }),
            ("run", Loaded::Function { script, modules }) => asks(input).and_then(|params| {
                self.run(&module, script, modules, &params)?;
                output(id, &());
                Ok(())
            }),
            (other, _) => Err(Fault::new(format!("{module} cannot {other}"))),
        };
        if let Some(body) = opened {
            lock(&self.shared.bodies).remove(&body);
        }
        // Of a further part, it is told to who has asked for that.
        if let Err(fault) = done {
            answer::<Empty>(asked, Err(fault));
        }
    }

    fn run(
        &self,
        entry: &str,
        script: &str,
        modules: Compiled,
        params: &RunFunctionParams,
    ) -> Result<(), Fault> {
        self.isolate(entry, modules, TO_RUN)?.run(|inside| {
            let handler = handler(inside, script)?;
            let promise: Promise<'_> = inside.kit("run", (handler, params.scheduled as f64))?;
            inside.finish::<Value<'_>>(promise).map(drop)
        })
    }
}

fn asks<T: serde::de::DeserializeOwned>(input: serde_json::Value) -> Result<T, Fault> {
    serde_json::from_value(input)
        .map_err(|error| Fault::new(format!("the host asks for something else: {error}")))
}

/// The body of one response, for whoever asks for its parts.
struct Bodies<'a> {
    shared: &'a Shared,
    /// Who waits for an answer.
    asked: &'a mut u64,
    /// The number of a body that has more than one part.
    opened: &'a mut Option<u64>,
}

impl Bodies<'_> {
    /// Answers with a head and the first part, and then with each further part as it is asked for, until that time.
    fn respond(
        &mut self,
        Head { status, headers }: Head,
        until: Instant,
        mut next: impl FnMut() -> Result<Option<Data>, Fault>,
    ) -> Result<(), Fault> {
        let first = next()?.unwrap_or_default();
        // One part ahead: so the last one says that it is the last.
        let mut ahead = next()?;
        let (sender, asks) = channel();
        if ahead.is_some() {
            let number = self.shared.last_body.fetch_add(1, Ordering::Relaxed) + 1;
            lock(&self.shared.bodies).insert(number, sender);
            *self.opened = Some(number);
        }
        output(*self.asked, &FunctionResponse { status, headers, body: first, more: *self.opened });
        while let Some(part) = ahead {
            // Nobody may want the rest.
            let Ok(id) = asks.recv_timeout(until.saturating_duration_since(Instant::now())) else {
                return Ok(());
            };
            *self.asked = id;
            ahead = next()?;
            output(id, &NextPartResult { body: part, last: ahead.is_none() });
        }
        Ok(())
    }
}

fn output(id: u64, output: &impl Serialize) {
    let result = serde_json::to_value(output).map(|output| CallModuleResult { output });
    answer(id, result.map_err(|error| Fault::new(error.to_string())));
}

/// What a module exports as its default, which must be a function.
fn handler<'js>(inside: &Inside<'js>, script: &str) -> Result<Value<'js>, Fault> {
    let exports = inside.import(script)?;
    let handler: Value<'js> = inside.had(exports.get("default"))?;
    if inside.kit("isFunction", (handler.clone(),))? {
        return Ok(handler);
    }
    Err(Fault::new(format!("{script} has no default export that is a function")))
}

/// Status and headers of a response.
#[derive(Deserialize)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) headers: Vec<Header>,
}

/// The body of a response, part by part.
struct Body<'js> {
    next: Function<'js>,
    bytes: usize,
}

impl<'js> Body<'js> {
    /// Asks for a response.
    fn of(
        inside: &Inside<'js>,
        handler: Value<'js>,
        request: FunctionRequest,
    ) -> Result<(Self, Head), Fault> {
        let FunctionRequest { body, .. } = &request;
        let body = match body {
            Data::Base64(text) => text.clone(),
            Data::Text(text) => STANDARD.encode(text),
        };
        let given = serde_json::to_string(&FunctionRequest { body: Data::default(), ..request })
            .map_err(|error| Fault::new(format!("read the request: {error}")))?;
        let promise: Promise<'js> = inside.kit("fetch", (handler, given, body, FUNCTION_PART))?;
        let response: rquickjs::Object<'js> = inside.finish(promise)?;
        let head: String = inside.had(response.get("head"))?;
        if head.len() > 2 * MAX_FUNCTION_HEADERS {
            return Err(Fault::new(format!("its headers are longer than {MAX_FUNCTION_HEADERS} bytes")));
        }
        let head = serde_json::from_str(&head).map_err(|error| {
            Fault::new(format!("its response has a status or headers that are none: {error}"))
        })?;
        Ok((Self { next: inside.had(response.get("next"))?, bytes: 0 }, head))
    }

    /// The next part, in base64; none behind the last.
    fn next(&mut self, inside: &Inside<'js>) -> Result<Option<Data>, Fault> {
        let promise: Promise<'js> = inside.had(self.next.call(()))?;
        let Some(part) = inside.finish::<Option<String>>(promise)? else { return Ok(None) };
        self.bytes = self.bytes.saturating_add(part.len() / 4 * 3);
        // In base64 it may seem two bytes longer than it is.
        if self.bytes > MAX_FUNCTION_RESPONSE + 2 {
            return Err(Fault::new(format!("its response is longer than {MAX_FUNCTION_RESPONSE} bytes")));
        }
        Ok(Some(Data::Base64(part)))
    }
}
