use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::PathBuf;

use super::*;

struct World {
    dir: tempfile::TempDir,
    roots: Vec<Root>,
}

const AT: &str = "/media/startos/volumes/main";

impl World {
    /// A volume with `open/` and `closed/`, and a secret beside the volume.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["volume/open", "volume/closed"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("volume/closed/secret"), "secret").unwrap();
        fs::write(dir.path().join("outside"), "outside").unwrap();
        let volume = linux::tree::open_dir(&dir.path().join("volume")).unwrap();
        Self { roots: vec![Root { at: AT.to_owned(), dir: volume, writable: true }], dir }
    }

    fn host(&self, path: &str) -> PathBuf {
        self.dir.path().join("volume").join(path)
    }

    /// As granted `open/`.
    fn place(&self, path: &str) -> Result<Place> {
        let path = format!("{AT}/{path}");
        check_path(&path)?;
        Place::find(&self.roots, &format!("{AT}/open"), &path, true)
    }

    fn read(&self, path: &str) -> Result<Vec<u8>> {
        Ok(self.place(path)?.read(0, MAX_CHUNK)?.data.into_bytes().unwrap())
    }
}

#[test]
fn b4_what_was_written_is_read_and_listed_and_deleted() {
    let world = World::new();
    world.place("open/a/b/c").unwrap().write(b"one").unwrap();
    world.place("open/a/b/c").unwrap().append(b"two").unwrap();
    world.place("open/a/new").unwrap().append(b"x").unwrap();
    assert_eq!(world.read("open/a/b/c").unwrap(), b"onetwo");
    let part = world.place("open/a/b/c").unwrap().read(2, 2).unwrap();
    assert_eq!((part.data.into_bytes().unwrap(), part.size, part.eof), (b"et".to_vec(), 6, false));
    let names = |path: &str| {
        let listed = world.place(path).unwrap().list("").unwrap();
        listed.entries.into_iter().map(|entry| entry.name).collect::<Vec<_>>()
    };
    assert_eq!(names("open"), ["a"]);
    assert_eq!(names("open/a"), ["b", "new"], "nothing temporary is left");
    assert!(world.place("open/a").unwrap().delete(false).is_err(), "it is not empty");
    assert!(world.place("open/a").unwrap().delete(true).unwrap());
    assert!(!world.place("open/a").unwrap().delete(true).unwrap());
}

#[test]
fn b4_a_link_that_leaves_what_is_granted_reads_and_writes_nothing() {
    let world = World::new();
    let links = [
        ("up", "../closed"),
        ("far", "../../outside"),
        ("absolute", "/etc/passwd"),
        ("magic", "/proc/self/root/etc/passwd"),
        ("secret", "../closed/secret"),
    ];
    for (name, to) in links {
        symlink(to, world.host("open").join(name)).unwrap();
    }
    for name in ["up/secret", "far", "absolute", "magic", "secret"] {
        let path = format!("open/{name}");
        assert!(world.read(&path).is_err(), "{name} was read");
        assert!(world.place(&path).unwrap().append(b"x").is_err(), "{name} was written to");
    }
    assert_eq!(world.read("open/secret").unwrap_err().outcome(), protocol::package::AuditOutcome::Denied);
    assert!(world.place("open/up").unwrap().list("").is_err());
    assert!(world.place("open/up/new").unwrap().write(b"x").is_err());
    assert!(world.place("open/up/secret").unwrap().delete(false).is_err());
    // In the place of a link, not through it.
    world.place("open/far").unwrap().write(b"x").unwrap();
    assert_eq!(fs::read_to_string(world.dir.path().join("outside")).unwrap(), "outside");
    assert!(world.place("open/secret").unwrap().delete(false).unwrap());
    assert_eq!(fs::read_to_string(world.host("closed/secret")).unwrap(), "secret");
}

#[test]
fn b4_a_link_in_the_place_of_what_is_granted_is_not_followed() {
    let world = World::new();
    fs::remove_dir(world.host("open")).unwrap();
    symlink("closed", world.host("open")).unwrap();
    assert!(world.read("open/secret").is_err());
    assert!(world.place("open/new").is_err());
    let granted = format!("{AT}/open");
    let exactly = Place::find(&world.roots, &granted, &granted, true).unwrap();
    assert!(exactly.list("").is_err());
    assert!(exactly.append(b"x").is_err());
}

