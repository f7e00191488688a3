//! Locks by name, for jobs of clients.

use serde_json::{Value, json};
use tests::{Host, eventually, isolated};

#[test]
fn s25_a_lock_has_one_holder_and_those_who_wait_come_in_their_order() {
    isolated(|| {
        let host = Host::start();
        let (mut first, mut second, mut third) = (host.connect(), host.connect(), host.connect());
        let name = json!({"name": "backup:people", "purpose": "nightly"});
        first.call("lock.acquire", name.clone());
        for rpc in [&mut first, &mut second] {
            let error = rpc.call_fails("lock.acquire", name.clone());
            assert_eq!(error.kind(), "busy");
            assert!(error.message.contains("held by tests (process "), "{}", error.message);
            assert!(error.message.contains("): nightly, for 0 s"), "{}", error.message);
        }
        assert_eq!(second.call_fails("lock.release", json!({"name": "backup:people"})).kind(), "notFound");
        let wait = json!({"name": "backup:people", "wait": true});
        let tired = second.send("lock.acquire", wait.clone());
        let patient = second.send("lock.acquire", wait.clone());
        // Answered in order: the one behind is known to the host by now.
        second.call("subcontainer.list", json!({}));
        let last = third.send("lock.acquire", wait);
        third.call("subcontainer.list", json!({}));
        second.notify("$/cancelRequest", json!({"id": tired}));
        assert_eq!(second.answer(tired).unwrap_err().code, -32800);
        first.call("lock.release", json!({"name": "backup:people"}));
        second.answer(patient).unwrap();
        // Whoever goes gives it back.
        drop(second);
        third.answer(last).unwrap();
        third.call("lock.release", json!({"name": "backup:people"}));
        first.call("lock.acquire", name);
    });
}

#[test]
fn s25_locks_of_no_name_or_without_end_are_refused() {
    isolated(|| {
        let host = Host::start();
        let mut rpc = host.connect();
        for name in [Value::from(""), "x".repeat(256).into(), "a\nb".into(), "\u{1b}[31m".into()] {
            assert_eq!(rpc.call_fails("lock.acquire", json!({"name": name})).kind(), "invalid");
        }
        let purpose = json!({"name": "a", "purpose": "a\u{7}"});
        assert_eq!(rpc.call_fails("lock.acquire", purpose).kind(), "invalid");
        for number in 0..256 {
            rpc.call("lock.acquire", json!({"name": format!("lock {number}")}));
        }
        assert_eq!(rpc.call_fails("lock.acquire", json!({"name": "one more"})).kind(), "exhausted");
        let mut other = host.connect();
        other.call("lock.acquire", json!({"name": "one more"}));
        drop(rpc);
        eventually("they are free", || other.try_call("lock.acquire", json!({"name": "lock 255"})).is_ok());
    });
}
