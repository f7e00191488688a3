//! Who a command runs as: `USER[:GROUP]`, looked up in the container's own files.
//!
//! The files belong to the image, so they are hostile: read through a handle that cannot leave the rootfs, never
//! waited on (a FIFO), and bounded in size. An unknown name is an error, never root.

use std::os::fd::BorrowedFd;

use protocol::ErrorKind;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Failure, Result};

/// Ids and home directory of a user.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

/// A passwd file that is longer than this is not believed.
const LONGEST_FILE: usize = 4 * 1024 * 1024;

/// Looks `text` up in `root`. Empty means root.
pub(crate) fn look_up(root: BorrowedFd<'_>, text: &str) -> Result<User> {
    let read = |path: &str| {
        read_file(root, path).map_err(|errno| Failure::kernel("look up user in", format!("/{path}"), errno))
    };
    resolve(text, &read("etc/passwd")?, || read("etc/group"))
}

/// The name of a user, if the passwd of `root` has one.
pub(crate) fn name_of(root: BorrowedFd<'_>, uid: u32) -> Option<String> {
    let passwd = read_file(root, "etc/passwd").ok()?;
    let mut entries = passwd.lines().filter_map(Entry::parse);
    entries.find(|entry| entry.uid == uid).map(|entry| entry.name.to_owned())
}

/// The pure part: what `text` means given the two files. The group file is only read when it matters.
fn resolve(text: &str, passwd: &str, group_file: impl FnOnce() -> Result<String>) -> Result<User> {
    let (name, group) = match text.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (text, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let number = id(name)?;
    let entry = passwd.lines().filter_map(Entry::parse).find(|entry| match number {
        // A name of digits is an id first, as in Docker.
        Some(uid) => entry.uid == uid,
        None => entry.name == name,
    });
    let (uid, own_gid, home) = match (&entry, number) {
        (Some(entry), _) => (entry.uid, entry.gid, entry.home),
        (None, Some(uid)) => (uid, 0, "/"),
        (None, None) => return Err(Failure::new(ErrorKind::UnknownUser, "look up user", name)),
    };
    let groups = group_file()?;
    let parse_group = |line: &'_ str| -> Option<(String, u32, Vec<String>)> {
        let mut fields = line.split(':');
        let (name, _password, gid) = (fields.next()?, fields.next()?, fields.next()?.parse().ok()?);
        let members = fields.next().unwrap_or("").split(',').map(str::to_owned).collect();
        Some((name.to_owned(), gid, members))
    };
    let (gid, supplementary) = match group {
        Some(group) if !group.is_empty() => {
            let gid = match id(group)? {
                Some(gid) => gid,
                None => groups
                    .lines()
                    .filter_map(parse_group)
                    .find(|(name, ..)| name == group)
                    .map(|(_, gid, _)| gid)
                    .ok_or_else(|| Failure::new(ErrorKind::UnknownUser, "look up group", group))?,
            };
            // A group that was asked for replaces the others, as in Docker.
            (gid, Vec::new())
        }
        _ => {
            let member_name = entry.as_ref().map(|entry| entry.name);
            let supplementary = groups
                .lines()
                .filter_map(parse_group)
                .filter(|(_, gid, members)| {
                    *gid != own_gid && member_name.is_some_and(|name| members.iter().any(|m| m == name))
                })
                .map(|(_, gid, _)| gid)
                .collect();
            (own_gid, supplementary)
        }
    };
    let home = if home.is_empty() { "/" } else { home };
    Ok(User { uid, gid, groups: supplementary, home: home.to_owned() })
}

/// A number, if `text` is one. Ids that the kernel reserves (-1) are refused.
fn id(text: &str) -> Result<Option<u32>> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(id) if id != u32::MAX => Ok(Some(id)),
        _ => Err(Failure::new(ErrorKind::UnknownUser, "look up user", text)),
    }
}

struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> Entry<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let (_gecos, home) = (fields.next(), fields.next().unwrap_or(""));
        Some(Self { name, uid, gid, home })
    }
}

/// A small regular file inside `root`; an absent one is empty.
fn read_file(root: BorrowedFd<'_>, path: &str) -> std::result::Result<String, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        other => other?,
    };
    let stat = rustix::fs::fstat(&file)?;
    if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(Errno::INVAL);
    }
    if stat.st_size as usize > LONGEST_FILE {
        return Err(Errno::FBIG);
    }
    let mut bytes = vec![0; stat.st_size as usize];
    let mut read = 0;
    while read < bytes.len() {
        match rustix::io::read(&file, &mut bytes[read..])? {
            0 => break,
            n => read += n,
        }
    }
    bytes.truncate(read);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\npostgres:x:101:103:,,,:/var/lib/postgresql:/bin/bash\n\
                          # comment\nbroken:x:one:2\n7:x:70:70::/seven:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nssl-cert:x:102:postgres,other\npostgres:x:103:\nstaff:x:50:postgres\n";

    fn look(text: &str) -> Result<User> {
        resolve(text, PASSWD, || Ok(GROUP.to_owned()))
    }

    #[test]
    fn s10_a_name_brings_its_groups_and_home() {
        let user = look("postgres").unwrap();
        assert_eq!(
            (user.uid, user.gid, user.groups, user.home.as_str()),
            (101, 103, vec![102, 50], "/var/lib/postgresql")
        );
    }

    #[test]
    fn s10_nothing_means_root() {
        let user = look("").unwrap();
        assert_eq!((user.uid, user.gid, user.home.as_str()), (0, 0, "/root"));
    }

    #[test]
    fn s10_numbers_need_no_passwd() {
        let user = resolve("4711:12", "", || Ok(String::new())).unwrap();
        assert_eq!(user, User { uid: 4711, gid: 12, groups: vec![], home: "/".into() });
        assert_eq!(resolve("4711", "", || Ok(String::new())).unwrap().gid, 0);
    }

    #[test]
    fn s10_a_known_number_has_its_groups() {
        assert_eq!(look("101").unwrap().groups, [102, 50]);
    }

    #[test]
    fn s10_digits_are_an_id_before_they_are_a_name() {
        assert_eq!(look("7").unwrap().uid, 7);
    }

    #[test]
    fn s10_an_unknown_name_is_an_error_and_never_root() {
        for text in ["nobody-here", "postgres:nogroup-here", "broken", "-1", "4294967295", "99999999999"] {
            let failure = look(text).unwrap_err();
            assert_eq!(failure.kind, ErrorKind::UnknownUser, "{text}");
        }
        assert_eq!(look("mallory").unwrap_err().to_string(), "look up user mallory");
    }

    #[test]
    fn s10_a_group_replaces_the_others() {
        let user = look("postgres:staff").unwrap();
        assert_eq!((user.gid, user.groups), (50, vec![]));
    }
}
