//! What becomes of packages: decisions, starts, the audit log.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

mod common;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use common::host::{Host, asking, id, needing, plain};
use common::{NOW, Tar, file};
use packages::{Error, Packages};
use protocol::ErrorKind;
use protocol::package::{AuditLine, AuditOutcome, PackageInfo, PackageRun, PackageStatus};

fn bundles(host: &Host) -> BTreeSet<PathBuf> {
    let dir = host.world.data().join("bundles/sha256");
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn p4_from_install_to_removal() {
    let host = Host::new();
    let info = host.install(&plain("a", "1.0.0")).unwrap();
    assert_eq!((info.status, info.run), (PackageStatus::Installed, PackageRun::Unknown));
    let info = host.activate("a").unwrap();
    assert_eq!((info.status, info.run), (PackageStatus::Active, PackageRun::Running));
    assert_eq!(host.running(), ["a 1.0.0"]);
    let info = host.disable("a").unwrap();
    assert_eq!((info.status, info.run), (PackageStatus::Disabled, PackageRun::Stopped));
    host.activate("a").unwrap();
    assert_eq!(host.packages.remove(&id("a"), false).unwrap_err().kind(), ErrorKind::Conflict);
    host.disable("a").unwrap();
    host.packages.remove(&id("a"), false).unwrap();
    assert!(host.running().is_empty() && bundles(&host).is_empty());
    assert_eq!(host.packages.get(&id("a")).unwrap_err().kind(), ErrorKind::NotFound);
    let (entries, verified) = host.packages.audit(None, 100, true).unwrap();
    assert_eq!(verified, Some(entries.len() as u64));
    let said: Vec<String> =
        entries.iter().map(|entry| format!("{} {:?}", entry.action, entry.outcome)).collect();
    let expected = [
        "plugin.status Done",
        "plugin.status Done",
        "plugin.status Done",
        "plugin.status Done",
        "package.remove Denied",
        "plugin.status Done",
        "package.remove Done",
    ];
    assert_eq!(said, expected);
}

#[test]
fn p6_a_failed_start_is_not_recorded_as_active() {
    let host = Host::new();
    host.install(&plain("a", "1.0.0")).unwrap();
    host.runner.fails.store(true, Ordering::Relaxed);
    let error = host.activate("a").unwrap_err();
    assert!(matches!(error, Error::Runner { .. }), "{error}");
    let info = host.packages.get(&id("a")).unwrap();
    assert_eq!(info.status, PackageStatus::Installed);
    assert_eq!(info.run, PackageRun::Errored { reason: "it does not start today".to_owned() });
    let (entries, _) = host.packages.audit(Some(&id("a")), 1, true).unwrap();
    assert_eq!(entries[0].outcome, AuditOutcome::Failed);
    assert!(entries[0].detail.contains("it does not start today"));
    host.runner.fails.store(false, Ordering::Relaxed);
    host.activate("a").unwrap();
}

#[test]
fn p6_what_ends_by_itself_is_told_and_is_still_a_decision_to_run() {
    let host = Host::new();
    host.install(&plain("a", "1.0.0")).unwrap();
    host.activate("a").unwrap();
    host.packages.has_failed(&id("a"), "exit 1");
    let info = host.packages.get(&id("a")).unwrap();
    assert_eq!(info.status, PackageStatus::Active);
    assert_eq!(info.run, PackageRun::Errored { reason: "exit 1".to_owned() });
}

#[test]
fn p4_an_entry_that_nothing_runs_is_told_at_activation_and_not_before() {
    let host = Host::new();
    let manifest = r#"{"manifest":1,"id":"a","name":"a","version":"1.0.0",
        "entries":{"w":{"worker":{"script":"entries/w.js"}}}}"#;
    let bundle = file(&host.world.signed(&Tar::with(manifest).file("entries/w.js", b"").packed()));
    host.packages.install(bundle, false).unwrap();
    let error = host.activate("a").unwrap_err();
    assert_eq!(error.to_string(), "package a: entry w is a worker: no runner for this in this release");
    assert_eq!(host.packages.get(&id("a")).unwrap().status, PackageStatus::Installed);
}

