//! Pulls from a real registry (Debian's docker-registry), filled by skopeo.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Data, Layer, Layout, Tar, chain, hex};
use images::rootfs::Options;
use images::{Cancel, Credentials, Error, Pull, Rootfs, Silent, Store};
use protocol::ErrorKind;
use protocol::image::ImageInfo;
use serde_json::json;

const USER: &str = "me";
const PASSWORD: &str = "s3cret";
/// bcrypt of it.
const HASH: &str = "$2y$05$abcdefghijklmnopqrstuuLK7U1u6pVRmL7L1BBM2aS35PSZnDXlK";

struct Registry {
    dir: tempfile::TempDir,
    address: String,
    child: Child,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Registry {
    fn new(locked: bool) -> Self {
        let dir = tempfile::Builder::new().prefix("images-registry-").tempdir_in("/tmp").unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}/data}}, delete: {{enabled: true}}}}\nhttp: {{addr: {address}}}\n",
            dir.path().display()
        );
        if locked {
            fs::write(dir.path().join("htpasswd"), format!("{USER}:{HASH}\n")).unwrap();
            config.push_str(&format!(
                "auth: {{htpasswd: {{realm: test, path: {}/htpasswd}}}}\n",
                dir.path().display()
            ));
        }
        fs::write(dir.path().join("config.yml"), config).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(dir.path().join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed by cargo xtask test");
        let started = Instant::now();
        while TcpStream::connect(&address).is_err() {
            assert!(started.elapsed() < Duration::from_secs(20), "the registry does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { dir, address, child }
    }

    /// Copies a layout into the registry.
    fn push(&self, layout: &Path, name: &str) {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["copy", "-q", "--all", "--preserve-digests", "--dest-tls-verify=false"]);
        skopeo.args(["--dest-creds", &format!("{USER}:{PASSWORD}")]);
        skopeo.arg(format!("oci:{}", layout.display())).arg(format!("docker://{}/{name}", self.address));
        let output = skopeo.output().unwrap();
        assert!(output.status.success(), "skopeo: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn blob(&self, hex: &str) -> PathBuf {
        self.dir.path().join("data/docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }
}

/// Bytes that do not compress, different for each seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

/// Five layers, the second with a size worth interrupting.
fn app() -> Layout {
    let layer = |number: u64| {
        let size = if number == 1 { 3 << 20 } else { 40_000 };
        Layer::gzip(&Tar::new().file(&format!("f{number}"), &noise(number, size)).end())
    };
    Layout::new((0..5).map(layer).collect())
}

fn filled(locked: bool) -> (Registry, Layout, tempfile::TempDir) {
    let registry = Registry::new(locked);
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let layout = app();
    registry.push(&layout.directory(dir.path()), "team/app:1");
    (registry, layout, dir)
}

fn what(reference: &str, credentials: Credentials) -> Pull<'_> {
    Pull { reference, name: Some("app"), platform: None, credentials, insecure: true }
}

fn pull(store: &Store, reference: &str) -> Result<ImageInfo, Error> {
    store.pull(&what(reference, Credentials::Anonymous), &Silent, &Cancel::new())
}

fn check(data: &Data, image: &ImageInfo) {
    let rootfs = Rootfs::create(&data.store, &image.digest, Options::default()).unwrap();
    assert_eq!(fs::read(rootfs.path().join("f1")).unwrap(), noise(1, 3 << 20));
    assert_eq!(fs::read(rootfs.path().join("f4")).unwrap(), noise(4, 40_000));
    Rootfs::destroy(&data.path(), rootfs.guid()).unwrap();
    data.assert_clean();
}

#[test]
fn i2_an_image_is_pulled_by_tag_and_by_digest() {
    let (registry, layout, dir) = filled(false);
    let data = Data::new();
    let image = pull(&data.store, &format!("{}/team/app:1", registry.address))
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!((image.names.as_slice(), image.layers.len()), (&["app".to_owned()][..], 5));
    assert_eq!(image.digest, format!("sha256:{}", hex(layout.config.to_string().as_bytes())));
    check(&data, &image);
    assert_eq!(
        data.import(dir.path(), Some("imported")).unwrap().digest,
        image.digest,
        "pulled and imported are one"
    );
    data.store.remove(&image.digest).unwrap();
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.path().join("index.json")).unwrap()).unwrap();
    let manifest = index["manifests"][0]["digest"].as_str().unwrap();
    let by_digest = format!("{}/team/app@{manifest}", registry.address);
    check(&data, &pull(&data.store, &by_digest).unwrap());
    // Without a name of its own it is called as it was asked for.
    let reference = format!("{}/team/app:1", registry.address);
    let unnamed = Pull { name: None, ..what(&reference, Credentials::Anonymous) };
    let image = data.store.pull(&unnamed, &Silent, &Cancel::new()).unwrap();
    assert_eq!(image.names, [reference, "app".to_owned()]);
}

