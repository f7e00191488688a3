//! What a person sees: headings, steps and their times; and how commands are run, so that a long one shows that it
//! lives and a failed one shows why.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// How many lines of a failed command's output are shown.
const TAIL: usize = 60;

/// The heading of a part.
pub(crate) fn heading(title: &str) {
    println!("\n== {title}");
}

/// A remark.
pub(crate) fn note(text: &str) {
    println!("   {text}");
}

/// A line of another program, as it is.
pub(crate) fn raw(line: &str) {
    println!("{line}");
}

/// The last line of all.
pub(crate) fn last(line: &str) {
    println!("\n{line}");
}

/// Why the command as a whole failed.
pub(crate) fn failure(error: &anyhow::Error) {
    println!("\nfailed: {error:#}");
}

/// `1.2 s`, `3 min 20 s`.
pub(crate) fn time(duration: Duration) -> String {
    match duration.as_secs() {
        0 if duration.as_millis() < 100 => format!("{:.1} ms", duration.as_secs_f64() * 1000.0),
        seconds if seconds < 100 => format!("{:.1} s", duration.as_secs_f64()),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// Runs one step and prints its name and its time.
pub(crate) fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    if std::io::stdout().is_terminal() {
        print!("   … {name}\r");
        std::io::stdout().flush()?;
    }
    let result = work();
    let mark = if result.is_ok() { "✓" } else { "✗" };
    println!("   {mark} {name}  {}", time(start.elapsed()));
    result.with_context(|| name.to_owned())
}

/// Runs a command as one step; its output is shown only as a sign of life, and its end when it fails.
pub(crate) fn run(name: &str, command: &mut Command) -> Result<()> {
    step(name, || watch(command))
}

/// Runs a command to its end. While it runs, its last line is shown now and then; when it fails, its last lines are
/// in the error.
pub(crate) fn watch(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let (reader, writer) = std::io::pipe().context("make a pipe")?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("start {shown}"))?;
    // The command holds the writing end too; ours must go, or the reader never sees the end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    let terminal = std::io::stdout().is_terminal();
    let (start, mut shown_at) = (Instant::now(), Instant::now());
    let mut tail = VecDeque::new();
    loop {
        match lines.recv_timeout(Duration::from_millis(500)) {
            Ok(line) => {
                if tail.len() == TAIL {
                    tail.pop_front();
                }
                tail.push_back(line);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let pause = if terminal { Duration::from_millis(500) } else { Duration::from_secs(15) };
        if shown_at.elapsed() > pause {
            shown_at = Instant::now();
            let last: String = tail.back().map_or("", |line: &String| line.trim()).chars().take(70).collect();
            if terminal {
                print!("   … {} {last:<70}\r", time(start.elapsed()));
                std::io::stdout().flush()?;
            } else {
                println!("     … {} {last}", time(start.elapsed()));
            }
        }
    }
    let status = child.wait().with_context(|| format!("wait for {shown}"))?;
    if !status.success() {
        bail!("{shown}: {status}\n{}", Vec::from(tail).join("\n"));
    }
    Ok(())
}

/// Runs a command that speaks for itself: its lines are shown as they come, and returned.
pub(crate) fn follow(command: &mut Command) -> Result<Vec<String>> {
    let (reader, writer) = std::io::pipe()?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()
        .context("start it")?;
    // The command holds the writing end too; ours must go, or the reader never sees the end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut lines = Vec::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        raw(&line);
        lines.push(line);
    }
    child.wait().context("wait for it")?;
    Ok(lines)
}

/// Runs a command and returns its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start {shown}"))?;
    if !output.status.success() {
        bail!("{shown}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    String::from_utf8(output.stdout).with_context(|| format!("read the output of {shown}"))
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Whether a program is on the PATH, or where its absolute path says.
pub(crate) fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|dir| dir.join(program).exists())
}
