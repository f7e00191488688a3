//! Where this door speaks: standard error, and the file that an engine names. With `cli::output` the only
//! places that print.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the command line speaks here, as the engines expect"
)]

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Failure, Result, kind_of};

/// How messages in the file look.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
}

/// Where messages go.
#[derive(Debug)]
pub(super) struct Log {
    file: Option<Mutex<File>>,
    format: Format,
    debug: bool,
}

impl Log {
    pub(super) fn open(path: Option<&Path>, format: Format, debug: bool) -> Result<Self> {
        // An empty name is how some engines say none.
        let path = path.filter(|path| !path.as_os_str().is_empty());
        let open = |path: &Path| {
            File::options().create(true).append(true).open(path).map_err(|error| {
                let errno = rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO);
                Failure::new(kind_of(errno), "open log", path.display()).because(error)
            })
        };
        let file = path.map(open).transpose()?.map(Mutex::new);
        Ok(Self { file, format, debug })
    }

    /// For what was said before.
    pub(super) fn silent() -> Self {
        Self {
            file: File::options().write(true).open("/dev/null").ok().map(Mutex::new),
            format: Format::Text,
            debug: false,
        }
    }

    pub(super) fn error(&self, message: &str) {
        if self.file.is_some() {
            self.write("error", message);
        }
        stderr(&format!("start-container-oci: error: {message}"));
    }

    /// Something that is not as it was asked for, and no failure.
    pub(super) fn warn(&self, message: &str) {
        if self.file.is_some() {
            self.write("warning", message);
        } else {
            stderr(&format!("start-container-oci: warning: {message}"));
        }
    }

    /// What is done, for `--debug`.
    pub(super) fn debug(&self, message: &str) {
        if !self.debug {
            return;
        }
        if self.file.is_some() {
            self.write("debug", message);
        } else {
            stderr(&format!("time={:?} level=debug msg={message:?}", now()));
        }
    }

    fn write(&self, level: &str, message: &str) {
        let Some(Ok(mut file)) = self.file.as_ref().map(Mutex::lock) else { return };
        let time = now();
        let line = match self.format {
            Format::Json => serde_json::json!({"level": level, "msg": message, "time": time}).to_string(),
            Format::Text => format!("time={time:?} level={level} msg={message:?}"),
        };
        // There is nowhere else to say that it cannot be said.
        let _full = writeln!(file, "{line}");
    }
}

/// A line on standard error.
pub(super) fn stderr(text: &str) {
    let _closed = writeln!(std::io::stderr(), "{text}");
}

/// A line on standard output. A reader that has gone is no failure.
pub(super) fn stdout(text: &str) {
    let _closed = writeln!(std::io::stdout(), "{text}");
}

/// The time, as RFC 3339 has it, in UTC.
pub(super) fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339(since.as_secs(), since.subsec_nanos())
}

fn rfc3339(seconds: u64, nanoseconds: u32) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days to a date by eras of 400 years, which begin in March.
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanoseconds:09}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o1_times_are_written_as_engines_parse_them() {
        assert_eq!(rfc3339(0, 0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(rfc3339(951_782_400, 5), "2000-02-29T00:00:00.000000005Z");
        assert_eq!(rfc3339(1_795_255_869, 0), "2026-11-21T10:11:09.000000000Z");
    }
}