#[test]
fn p4_a_stale_record_can_be_disabled_and_not_activated() {
    let host = Host::new();
    for name in ["gone", "revoked", "changed"] {
        host.install(&plain(name, "1.0.0")).unwrap();
        host.activate(name).unwrap();
    }
    let place = |name: &str| {
        let digest = host.packages.get(&id(name)).unwrap().digest;
        host.world.data().join("bundles/sha256").join(digest.hex())
    };
    std::fs::remove_dir_all(place("gone")).unwrap();
    std::fs::write(place("changed").join("fs/manifest.json"), "{}").unwrap();
    host.world.change(|trust| {
        trust.revoke("friend", NOW).unwrap();
    });
    for (name, word) in [("gone", "gone"), ("revoked", "vouches"), ("changed", "vouches")] {
        let stale = host.packages.get(&id(name)).unwrap().stale.unwrap();
        assert!(stale.contains(word), "{stale}");
        let info = host.disable(name).unwrap();
        assert_eq!((info.status, info.run), (PackageStatus::Disabled, PackageRun::Stopped));
        let error = host.activate(name).unwrap_err();
        assert!(matches!(error, Error::Lifecycle { .. }), "{name}: {error}");
        host.packages.remove(&id(name), false).unwrap();
    }
    assert!(host.running().is_empty());
}

#[test]
fn p7_nothing_is_active_before_everything_it_needs_is_granted() {
    let host = Host::new();
    let info = host.install(&asking("a", "1.0.0", &["x:1", "y:1"])).unwrap();
    assert!(info.granted.is_empty());
    assert_eq!(info.missing, info.asked);
    let error = host.activate("a").unwrap_err();
    assert_eq!(error.to_string(), "a 1.0.0 asks for what was not granted: http:egress (x:1 y:1)");
    assert_eq!(host.grant("a", &["kv:read"]).unwrap_err().kind(), ErrorKind::NotFound);
    host.grant("a", &["http:egress"]).unwrap();
    host.activate("a").unwrap();
}

#[test]
fn p7_an_optional_capability_may_be_left_out() {
    let host = Host::new();
    let manifest = r#"{"manifest":1,"id":"a","name":"a","version":"1.0.0","capabilities":{
        "kv:read":{"reason":"r","groups":["g"],"optional":true}}}"#;
    let info = host.install(manifest).unwrap();
    assert!(info.missing.is_empty() && !info.asked.is_empty());
    host.activate("a").unwrap();
    // Nor is it asked about again.
    host.update(&manifest.replace("1.0.0", "1.1.0")).unwrap();
    assert!(host.packages.get(&id("a")).unwrap().granted.is_empty());
}

#[test]
fn p7_a_new_version_that_asks_for_more_stops_for_consent() {
    let host = Host::new();
    host.install(&asking("a", "1.0.0", &["x:1"])).unwrap();
    host.grant("a", &["http:egress"]).unwrap();
    host.activate("a").unwrap();
    let before = bundles(&host);
    let error = host.update(&asking("a", "1.1.0", &["x:1", "y:1"])).unwrap_err();
    assert_eq!(error.to_string(), "a 1.1.0 asks for what was not granted: http:egress (y:1)");
    let info = host.packages.get(&id("a")).unwrap();
    assert_eq!((info.version.as_str(), info.status), ("1.0.0", PackageStatus::Active));
    assert_eq!(host.running(), ["a 1.0.0"]);
    assert_eq!(bundles(&host), before, "the refused bundle was kept");
    let bundle = host.bundle(&asking("a", "1.1.0", &["x:1", "y:1"]));
    let info = host.packages.update(bundle, true, false).unwrap();
    assert_eq!((info.version.as_str(), info.status), ("1.1.0", PackageStatus::Active));
    assert_eq!(host.running(), ["a 1.1.0"]);
}

