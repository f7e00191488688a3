use protocol::process::{ExecParams, LaunchParams, SpawnParams};
use protocol::session::AcquireParams;
use protocol::subcontainer::{CreateFsParams, MountParams};
use serde_json::{Value, json};

use super::*;

fn own() -> Own {
    Own {
        package: "notes".to_owned(),
        sandbox: "the-sandbox".to_owned(),
        images: [("main".to_owned(), "sha256:of-main".to_owned())].into(),
        volumes: ["data".to_owned()].into(),
        pointers: [("db".to_owned(), "files".to_owned())].into(),
    }
}

fn confined<P: Confine>(params: Value) -> Result<P> {
    serde_json::from_value::<P>(params).unwrap().confine(&own())
}

#[track_caller]
fn refused<P: Confine + std::fmt::Debug>(params: Value, named: &str) {
    let error = confined::<P>(params.clone()).expect_err(&params.to_string());
    assert!(matches!(&error, Error::Denied(why) if why.starts_with(named)), "{params}: {error}");
}

#[test]
fn b3_a_subcontainer_is_in_the_packages_sandbox_over_the_image_that_was_imported() {
    let made: CreateFsParams =
        confined(json!({ "imageId": "main", "name": "db", "detached": true, "rootfsSize": 1 << 24 }))
            .unwrap();
    assert_eq!(made.image_id, "sha256:of-main");
    assert_eq!(made.sandbox.as_deref(), Some("the-sandbox"));
    assert_eq!((made.name.as_deref(), made.throwaway, made.userns), (Some("notes-db"), true, false));
    assert_eq!((made.detached, made.rootfs_size), (true, Some(1 << 24)));
    for other in ["sha256:of-main", "sha256:", "", "package/notes/main", "busybox"] {
        refused::<CreateFsParams>(json!({ "imageId": other }), "imageId");
    }
    refused::<CreateFsParams>(json!({ "imageId": "main", "sandbox": "the-sandbox" }), "sandbox");
    refused::<CreateFsParams>(json!({ "imageId": "main", "userns": true }), "userns");
}

#[test]
fn b3_mounts_are_the_packages_own() {
    let mount = |source: Value| json!({ "guid": "g", "mount": { "source": source, "mountpoint": "/m" } });
    for good in [
        json!({ "type": "volume", "volumeId": "data", "subpath": "a", "filetype": "directory" }),
        json!({ "type": "assets" }),
        json!({ "type": "pointer", "packageId": "db", "volumeId": "files" }),
        json!({ "type": "rpc", "packageId": "notes" }),
        json!({ "type": "tmpfs", "size": 1 << 20 }),
    ] {
        let kept = confined::<MountParams>(mount(good.clone())).unwrap();
        let source = serde_json::to_value(kept.mount.source).unwrap();
        for (field, value) in good.as_object().unwrap() {
            assert_eq!(&source[field], value, "{good}");
        }
    }
    for (bad, named) in [
        (json!({ "type": "volume", "volumeId": "other" }), "volumeId"),
        (json!({ "type": "volume", "volumeId": "../db/volumes/files" }), "volumeId"),
        (json!({ "type": "pointer", "packageId": "db", "volumeId": "secret" }), "pointer"),
        (json!({ "type": "pointer", "packageId": "notes", "volumeId": "data" }), "pointer"),
        (json!({ "type": "rpc", "packageId": "db" }), "rpc"),
    ] {
        refused::<MountParams>(mount(bad), named);
    }
    let backup: MountParams = serde_json::from_value(mount(json!({ "type": "backup" }))).unwrap();
    assert_eq!(backup.also(), Some(Capability::Backups));
    let ids = |from: u64, to: u64, range: u64| {
        let mut params = mount(json!({ "type": "assets" }));
        params["mount"]["idmap"] = json!([{ "fromId": from, "toId": to, "range": range }]);
        params
    };
    assert!(confined::<MountParams>(ids(0, 1000, 64_536)).is_ok());
    for (from, to, range) in [(65_536, 0, 1), (0, 65_536, 1), (0, 0, 65_537), (u64::from(u32::MAX), 0, 2)] {
        refused::<MountParams>(ids(from, to, range), "idmap");
    }
}

