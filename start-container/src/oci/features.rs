//! `features`: what this program can do, from the tables that it does it by.
//!
//! Source: OCI runtime spec, features.md.

use serde_json::json;

use super::{Context, criu, log};
use crate::engine::compile::{namespaces, options, process};
use crate::error::Result;

/// Seccomp actions, operators, flags and architectures that the compiler of filters takes.
const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];
const OPERATORS: [&str; 7] = [
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];
const FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

pub(super) fn features(context: &Context<'_>) -> Result<()> {
    let archs: &[&str] = if cfg!(target_arch = "x86_64") {
        &["SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"]
    } else {
        &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    };
    let capabilities: Vec<&str> =
        linux::caps::Capability::all().map(|capability| capability.name()).collect();
    let checkpoint = criu::find(context.criu.as_deref()).is_ok();
    let features = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.2.1",
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": options::words().collect::<Vec<_>>(),
        "linux": {
            "namespaces": namespaces::TYPES.map(|(name, _)| name),
            "capabilities": capabilities,
            "cgroup": {
                "v1": true,
                "v2": true,
                "systemd": true,
                "systemdUser": false,
                "rdma": true,
            },
            "seccomp": {
                "enabled": true,
                "actions": ACTIONS,
                "operators": OPERATORS,
                "archs": archs,
                "knownFlags": FLAGS,
                "supportedFlags": FLAGS,
            },
            "apparmor": {"enabled": true},
            "selinux": {"enabled": true},
            "intelRdt": {"enabled": true, "schemata": true, "monitoring": true},
            "mountExtensions": {"idmap": {"enabled": true}},
            "netDevices": {"enabled": true},
            "memoryPolicy": {
                "modes": process::MEMORY_MODES.map(|(name, ..)| name),
                "flags": process::MEMORY_FLAGS.map(|(name, ..)| name),
            },
        },
        "annotations": {
            "org.opencontainers.runtime.start-container.version": env!("CARGO_PKG_VERSION"),
            "org.opencontainers.runtime.start-container.checkpoint.enabled": checkpoint.to_string(),
        },
        "potentiallyUnsafeConfigAnnotations": ["org.criu.config", "org.systemd.property."],
    });
    log::stdout(&serde_json::to_string_pretty(&features).unwrap_or_default());
    Ok(())
}
