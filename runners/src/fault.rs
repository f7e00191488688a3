//! Why a call has no result, in words for people.

use std::time::Duration;

use protocol::worker::WorkerFault;
use rquickjs::{Ctx, Error, Exception, Value};

/// Bytes of a message or stack that are told.
const LONGEST: usize = 8192;

/// Why there is no result.
#[derive(Debug, PartialEq)]
pub(crate) struct Fault(pub(crate) WorkerFault);

impl Fault {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(WorkerFault { message: message.into(), stack: None })
    }

    pub(crate) fn late(limit: Duration) -> Self {
        Self::new(format!("it did not come to its end within {} s, and was ended", limit.as_secs()))
    }

    /// What code has thrown. Looking at it may run code of the package: it is still held by its limits.
    pub(crate) fn thrown<'js>(ctx: &Ctx<'js>, error: &Error, memory: usize) -> Self {
        if !matches!(error, Error::Exception) {
            return Self::new(error.to_string());
        }
        let value = ctx.catch();
        let Some(exception) = value.as_object().cloned().and_then(Exception::from_object) else {
            return Self::new(match text(ctx, &value) {
                // There was no memory left for an error either.
                Some(text) if text == "null" => out_of_memory(memory),
                Some(text) => format!("it threw {text}, which is no Error"),
                None => "it threw something that is no Error".to_owned(),
            });
        };
        let message = exception.message().unwrap_or_default();
        if message == "out of memory" {
            return Self::new(out_of_memory(memory));
        }
        let name: Option<String> = exception.as_object().get("name").ok();
        let message = match name {
            Some(name) if !name.is_empty() => format!("{name}: {message}"),
            _ => message,
        };
        let message = shortened(message);
        // As other engines write it: the message first. Lines of ours say nothing to an author.
        let stack = exception.stack().unwrap_or_default();
        let lines: Vec<&str> = stack.lines().filter(|line| !line.contains("(start-container:")).collect();
        let stack = (!lines.is_empty()).then(|| shortened(format!("{message}\n{}", lines.join("\n"))));
        Self(WorkerFault { message, stack })
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
    text
}

fn out_of_memory(memory: usize) -> String {
    format!("out of memory: a call may use {} MiB, array buffers included", memory >> 20)
}

fn text<'js>(ctx: &Ctx<'js>, value: &Value<'js>) -> Option<String> {
    let json = ctx.json_stringify(value.clone()).ok().flatten()?;
    json.to_string().ok().map(|text| text.chars().take(200).collect())
}