#[test]
fn i2_wrong_bytes_are_refused() {
    let (registry, layout, _dir) = filled(false);
    let data = Data::new();
    let reference = format!("{}/team/app:1", registry.address);
    let victim = layout.blobs[3].0.clone();
    let good = fs::read(registry.blob(&victim)).unwrap();
    let mut bad = good.clone();
    bad[20_000] ^= 1;
    fs::write(registry.blob(&victim), &bad).unwrap();
    let error = pull(&data.store, &reference).unwrap_err();
    let text = chain(&error);
    assert!(text.starts_with(&format!("layer sha256:{victim} has digest sha256:{}", hex(&bad))), "{text}");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(data.store.list().unwrap().is_empty());
    assert!(!data.path().join("store/partial").join(&victim).exists(), "wrong bytes are not kept");
    // A config that is not the one that was promised.
    fs::write(registry.blob(&victim), &good).unwrap();
    let config = hex(layout.config.to_string().as_bytes());
    let text = layout.config.to_string();
    fs::write(registry.blob(&config), text.replace("PATH=/bin", "PATH=/bad")).unwrap();
    let error = chain(&pull(&data.store, &reference).unwrap_err());
    assert!(error.contains(&config) && error.contains("has digest"), "{error}");
    fs::write(registry.blob(&config), text).unwrap();
    check(&data, &pull(&data.store, &reference).unwrap());
}

#[test]
fn i2_what_is_not_there_is_named() {
    let (registry, layout, _dir) = filled(false);
    let data = Data::new();
    let cases = [
        (format!("{}/team/app:2", registry.address), "manifest unknown"),
        (format!("{}/nobody/app:1", registry.address), "fetch manifest"),
        ("127.0.0.1:1/team/app:1".to_owned(), "127.0.0.1:1: cannot fetch manifest"),
        ("Not A Reference".to_owned(), "image reference"),
    ];
    for (reference, expected) in cases {
        let error = pull(&data.store, &reference).unwrap_err();
        assert!(chain(&error).contains(expected), "{reference}: {}", chain(&error));
        assert!(matches!(error.kind(), ErrorKind::Network | ErrorKind::Invalid), "{error:?}");
    }
    fs::remove_file(registry.blob(&layout.blobs[2].0)).unwrap();
    let error = chain(&pull(&data.store, &format!("{}/team/app:1", registry.address)).unwrap_err());
    assert!(error.contains(&format!("fetch layer sha256:{}", layout.blobs[2].0)), "{error}");
    assert!(data.store.list().unwrap().is_empty());
    data.store.gc(&Silent).unwrap();
    data.assert_clean();
}

/// A proxy that hears what is asked and cuts the first long answer after so many bytes.
struct Proxy {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn new(to: &str, cut_after: usize, cuts: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let left = Arc::new(Mutex::new(cuts));
        let (to, heard) = (to.to_owned(), Arc::clone(&asked));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(&to).unwrap());
                let (mut client_in, mut server_out) =
                    (client.try_clone().unwrap(), server.try_clone().unwrap());
                let heard = Arc::clone(&heard);
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(read @ 1..) = client_in.read(&mut buffer) {
                        heard.lock().unwrap().push(String::from_utf8_lossy(&buffer[..read]).into_owned());
                        if server_out.write_all(&buffer[..read]).is_err() {
                            break;
                        }
                    }
                });
                let (mut client_out, mut server_in, left) = (client, server, Arc::clone(&left));
                std::thread::spawn(move || {
                    let mut buffer = [0; 16_384];
                    let mut passed = 0;
                    while let Ok(read @ 1..) = server_in.read(&mut buffer) {
                        passed += read;
                        let mut left = left.lock().unwrap();
                        if passed > cut_after && *left > 0 {
                            *left -= 1;
                            break;
                        }
                        drop(left);
                        if client_out.write_all(&buffer[..read]).is_err() {
                            break;
                        }
                    }
                    _ = client_out.shutdown(std::net::Shutdown::Both);
                    _ = server_in.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        Self { address, asked }
    }

    fn ranges(&self) -> Vec<u64> {
        let asked = self.asked.lock().unwrap();
        let starts = asked.iter().flat_map(|text| text.lines().map(str::to_lowercase).collect::<Vec<_>>());
        starts
            .filter_map(|line| line.strip_prefix("range: bytes=")?.trim_end_matches('-').parse().ok())
            .filter(|start| *start > 0)
            .collect()
    }
}

