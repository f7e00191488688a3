//! What the options of an OCI mount mean: `mount(8)`'s words for attributes, for propagation, for what the runtime does,
//! and the rest, which is for the file system.
//!
//! One table, which `features` shows and the compiler reads. Source: OCI runtime spec, "Linux mount options".

use linux::userns::Extent;
use oci_spec::runtime::{LinuxIdMapping, Mount};
use rustix::mount::{MountAttrFlags as Attr, MountPropagationFlags};

/// What one word does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    /// Sets attributes of the mount, on itself or on all beneath it.
    Set { attr: Attr, recursive: bool },
    /// Clears them.
    Clear { attr: Attr, recursive: bool },
    /// How mounts travel to and from it.
    Propagate(MountPropagationFlags),
    /// A view of another place.
    Bind { recursive: bool },
    /// What the file system as a whole is told, where it is a new one.
    Superblock(&'static str),
    /// The ids of the mount are those of a map.
    IdMap { recursive: bool },
    /// A new tmpfs begins with what was beneath.
    CopyUp,
    /// Says nothing: it is so already.
    Nothing,
}

const fn set(attr: Attr) -> Does {
    Does::Set { attr, recursive: false }
}

const fn clear(attr: Attr) -> Does {
    Does::Clear { attr, recursive: false }
}

const fn rset(attr: Attr) -> Does {
    Does::Set { attr, recursive: true }
}

const fn rclear(attr: Attr) -> Does {
    Does::Clear { attr, recursive: true }
}

const fn propagate(flags: MountPropagationFlags, recursive: bool) -> Does {
    Does::Propagate(if recursive { flags.union(MountPropagationFlags::REC) } else { flags })
}

const RDONLY: Attr = Attr::MOUNT_ATTR_RDONLY;
const NOSUID: Attr = Attr::MOUNT_ATTR_NOSUID;
const NODEV: Attr = Attr::MOUNT_ATTR_NODEV;
const NOEXEC: Attr = Attr::MOUNT_ATTR_NOEXEC;
const NODIRATIME: Attr = Attr::MOUNT_ATTR_NODIRATIME;
const NOATIME: Attr = Attr::MOUNT_ATTR_NOATIME;
const STRICTATIME: Attr = Attr::MOUNT_ATTR_STRICTATIME;
const RELATIME: Attr = Attr::MOUNT_ATTR_RELATIME;
const NOSYMFOLLOW: Attr = Attr::MOUNT_ATTR_NOSYMFOLLOW;
const SHARED: MountPropagationFlags = MountPropagationFlags::SHARED;
const SLAVE: MountPropagationFlags = MountPropagationFlags::DOWNSTREAM;
const PRIVATE: MountPropagationFlags = MountPropagationFlags::PRIVATE;
const UNBINDABLE: MountPropagationFlags = MountPropagationFlags::UNBINDABLE;

const WORDS: &[(&str, Does)] = &[
    ("acl", Does::Superblock("acl")),
    ("async", Does::Superblock("async")),
    ("atime", clear(NOATIME)),
    ("bind", Does::Bind { recursive: false }),
    ("defaults", Does::Nothing),
    ("dev", clear(NODEV)),
    ("diratime", clear(NODIRATIME)),
    ("dirsync", Does::Superblock("dirsync")),
    ("exec", clear(NOEXEC)),
    ("idmap", Does::IdMap { recursive: false }),
    ("iversion", Does::Superblock("iversion")),
    ("lazytime", Does::Superblock("lazytime")),
    ("loud", Does::Nothing),
    ("mand", Does::Superblock("mand")),
    ("noacl", Does::Superblock("noacl")),
    ("noatime", set(NOATIME)),
    ("nodev", set(NODEV)),
    ("nodiratime", set(NODIRATIME)),
    ("noexec", set(NOEXEC)),
    ("noiversion", Does::Nothing),
    ("nolazytime", Does::Superblock("nolazytime")),
    ("nomand", Does::Superblock("nomand")),
    ("norelatime", Does::Nothing),
    ("nostrictatime", clear(STRICTATIME)),
    ("nosuid", set(NOSUID)),
    ("nosymfollow", set(NOSYMFOLLOW)),
    ("private", propagate(PRIVATE, false)),
    ("ratime", rclear(NOATIME)),
    ("rbind", Does::Bind { recursive: true }),
    ("rdev", rclear(NODEV)),
    ("rdiratime", rclear(NODIRATIME)),
    ("relatime", set(RELATIME)),
    ("remount", Does::Nothing),
    ("rexec", rclear(NOEXEC)),
    ("ridmap", Does::IdMap { recursive: true }),
    ("rnoatime", rset(NOATIME)),
    ("rnodev", rset(NODEV)),
    ("rnodiratime", rset(NODIRATIME)),
    ("rnoexec", rset(NOEXEC)),
    ("rnorelatime", Does::Nothing),
    ("rnostrictatime", rclear(STRICTATIME)),
    ("rnosuid", rset(NOSUID)),
    ("rnosymfollow", rset(NOSYMFOLLOW)),
    ("ro", set(RDONLY)),
    ("rprivate", propagate(PRIVATE, true)),
    ("rrelatime", rset(RELATIME)),
    ("rro", rset(RDONLY)),
    ("rrw", rclear(RDONLY)),
    ("rshared", propagate(SHARED, true)),
    ("rslave", propagate(SLAVE, true)),
    ("rstrictatime", rset(STRICTATIME)),
    ("rsuid", rclear(NOSUID)),
    ("rsymfollow", rclear(NOSYMFOLLOW)),
    ("runbindable", propagate(UNBINDABLE, true)),
    ("rw", clear(RDONLY)),
    ("shared", propagate(SHARED, false)),
    ("silent", Does::Nothing),
    ("slave", propagate(SLAVE, false)),
    ("strictatime", set(STRICTATIME)),
    ("suid", clear(NOSUID)),
    ("symfollow", clear(NOSYMFOLLOW)),
    ("sync", Does::Superblock("sync")),
    ("tmpcopyup", Does::CopyUp),
    ("unbindable", propagate(UNBINDABLE, false)),
];

