//! Hooks: programs that an engine wants run at points of a container's life, with its state on their standard input.
//!
//! Those of the machine (`prestart`, `createRuntime`, `poststart`, `poststop`) are children of this program; those of
//! the container (`createContainer`, `startContainer`) are started inside it by the engine's own script.

use std::ffi::CString;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use linux::spawn::apart::{self, Word};
use linux::spawn::{Op, Program, Script};
use oci_spec::runtime::Hook;
use protocol::ErrorKind;

use super::exec::Joined;
use super::record::State;
use crate::engine::dev_null;
use crate::engine::guard::Init;
use crate::error::{Failure, Result};

fn failed(point: &str, index: usize, hook: &Hook) -> Failure {
    let step = format!("hooks.{point}[{index}]: error running {point} hook #{index}:");
    Failure::new(ErrorKind::Invalid, step, hook.path().display())
}

fn why(text: impl Into<String>) -> std::io::Error {
    std::io::Error::other(text.into())
}

fn check(point: &str, index: usize, hook: &Hook) -> Result<Option<Duration>> {
    if !hook.path().is_absolute() {
        return Err(failed(point, index, hook).because(why("the path is not absolute")));
    }
    match hook.timeout() {
        None => Ok(None),
        Some(seconds @ 1..) => Ok(Some(Duration::from_secs(seconds.unsigned_abs()))),
        Some(_) => Err(failed(point, index, hook).because(why("the timeout is not greater than zero"))),
    }
}

/// Checks what can be seen of hooks before anything is made.
pub(super) fn check_all(spec: &oci_spec::runtime::Spec) -> Result<()> {
    for (point, hooks) in all(spec) {
        for (index, hook) in hooks.iter().enumerate() {
            check(point, index, hook)?;
        }
    }
    Ok(())
}

/// Each point's hooks.
pub(super) fn all(spec: &oci_spec::runtime::Spec) -> Vec<(&'static str, &[Hook])> {
    let Some(hooks) = spec.hooks() else { return Vec::new() };
    #[allow(deprecated, reason = "engines still ask for prestart hooks")]
    let prestart = hooks.prestart();
    let points = [
        ("prestart", prestart),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ];
    points.into_iter().map(|(point, hooks)| (point, hooks.as_deref().unwrap_or_default())).collect()
}

/// The hooks of one point.
pub(super) fn of<'a>(spec: &'a oci_spec::runtime::Spec, point: &str) -> &'a [Hook] {
    all(spec).into_iter().find(|(name, _)| *name == point).map_or(&[], |(_, hooks)| hooks)
}

/// Runs hooks on the machine, in order, until one fails.
pub(super) fn run(point: &str, hooks: &[Hook], state: &State<'_>, directory: &std::path::Path) -> Result<()> {
    hooks.iter().enumerate().try_for_each(|(index, hook)| run_one(point, index, hook, state, directory))
}

