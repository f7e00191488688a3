//! Mounts that are made on the host's side appear in a running container, whose namespace holds a slave of the
//! rootfs; nothing comes back.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::path::PathBuf;
use std::sync::mpsc;

use common::*;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::UnshareFlags;

type Job = Box<dyn FnOnce() + Send>;

/// A thread in a mount namespace of its own, where everything is a slave of the test's.
struct Container {
    jobs: mpsc::Sender<Job>,
}

impl Container {
    fn start() -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (ready, is_ready) = mpsc::channel();
        std::thread::spawn(move || {
            linux::process::unshare(UnshareFlags::NEWNS).unwrap();
            mount_change(c"/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC).unwrap();
            ready.send(()).unwrap();
            for job in queue {
                job();
            }
        });
        is_ready.recv().unwrap();
        Self { jobs }
    }

    fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (send, receive) = mpsc::channel();
        self.jobs.send(Box::new(move || send.send(work()).unwrap())).unwrap();
        receive.recv().unwrap()
    }

    fn sees(&self, path: PathBuf) -> bool {
        self.run(move || path.exists())
    }
}

#[test]
fn s14_mounts_come_and_go_in_a_running_container() {
    for &on in everywhere_mapped() {
        let world = World::new(on);
        std::fs::create_dir_all(world.stored("volumes/main")).unwrap();
        std::fs::write(world.stored("volumes/main/file"), "").unwrap();
        let container = Container::start();
        let file = world.inside("mnt/file");
        assert!(!container.sees(file.clone()));
        for maps in [&[][..], &[(0, 70, 1)]] {
            world.mount(&mapped(readonly(at(volume("main"), "/mnt")), maps)).unwrap();
            assert!(container.sees(file.clone()));
            let inside = file.clone();
            let seen = container.run(move || (owner(&inside).0, std::fs::write(&inside, "x").is_err()));
            assert_eq!(seen, (if maps.is_empty() { 0 } else { 70 }, true));
            world.unmount("/mnt").unwrap();
            assert!(!container.sees(file.clone()));
        }
        // And inside each other.
        world.mount(&at(tmpfs(), "/outer")).unwrap();
        world.mount(&at(volume("main"), "/outer/inner")).unwrap();
        assert!(container.sees(world.inside("outer/inner/file")));
        world.unmount("/outer/inner").unwrap();
        assert!(!container.sees(world.inside("outer/inner/file")));
        world.unmount("/outer").unwrap();
        assert!(!container.sees(world.inside("outer/inner")));
    }
}

#[test]
fn s14_what_a_container_mounts_on_a_volume_stays_in_it() {
    let world = World::new(On::Tmpfs);
    // The worst case: the data directory itself is on a shared mount.
    mount_change(&world.data, MountPropagationFlags::SHARED).unwrap();
    world.mount(&at(volume("main"), "/mnt")).unwrap();
    std::fs::create_dir(world.stored("volumes/main/d")).unwrap();
    let container = Container::start();
    let inside = world.inside("mnt/d");
    container.run({
        let inside = inside.clone();
        move || {
            mount_tmpfs(&inside);
            std::fs::write(inside.join("theirs"), "").unwrap();
        }
    });
    assert!(container.sees(inside.join("theirs")));
    assert!(!inside.join("theirs").exists() && !world.stored("volumes/main/d/theirs").exists());
}

#[test]
fn s14_what_the_host_mounts_in_its_data_directory_does_not_appear() {
    let world = World::new(On::Tmpfs);
    mount_change(&world.data, MountPropagationFlags::SHARED).unwrap();
    world.mount(&at(volume("main"), "/mnt")).unwrap();
    std::fs::create_dir(world.stored("volumes/main/d")).unwrap();
    mount_tmpfs(&world.stored("volumes/main/d"));
    std::fs::write(world.stored("volumes/main/d/ours"), "").unwrap();
    assert!(!world.inside("mnt/d/ours").exists());
}