#[test]
fn p7_a_bundle_signed_again_with_more_capabilities_is_not_the_same_version() {
    let host = Host::new();
    host.install(&asking("a", "1.0.0", &["x:1"])).unwrap();
    host.grant("a", &["http:egress"]).unwrap();
    host.activate("a").unwrap();
    for again in [asking("a", "1.0.0", &["x:1", "y:1"]), plain("a", "1.0.0")] {
        let error = host.packages.update(host.bundle(&again), true, true).unwrap_err();
        assert!(error.to_string().contains("a new version needs a new number"), "{error}");
    }
    assert_eq!(host.running(), ["a 1.0.0"]);
}

#[test]
fn p7_what_a_version_did_without_must_be_granted_anew_to_the_next() {
    let host = Host::new();
    host.install(&asking("a", "1.0.0", &["x:1", "y:1"])).unwrap();
    host.grant("a", &["http:egress"]).unwrap();
    host.update(&asking("a", "1.1.0", &["x:1"])).unwrap();
    let error = host.update(&asking("a", "1.2.0", &["x:1", "y:1"])).unwrap_err();
    assert!(error.to_string().ends_with("http:egress (y:1)"), "{error}");
}

#[test]
fn p7_a_grant_that_is_taken_back_ends_what_needed_it() {
    let host = Host::new();
    host.install(&asking("a", "1.0.0", &["x:1"])).unwrap();
    host.grant("a", &["http:egress"]).unwrap();
    host.activate("a").unwrap();
    let info = host.revoke("a", "http:egress").unwrap();
    assert_eq!((info.status, info.granted.is_empty()), (PackageStatus::Disabled, true));
    assert!(host.running().is_empty());
}

#[test]
fn p8_an_older_version_comes_only_when_it_is_asked_for() {
    let host = Host::new();
    host.install(&plain("a", "1.0.0")).unwrap();
    host.activate("a").unwrap();
    host.update(&plain("a", "1.1.0")).unwrap();
    let error = host.update(&plain("a", "1.0.0")).unwrap_err();
    assert!(error.to_string().contains("older than 1.1.0"), "{error}");
    assert_eq!(host.packages.get(&id("a")).unwrap().versions, ["1.0.0"]);
    let info = host.packages.rollback(&id("a"), None, false).unwrap();
    assert_eq!((info.version.as_str(), info.status), ("1.0.0", PackageStatus::Active));
    assert_eq!(host.running(), ["a 1.0.0"]);
    // The memory of what was there outlives the package.
    host.disable("a").unwrap();
    host.packages.remove(&id("a"), false).unwrap();
    assert!(host.install(&plain("a", "1.0.5")).unwrap_err().to_string().contains("older than 1.1.0"));
    host.packages.install(host.bundle(&plain("a", "1.0.5")), true).unwrap();
}

#[test]
fn p8_a_version_whose_key_was_revoked_is_not_rolled_back_to() {
    let host = Host::new();
    host.install(&plain("a", "1.0.0")).unwrap();
    let new = host.world.another_key("new");
    host.world.trust(&new, "new", &["*"]);
    let bundle = file(&common::signed(&Tar::with(&plain("a", "1.1.0")).packed(), &new));
    host.packages.update(bundle, false, false).unwrap();
    host.world.change(|trust| {
        trust.revoke("friend", NOW).unwrap();
    });
    assert_eq!(host.packages.rollback(&id("a"), None, false).unwrap_err().kind(), ErrorKind::Untrusted);
    assert_eq!(host.packages.get(&id("a")).unwrap().version, "1.1.0");
}

#[test]
fn p8_old_versions_do_not_pile_up() {
    let host = Host::new();
    host.install(&plain("a", "1.0.0")).unwrap();
    for minor in 1..8 {
        host.update(&plain("a", &format!("1.{minor}.0"))).unwrap();
    }
    assert_eq!(host.packages.get(&id("a")).unwrap().versions, ["1.4.0", "1.5.0", "1.6.0"]);
    assert_eq!(bundles(&host).len(), 4);
}

