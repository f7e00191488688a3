//! Error numbers by name.

use rustix::io::Errno;

#[test]
fn numbers_have_the_names_that_people_know() {
    assert_eq!(linux::errno::name(Errno::NOENT), "ENOENT");
    assert_eq!(linux::errno::name(Errno::HWPOISON), "EHWPOISON");
    assert_eq!(linux::errno::name(Errno::from_raw_os_error(530)), "errno 530");
    for number in (1..=133).filter(|number| ![41, 58].contains(number)) {
        let name = linux::errno::name(Errno::from_raw_os_error(number));
        assert!(name.starts_with('E'), "{number}: {name}");
    }
}
