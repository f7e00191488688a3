//! The hosts file that all containers of a network see: each has a line for each of its addresses.
//!
//! It is bind-mounted into them, so it is changed in place. No line ever moves: a line that goes is blanked out
//! where it is, a new one goes into a blank that is wide enough, or to the end. So a reader who reads while we write
//! may miss the one line that is being written, and nothing else.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

/// What the file begins with.
const HEAD: &str = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";

/// A write of some bytes at some place.
#[derive(Debug, Eq, PartialEq)]
struct Patch {
    at: usize,
    bytes: String,
}

/// Adds the lines of a container.
pub(crate) fn add(file: &OwnedFd, addresses: &[IpAddr], names: &[String]) -> Result<(), Errno> {
    let mut text = read(file)?;
    for address in addresses {
        let patch = add_line(&text, &line(*address, names));
        write(file, &patch)?;
        let end = (patch.at + patch.bytes.len()).min(text.len());
        text.replace_range(patch.at..end, &patch.bytes);
    }
    Ok(())
}

/// Removes the lines of a container. Those that are not there are not missed.
pub(crate) fn remove(file: &OwnedFd, addresses: &[IpAddr], names: &[String]) -> Result<(), Errno> {
    let text = read(file)?;
    for address in addresses {
        if let Some(patch) = remove_line(&text, &line(*address, names)) {
            write(file, &patch)?;
        }
    }
    Ok(())
}

fn line(address: IpAddr, names: &[String]) -> String {
    format!("{address} {}", names.join(" "))
}

fn add_line(text: &str, line: &str) -> Patch {
    if text.is_empty() {
        return Patch { at: 0, bytes: format!("{HEAD}{line}\n") };
    }
    let mut at = 0;
    for present in text.split_inclusive('\n') {
        let width = present.trim_end_matches('\n').len();
        let blank = present.trim().is_empty();
        if present.trim_end() == line || (blank && width >= line.len()) {
            return Patch { at, bytes: format!("{line:width$}\n") };
        }
        at += present.len();
    }
    // Whoever was cut off while writing left no line end.
    let end = if text.ends_with('\n') { "" } else { "\n" };
    Patch { at, bytes: format!("{end}{line}\n") }
}

fn remove_line(text: &str, line: &str) -> Option<Patch> {
    let mut at = 0;
    for present in text.split_inclusive('\n') {
        if present.trim_end() == line {
            let width = present.trim_end_matches('\n').len();
            return Some(Patch { at, bytes: " ".repeat(width) + "\n" });
        }
        at += present.len();
    }
    None
}

fn read(file: &OwnedFd) -> Result<String, Errno> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 8192];
    loop {
        match rustix::io::pread(file, &mut chunk, bytes.len() as u64)? {
            0 => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
            count => {
                bytes.extend_from_slice(chunk.get(..count).unwrap_or_default());
                if count < chunk.len() {
                    // A regular file: there is no more.
                    return Ok(String::from_utf8_lossy(&bytes).into_owned());
                }
            }
        }
    }
}

fn write(file: &OwnedFd, patch: &Patch) -> Result<(), Errno> {
    let mut written = 0;
    while let Some(rest) = patch.bytes.as_bytes().get(written..).filter(|rest| !rest.is_empty()) {
        written += rustix::io::pwrite(file, rest, (patch.at + written) as u64)?;
    }
    Ok(())
}

/// Replaces the text of a file in place: what containers see of it changes too.
pub(crate) fn replace(file: &OwnedFd, text: &str) -> Result<(), Errno> {
    if read(file)? == text {
        return Ok(());
    }
    write(file, &Patch { at: 0, bytes: text.to_owned() })?;
    rustix::fs::ftruncate(file, text.len() as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn apply(text: &mut String, patch: &Patch) {
        let end = (patch.at + patch.bytes.len()).min(text.len());
        text.replace_range(patch.at..end, &patch.bytes);
    }

    #[test]
    fn a_line_that_goes_leaves_a_blank_that_the_next_one_takes() {
        let mut text = String::new();
        for line in ["10.0.0.2 longer-name", "10.0.0.3 b"] {
            let patch = add_line(&text, line);
            apply(&mut text, &patch);
        }
        let (two, three) = (text.clone(), text.find("10.0.0.3"));
        let patch = remove_line(&text, "10.0.0.2 longer-name").unwrap();
        apply(&mut text, &patch);
        assert!(!text.contains("longer") && text.len() == two.len() && text.find("10.0.0.3") == three);
        let patch = add_line(&text, "10.0.0.4 c");
        apply(&mut text, &patch);
        assert_eq!(text.len(), two.len());
        assert!(text.starts_with(HEAD) && text.contains("10.0.0.4 c   ") && text.find("10.0.0.3") == three);
    }

    proptest! {
        #[test]
        fn the_file_has_the_lines_of_those_who_are_there(steps in prop::collection::vec((0u8..12, 1usize..40), 0..60)) {
            let mut text = String::new();
            let mut there = std::collections::BTreeMap::<u8, String>::new();
            for (host, length) in steps {
                let line = format!("10.0.0.{host} {}", "x".repeat(length));
                match there.remove(&host) {
                    Some(old) => {
                        let patch = remove_line(&text, &old).unwrap();
                        apply(&mut text, &patch);
                    }
                    None => {
                        let patch = add_line(&text, &line);
                        apply(&mut text, &patch);
                        there.insert(host, line);
                    }
                }
                let mut lines: Vec<&str> = text.lines().skip(2).map(str::trim_end).filter(|line| !line.is_empty()).collect();
                lines.sort_unstable();
                let mut expected: Vec<&str> = there.values().map(String::as_str).collect();
                expected.sort_unstable();
                prop_assert_eq!(lines, expected);
            }
        }
    }
}