#[test]
fn b4_links_within_what_is_granted_are_followed() {
    let world = World::new();
    world.place("open/v2/file").unwrap().write(b"x").unwrap();
    symlink("v2", world.host("open/current")).unwrap();
    assert_eq!(world.read("open/current/file").unwrap(), b"x");
}

#[test]
fn b4_a_grant_of_one_file_is_that_file() {
    let world = World::new();
    let granted = format!("{AT}/open/a/file");
    let place = || Place::find(&world.roots, &granted, &granted, true).unwrap();
    place().write(b"x").unwrap();
    place().append(b"y").unwrap();
    assert_eq!(fs::read(world.host("open/a/file")).unwrap(), b"xy");
    assert!(place().delete(false).unwrap());
}

#[test]
fn b4_paths_that_could_mean_another_are_refused() {
    let world = World::new();
    let long = format!("open/{}", "a/".repeat(3000));
    for path in ["open/../closed/secret", "open/./a", "open//a", "open/a/", "open/a\0b", "..", &long] {
        assert!(matches!(world.place(path), Err(Error::Invalid(_))), "{path:?}");
    }
    assert!(check_path("relative").is_err() && check_path("").is_err());
}

#[test]
fn b4_a_volume_is_not_deleted_and_what_is_none_is_not_found() {
    let world = World::new();
    let all = Place::find(&world.roots, "/media", AT, true).unwrap();
    assert!(all.delete(true).is_err() && world.host("closed/secret").exists());
    assert!(matches!(Place::find(&world.roots, "/", "/etc/passwd", false), Err(Error::NotFound(_))));
    let beside = format!("{AT}-other/x");
    assert!(matches!(Place::find(&world.roots, "/", &beside, false), Err(Error::NotFound(_))));
}

#[test]
fn b4_pipes_and_directories_are_no_files_and_nobody_waits_for_them() {
    let world = World::new();
    let made = std::process::Command::new("mkfifo").arg(world.host("open/pipe")).status().unwrap();
    assert!(made.success());
    assert!(world.read("open/pipe").is_err());
    assert!(world.place("open/pipe").unwrap().append(b"x").is_err());
    assert!(world.read("open").is_err());
    fs::create_dir(world.host("open/dir")).unwrap();
    assert!(world.place("open/dir").unwrap().write(b"x").is_err());
}

#[test]
fn b4_who_replaces_a_file_keeps_its_owner_and_mode_and_gives_no_setuid() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    let file = world.host("open/run");
    fs::write(&file, "x").unwrap();
    std::os::unix::fs::chown(&file, Some(1000), Some(1001)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4750)).unwrap();
    world.place("open/run").unwrap().write(b"y").unwrap();
    let now = fs::metadata(&file).unwrap();
    assert_eq!((now.uid(), now.gid(), now.mode() & 0o7777), (1000, 1001, 0o750));
}

#[test]
fn b8_a_file_that_is_not_finished_leaves_the_old_one() {
    let world = World::new();
    world.place("open/file").unwrap().write(b"old").unwrap();
    let new = world.place("open/file").unwrap().replace().unwrap();
    linux::tree::write_all(new.file(), b"half").unwrap();
    drop(new);
    assert_eq!(world.read("open/file").unwrap(), b"old");
    assert_eq!(fs::read_dir(world.host("open")).unwrap().count(), 1);
}

#[test]
fn b8_a_list_is_bounded_and_goes_on_where_it_ended() {
    let world = World::new();
    for number in 0..1500 {
        fs::write(world.host(&format!("open/{number:04}")), "").unwrap();
    }
    let first = world.place("open").unwrap().list("").unwrap();
    assert_eq!((first.entries.len(), first.more), (1000, true));
    let rest = world.place("open").unwrap().list(&first.entries[999].name).unwrap();
    assert_eq!((rest.entries.len(), rest.more), (500, false));
    assert_eq!(rest.entries[0].name, "1000");
}

#[test]
fn b4_what_is_only_read_is_not_written() {
    let mut world = World::new();
    world.roots[0].writable = false;
    assert!(world.place("open/a").is_err());
    let path = format!("{AT}/closed/secret");
    assert!(Place::find(&world.roots, "/", &path, false).unwrap().read(0, 10).is_ok());
}
