//! From an object store: s3rver, which `cargo xtask setup` installs.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tests::cli::finish;
use tests::{Cli, Host, image, isolated};

use super::super::packages::Author;
use super::{left, plain};

const ADDRESS: &str = "127.0.0.1:4568";

/// Objects of the bucket `team`, kept in a directory of the test's. Its one key is S3RVER with the secret S3RVER.
struct Objects(Child);

impl Objects {
    fn start(cli: &Cli) -> Self {
        let program = "xtask/runtimes/s3rver/node_modules/s3rver/bin/s3rver.js";
        let program = image::target_directory().join(program);
        assert!(program.exists(), "{} is missing: run `cargo xtask setup` first", program.display());
        let mut node = Command::new("node");
        let (address, port) = ADDRESS.split_once(':').unwrap();
        node.arg(program).arg("-d").arg(cli.data().join("objects")).args(["-a", address, "-p", port]);
        node.args(["--configure-bucket", "team"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let objects = Self(node.spawn().unwrap());
        let start = Instant::now();
        while std::net::TcpStream::connect(ADDRESS).is_err() {
            assert!(start.elapsed() < Duration::from_secs(30), "the object store does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        objects
    }

    fn put(&self, file: &str, key: &str) {
        let mut curl = Command::new("curl");
        curl.args([
            "-sSf",
            "-H",
            "x-amz-content-sha256: UNSIGNED-PAYLOAD",
            "--aws-sigv4",
            "aws:amz:us-east-1:s3",
        ]);
        curl.args(["--user", "S3RVER:S3RVER", "-T", file]).arg(format!("http://{ADDRESS}/team/{key}"));
        finish(curl, b"").ok();
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// `package install` with this in its environment.
fn install(cli: &Cli, source: &str, environment: &[(&str, &str)]) -> tests::Finished {
    let mut command = cli.command(["package", "install", "--insecure", source]);
    command.env("AWS_ENDPOINT_URL", format!("http://{ADDRESS}")).env("AWS_REGION", "us-east-1");
    command.envs(environment.iter().copied());
    finish(command, b"")
}

const OURS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "S3RVER"), ("AWS_SECRET_ACCESS_KEY", "S3RVER")];

#[test]
fn p8_a_bundle_comes_from_an_object_store() {
    isolated(|| {
        let host = Host::start();
        let cli = host.cli();
        let objects = Objects::start(cli);
        let author = Author::trusted(cli);
        objects.put(&author.bundle(cli, &plain("1.0.0")), "dist/notes%20one.bundle.tar.zst");
        let source = "s3://team/dist/notes one.bundle.tar.zst";
        assert_eq!(install(cli, source, &OURS).ok().out(), "notes 1.0.0 is installed");
        cli.run(["package", "remove", "notes"]).ok();
        // From a profile, as other programs have it.
        let profile = cli.data().join("credentials");
        std::fs::write(&profile, "[work]\naws_access_key_id = S3RVER\naws_secret_access_key = S3RVER\n")
            .unwrap();
        let profile = [("AWS_SHARED_CREDENTIALS_FILE", profile.to_str().unwrap()), ("AWS_PROFILE", "work")];
        install(cli, source, &profile).ok();
        cli.run(["package", "remove", "notes"]).ok();
        // The signature decides.
        cli.run(["package", "trust", "revoke", "author"]).ok();
        assert!(install(cli, source, &OURS).failed(125).contains("was revoked"));
        assert!(left(cli).is_empty(), "{:?}", left(cli));
        // Nobody was told who asked.
        let mut grep = Command::new("grep");
        grep.args(["-rl", "S3RVER"]).arg(cli.data().join("bundles")).arg(cli.data().join("state.db"));
        assert_eq!(finish(grep, b"").code, 1, "a key was written down");
    });
}

#[test]
fn p8_an_object_that_does_not_come_is_an_error_that_names_it() {
    isolated(|| {
        let host = Host::start();
        let cli = host.cli();
        let objects = Objects::start(cli);
        let author = Author::trusted(cli);
        objects.put(&author.bundle(cli, &plain("1.0.0")), "notes");
        let said = install(cli, "s3://team/none", &OURS).failed(125);
        assert!(said.contains("cannot fetch s3://team/none"), "{said}");
        let said = install(cli, "s3://none/notes", &OURS).failed(125);
        assert!(said.contains("cannot fetch s3://none/notes"), "{said}");
        let stranger = [("AWS_ACCESS_KEY_ID", "stranger"), ("AWS_SECRET_ACCESS_KEY", "secret-of-a-stranger")];
        let said = install(cli, "s3://team/notes", &stranger).failed(125);
        assert!(said.contains("cannot fetch s3://team/notes") && !said.contains("secret-of"), "{said}");
        let mut plain = cli.command(["package", "install", "s3://team/notes"]);
        plain.env("AWS_ENDPOINT_URL", format!("http://{ADDRESS}")).env("AWS_REGION", "us-east-1").envs(OURS);
        finish(plain, b"").failed(125);
        for bad in ["s3://team", "s3://T/x", "s3://team/"] {
            assert!(install(cli, bad, &OURS).failed(125).contains(bad), "{bad}");
        }
        assert!(left(cli).is_empty(), "{:?}", left(cli));
    });
}