#[test]
fn p10_a_conflict_says_who_needs_what() {
    let host = Host::new();
    host.install(&plain("db", "1.5.0")).unwrap();
    host.install(&needing("web", "1.0.0", "db", "^1.2")).unwrap();
    let said = |result: packages::Result<PackageInfo>| result.unwrap_err().to_string();
    assert_eq!(said(host.activate("web")), "web needs db ^1.2, which is not active");
    host.activate("db").unwrap();
    host.activate("web").unwrap();
    assert_eq!(said(host.update(&plain("db", "2.0.0"))), "web needs db ^1.2, not 2.0.0");
    assert_eq!(said(host.disable("db")), "web needs db ^1.2, which is not active");
    host.update(&plain("db", "1.6.0")).unwrap();
    host.packages.disable(&id("db"), true).unwrap();
    assert_eq!(host.runner.log.lock().unwrap().last_chunk::<2>().unwrap(), &["-web", "-db"]);
}

#[test]
fn p9_boot_starts_whoever_is_needed_first_and_shutdown_is_the_reverse() {
    let host = Host::new();
    for manifest in [plain("z", "1.0.0"), needing("m", "1.0.0", "z", "*"), needing("a", "1.0.0", "m", "*")] {
        host.install(&manifest).unwrap();
    }
    host.install(&plain("off", "1.0.0")).unwrap();
    for name in ["z", "m", "a"] {
        host.activate(name).unwrap();
    }
    let host = host.restart();
    assert_eq!(host.packages.get(&id("a")).unwrap().run, PackageRun::Unknown);
    assert!(host.packages.boot().unwrap().is_empty());
    assert!(host.packages.shutdown().unwrap().is_empty());
    assert_eq!(*host.runner.log.lock().unwrap(), ["+z", "+m", "+a", "-a", "-m", "-z"]);
    assert_eq!(host.packages.get(&id("a")).unwrap().status, PackageStatus::Active);
}

#[test]
fn p9_one_that_does_not_boot_takes_along_those_that_need_it_and_nobody_else() {
    let host = Host::new();
    for manifest in [plain("a", "1.0.0"), needing("b", "1.0.0", "a", "*"), plain("c", "1.0.0")] {
        let name = host.install(&manifest).unwrap().package_id;
        host.activate(&name).unwrap();
    }
    let digest = host.packages.get(&id("a")).unwrap().digest;
    let manifest = format!("bundles/sha256/{}/fs/manifest.json", digest.hex());
    std::fs::write(host.world.data().join(manifest), "").unwrap();
    let host = host.restart();
    assert_eq!(host.packages.boot().unwrap().len(), 2);
    assert_eq!(host.running(), ["c 1.0.0"]);
    let info = host.packages.get(&id("b")).unwrap();
    assert_eq!(info.run, PackageRun::Errored { reason: "b needs a *, which is not active".to_owned() });
}

#[test]
fn p8_bundles_that_nothing_refers_to_go_at_the_next_start() {
    let host = Host::new();
    host.install(&plain("a", "1.0.0")).unwrap();
    let kept = bundles(&host);
    host.packages.store().admit_file(host.bundle(&plain("b", "1.0.0")), NOW).unwrap();
    assert_eq!(bundles(&host).len(), 2);
    let host = host.restart();
    assert_eq!(bundles(&host), kept);
}