/// Runs one hook on the machine.
pub(super) fn run_one(
    point: &str,
    index: usize,
    hook: &Hook,
    state: &State<'_>,
    directory: &std::path::Path,
) -> Result<()> {
    let limit = check(point, index, hook)?;
    let fail = |error: std::io::Error| failed(point, index, hook).because(error);
    let args = hook.args().as_deref().unwrap_or_default();
    let mut command = Command::new(hook.path());
    command.current_dir(directory);
    if let Some(name) = args.first() {
        command.arg0(name).args(&args[1..]);
    }
    // Without an environment of its own it has ours, as in runc and crun.
    if let Some(env) = hook.env() {
        command.env_clear().envs(env.iter().filter_map(|entry| entry.split_once('=')));
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(fail)?;
    if let Some(mut stdin) = child.stdin.take() {
        // It need not read it.
        let _unread = stdin.write_all(state.to_string().as_bytes());
    }
    let streams = [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)];
    let said = streams.map(|stream| stream.map(Said::hear));
    let deadline = limit.map(|limit| Instant::now() + limit);
    let status = loop {
        match deadline {
            None => break child.wait().map_err(fail)?,
            Some(deadline) => {
                if let Some(status) = child.try_wait().map_err(fail)? {
                    break status;
                }
                if Instant::now() >= deadline {
                    child.kill().map_err(fail)?;
                    child.wait().map_err(fail)?;
                    return Err(fail(why("it did not end in its time")));
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    };
    if status.success() {
        return Ok(());
    }
    let text: String = said.into_iter().flatten().map(Said::text).collect();
    Err(fail(why(format!("{status}: {}", text.trim()))))
}

/// What a hook says: all of it is read, so that it can go on, and the beginning is kept for the message.
struct Said {
    text: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Said {
    const MOST: usize = 4096;

    fn hear(stream: OwnedFd) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            let mut stream = std::fs::File::from(stream);
            let mut buffer = [0; Self::MOST];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                if let Ok(mut kept) = kept.lock() {
                    let room = Self::MOST.saturating_sub(kept.len()).min(count);
                    kept.extend_from_slice(&buffer[..room]);
                }
            }
        });
        Self { text, reader }
    }

    /// Once it has ended. Something that it left behind may hold its stream: it is not waited for beyond a moment.
    fn text(self) -> String {
        let waited = Instant::now();
        while !self.reader.is_finished() && waited.elapsed() < Duration::from_millis(100) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.text.lock().map_or_else(|_| String::new(), |text| String::from_utf8_lossy(&text).into_owned())
    }
}

/// Runs hooks inside a container. `closed`: what each does before its program. `env`: of those that say none.
pub(super) fn run_inside(
    point: &str,
    hooks: &[Hook],
    state: &State<'_>,
    joined: &Joined,
    init: &Init,
    closed: &[Op],
    env: &[String],
) -> Result<()> {
    for (index, hook) in hooks.iter().enumerate() {
        let limit = check(point, index, hook)?;
        let text = |text: &str| CString::new(text).map_err(|error| failed(point, index, hook).because(error));
        let path = hook.path().to_string_lossy();
        let args: Vec<CString> = match hook.args().as_deref() {
            Some(args) if !args.is_empty() => args.iter().map(|arg| text(arg)).collect::<Result<_>>()?,
            _ => vec![text(&path)?],
        };
        let input = linux::memfd::memfd(c"state", state.to_string().as_bytes())
            .map_err(|errno| Failure::kernel("write state for", &path, errno))?;
        let null = dev_null()?;
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|errno| Failure::kernel("read the output of", &path, errno))?;
        let said = Said::hear(reader);
        let writer = Arc::new(writer);
        let program = Program::Candidates(vec![text(&path)?]);
        let stdio = [Arc::new(input), Arc::clone(&writer), writer];
        let script = Script {
            ops: joined.first.clone(),
            closed_ops: closed.to_vec(),
            envp: hook
                .env()
                .as_deref()
                .unwrap_or(env)
                .iter()
                .map(|entry| text(entry))
                .collect::<Result<_>>()?,
            ..Script::of(program, args, stdio)
        };
        let start =
            apart::Start { program: init.get()?, null, before: joined.before.clone(), listener: None };
        let fail = |error| failed(point, index, hook).because(error);
        let mut child = apart::start(&script, &start).map_err(fail)?;
        while child.listen().map_err(fail)? != Word::Silence {
            // No agent is asked about a hook: what it would be asked about fails.
            child.answer().map_err(|errno| failed(point, index, hook).because(errno))?;
        }
        let process = child.into_process();
        // Its own end of the stream is the last one.
        drop(script);
        let in_time = limit.is_none_or(|limit| linux::pidfd::ends_within(&process.pidfd, limit));
        if !in_time {
            let _gone = linux::pidfd::send_signal(&process.pidfd, linux::signal::Signal::KILL);
        }
        let status =
            linux::pidfd::wait(&process.pidfd).map_err(|errno| failed(point, index, hook).because(errno))?;
        if !in_time {
            return Err(failed(point, index, hook).because(why("it did not end in its time")));
        }
        if status != linux::pidfd::ExitStatus::Exited(0) {
            return Err(failed(point, index, hook).because(why(format!(
                "exit status {}: {}",
                status.shell_code(),
                said.text().trim()
            ))));
        }
    }
    Ok(())
}