#[test]
fn i2_a_broken_connection_is_taken_up_where_it_broke() {
    let (registry, _layout, _dir) = filled(false);
    let data = Data::new();
    let proxy = Proxy::new(&registry.address, 1 << 20, 2);
    let image = pull(&data.store, &format!("{}/team/app:1", proxy.address))
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    check(&data, &image);
    let ranges = proxy.ranges();
    assert_eq!(ranges.len(), 2, "{ranges:?}");
    assert!(ranges[0] > 900_000 && ranges[1] > ranges[0] + 900_000, "{ranges:?}");
}

#[test]
fn i2_a_broken_pull_is_taken_up_by_the_next() {
    let (registry, _layout, _dir) = filled(false);
    let data = Data::new();
    let broken = Proxy::new(&registry.address, 1 << 20, usize::MAX);
    let reference = format!("{}/team/app:1", broken.address);
    let cancel = Cancel::new();
    struct Stop(Cancel);
    impl images::Progress for Stop {
        fn update(&self, stage: &str, done: u64, _total: Option<u64>) {
            if stage.starts_with("fetch") && done > 900_000 {
                self.0.cancel();
            }
        }
    }
    let result = data.store.pull(&what(&reference, Credentials::Anonymous), &Stop(cancel.clone()), &cancel);
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    assert!(data.store.list().unwrap().is_empty());
    assert!(fs::read_dir(data.path().join("store/tmp")).unwrap().next().is_none());
    let whole = Proxy::new(&registry.address, usize::MAX, 0);
    check(&data, &pull(&data.store, &format!("{}/team/app:1", whole.address)).unwrap());
    let ranges = whole.ranges();
    assert!(ranges.iter().any(|start| *start > 900_000), "{ranges:?}");
}

#[test]
fn i2_a_connection_that_always_breaks_is_an_error_in_the_end() {
    let (registry, layout, _dir) = filled(false);
    let data = Data::new();
    // Not even the first bytes of a layer pass.
    let proxy = Proxy::new(&registry.address, 10_000, usize::MAX);
    let error = pull(&data.store, &format!("{}/team/app:1", proxy.address)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network, "{}", chain(&error));
    assert!(chain(&error).contains(&proxy.address), "{}", chain(&error));
    assert!(data.store.list().unwrap().is_empty() && layout.blobs.len() == 5);
}

#[test]
fn i2_the_image_for_the_platform_is_chosen_from_an_index() {
    let registry = Registry::new(false);
    let data = Data::new();
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let mut manifests = Vec::new();
    for platform in ["amd64", "arm64/v8", "arm/v6", "arm/v7"] {
        let mut layout =
            Layout::new(vec![Layer::gzip(&Tar::new().file("platform", platform.as_bytes()).end())]);
        let mut parts = platform.split('/');
        let (architecture, variant) = (parts.next().unwrap(), parts.next());
        layout.config["architecture"] = json!(architecture);
        layout.directory(dir.path());
        let index: serde_json::Value =
            serde_json::from_slice(&fs::read(dir.path().join("index.json")).unwrap()).unwrap();
        let mut manifest = index["manifests"][0].clone();
        manifest["platform"] = json!({"os": "linux", "architecture": architecture});
        if let Some(variant) = variant {
            manifest["platform"]["variant"] = json!(variant);
        }
        manifests.push(manifest);
    }
    let list = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests}).to_string();
    fs::write(dir.path().join("blobs/sha256").join(hex(list.as_bytes())), &list).unwrap();
    let index = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.index.v1+json", "digest": format!("sha256:{}", hex(list.as_bytes())), "size": list.len(),
    }]});
    fs::write(dir.path().join("index.json"), index.to_string()).unwrap();
    registry.push(dir.path(), "multi:1");
    let reference = format!("{}/multi:1", registry.address);
    for (wanted, expected) in [
        ("linux/arm64", "arm64/v8"),
        ("linux/arm/v6", "arm/v6"),
        ("linux/arm", "arm/v7"),
        ("linux/amd64/v3", "amd64"),
    ] {
        let pull = Pull { platform: Some(wanted), ..what(&reference, Credentials::Anonymous) };
        let image = data
            .store
            .pull(&pull, &Silent, &Cancel::new())
            .unwrap_or_else(|error| panic!("{wanted}: {}", chain(&error)));
        let rootfs = Rootfs::create(&data.store, &image.digest, Options::default()).unwrap();
        assert_eq!(fs::read_to_string(rootfs.path().join("platform")).unwrap(), expected, "{wanted}");
    }
    let image = pull(&data.store, &reference).unwrap();
    assert_eq!(
        image.architecture,
        std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64")
    );
    let none = Pull { platform: Some("linux/s390x"), ..what(&reference, Credentials::Anonymous) };
    let error = data.store.pull(&none, &Silent, &Cancel::new()).unwrap_err();
    assert!(chain(&error).ends_with(
        "has no image for linux/s390x, only for linux/amd64, linux/arm64/v8, linux/arm/v6, linux/arm/v7"
    ));
    // The same index, imported from its directory.
    assert_eq!(data.import(dir.path(), Some("imported")).unwrap().digest, image.digest);
}

