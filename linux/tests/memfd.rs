//! Sealed memory files.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::os::fd::AsRawFd;

use linux::memfd::memfd_sealed;
use rustix::io::Errno;

#[test]
fn s21_a_sealed_file_cannot_be_changed() {
    let bytes = vec![7_u8; 100_000];
    let file = memfd_sealed(c"test", &bytes).unwrap();
    assert_eq!(rustix::io::pwrite(&file, b"x", 0), Err(Errno::PERM));
    assert_eq!(rustix::fs::ftruncate(&file, 1), Err(Errno::PERM));
    assert_eq!(rustix::fs::ftruncate(&file, 200_000), Err(Errno::PERM));
    assert_eq!(rustix::fs::fcntl_add_seals(&file, rustix::fs::SealFlags::FUTURE_WRITE), Err(Errno::PERM));
    assert_eq!(std::io::read_to_string(std::fs::File::from(file)).unwrap().len(), 100_000);
}

#[test]
fn it_can_be_executed() {
    let program = std::fs::read("/bin/true").unwrap();
    let file = memfd_sealed(c"true", &program).unwrap();
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    assert!(std::process::Command::new(path).status().unwrap().success());
}
