//! Labels of mandatory access control: the profile or context that a program is executed with.
//!
//! Applied where the kernel has them, refused where they are asked for and it has not.

use linux::spawn::Op;
use oci_spec::runtime::Process;

use super::invalid;
use crate::error::Result;

/// Steps that set what the next `execve` takes, while the machine's own `/proc` is in place (CVE-2019-16884).
pub(crate) fn steps(process: &Process) -> Result<Vec<Op>> {
    let mut ops = Vec::new();
    if let Some(profile) = process.apparmor_profile().as_deref().filter(|name| !name.is_empty()) {
        if !has_apparmor() {
            return Err(invalid("process.apparmorProfile", "this kernel has no AppArmor"));
        }
        let own = rustix::fs::stat("/proc/thread-self/attr/apparmor/exec").is_ok();
        let path = if own { c"/proc/thread-self/attr/apparmor/exec" } else { c"/proc/thread-self/attr/exec" };
        let bytes = format!("exec {profile}").into_bytes();
        ops.push(Op::WriteFile { path: path.to_owned(), bytes, optional: false });
    }
    if let Some(label) = process.selinux_label().as_deref().filter(|label| !label.is_empty()) {
        if !has_selinux() {
            return Err(invalid("process.selinuxLabel", "this kernel has no SELinux"));
        }
        let path = c"/proc/thread-self/attr/exec".to_owned();
        ops.push(Op::WriteFile { path, bytes: label.as_bytes().to_vec(), optional: false });
    }
    Ok(ops)
}

/// Whether AppArmor is on.
pub(crate) fn has_apparmor() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"))
}

/// Whether SELinux is on.
pub(crate) fn has_selinux() -> bool {
    rustix::fs::stat("/sys/fs/selinux/enforce").is_ok()
}