/// The words that are known, in order.
pub(crate) fn words() -> impl Iterator<Item = &'static str> {
    WORDS.iter().map(|(word, _)| *word)
}

/// Attributes to set and to clear.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) set: Attr,
    pub(crate) clear: Attr,
}

impl Default for Change {
    fn default() -> Self {
        Self { set: Attr::empty(), clear: Attr::empty() }
    }
}

impl Change {
    fn apply(&mut self, set: bool, attr: Attr) {
        // The ways of keeping access times exclude each other.
        const ATIME: Attr = Attr::MOUNT_ATTR__ATIME;
        let times = NOATIME.union(STRICTATIME);
        if set {
            if attr.is_empty() || times.contains(attr) {
                self.set.remove(times);
                self.clear.insert(ATIME);
            }
            self.set.insert(attr);
            self.clear.remove(attr.difference(ATIME));
        } else {
            self.set.remove(attr);
            self.clear.insert(if times.intersects(attr) { ATIME } else { attr });
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.set.is_empty() && self.clear.is_empty()
    }
}

/// The options of one mount.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Options {
    /// Of the mount itself.
    pub(crate) own: Change,
    /// Of it and all beneath it.
    pub(crate) all: Change,
    pub(crate) propagation: Vec<MountPropagationFlags>,
    /// A view of its source, of all beneath it too.
    pub(crate) bind: Option<bool>,
    /// Its ids are mapped, of all beneath it too.
    pub(crate) idmap: Option<bool>,
    pub(crate) copy_up: bool,
    /// For the file system.
    pub(crate) data: Vec<(String, Option<String>)>,
}

impl Options {
    pub(crate) fn of(mount: &Mount) -> Self {
        let mut options = Self::default();
        if matches!(mount.typ().as_deref(), Some("bind")) {
            options.bind = Some(false);
        }
        for option in mount.options().iter().flatten() {
            options.read(option);
        }
        let mapped = mount.uid_mappings().as_ref().is_some_and(|map| !map.is_empty());
        if mapped && options.idmap.is_none() {
            options.idmap = Some(false);
        }
        options
    }

    fn read(&mut self, option: &str) {
        let found = WORDS.binary_search_by(|(word, _)| word.cmp(&option));
        match found.map(|at| WORDS[at].1) {
            Ok(Does::Set { attr, recursive: false }) => self.own.apply(true, attr),
            Ok(Does::Clear { attr, recursive: false }) => self.own.apply(false, attr),
            Ok(Does::Set { attr, recursive: true }) => self.all.apply(true, attr),
            Ok(Does::Clear { attr, recursive: true }) => self.all.apply(false, attr),
            Ok(Does::Propagate(flags)) => self.propagation.push(flags),
            Ok(Does::Bind { recursive }) => self.bind = Some(recursive),
            Ok(Does::IdMap { recursive }) => self.idmap = Some(recursive),
            Ok(Does::CopyUp) => self.copy_up = true,
            Ok(Does::Superblock(word)) => self.data.push((word.to_owned(), None)),
            Ok(Does::Nothing) => {}
            Err(_) => self.data.push(match option.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (option.to_owned(), None),
            }),
        }
    }
}

/// The OCI words for an id map.
pub(crate) fn extents(mappings: Option<&[LinuxIdMapping]>) -> Vec<Extent> {
    let extent = |mapping: &LinuxIdMapping| Extent {
        inside: mapping.container_id(),
        outside: mapping.host_id(),
        count: mapping.size(),
    };
    mappings.into_iter().flatten().map(extent).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::MountBuilder;

    fn read(words: &[&str]) -> Options {
        let options: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Options::of(&MountBuilder::default().destination("/x").options(options).build().unwrap())
    }

    #[test]
    fn o1_words_are_sorted_so_that_each_is_found() {
        assert!(WORDS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn o1_the_last_word_decides() {
        assert_eq!(read(&["ro", "rw"]).own, Change { set: Attr::empty(), clear: RDONLY });
        assert_eq!(read(&["rw", "ro"]).own, Change { set: RDONLY, clear: Attr::empty() });
        let times = read(&["noatime", "strictatime"]).own;
        assert_eq!(times, Change { set: STRICTATIME, clear: Attr::MOUNT_ATTR__ATIME });
        assert_eq!(read(&["noatime", "relatime"]).own.set, Attr::empty());
    }

    #[test]
    fn o1_recursive_words_are_apart_from_those_of_the_mount_itself() {
        let options = read(&["rbind", "rro", "nosuid"]);
        assert_eq!((options.bind, options.all.set, options.own.set), (Some(true), RDONLY, NOSUID));
    }

    #[test]
    fn o1_what_is_not_known_is_for_the_file_system() {
        let options = read(&["size=64k", "newinstance", "mode=0620"]);
        assert_eq!(options.data[0], ("size".to_owned(), Some("64k".to_owned())));
        assert_eq!(options.data[1], ("newinstance".to_owned(), None));
    }
}
