//! `fsopen`, `fsconfig`, `fsmount`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::os::fd::AsFd;

use linux::kernel::Features;
use linux::mount::FsContext;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use common::{mkdir, read, tmpfs, write};

#[test]
fn an_unknown_file_system_is_named() {
    let error = FsContext::open("no-such-fs").unwrap_err();
    assert_eq!(error.to_string(), "fsopen no-such-fs: ENODEV");
}

#[test]
fn a_failure_carries_the_kernels_own_words() {
    let context = FsContext::open("tmpfs").unwrap();
    let error = context.string("mode", "not octal").unwrap_err();
    assert_eq!(error.errno(), Errno::INVAL);
    assert_eq!(error.step(), "fsconfig mode");
    let text = error.to_string();
    assert!(text.starts_with("fsconfig mode: EINVAL (tmpfs: Bad value for 'mode'"), "{text}");
}

#[test]
fn each_failure_has_only_its_own_words() {
    let context = FsContext::open("tmpfs").unwrap();
    context.string("mode", "bad").unwrap_err();
    let error = context.string("nonsense", "1").unwrap_err();
    assert!(error.log().is_some_and(|log| log.contains("nonsense") && !log.contains("mode")), "{error}");
}

#[test]
fn overlay_takes_its_layers_as_this_kernel_says_it_does() {
    let features = Features::get();
    let lower = tmpfs();
    mkdir(&lower, "one");
    mkdir(&lower, "two");
    write(&lower, "one/a", "from one");
    write(&lower, "two/b", "from two");
    let open = |name: &str| {
        rustix::fs::openat(&lower, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .unwrap()
    };
    let context = FsContext::open("overlay").unwrap();
    let (one, two) = (open("one"), open("two"));
    let by_fd = context.fd("lowerdir+", one.as_fd()).and_then(|()| context.fd("lowerdir+", two.as_fd()));
    assert_eq!(by_fd.is_ok(), features.overlay_layer_fds, "{by_fd:?}");
    if by_fd.is_ok() {
        context.create().unwrap();
        let mount = context.mount(MountAttrFlags::empty()).unwrap();
        for (name, text) in [("a", "from one"), ("b", "from two")] {
            let file =
                rustix::fs::openat(&mount, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
            assert_eq!(read(file), text);
        }
    }
}

#[test]
fn this_kernel_has_what_the_newest_calls_need() {
    // Written for the machine that the tests are known to run on; a kernel of 6.15 has them all.
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    let features = Features::get();
    for (since, has) in [
        ((6, 3), features.memfd_exec),
        ((6, 8), features.statmount),
        ((6, 8), features.overlay_lowerdir_append),
        ((6, 13), features.overlay_layer_fds),
        ((6, 15), features.open_tree_attr),
        ((6, 15), features.pidfd_exit_info),
    ] {
        assert!(has || version < since, "{since:?} on {release}: {features:?}");
    }
}