#[test]
fn b3_nothing_is_launched_with_more_than_the_default() {
    let launch = |more: Value| {
        let mut params = json!({ "guid": "g" });
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        params
    };
    for good in [
        json!({}),
        json!({ "command": ["a"], "init": true, "sharedRun": true, "sharedDevSys": true }),
        json!({ "privileges": { "capDrop": ["ALL"], "seccomp": "default" } }),
        json!({ "options": { "user": "1000", "umask": 63, "oomScoreAdj": 500,
            "ulimits": { "nofile": { "soft": 4096 } } } }),
        json!({ "streams": { "stdout": "log", "log": { "size": 1_000_000, "files": 4 } } }),
    ] {
        assert!(confined::<LaunchParams>(launch(good.clone())).is_ok(), "{good}");
    }
    for (bad, named) in [
        (json!({ "privileges": { "capAdd": ["CHOWN"] } }), "privileges.capAdd"),
        (json!({ "privileges": { "seccomp": "unconfined" } }), "privileges.seccomp"),
        (json!({ "privileges": { "seccomp": "socketcall" } }), "privileges.seccomp"),
        (json!({ "privileges": { "seccomp": { "defaultAction": "SCMP_ACT_ALLOW" } } }), "privileges.seccomp"),
        (json!({ "limits": { "pids": 1 } }), "limits"),
        (json!({ "limits": { "io": [{ "device": "/dev/vda" }] } }), "limits"),
        (json!({ "network": { "mode": "host" } }), "network"),
        (json!({ "network": { "mode": "none" } }), "network"),
        (json!({ "network": { "mode": "private", "publish": ["80:80"] } }), "network"),
        (json!({ "options": { "oomScoreAdj": -1 } }), "oomScoreAdj"),
        (json!({ "options": { "ulimits": { "nice": { "soft": 40 } } } }), "ulimits.nice"),
        (json!({ "options": { "ulimits": { "memlock": { "soft": -1 } } } }), "ulimits.memlock"),
        (json!({ "streams": { "stdout": "log", "logDriver": "journald" } }), "streams.logDriver"),
        (json!({ "streams": { "log": { "size": 1_u64 << 40, "files": 10 } } }), "streams.log"),
    ] {
        refused::<LaunchParams>(launch(bad), named);
    }
    let spawn = json!({ "guid": "g", "command": ["a"], "options": { "oomScoreAdj": -5 } });
    refused::<SpawnParams>(spawn.clone(), "oomScoreAdj");
    refused::<ExecParams>(spawn, "oomScoreAdj");
}

#[test]
fn b8_what_a_command_answers_is_bounded() {
    let exec = |more: Value| {
        let mut params = json!({ "guid": "g", "command": ["a"] });
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        confined::<ExecParams>(params).unwrap().max_buffer
    };
    assert_eq!(exec(json!({})), Some(512 << 10));
    assert_eq!(exec(json!({ "maxBuffer": 10 })), Some(10));
    assert_eq!(exec(json!({ "maxBuffer": 1_u64 << 50 })), Some(8 << 20));
}

#[test]
fn b1_locks_of_packages_have_names_of_their_own() {
    let named = |name: &str| confined::<AcquireParams>(json!({ "name": name })).map(|lock| lock.name);
    assert_eq!(named("backup").unwrap(), "package/notes/backup");
    assert!(named("").is_err() && named(&"a".repeat(200)).is_err());
}

#[test]
fn b10_what_is_written_down_of_a_command_is_the_program_and_no_argument() {
    let exec: ExecParams =
        serde_json::from_value(json!({ "guid": "g", "command": ["psql", "-p", "secret"] })).unwrap();
    assert_eq!(exec.subject(), "g psql (+2)");
}
