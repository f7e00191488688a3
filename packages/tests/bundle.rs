//! Bundles by hand, most of them hostile.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use common::{NOW, Tar, World, everything, file, manifest, pack, package, signed};
use packages::bundle::{Limits, Refusal, Sealed};
use packages::{Error, Store, Trust};
use protocol::ErrorKind;

/// What taking these bytes in, signed by a friend, is refused for.
#[track_caller]
fn refused(payload: &[u8]) -> Error {
    let world = World::new();
    let store = world.store();
    let before = everything(&world.data());
    let error = store.admit(&mut world.signed(payload).as_slice(), NOW).unwrap_err();
    assert_eq!(everything(&world.data()), before, "something was left behind");
    error
}

#[track_caller]
fn entry_refused(tar: Tar) -> Refusal {
    match refused(&tar.packed()) {
        Error::Entry { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

fn small() -> Vec<u8> {
    Tar::with(&manifest("notes", "1.0.0")).file("assets/a", b"hello").packed()
}

#[test]
fn p1_the_same_files_give_the_same_bytes_wherever_and_whenever_they_are_packed() {
    let dir = tempfile::tempdir().unwrap();
    let files: &[(&str, &[u8])] = &[("assets/b", b"2"), ("assets/a/c", b"1"), ("ui/index.html", b"<p>")];
    package(&dir.path().join("one"), &manifest("notes", "1.0.0"), files);
    let other: Vec<_> = files.iter().rev().copied().collect();
    package(&dir.path().join("two"), &manifest("notes", "1.0.0"), &other);
    fs::write(dir.path().join("two/source.ts"), "not packed").unwrap();
    let old = fs::File::options().write(true).open(dir.path().join("two/assets/b")).unwrap();
    old.set_modified(std::time::UNIX_EPOCH).unwrap();
    fs::set_permissions(dir.path().join("two/assets/b"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(pack(&dir.path().join("one")).unwrap(), pack(&dir.path().join("two")).unwrap());
}

#[test]
fn p1_a_bundle_is_what_tar_and_zstd_read() {
    let dir = tempfile::tempdir().unwrap();
    package(&dir.path().join("p"), &manifest("notes", "1.0.0"), &[("assets/a", b"hello")]);
    let key = packages::keys::PrivateKey::create(&dir.path().join("key")).unwrap();
    let bytes = signed(&pack(&dir.path().join("p")).unwrap(), &key);
    fs::write(dir.path().join("b"), bytes).unwrap();
    let plain = zstd::decode_all(fs::File::open(dir.path().join("b")).unwrap()).unwrap();
    let mut names = Vec::new();
    for entry in tar::Archive::new(plain.as_slice()).entries().unwrap() {
        names.push(entry.unwrap().path().unwrap().display().to_string());
    }
    assert_eq!(names, ["manifest.json", "assets/a"]);
}

#[test]
fn p2_what_a_trusted_key_signed_is_taken_in_and_its_files_are_there() {
    let world = World::new();
    let store = world.store();
    let stored = store.admit(&mut world.signed(&small()).as_slice(), NOW).unwrap();
    assert_eq!(stored.manifest.id.as_str(), "notes");
    assert_eq!(stored.signers[0].name.as_str(), "friend");
    let place = world.data().join("bundles/sha256").join(stored.digest.hex()).join("fs/assets/a");
    assert_eq!(fs::read(place).unwrap(), b"hello");
    store.check(&stored.digest, NOW).unwrap();
    // Again: it is there already.
    assert_eq!(store.admit(&mut world.signed(&small()).as_slice(), NOW).unwrap().digest, stored.digest);
    store.remove(&stored.digest).unwrap();
    assert_eq!(store.get(&stored.digest, NOW).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(everything(&world.data()).iter().all(|path| !path.contains(&stored.digest.hex())));
}

#[test]
fn p2_the_signature_covers_every_byte_code_too() {
    let world = World::new();
    let store = world.store();
    let good = world.signed(&small());
    // The envelope's own bytes are JSON with a signature; all that follow are the payload.
    let start = good.len() - small().len();
    for at in (start..good.len()).chain([good.len()]) {
        let mut bad = good.clone();
        match bad.get_mut(at) {
            Some(byte) => *byte ^= 1,
            None => bad.push(0),
        }
        let error = store.admit(&mut bad.as_slice(), NOW).unwrap_err();
        let early = matches!(error, Error::Bundle(Refusal::Compression(_))) && at < start + 4;
        assert!(early || error.kind() == ErrorKind::Untrusted, "byte {at}: {error}");
    }
    let code = Tar::with(&manifest("notes", "1.0.0")).file("assets/a", b"hallo").packed();
    let mut swapped = good[..start].to_vec();
    swapped.extend_from_slice(&code);
    let error = store.admit(&mut swapped.as_slice(), NOW).unwrap_err();
    assert!(error.to_string().contains("not for these bytes"), "{error}");
}

#[test]
fn p2_nothing_of_a_bundle_is_decompressed_before_somebody_vouches_for_it() {
    // A frame that no decompressor takes: whoever looks into it says so.
    let broken = [&0xFD2F_B528_u32.to_le_bytes()[..], &[0xff; 64]].concat();
    let world = World::stranger();
    for bytes in [broken.clone(), world.signed(&broken)] {
        let error = world.store().admit(&mut bytes.as_slice(), NOW).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Untrusted, "{error}");
    }
    assert!(matches!(refused(&broken), Error::Bundle(Refusal::Compression(_))));
}

#[test]
fn p2_unsigned_or_signed_by_a_stranger_is_not_trusted_and_says_why() {
    let world = World::stranger();
    let store = world.store();
    let said = |bytes: &[u8]| store.admit(&mut &*bytes, NOW).unwrap_err().to_string();
    assert!(said(&small()).contains("nobody has signed it"));
    let text = said(&world.signed(&small()));
    assert!(
        text.contains(&world.key.public().to_string()) && text.contains("not in the trust file"),
        "{text}"
    );
}

#[test]
fn p2_a_key_signs_the_packages_it_is_trusted_with_and_no_others() {
    let world = World::stranger();
    world.trust(&world.key, "alice", &["com.alice.*", "notes"]);
    let store = world.store();
    let admit = |id: &str| {
        store.admit(&mut world.signed(&Tar::with(&manifest(id, "1.0.0")).packed()).as_slice(), NOW)
    };
    for good in ["notes", "com.alice.a", "com.alice.a.b"] {
        admit(good).unwrap();
    }
    for bad in ["com.alice", "com.alicex.a", "notes2", "org.bob"] {
        let error = admit(bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Untrusted, "{bad}");
        assert!(error.to_string().contains("com.alice.*, notes, not with"), "{error}");
    }
}

#[test]
fn p2_a_key_without_packages_may_sign_nothing() {
    let world = World::new();
    world.change(|trust| trust.keys[0].packages.clear());
    let error = world.store().admit(&mut world.signed(&small()).as_slice(), NOW).unwrap_err();
    assert!(error.to_string().contains("trusted with none"), "{error}");
}

#[test]
fn p2_the_key_is_never_taken_from_the_bundle_or_from_what_is_installed() {
    let world = World::new();
    let store = world.store();
    let digest = store.admit(&mut world.signed(&small()).as_slice(), NOW).unwrap().digest;
    world.change(|trust| trust.keys.clear());
    let error = store.get(&digest, NOW).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Untrusted);
}

#[test]
fn p2_a_revoked_key_ends_the_use_and_an_expired_one_only_the_entry() {
    let world = World::new();
    let store = world.store();
    let bytes = world.signed(&small());
    world.change(|trust| trust.keys[0].expires = Some(NOW + 1));
    let digest = store.admit(&mut bytes.as_slice(), NOW).unwrap().digest;
    let error = store.admit(&mut bytes.as_slice(), NOW + 1).unwrap_err();
    assert!(error.to_string().contains("has expired"), "{error}");
    store.check(&digest, NOW + 1).unwrap();
    world.change(|trust| {
        trust.revoke("friend", NOW).unwrap();
    });
    for error in [
        store.admit(&mut bytes.as_slice(), NOW).unwrap_err(),
        store.get(&digest, NOW).unwrap_err(),
        store.check(&digest, NOW).unwrap_err(),
    ] {
        assert!(error.to_string().contains("was revoked"), "{error}");
    }
}

#[test]
fn p2_keys_are_exchanged_by_signing_with_both() {
    let world = World::new();
    let new = world.another_key("new");
    let both = signed(&world.signed(&small()), &new);
    let sealed = Sealed::open(file(&both), &Limits::default()).unwrap();
    assert_eq!(sealed.envelope().signatures.len(), 2);
    assert_eq!(sealed.digest(), packages::Digest::of(&small()), "signing does not change what a bundle is");
    let store = world.store();
    let digest = store.admit(&mut both.as_slice(), NOW).unwrap().digest;
    world.change(|trust| {
        trust.revoke("friend", NOW).unwrap();
    });
    assert!(store.get(&digest, NOW).is_err());
    world.trust(&new, "friend, again", &["notes"]);
    assert_eq!(store.get(&digest, NOW).unwrap().signers[0].key, new.public());
}

#[test]
fn p2_a_revoked_key_cannot_be_trusted_again_by_mistake() {
    let world = World::new();
    let mut trust = Trust::read(&world.data().join("trust.json")).unwrap();
    let mut again = trust.keys[0].clone();
    trust.revoke("friend", NOW).unwrap();
    again.revoked = None;
    assert_eq!(trust.add(again).unwrap_err().kind(), ErrorKind::Exists);
    assert_eq!(trust.revoke("friend", NOW).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn p2_a_trust_file_that_others_may_write_to_is_refused() {
    let world = World::new();
    let path = world.data().join("trust.json");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let error = world.store().admit(&mut world.signed(&small()).as_slice(), NOW).unwrap_err();
    assert!(error.to_string().contains("may write to it"), "{error}");
    fs::remove_file(&path).unwrap();
    symlink("/etc/hostname", &path).unwrap();
    assert!(Trust::read(&path).is_err());
}

#[test]
fn p2_a_private_key_that_others_may_read_is_refused() {
    let world = World::stranger();
    let path = world.dir.path().join("key");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let error = packages::keys::PrivateKey::read(&path).unwrap_err();
    assert!(error.to_string().contains("chmod 600"), "{error}");
    assert!(packages::keys::PrivateKey::create(&path).is_err(), "it overwrote a key");
}

#[test]
fn p2_a_signature_for_something_else_is_none_for_a_bundle() {
    // What the digest alone, without the domain, was signed for.
    let world = World::new();
    let text = fs::read_to_string(world.dir.path().join("key")).unwrap();
    let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD;
    let pair =
        ring::signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(&engine.decode(body).unwrap()).unwrap();
    let payload = small();
    let bare = pair.sign(packages::Digest::of(&payload).bytes());
    let envelope = serde_json::json!({ "signatures": [
        { "key": world.key.public(), "signature": engine.encode(bare.as_ref()) }
    ]})
    .to_string();
    let bytes = with_envelope(envelope.as_bytes(), &payload);
    let error = world.store().admit(&mut bytes.as_slice(), NOW).unwrap_err();
    assert!(error.to_string().contains("not for these bytes"), "{error}");
}

fn with_envelope(envelope: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(envelope.len()).unwrap().to_le_bytes();
    [&0x184D_2A5C_u32.to_le_bytes()[..], &length, envelope, payload].concat()
}

#[test]
fn p2_an_envelope_that_is_odd_is_refused() {
    let world = World::new();
    let good = serde_json::to_value(
        Sealed::open(file(&world.signed(&small())), &Limits::default()).unwrap().envelope(),
    )
    .unwrap();
    let one = good["signatures"][0].clone();
    let mut short = one.clone();
    short["signature"] = "AAAA".into();
    let mut extra = one.clone();
    extra["algorithm"] = "none".into();
    for bad in [
        "{}".to_owned(),
        "[".to_owned(),
        r#"{"signatures":[]}"#.to_owned(),
        serde_json::json!({ "signatures": [one, one] }).to_string(),
        serde_json::json!({ "signatures": [short] }).to_string(),
        serde_json::json!({ "signatures": [extra] }).to_string(),
        serde_json::json!({ "signatures": [one], "trusted": true }).to_string(),
    ] {
        let error =
            Sealed::open(file(&with_envelope(bad.as_bytes(), &small())), &Limits::default()).unwrap_err();
        assert!(matches!(error, Error::Bundle(Refusal::Envelope(_))), "{bad}: {error}");
    }
    let long = with_envelope(&[b' '; 17 << 10], &small());
    assert!(Sealed::open(file(&long), &Limits::default()).is_err());
    // A second envelope behind the first would be skipped by some and read by others.
    let twice = with_envelope(good.to_string().as_bytes(), &world.signed(&small()));
    assert!(Sealed::open(file(&twice), &Limits::default()).is_err());
    for cut in 0..40 {
        assert!(Sealed::open(file(&world.signed(&small())[..cut]), &Limits::default()).is_err(), "{cut}");
    }
}

#[test]
fn p2_files_that_were_changed_in_the_store_are_found_at_use() {
    let changes: [fn(&std::path::Path); 6] = [
        |fs| fs::write(fs.join("assets/a"), "hellO").unwrap(),
        |fs| fs::write(fs.join("assets/b"), "").unwrap(),
        |fs| fs::remove_file(fs.join("assets/a")).unwrap(),
        |fs| fs::set_permissions(fs.join("assets/a"), fs::Permissions::from_mode(0o755)).unwrap(),
        |fs| {
            fs::rename(fs.join("assets/a"), fs.join("assets/x")).unwrap();
            symlink("x", fs.join("assets/a")).unwrap();
        },
        |fs| {
            fs::remove_dir_all(fs.join("assets")).unwrap();
            symlink("/etc", fs.join("assets")).unwrap();
        },
    ];
    for (number, change) in changes.iter().enumerate() {
        let world = World::new();
        let store = world.store();
        let bytes = world.signed(&small());
        let digest = store.admit(&mut bytes.as_slice(), NOW).unwrap().digest;
        let root = world.data().join("bundles/sha256").join(digest.hex()).join("fs");
        change(&root);
        assert!(store.check(&digest, NOW).is_err(), "change {number} was not seen");
        // Taking it in again mends it.
        store.admit(&mut bytes.as_slice(), NOW).unwrap();
        store.check(&digest, NOW).unwrap();
    }
}

#[test]
fn p3_only_regular_files_are_in_a_bundle() {
    use tar::EntryType as T;
    for kind in [
        T::Symlink,
        T::Link,
        T::Directory,
        T::Char,
        T::Block,
        T::Fifo,
        T::Continuous,
        T::XHeader,
        T::GNUSparse,
    ] {
        let tar = Tar::with(&manifest("notes", "1.0.0")).entry("assets/a", b"", |header| {
            header.set_entry_type(kind);
            if matches!(kind, T::Symlink | T::Link) {
                header.set_link_name("../../etc/passwd").unwrap();
            }
        });
        assert_eq!(entry_refused(tar), Refusal::NotCanonical, "{kind:?}");
    }
}

#[test]
fn p3_a_header_that_differs_by_a_bit_from_the_one_form_is_refused() {
    let odd: [fn(&mut tar::Header); 9] = [
        |header| header.set_mode(0o4755),
        |header| header.set_mode(0o777),
        |header| header.set_uid(1),
        |header| header.set_gid(1),
        |header| header.set_mtime(1),
        |header| header.as_ustar_mut().unwrap().uname[0] = b'a',
        |header| header.as_ustar_mut().unwrap().linkname[0] = b'a',
        |header| header.as_ustar_mut().unwrap().pad[0] = 1,
        |header| header.as_old_mut().name[50] = b'x',
    ];
    for (number, odd) in odd.into_iter().enumerate() {
        let tar = Tar::with(&manifest("notes", "1.0.0")).entry("assets/a", b"x", odd);
        assert_eq!(entry_refused(tar), Refusal::NotCanonical, "{number}");
    }
    let mut tar = Tar::with(&manifest("notes", "1.0.0")).file("assets/a", b"x");
    let last = tar.0.len() - 1;
    tar.0[last] = 1;
    assert_eq!(entry_refused(tar), Refusal::NotCanonical, "padding");
}

#[test]
fn p3_paths_that_leave_clash_or_come_twice_are_refused() {
    let one = |path: &str| entry_refused(Tar::with(&manifest("notes", "1.0.0")).file(path, b""));
    for bad in
        ["../a", "assets/../../a", "/etc/passwd", "assets//a", "assets/./a", "assets/a\\b", "assets/e\u{301}"]
    {
        assert!(matches!(one(bad), Refusal::Path(_)), "{bad}");
    }
    for bad in ["a", "bin/sh", "assets", "ASSETS/a", "manifest.json", "manifest.yaml"] {
        assert!(matches!(one(bad), Refusal::Place), "{bad}");
    }
    let two =
        |a: &str, b: &str| entry_refused(Tar::with(&manifest("notes", "1.0.0")).file(a, b"").file(b, b""));
    assert_eq!(two("assets/a", "assets/a"), Refusal::Order);
    assert_eq!(two("assets/b", "assets/a"), Refusal::Order);
    assert!(matches!(two("assets/A", "assets/a"), Refusal::Clash(_)));
    assert!(matches!(two("assets/a", "assets/a/b"), Refusal::Clash(_)));
    assert!(matches!(two("assets/STRASSE", "assets/straße"), Refusal::Clash(_)));
}

#[test]
fn p3_what_a_bundle_may_use_of_the_machine_is_limited() {
    let world = World::new();
    let zeros = vec![0; 4 << 20];
    let tar =
        || Tar::with(&manifest("notes", "1.0.0")).file("assets/a", &zeros).file("assets/b", b"").packed();
    let with = |limits: Limits| {
        let store = Store::open(&world.data()).unwrap().with_limits(limits);
        store.admit(&mut world.signed(&tar()).as_slice(), NOW).unwrap_err().to_string()
    };
    let small = Limits::default;
    for (limits, word) in [
        (Limits { compressed: 100, ..small() }, "limit of 100 bytes"),
        (Limits { expanded: 1 << 20, ..small() }, "expands to over the limit"),
        (Limits { file: 1 << 20, ..small() }, "over the limit of 1048576 bytes"),
        (Limits { files: 2, ..small() }, "more than 2 files"),
        (Limits { ratio_from: 1 << 20, ..small() }, "more than 250 times"),
    ] {
        let said = with(limits);
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn p3_a_window_that_would_take_memory_is_refused() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    std::io::Write::write_all(&mut encoder, &Tar::with(&manifest("notes", "1.0.0")).end().0).unwrap();
    let payload = encoder.finish().unwrap();
    assert!(matches!(refused(&payload), Error::Bundle(Refusal::Compression(_))));
}

#[test]
fn p3_an_archive_that_is_cut_off_or_goes_on_is_refused() {
    let tar = Tar::with(&manifest("notes", "1.0.0")).file("assets/a", &[1; 700]).end().0;
    for cut in [100, 512, 600, 1024, 1500, tar.len() - 1024, tar.len() - 512] {
        let error = refused(&zstd::encode_all(&tar[..cut], 3).unwrap());
        assert!(matches!(error, Error::Bundle(Refusal::Truncated)), "{cut}: {error}");
    }
    let trailing = |bytes: &[u8]| matches!(refused(bytes), Error::Bundle(Refusal::Trailing));
    assert!(trailing(&zstd::encode_all([&tar[..], &[0]].concat().as_slice(), 3).unwrap()));
    let whole = zstd::encode_all(tar.as_slice(), 3).unwrap();
    assert!(trailing(&[&whole[..], b"x"].concat()));
    assert!(trailing(&[&whole[..], &whole[..]].concat()), "a second frame");
    let cut = &whole[..whole.len() - 1];
    assert!(matches!(refused(cut), Error::Bundle(Refusal::Truncated | Refusal::Compression(_))));
}

#[test]
fn p2_a_bundle_whose_manifest_is_not_first_or_names_what_is_not_there_is_refused() {
    assert!(matches!(
        refused(&Tar::new().file("assets/a", b"").packed()),
        Error::Bundle(Refusal::NoManifest)
    ));
    let text = r#"{"manifest":1,"id":"notes","name":"n","version":"1.0.0",
        "entries":{"w":{"worker":{"script":"entries/w.js"}}}}"#;
    assert!(matches!(entry_refused(Tar::with(text)), Refusal::Missing(_)));
    let unknown =
        r#"{"manifest":1,"id":"notes","name":"n","version":"1.0.0","capabilities":{"root:all":{}}}"#;
    let error = refused(&Tar::with(unknown).packed());
    let Error::Manifest { source, .. } = &error else { panic!("{error}") };
    assert!(source.reason.contains("root:all"), "{source}");
}

#[test]
fn p3_pack_refuses_what_no_host_would_take() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| {
        let path = dir.path().join(name);
        package(&path, &manifest("notes", "1.0.0"), &[("assets/a", b"x")]);
        path
    };
    let link = at("link");
    symlink("/etc/passwd", link.join("assets/l")).unwrap();
    let outside = at("outside");
    fs::remove_dir_all(outside.join("assets")).unwrap();
    symlink("/etc", outside.join("assets")).unwrap();
    let fifo = at("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, fifo.join("assets/f"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    for path in [link, outside, fifo] {
        let error = pack(&path).unwrap_err();
        assert!(matches!(error, Error::Entry { reason: Refusal::Kind, .. }), "{error}");
    }
    let case = at("case");
    fs::write(case.join("assets/A"), "").unwrap();
    assert!(matches!(pack(&case).unwrap_err(), Error::Entry { reason: Refusal::Clash(_), .. }));
    let two = at("two");
    fs::write(two.join("manifest.yaml"), "manifest: 1").unwrap();
    assert!(matches!(pack(&two).unwrap_err(), Error::Manifest { .. }));
}

#[test]
fn p1_what_a_killed_import_left_is_gone_when_the_store_is_opened_again() {
    let world = World::new();
    drop(world.store());
    let left = world.data().join("bundles/tmp/dead");
    fs::create_dir_all(left.join("fs/assets")).unwrap();
    let held = world.data().join("bundles/tmp/alive");
    fs::create_dir(&held).unwrap();
    let handle = fs::File::open(&held).unwrap();
    rustix::fs::flock(&handle, rustix::fs::FlockOperation::LockExclusive).unwrap();
    drop(world.store());
    assert!(!left.exists() && held.exists());
}
