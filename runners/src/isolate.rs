//! One isolate: a QuickJS runtime and context for one call, with limits, and what drives it to the end of a promise.
//!
//! ```text
//! jobs ──none left──▶ settled? ──no──▶ wait for the host's answer or a timer ──▶ jobs …
//!   │                   └─yes──▶ result     └──neither is to come──▶ it waits for nothing
//!   └──time is over, wherever it is──▶ interrupted
//! ```
//! Memory is counted by QuickJS's own allocator functions, array buffers included; time by its interrupt handler, which also
//! turns in regular expressions. What no handler sees, a long call of C, the watch of the process ends ([`crate::serve`]).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rquickjs::loader::bundle::Bundle;
use rquickjs::{Context, Ctx, Exception, FromJs, Function, Module, Object, Promise, Runtime, TypedArray};

use crate::door::Door;
use crate::fault::Fault;
use crate::modules::{Compiled, Imports, PRELUDE, Texts, prelude};

/// Bytes of memory of one isolate.
const MEMORY: usize = 32 << 20;
/// Bytes of stack of one isolate. A thread that has isolates has several times that.
const STACK: usize = 512 << 10;
/// Calls of one isolate that have no answer.
const MOST_CALLS: usize = 64;
/// Bytes that one call prints.
const MOST_PRINTED: usize = 64 << 10;

/// The connection of a thread, once a call has asked for it.
pub(crate) type Line = Rc<RefCell<Option<Door>>>;

/// What an isolate is made of.
pub(crate) struct Call<'a> {
    /// For what it prints: whose it is.
    pub(crate) entry: &'a str,
    pub(crate) modules: Compiled,
    pub(crate) texts: Texts,
    pub(crate) line: &'a Line,
    /// For all of it: how long, and until when.
    pub(crate) limit: Duration,
    pub(crate) deadline: Instant,
}

/// An isolate that runs, from the inside.
pub(crate) struct Inside<'js> {
    pub(crate) ctx: Ctx<'js>,
    /// What the prelude gives.
    pub(crate) kit: Object<'js>,
    line: Line,
    pub(crate) deadline: Instant,
    limit: Duration,
}

impl Call<'_> {
    /// Makes the isolate, works in it, and takes it apart.
    pub(crate) fn run<R>(
        self,
        work: impl for<'js> FnOnce(&Inside<'js>) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        let own = |error: rquickjs::Error| Fault::new(format!("make an isolate: {error}"));
        let deadline = self.deadline;
        let runtime = Runtime::new().map_err(own)?;
        runtime.set_memory_limit(MEMORY);
        runtime.set_max_stack_size(STACK);
        runtime.set_interrupt_handler(Some(Box::new(move || Instant::now() >= deadline)));
        let context = Context::full(&runtime).map_err(own)?;
        let prelude = context.with(|ctx| prelude(&ctx)).map_err(own)?;
        runtime.set_loader(Imports, (Bundle(prelude), Bundle(self.modules), self.texts));
        let result = context.with(|ctx| {
            let native = native(&ctx, self.entry, self.line).map_err(own)?;
            let kit = Object::new(ctx.clone()).map_err(own)?;
            let mut inside = Inside { ctx, kit, line: Rc::clone(self.line), deadline, limit: self.limit };
            let prelude = inside.import(PRELUDE)?;
            let start: Function<'_> = inside.had(prelude.get("default"))?;
            inside.kit = inside.had(start.call((native,)))?;
            work(&inside)
        });
        abandon(self.line);
        result
    }
}

/// Answers that nobody waits for any more are nobody's.
pub(crate) fn abandon(line: &Line) {
    let mut line = line.borrow_mut();
    if line.as_ref().is_some_and(|door| door.pending > 0) {
        *line = None;
    }
}