#[test]
fn b10_the_audit_log_shows_what_was_done_to_it() {
    let host = Host::new();
    host.install(&plain("a", "1.0.0")).unwrap();
    host.activate("a").unwrap();
    host.disable("a").unwrap();
    assert_eq!(host.packages.audit(None, 10, true).unwrap().1, Some(3));
    let path = host.world.data().join("state.db");
    let other = rusqlite::Connection::open(&path).unwrap();
    for statement in ["UPDATE audit SET actor = 'x'", "DELETE FROM audit WHERE number = 3"] {
        let error = other.execute(statement, []).unwrap_err().to_string();
        assert!(error.contains("only added to"), "{statement}: {error}");
    }
    // By somebody who takes the triggers away.
    let tamper = |statement: &str| {
        let copy = host.world.dir.path().join("copy.db");
        std::fs::remove_file(&copy).ok();
        other.execute("VACUUM INTO ?", [copy.to_str().unwrap()]).unwrap();
        let copy = rusqlite::Connection::open(&copy).unwrap();
        packages::audit::verify(&copy.unchecked_transaction().unwrap()).unwrap();
        let triggers = "DROP TRIGGER audit_is_not_changed; DROP TRIGGER audit_is_not_removed;";
        copy.execute_batch(triggers).unwrap();
        copy.execute_batch(statement).unwrap();
        match packages::audit::verify(&copy.unchecked_transaction().unwrap()) {
            Err(Error::Audit { number }) => number,
            other => panic!("{statement}: {other:?}"),
        }
    };
    assert_eq!(tamper("UPDATE audit SET detail = '{}' WHERE number = 2"), 2);
    assert_eq!(tamper("UPDATE audit SET outcome = 'denied' WHERE number = 1"), 1);
    assert_eq!(tamper("DELETE FROM audit WHERE number = 2"), 2);
    assert_eq!(tamper("DELETE FROM audit WHERE number = 1"), 1);
    assert_eq!(tamper("DELETE FROM audit WHERE number = 3"), 3);
    assert_eq!(tamper("UPDATE audit SET number = 9 WHERE number = 3"), 3);
}

#[test]
fn b10_an_audit_log_that_grows_while_it_is_checked_is_whole() {
    let host = Host::new();
    host.install(&plain("a", "1.0.0")).unwrap();
    let mut other = rusqlite::Connection::open(host.world.data().join("state.db")).unwrap();
    other.pragma_update(None, "synchronous", "OFF").unwrap();
    other.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for time in 0..2000 {
                let entry = AuditLine {
                    time,
                    actor: "a",
                    package: "a",
                    action: "ping",
                    outcome: AuditOutcome::Done,
                    detail: "{}",
                };
                let transaction =
                    other.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
                packages::audit::append(&transaction, &entry).unwrap();
                transaction.commit().unwrap();
            }
            ended.store(true, Ordering::Relaxed);
        });
        while !ended.load(Ordering::Relaxed) {
            let (last, whole) = host.packages.audit(None, 1, true).unwrap();
            assert_eq!(Some(last[0].number), whole, "the entries are of another moment");
        }
    });
    assert_eq!(host.packages.audit(None, 1, true).unwrap().1, Some(2001));
}

#[test]
fn p5_ten_thousand_are_listed_in_a_moment() {
    let host = Host::new();
    let digest = host.install(&asking("a", "1.0.0", &["x:1"])).unwrap().digest;
    let database = rusqlite::Connection::open(host.world.data().join("state.db")).unwrap();
    database
        .execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9999)
             INSERT INTO package SELECT 'p' || i, name, version, digest, status, asked, needed, granted, dependencies,
                 signers, installed, changed FROM package, n WHERE id = 'a';
             INSERT INTO version SELECT id, version, digest, 0 FROM package WHERE id <> 'a';",
        )
        .unwrap();
    let start = std::time::Instant::now();
    let list = host.packages.list().unwrap();
    let took = start.elapsed();
    assert_eq!(list.len(), 10_000);
    assert!(list.iter().all(|info| info.digest == digest && info.stale.is_none()));
    // An unoptimised build on a busy machine; the number to keep, 100 ms, is for an installed one.
    eprintln!("10,000 packages in {took:?}");
    assert!(took < std::time::Duration::from_secs(2), "{took:?}");
    let text = serde_json::to_string(&list[0]).unwrap();
    assert!(!text.contains(host.world.dir.path().to_str().unwrap()), "it tells a local path: {text}");
}

#[test]
fn p4_two_that_change_the_same_package_do_so_one_after_the_other() {
    let host = Host::new();
    host.install(&plain("a", "1.0.0")).unwrap();
    let packages: &Packages = &host.packages;
    let done = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| packages.activate(&id("a")).is_ok())).collect();
        threads.into_iter().filter_map(|thread| thread.join().unwrap().then_some(())).count()
    });
    assert_eq!(done, 1);
    assert_eq!(host.running(), ["a 1.0.0"]);
    packages.audit(None, 1, true).unwrap();
}
