//! What the kernel counts for the machine, and how much of it there is.

use rustix::process::{Resource, getrlimit};

use super::{Finding, useful};

/// A setting, what is enough for a few hundred containers, and what fewer cost.
const SETTINGS: [(&str, &str, u64, &str); 9] = [
    (
        "inotify-instances",
        "fs/inotify/max_user_instances",
        512,
        "programs that watch files (many servers, all of Node's) fail with EMFILE after that many, in all containers without \
         a user namespace together",
    ),
    (
        "inotify-watches",
        "fs/inotify/max_user_watches",
        65_536,
        "programs that watch many files fail with ENOSPC, in all containers without a user namespace together",
    ),
    ("pids", "kernel/pid_max", 32_768, "that many processes and threads on the whole machine"),
    ("threads", "kernel/threads-max", 15_000, "that many threads on the whole machine"),
    ("mounts", "fs/mount-max", 10_000, "a container with more mounts is refused"),
    (
        "keyrings",
        "kernel/keys/root_maxkeys",
        10_000,
        "each container takes a session keyring: after that many none starts",
    ),
    ("terminals", "kernel/pty/max", 1024, "that many terminals in all containers together"),
    ("user-namespaces", "user/max_user_namespaces", 1000, "that many containers with --userns and sandboxes"),
    (
        "network-namespaces",
        "user/max_net_namespaces",
        1000,
        "that many containers with a network of their own",
    ),
];

/// Descriptors that a host with a few hundred containers holds.
const DESCRIPTORS: u64 = 16_384;

pub(super) fn examine() -> Vec<Finding> {
    let mut all: Vec<Finding> = SETTINGS
        .iter()
        .map(|(name, path, enough, cost)| {
            let text = std::fs::read_to_string(format!("/proc/sys/{path}"));
            let tried = match text.map(|text| text.trim().parse::<u64>()) {
                Ok(Ok(value)) if value >= *enough => Ok(format!("{value}")),
                Ok(Ok(value)) => Err(format!("{value}; {enough} are enough ({})", path.replace('/', "."))),
                // Not known here, so not limited here.
                _ => Ok("not counted".into()),
            };
            useful(name, tried, cost)
        })
        .collect();
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let tried = match most {
        u64::MAX => Ok("without limit".into()),
        most if most >= DESCRIPTORS => Ok(most.to_string()),
        most => Err(format!("{most}; {DESCRIPTORS} are enough (ulimit -Hn)")),
    };
    all.push(useful(
        "descriptors",
        tried,
        "a daemon started like this holds no more than some hundred containers",
    ));
    all
}