impl<'js> Inside<'js> {
    /// A module's exports.
    pub(crate) fn import(&self, name: &str) -> Result<Object<'js>, Fault> {
        let promise = self.had(Module::import(&self.ctx, name))?;
        self.finish(promise)
    }

    /// Calls a function of the prelude.
    pub(crate) fn kit<R: FromJs<'js>>(
        &self,
        name: &str,
        arguments: impl rquickjs::function::IntoArgs<'js>,
    ) -> Result<R, Fault> {
        let function: Function<'js> = self.had(self.kit.get(name))?;
        self.had(function.call(arguments))
    }

    /// What came of something, or why nothing did.
    pub(crate) fn had<T>(&self, result: rquickjs::Result<T>) -> Result<T, Fault> {
        result.map_err(|error| {
            if self.is_late() { Fault::late(self.limit) } else { Fault::thrown(&self.ctx, &error, MEMORY) }
        })
    }

    fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Runs until a promise is settled.
    pub(crate) fn finish<T: FromJs<'js>>(&self, promise: Promise<'js>) -> Result<T, Fault> {
        loop {
            while self.ctx.execute_pending_job() {
                if self.is_late() {
                    return Err(Fault::late(self.limit));
                }
            }
            if let Some(result) = promise.result() {
                return self.had(result);
            }
            self.wait()?;
        }
    }

    /// Waits for something that may go on with a promise.
    fn wait(&self) -> Result<(), Fault> {
        let due: f64 = self.kit("due", ())?;
        let asked = self.line.borrow().as_ref().is_some_and(|door| door.pending > 0);
        let timer = (due >= 0.0).then(|| Duration::try_from_secs_f64(due / 1000.0).unwrap_or(Duration::MAX));
        let patience = timer.unwrap_or(Duration::MAX).min(self.left());
        if asked {
            let received = self.line.borrow_mut().as_mut().map(|door| door.receive(patience));
            match received {
                Some(Ok(Some(answer))) => {
                    let (failed, text) = match (&answer.error, &answer.result) {
                        (Some(error), _) => (true, error.get()),
                        (None, Some(result)) => (false, result.get()),
                        (None, None) => (false, "null"),
                    };
                    return self.kit("settle", (answer.id as f64, failed, text));
                }
                Some(Err(error)) => {
                    *self.line.borrow_mut() = None;
                    return Err(Fault::new(format!("the host has ended the connection: {error}")));
                }
                Some(Ok(None)) | None => {}
            }
        } else if timer.is_some() {
            std::thread::sleep(patience);
        } else {
            return Err(Fault::new("it waits for a promise that nothing is left to settle"));
        }
        if self.is_late() {
            return Err(Fault::late(self.limit));
        }
        self.kit("fire", ())
    }
}

/// What the prelude can do that JavaScript cannot.
fn native<'js>(ctx: &Ctx<'js>, entry: &str, line: &Line) -> rquickjs::Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    let own = Rc::clone(line);
    let send = move |ctx: Ctx<'js>, method: String, params: String| -> rquickjs::Result<f64> {
        send(&own, &method, &params).map(|id| id as f64).map_err(|why| Exception::throw_message(&ctx, &why))
    };
    object.set("send", Function::new(ctx.clone(), send)?)?;
    let (entry, printed) = (entry.to_owned(), Cell::new(0));
    let print = move |text: String| print(&entry, &text, &printed);
    object.set("print", Function::new(ctx.clone(), print)?)?;
    // Copies, which the isolate's allocator counts.
    let encode = |ctx: Ctx<'js>, text: String| TypedArray::<u8>::new_copy(ctx, text);
    object.set("encode", Function::new(ctx.clone(), encode)?)?;
    // Bytes come as base64: the library has no safe way to look at them where they are.
    let decode = |base64: String| {
        let bytes = STANDARD.decode(base64).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    object.set("decode", Function::new(ctx.clone(), decode)?)?;
    let start = Instant::now();
    object.set("now", Function::new(ctx.clone(), move || start.elapsed().as_secs_f64() * 1000.0)?)?;
    Ok(object)
}

/// Calls the host, by a connection that is made where there is none. Gives the number that the answer will have.
pub(crate) fn send(line: &Line, method: &str, params: &str) -> Result<u64, String> {
    let mut line = line.borrow_mut();
    let door = match &mut *line {
        Some(door) => door,
        None => line.insert(Door::open().map_err(|error| format!("connect to the host: {error}"))?),
    };
    if door.pending >= MOST_CALLS {
        return Err(format!("{MOST_CALLS} calls wait for an answer already"));
    }
    door.send(method, params).map_err(|error| {
        *line = None;
        format!("the host has ended the connection: {error}")
    })
}

/// To standard error, which is kept.
fn print(entry: &str, text: &str, printed: &Cell<usize>) {
    use std::io::Write as _;
    let before = printed.get();
    printed.set(before.saturating_add(text.len()));
    let shown = match MOST_PRINTED.checked_sub(before) {
        Some(room) if text.len() <= room => text,
        Some(_) => "(it has printed more than 64 KiB: the rest is left out)",
        None => return,
    };
    // Whoever reads it may be gone.
    _ = writeln!(std::io::stderr(), "{entry}: {shown}");
}
