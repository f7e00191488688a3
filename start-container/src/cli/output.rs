//! The one place that prints, but for that of the OCI runtime (`oci::log`).

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the command line speaks here and nowhere else"
)]

use std::io::{IsTerminal, Write};

use crate::error::Result;

/// A line on standard output. A reader that has gone (`| head`) is no failure.
pub(super) fn line(text: &str) {
    let _closed = writeln!(std::io::stdout(), "{text}");
}

/// An empty screen for what comes next, where standard output is one.
pub(super) fn clear() {
    if std::io::stdout().is_terminal() {
        let _closed = write!(std::io::stdout(), "\x1b[H\x1b[2J");
    }
}

/// Bytes on standard output, as they are.
pub(super) fn raw(bytes: &[u8]) {
    let _closed = std::io::stdout().write_all(bytes).and_then(|()| std::io::stdout().flush());
}

/// A line on standard error.
pub(super) fn error(text: &str) {
    let _closed = writeln!(std::io::stderr(), "{text}");
}

/// A value as JSON on one line.
pub(super) fn json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string(value).map_err(|error| {
        crate::error::Failure::new(protocol::ErrorKind::Internal, "write JSON", "").because(error)
    })?;
    line(&text);
    Ok(())
}

/// Columns, as wide as their widest cell.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let print = |cells: &[String]| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        line(padded.join("  ").trim_end());
    };
    print(&head.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>());
    for row in rows {
        print(row);
    }
}

/// A text of somebody else's, for a terminal: what would move the cursor or more is written as an escape.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

/// Bytes as a person reads them.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let (mut value, mut unit) = (count as f64 / 1000.0, 0);
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Somebody looks at standard error.
pub(super) fn watched() -> bool {
    std::io::stderr().is_terminal()
}
