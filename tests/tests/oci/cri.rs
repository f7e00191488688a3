//! What a Kubernetes RuntimeClass asks for: containerd's CRI with ours as the handler, called as a kubelet does.
//!
//! Its protocol is gRPC: curl speaks HTTP/2, and the messages are few. Source: `k8s.io/cri-api`, `runtime/v1/api.proto`.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use prost::Message;
use tests::eventually;

use crate::containerd::{Containerd, with_containerd};
use crate::engines::Engine;
use crate::rig::{finish, installed};

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Clone, PartialEq, Message)]
struct Namespaces {
    /// 2: the node's. A network of its own is the business of a CNI plugin.
    #[prost(int32, tag = "1")]
    network: i32,
    /// 1: the container's.
    #[prost(int32, tag = "2")]
    pid: i32,
}

#[derive(Clone, PartialEq, Message)]
struct SandboxSecurity {
    #[prost(message, optional, tag = "1")]
    namespaces: Option<Namespaces>,
}

#[derive(Clone, PartialEq, Message)]
struct SandboxLinux {
    #[prost(string, tag = "1")]
    cgroup_parent: String,
    #[prost(message, optional, tag = "2")]
    security: Option<SandboxSecurity>,
    #[prost(map = "string, string", tag = "3")]
    sysctls: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct Sandbox {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Metadata>,
    #[prost(string, tag = "3")]
    log_directory: String,
    #[prost(message, optional, tag = "8")]
    linux: Option<SandboxLinux>,
}

#[derive(Clone, PartialEq, Message)]
struct RunSandbox {
    #[prost(message, optional, tag = "1")]
    config: Option<Sandbox>,
    #[prost(string, tag = "2")]
    handler: String,
}

/// What begins with an id: most requests, and the answers of those that make something.
#[derive(Clone, PartialEq, Message)]
struct Id {
    #[prost(string, tag = "1")]
    id: String,
    /// Of `StopContainer`, in seconds.
    #[prost(int64, tag = "2")]
    timeout: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerName {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    attempt: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Image {
    #[prost(string, tag = "1")]
    image: String,
}

#[derive(Clone, PartialEq, Message)]
struct Mount {
    #[prost(string, tag = "1")]
    inside: String,
    #[prost(string, tag = "2")]
    outside: String,
    #[prost(bool, tag = "3")]
    readonly: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Resources {
    #[prost(int64, tag = "4")]
    memory: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Capabilities {
    #[prost(string, repeated, tag = "2")]
    drop: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Number {
    #[prost(int64, tag = "1")]
    value: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Profile {
    /// 0: the engine's default.
    #[prost(int32, tag = "1")]
    typ: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Security {
    #[prost(message, optional, tag = "1")]
    capabilities: Option<Capabilities>,
    #[prost(message, optional, tag = "3")]
    namespaces: Option<Namespaces>,
    #[prost(message, optional, tag = "5")]
    user: Option<Number>,
    #[prost(bool, tag = "7")]
    readonly: bool,
    #[prost(bool, tag = "11")]
    no_new_privs: bool,
    #[prost(message, optional, tag = "15")]
    seccomp: Option<Profile>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerLinux {
    #[prost(message, optional, tag = "1")]
    resources: Option<Resources>,
    #[prost(message, optional, tag = "2")]
    security: Option<Security>,
}

#[derive(Clone, PartialEq, Message)]
struct Container {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ContainerName>,
    #[prost(message, optional, tag = "2")]
    image: Option<Image>,
    #[prost(string, repeated, tag = "3")]
    command: Vec<String>,
    #[prost(message, repeated, tag = "7")]
    mounts: Vec<Mount>,
    #[prost(string, tag = "11")]
    log_path: String,
    #[prost(message, optional, tag = "15")]
    linux: Option<ContainerLinux>,
}

#[derive(Clone, PartialEq, Message)]
struct CreateContainer {
    #[prost(string, tag = "1")]
    sandbox: String,
    #[prost(message, optional, tag = "2")]
    config: Option<Container>,
    #[prost(message, optional, tag = "3")]
    sandbox_config: Option<Sandbox>,
}

#[derive(Clone, PartialEq, Message)]
struct Exec {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, repeated, tag = "2")]
    command: Vec<String>,
    #[prost(int64, tag = "3")]
    timeout: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Executed {
    #[prost(bytes = "vec", tag = "1")]
    stdout: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    stderr: Vec<u8>,
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Update {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "2")]
    linux: Option<Resources>,
}

#[derive(Clone, PartialEq, Message)]
struct State {
    /// 1: it runs; 2: it has ended.
    #[prost(int32, tag = "3")]
    state: i32,
    #[prost(int32, tag = "7")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(message, optional, tag = "1")]
    status: Option<State>,
}

/// Calls a method. The text of its error, where it fails.
fn call<T: Message + Default>(engine: &Engine, method: &str, request: &impl Message) -> Result<T, String> {
    let body = request.encode_to_vec();
    let mut frame = vec![0];
    frame.extend((body.len() as u32).to_be_bytes());
    frame.extend(body);
    let [sent, headers, answer] = ["sent", "headers", "answer"].map(|name| engine.path(name));
    fs::write(&sent, frame).unwrap();
    let mut curl = Command::new("curl");
    curl.args([
        "-sS",
        "--http2-prior-knowledge",
        "-H",
        "content-type: application/grpc",
        "-H",
        "te: trailers",
    ])
    .arg("--unix-socket")
    .arg(engine.path("socket"))
    .arg("--data-binary")
    .arg(format!("@{}", sent.display()))
    .arg("-D")
    .arg(&headers)
    .arg("-o")
    .arg(&answer)
    .arg(format!("http://localhost/runtime.v1.RuntimeService/{method}"));
    finish(&mut curl).ok();
    let headers = fs::read_to_string(headers).unwrap();
    if !headers.lines().any(|line| line.trim() == "grpc-status: 0") {
        return Err(headers);
    }
    Ok(T::decode(&fs::read(answer).unwrap()[5..]).unwrap())
}

/// A pause image of busybox, and the settings by which a handler is ours.
fn prepare(engine: &Engine, snapshotter: &str) -> String {
    let layout = engine.path("layout");
    let busybox = format!("oci-archive:{}", tests::image::busybox().display());
    let pause = format!("{}:pause", layout.display());
    finish(Command::new("skopeo").args(["copy", "-q", &busybox, &format!("oci:{pause}")])).ok();
    let entry = ["--clear=config.cmd", "--config.entrypoint", "sleep", "--config.entrypoint", "1000000"];
    finish(Command::new("umoci").args(["config", "--image", &pause]).args(entry)).ok();
    let archive = format!("oci-archive:{}:pause", engine.path("pause.tar").display());
    finish(Command::new("skopeo").args(["copy", "-q", &format!("oci:{pause}"), &archive])).ok();
    // Not every root may lower the score of processes.
    format!(
        "[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"localhost/pause:pause\"\nrestrict_oom_score_adj = true\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd]\nsnapshotter = {snapshotter:?}\ndefault_runtime_name = \"ours\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.ours]\nruntime_type = \"io.containerd.runc.v2\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.ours.options]\nBinaryName = {:?}\n",
        engine.runtime()
    )
}

fn import(containerd: &Containerd, name: &str, archive: &Path) {
    let base = format!("localhost/{name}");
    let flags =
        ["-n", "k8s.io", "images", "import", "--snapshotter", containerd.snapshotter, "--base-name", &base];
    containerd.ctr(&[&flags[..], &[archive.to_str().unwrap()]].concat()).ok();
}

#[test]
fn o1_a_runtime_class_of_kubernetes_runs_pods() {
    for program in ["curl", "skopeo", "umoci"] {
        if !installed(program) {
            tests::skip!("{program} is not installed");
        }
    }
    with_containerd(prepare, &[], |containerd| {
        let engine = &containerd.engine;
        import(containerd, "pause", &engine.path("pause.tar"));
        import(containerd, "busybox", &tests::image::busybox());
        let logs = engine.path("logs");
        let namespaces = Some(Namespaces { network: 2, pid: 1 });
        let metadata = Metadata { name: "pod".into(), uid: "1".into(), namespace: "here".into() };
        let sandbox = Sandbox {
            metadata: Some(metadata),
            log_directory: logs.display().to_string(),
            linux: Some(SandboxLinux {
                cgroup_parent: "/pods".into(),
                security: Some(SandboxSecurity { namespaces: namespaces.clone() }),
                sysctls: [("kernel.msgmax".into(), "8000".into())].into(),
            }),
        };
        let run = |handler: &str| RunSandbox { config: Some(sandbox.clone()), handler: handler.into() };
        let refused = call::<Id>(engine, "RunPodSandbox", &run("others")).unwrap_err();
        assert!(refused.contains("others"), "{refused}");
        let pod = call::<Id>(engine, "RunPodSandbox", &run("ours")).unwrap();
        let ours = |arguments: &[&str]| {
            let mut ours = Command::new(engine.runtime());
            finish(ours.args(["--root", "/run/containerd/runc/k8s.io"]).args(arguments))
        };
        assert_eq!(ours(&["list", "--quiet"]).ok().out(), pod.id, "it is ours that runs it");

        let volume = engine.path("volume");
        fs::create_dir(&volume).unwrap();
        fs::write(volume.join("file"), "kept").unwrap();
        let create = |name: &str, script: &str| {
            let mount = Mount { inside: "/v".into(), outside: volume.display().to_string(), readonly: true };
            let security = Security {
                capabilities: Some(Capabilities { drop: vec!["ALL".into()] }),
                namespaces: namespaces.clone(),
                user: Some(Number { value: 12 }),
                readonly: true,
                no_new_privs: true,
                seccomp: Some(Profile { typ: 0 }),
            };
            let config = Container {
                metadata: Some(ContainerName { name: name.into(), attempt: 0 }),
                image: Some(Image { image: "localhost/busybox:busybox".into() }),
                command: ["sh", "-c", script].map(str::to_owned).to_vec(),
                mounts: vec![mount],
                log_path: format!("{name}.log"),
                linux: Some(ContainerLinux {
                    resources: Some(Resources { memory: 33_554_432 }),
                    security: Some(security),
                }),
            };
            let request = CreateContainer {
                sandbox: pod.id.clone(),
                config: Some(config),
                sandbox_config: Some(sandbox.clone()),
            };
            let made = call::<Id>(engine, "CreateContainer", &request).unwrap();
            call::<Id>(engine, "StartContainer", &made).unwrap();
            made
        };
        let status = |id: &Id| {
            let id = Id { id: id.id.clone(), timeout: 0 };
            call::<Status>(engine, "ContainerStatus", &id).unwrap().status.unwrap()
        };

        let one = create("one", "echo started; trap 'exit 3' TERM; while :; do sleep 0.1; done");
        assert_eq!(status(&one).state, 1);
        eventually("its log is kept", || {
            fs::read_to_string(logs.join("one.log")).is_ok_and(|text| text.ends_with("stdout F started\n"))
        });
        let exec = |script: &str| {
            let command = ["sh", "-c", script].map(str::to_owned).to_vec();
            let request = Exec { id: one.id.clone(), command, timeout: 10 };
            let done = call::<Executed>(engine, "ExecSync", &request).unwrap();
            (done.code, String::from_utf8(done.stdout).unwrap())
        };
        let said = exec(
            "id -u; cat /v/file; echo; grep -E 'CapEff|NoNew|Seccomp:' /proc/self/status; cat /proc/sys/kernel/msgmax",
        );
        let expected = "12\nkept\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n8000\n";
        assert_eq!(said, (0, expected.to_owned()));
        assert_eq!(exec("touch /x 2>/dev/null || exit 7").0, 7);
        let update = Update { id: one.id.clone(), linux: Some(Resources { memory: 67_108_864 }) };
        call::<Id>(engine, "UpdateContainerResources", &update).unwrap();
        let read = |path: String| fs::read_to_string(format!("/sys/fs/cgroup/{path}")).ok();
        let limit = read(format!("memory/pods/{}/memory.limit_in_bytes", one.id))
            .or_else(|| read(format!("pods/{}/memory.max", one.id)));
        assert_eq!(limit.unwrap().trim(), "67108864");
        call::<Id>(engine, "StopContainer", &Id { id: one.id.clone(), timeout: 5 }).unwrap();
        assert_eq!((status(&one).state, status(&one).code), (2, 3));
        call::<Id>(engine, "RemoveContainer", &one).unwrap();

        // One that ends by itself, and one that is gone with its pod.
        let two = create("two", "exit 9");
        eventually("it ends", || status(&two).state == 2);
        assert_eq!(status(&two).code, 9);
        create("three", "exec sleep 1000");
        call::<Id>(engine, "StopPodSandbox", &pod).unwrap();
        call::<Id>(engine, "RemovePodSandbox", &pod).unwrap();
        assert_eq!(ours(&["list", "--quiet"]).out(), "");
        crate::engines::tidy_groups("pods");
    });
}
