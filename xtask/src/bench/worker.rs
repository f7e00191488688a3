//! A second process for the other engines, in a mount namespace that shows cgroup version 1 alone: crun refuses to
//! start on a machine that shows both versions. Our own binary stays where both are, as on any such machine; both
//! are timed by the same code.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::race::timed;

const HIDE: &str = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$0\" bench-worker";

/// The process.
pub(super) struct Worker {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts it.
    pub(super) fn start() -> Result<Self> {
        let mut child = Command::new("unshare")
            .args(["--mount", "--propagation=private", "--", "sh", "-c", HIDE])
            .arg(std::env::current_exe()?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the worker")?;
        let input = child.stdin.take().context("its input")?;
        let output = BufReader::new(child.stdout.take().context("its output")?);
        Ok(Self { child, input, output })
    }

    /// Runs each to its end and times it, in milliseconds.
    pub(super) fn time(&mut self, commands: Vec<Command>) -> Result<Vec<f64>> {
        self.samples("time", &commands)
    }

    /// Runs each to its end, reads what it writes and times it, in milliseconds. Fails unless that is 1 GiB.
    pub(super) fn drain(&mut self, commands: Vec<Command>) -> Result<Vec<f64>> {
        self.samples("drain", &commands)
    }

    /// Starts one that stays in the foreground until [`Worker::kill`].
    pub(super) fn spawn(&mut self, command: &Command) -> Result<()> {
        self.ask("spawn", std::slice::from_ref(command)).map(drop)
    }

    /// Ends those that stay.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.ask("kill", &[]).map(drop)
    }

    /// Ends it.
    pub(super) fn stop(mut self) -> Result<()> {
        drop(self.input);
        self.child.wait().context("wait for the worker")?;
        Ok(())
    }

    fn samples(&mut self, operation: &str, commands: &[Command]) -> Result<Vec<f64>> {
        let answer = self.ask(operation, commands)?;
        Ok(answer.as_array().context("samples")?.iter().filter_map(Value::as_f64).collect())
    }

    fn ask(&mut self, operation: &str, commands: &[Command]) -> Result<Value> {
        let text = |text: &OsStr| text.to_string_lossy().into_owned();
        let commands: Vec<Value> = commands
            .iter()
            .map(|command| {
                let words: Vec<String> =
                    std::iter::once(command.get_program()).chain(command.get_args()).map(text).collect();
                let variables: Vec<(String, String)> =
                    command.get_envs().filter_map(|(name, value)| Some((text(name), text(value?)))).collect();
                json!({"words": words, "variables": variables})
            })
            .collect();
        writeln!(self.input, "{}", json!({"operation": operation, "commands": commands}))
            .context("ask the worker")?;
        let mut line = String::new();
        self.output.read_line(&mut line).context("read the worker's answer")?;
        let mut answer: Value = serde_json::from_str(&line).with_context(|| format!("parse {line:?}"))?;
        if let Some(error) = answer["error"].as_str() {
            bail!("{error}");
        }
        Ok(answer["result"].take())
    }
}

/// What the process does.
pub(crate) fn serve() -> Result<()> {
    let mut staying = Vec::new();
    for line in std::io::stdin().lines() {
        let answer = match answer(&line?, &mut staying) {
            Ok(result) => json!({"result": result}),
            Err(error) => json!({"error": format!("{error:#}")}),
        };
        let mut output = std::io::stdout();
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
    kill(&mut staying)
}

fn answer(line: &str, staying: &mut Vec<Child>) -> Result<Value> {
    let request: Value = serde_json::from_str(line)?;
    let mut commands = Vec::new();
    for command in request["commands"].as_array().context("commands")? {
        commands.push(parse(command)?);
    }
    match request["operation"].as_str().context("operation")? {
        "spawn" => {
            for mut command in commands {
                staying.push(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?);
            }
            Ok(Value::Null)
        }
        "kill" => kill(staying).map(|()| Value::Null),
        "drain" => Ok(json!(commands.into_iter().map(drain).collect::<Result<Vec<_>>>()?)),
        _ => Ok(json!(commands.into_iter().map(time).collect::<Result<Vec<_>>>()?)),
    }
}

fn parse(command: &Value) -> Result<Command> {
    let words: Vec<&str> =
        command["words"].as_array().context("words")?.iter().filter_map(Value::as_str).collect();
    let mut parsed = Command::new(words.first().context("a program")?);
    parsed.args(words.iter().skip(1));
    for pair in command["variables"].as_array().context("variables")? {
        parsed.env(pair[0].as_str().unwrap_or(""), pair[1].as_str().unwrap_or(""));
    }
    Ok(parsed)
}

fn kill(staying: &mut Vec<Child>) -> Result<()> {
    for mut child in staying.drain(..) {
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}

/// Runs a command to its end and times it.
pub(super) fn time(mut command: Command) -> Result<f64> {
    // A file, not a pipe: a detached container keeps our streams, and reading its end would wait for it.
    let errors = tempfile::NamedTempFile::new()?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors.reopen()?);
    timed(|| {
        let status = command.status()?;
        if !status.success() {
            bail!("{status}: {}", std::fs::read_to_string(errors.path())?.trim());
        }
        Ok(())
    })
}

/// Runs a command that writes 1 GiB, reads all of it and times that.
pub(super) fn drain(mut command: Command) -> Result<f64> {
    timed(|| {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut output = child.stdout.take().context("its output")?;
        let mut buffer = vec![0; 1 << 20];
        let mut bytes = 0_u64;
        loop {
            let read = output.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            bytes += read as u64;
        }
        let status = child.wait()?;
        if !status.success() || bytes != 1 << 30 {
            bail!("{status} after {bytes} bytes");
        }
        Ok(())
    })
}
