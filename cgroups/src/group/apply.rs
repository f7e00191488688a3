//! A plan's values into files, in an order that the kernel takes while processes run.

use std::os::fd::AsFd as _;

use rustix::io::Errno;

use super::{Group, Part};
use crate::controller::{Controller, Version};
use crate::dir;
use crate::error::{Error, Result};
use crate::plan::{Plan, Setting};

impl Group {
    pub(super) fn apply(&self, plan: &Plan) -> Result<()> {
        for (controller, planned) in &plan.parts {
            let mut settings: Vec<&Setting> = planned.settings.iter().collect();
            if settings.is_empty() {
                continue;
            }
            let Some(part) = self.part(*controller) else {
                // Planned for a hierarchy that the machine has had when it was probed.
                let setting = settings[0];
                return Err(Error::Write {
                    file: setting.files[0].clone(),
                    value: setting.values[0].clone(),
                    group: self.name.clone(),
                    source: Errno::NOENT,
                });
            };
            if (*controller, part.version()) == (Controller::Memory, Version::V1) {
                order_memory(part, &mut settings);
            }
            apply(part, &settings)?;
        }
        Ok(())
    }
}

fn apply(part: &Part, settings: &[&Setting]) -> Result<()> {
    let mut later = None;
    for setting in settings {
        match write(part, setting) {
            // A period that makes too much of the quota before it, which is about to change.
            Err(Error::Write { source: Errno::INVAL, .. }) if setting.files[0] == "cpu.cfs_period_us" => {
                later = Some(setting);
            }
            Err(Error::Write { source: Errno::BUSY, .. }) if setting.files[0] == "memory.limit_in_bytes" => {
                let limit = setting.values[0].parse().unwrap_or(0);
                let current = part.number("memory.usage_in_bytes").unwrap_or(0);
                return Err(Error::MemoryInUse { limit, current });
            }
            other => other?,
        }
    }
    later.map_or(Ok(()), |setting| write(part, setting))
}

/// Each of the files that is there gets its value.
fn write(part: &Part, setting: &Setting) -> Result<()> {
    let mut written = setting.implied;
    for (file, value) in setting.files.iter().zip(&setting.values) {
        match dir::write(part.dir.as_fd(), file, value) {
            Ok(()) => written = true,
            Err(Errno::NOENT) => {}
            Err(source) => return Err(failure(part, file, value, source)),
        }
    }
    if written {
        return Ok(());
    }
    Err(failure(part, &setting.files[0], &setting.values[0], Errno::NOENT))
}

fn failure(part: &Part, file: &str, value: &str, source: Errno) -> Error {
    Error::Write { file: file.to_owned(), value: value.to_owned(), group: part.label(), source }
}

/// v1 keeps "memory" at most "memory and swap" at every moment: whichever goes beyond the other's old value is
/// written last when going down, first when going up.
fn order_memory(part: &Part, settings: &mut [&Setting]) {
    let [memory, both, ..] = settings else { return };
    if memory.files[0] != "memory.limit_in_bytes" || both.files[0] != "memory.memsw.limit_in_bytes" {
        return;
    }
    let old = part.number("memory.memsw.limit_in_bytes").unwrap_or(u64::MAX);
    // -1 is without limit.
    let new = memory.values[0].parse::<u64>().unwrap_or(u64::MAX);
    if new > old {
        std::mem::swap(memory, both);
    }
}
