//! Bundles from elsewhere: git and S3. The command line fetches them, for the operator who runs it: with that operator's
//! credentials, which nobody else is told, and not in the host. Each way ends in a file that nobody else can write to.
//!
//! Whoever serves a bundle need not be trusted: the signature decides, as for any other.

use std::sync::atomic::{AtomicBool, Ordering};

pub mod git;
pub mod s3;

/// Who watches a fetch, and may stop it.
pub struct Watch<'a> {
    /// Hears how far it is: bytes, and of how many where that is known. Be quick.
    pub progress: &'a (dyn Fn(u64, Option<u64>) + Sync),
    /// Set, it ends as soon as it notices, and leaves nothing behind.
    pub cancelled: &'a AtomicBool,
}

impl std::fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("cancelled", &self.cancelled).finish_non_exhaustive()
    }
}

impl Watch<'_> {
    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// Characters of what is told of a failure.
const SAID: usize = 600;

/// An error of a library's with its causes, in one line. Servers have a part in it, and it is for a terminal.
fn causes(error: &dyn std::error::Error) -> String {
    let mut said: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = without_secrets(&error.to_string());
        if !said.iter().any(|one| one.contains(&text)) {
            said.push(text);
        }
        next = error.source();
    }
    let said = said.join(": ");
    said.chars().take(SAID).map(|c| if crate::manifest::words::is_printable(c) { c } else { ' ' }).collect()
}

/// Takes what may be a secret out of addresses in a text: `user:password@`, and what follows `?`.
fn without_secrets(text: &str) -> String {
    let mut said = String::new();
    let mut rest = text;
    while let Some((before, address)) = rest.split_once("://") {
        let end = address.find(|c: char| c.is_whitespace() || "\"')>".contains(c)).unwrap_or(address.len());
        let (address, after) = address.split_at(end);
        let (address, query) = address.split_once('?').map_or((address, ""), |(address, _)| (address, "?…"));
        let (host, path) = address.find('/').map_or((address, ""), |slash| address.split_at(slash));
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        said.extend([before, "://", host, path, query]);
        rest = after;
    }
    said.push_str(rest);
    said
}

#[cfg(test)]
mod tests {
    use super::{SAID, causes, without_secrets};

    #[test]
    fn p8_what_a_server_says_does_not_move_the_cursor() {
        let said = std::io::Error::other("remote: \x1b[2J\u{202e}done\r\nroot# ".repeat(99));
        let said = causes(&said);
        assert!(said.starts_with("remote:  [2J done  root# ") && said.chars().count() == SAID, "{said}");
    }

    #[test]
    fn p8_no_secret_of_an_address_is_said() {
        let said = without_secrets(
            "cannot get \"https://me:secret@a.example/b?token=secret\": http://secret@c failed",
        );
        assert_eq!(said, "cannot get \"https://a.example/b?…\": http://c failed");
        assert_eq!(without_secrets("git+https://a/b#c and 1 @ 2"), "git+https://a/b#c and 1 @ 2");
    }
}
