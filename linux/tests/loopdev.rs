//! Loop devices. As root, where the machine has them.
#![allow(clippy::unwrap_used, reason = "a test fails loudly")]

use std::io::{Read as _, Seek as _, Write as _};
use std::time::{Duration, Instant};

use linux::loopdev::attach;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

#[test]
fn s23_a_file_is_a_device_and_locked_until_nobody_has_that_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    let open = || {
        std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).unwrap()
    };
    let file = open();
    file.set_len(1 << 20).unwrap();
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
    let device = match attach(&file) {
        Err(Errno::NOENT) => {
            eprintln!("skipped: no loop devices here");
            return;
        }
        device => device.unwrap(),
    };
    drop(file);
    let mut through = std::fs::File::from(device.fd);
    through.write_all(&[7; 4096]).unwrap();
    through.sync_all().unwrap();
    let mut bytes = [0; 4096];
    open().read_exact(&mut bytes).unwrap();
    assert_eq!((bytes, through.seek(std::io::SeekFrom::End(0)).unwrap()), ([7; 4096], 1 << 20));
    let locked = || rustix::fs::flock(open(), FlockOperation::NonBlockingLockExclusive);
    assert_eq!(locked(), Err(Errno::WOULDBLOCK), "the device holds the lock");
    drop(through);
    let deadline = Instant::now() + Duration::from_secs(10);
    while locked().is_err() {
        assert!(Instant::now() < deadline, "the device stays when nobody has it open");
        std::thread::sleep(Duration::from_millis(5));
    }
}