/// Where the test below is told what to pull, when it runs as somebody's child with an environment of its own.
const CHILD: &str = "IMAGES_TEST_PULL";

#[test]
fn i2_a_pull_in_a_process_of_its_own() {
    if let Ok(told) = std::env::var(CHILD) {
        let (dir, reference) = told.split_once('=').unwrap();
        let store = Store::open(dir.as_ref()).unwrap();
        let result = store.pull(&what(reference, Credentials::Configured), &Silent, &Cancel::new());
        std::process::exit(match result {
            Ok(_) => 0,
            Err(error) => {
                std::fs::write(format!("{dir}.error"), chain(&error)).unwrap();
                if error.kind() == ErrorKind::Unauthorized { 2 } else { 1 }
            }
        });
    }
    let (registry, _layout, _dir) = filled(false);
    let data = Data::new();
    check(&data, &pull(&data.store, &format!("{}/team/app:1", registry.address)).unwrap());
}

#[test]
fn i2_credentials_come_from_where_docker_and_podman_keep_them() {
    let (registry, _layout, _dir) = filled(true);
    let data = Data::new();
    let reference = format!("{}/team/app:1", registry.address);
    let error = pull(&data.store, &reference).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{}", chain(&error));
    assert_eq!(chain(&error), format!("{}: credentials refused for team/app", registry.address));
    let basic = |password: &str| Credentials::Basic { user: USER.to_owned(), password: password.to_owned() };
    let error =
        data.store.pull(&what(&reference, basic("wrong-secret")), &Silent, &Cancel::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(!format!("{error:?} {:?}", basic("wrong-secret")).contains("wrong-secret"));
    check(&data, &data.store.pull(&what(&reference, basic(PASSWORD)), &Silent, &Cancel::new()).unwrap());

    // The files and programs, in a process whose environment says where.
    let auth = |password: &str| json!({"auths": {registry.address.clone(): {"auth": base64(&format!("{USER}:{password}"))}}});
    let bin = data.dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let helper = bin.join("docker-credential-test");
    let script = format!(
        "#!/bin/sh\nread server\n[ \"$1 $server\" = 'get {}' ] || {{ echo 'credentials not found in native keychain'; exit 1; }}\necho '{{\"Username\":\"{USER}\",\"Secret\":\"{PASSWORD}\"}}'\n",
        registry.address
    );
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let cases = [
        ("DOCKER_CONFIG", "config.json", auth(PASSWORD), 0),
        ("REGISTRY_AUTH_FILE", "", auth(PASSWORD), 0),
        ("HOME", ".docker/config.json", auth(PASSWORD), 0),
        ("HOME", ".config/containers/auth.json", auth(PASSWORD), 0),
        ("DOCKER_CONFIG", "config.json", json!({"credHelpers": {registry.address.clone(): "test"}}), 0),
        ("DOCKER_CONFIG", "config.json", json!({"credsStore": "test"}), 0),
        ("DOCKER_CONFIG", "config.json", json!({"credsStore": "missing-program"}), 2),
        ("DOCKER_CONFIG", "config.json", auth("wrong-secret"), 2),
        ("DOCKER_CONFIG", "config.json", json!({}), 2),
    ];
    for (number, (variable, file, config, expected)) in cases.into_iter().enumerate() {
        data.store.remove("app").ok();
        let place = data.dir.path().join(format!("config-{number}"));
        let path = if file.is_empty() { place.clone() } else { place.join(file) };
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, config.to_string()).unwrap();
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "i2_a_pull_in_a_process_of_its_own"])
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
            .env(variable, &place)
            .env(CHILD, format!("{}={reference}", data.path().display()))
            .stdout(Stdio::null())
            .status()
            .unwrap();
        let told = fs::read_to_string(data.dir.path().join("d.error")).unwrap_or_default();
        assert_eq!(status.code(), Some(expected), "{variable} {file} {config}: {told}");
        assert!(!told.contains("secret"), "{told}");
        fs::remove_file(data.dir.path().join("d.error")).ok();
    }
}

fn base64(text: &str) -> String {
    let output =
        Command::new("sh").args(["-c", "printf %s \"$1\" | base64 -w0", "sh", text]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}
