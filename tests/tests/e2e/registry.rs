//! Pull from a real registry.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tests::cli::finish;
use tests::{Cli, image, isolated};

/// Debian's docker-registry on the loopback of this test, filled by skopeo.
pub(super) struct Registry(Child);

impl Registry {
    pub(super) fn start(cli: &Cli) -> Self {
        let config = cli.data().join("registry.yml");
        let storage = cli.data().join("registry");
        fs::create_dir(&storage).unwrap();
        let text = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:5000\n",
            storage.display()
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let registry = Self(command.spawn().unwrap());
        let start = Instant::now();
        while std::net::TcpStream::connect("127.0.0.1:5000").is_err() {
            assert!(start.elapsed() < Duration::from_secs(10), "the registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    fn push(&self, name: &str) {
        self.push_from(&format!("oci-archive:{}", image::busybox().display()), name);
    }

    /// Copies something that skopeo can name.
    pub(super) fn push_from(&self, source: &str, name: &str) {
        let target = format!("docker://127.0.0.1:5000/{name}");
        let mut skopeo = Command::new("skopeo");
        skopeo.args([
            "--insecure-policy",
            "--tmpdir",
            "/tmp",
            "copy",
            "-q",
            "--dest-tls-verify=false",
            source,
            &target,
        ]);
        finish(skopeo, b"").ok();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn i2_an_image_is_pulled_and_runs() {
    isolated(|| {
        let cli = Cli::new();
        let registry = Registry::start(&cli);
        registry.push("library/busybox:1");
        let _ = cli
            .run(["image", "pull", "--insecure", "127.0.0.1:5000/library/busybox:1", "--name", "busybox"])
            .ok();
        let rootfs = cli.create_fs("busybox");
        let said = cli.run(["subcontainer", "launch", &rootfs.path, "echo", "pulled"]).ok().out();
        assert_eq!(said, "pulled");
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn i2_what_is_not_there_is_an_error_that_names_it() {
    isolated(|| {
        let cli = Cli::new();
        let _registry = Registry::start(&cli);
        let said = cli.run(["image", "pull", "--insecure", "127.0.0.1:5000/no/such:image"]).failed(125);
        assert!(said.contains("no/such"), "{said}");
        let said = cli.run(["image", "pull", "--insecure", "127.0.0.1:1/no/such:image"]).failed(125);
        assert!(said.contains("127.0.0.1:1"), "{said}");
        let said = cli.run(["image", "pull", "not a reference"]).failed(125);
        assert!(said.contains("not a reference"), "{said}");
    });
}
