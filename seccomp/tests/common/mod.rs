//! A machine for classic BPF, and what a filter should say by a direct reading of the rules.
#![allow(dead_code, reason = "each test uses its part")]

use linux::seccomp::Instruction;
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};
use seccomp::Abi;

/// What a filter is asked: `struct seccomp_data` without the instruction pointer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) arch: u32,
    pub(crate) number: u32,
    pub(crate) args: [u64; 6],
}

/// What a filter returned, and how many instructions it took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Returned {
    pub(crate) value: u32,
    pub(crate) steps: usize,
    /// An argument was read, so that the kernel cannot remember the answer.
    pub(crate) read_an_argument: bool,
}

/// Runs a program as the kernel would, and panics at what the kernel would not take.
pub(crate) fn run(program: &[Instruction], call: &Call) -> Returned {
    let data = |offset: u32| -> u32 {
        let arg = |index: u32| call.args[index as usize];
        match offset {
            0 => call.number,
            4 => call.arch,
            16..64 if offset.is_multiple_of(8) => (arg((offset - 16) / 8) & 0xffff_ffff) as u32,
            16..64 if offset % 8 == 4 => (arg((offset - 16) / 8) >> 32) as u32,
            _ => panic!("no word of struct seccomp_data at {offset}"),
        }
    };
    let (mut at, mut accumulator, mut steps, mut read_an_argument) = (0, 0, 0, false);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        steps += 1;
        let jump = |holds: bool| usize::from(if holds { jt } else { jf });
        match code {
            0x20 => {
                accumulator = data(k);
                read_an_argument |= k >= 16;
            }
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => at += jump(accumulator == k),
            0x25 => at += jump(accumulator > k),
            0x35 => at += jump(accumulator >= k),
            0x06 => return Returned { value: k, steps, read_an_argument },
            _ => panic!("unknown instruction {code:#x}"),
        }
    }
}

fn value(action: LinuxSeccompAction, errno: Option<u32>) -> u32 {
    use LinuxSeccompAction as A;
    match action {
        A::ScmpActKill | A::ScmpActKillThread => 0,
        A::ScmpActKillProcess => 0x8000_0000,
        A::ScmpActTrap => 0x3_0000,
        A::ScmpActErrno => 0x5_0000 + errno.unwrap_or(1),
        A::ScmpActTrace => 0x7ff0_0000 + errno.unwrap_or(1),
        A::ScmpActLog => 0x7ffc_0000,
        A::ScmpActAllow => 0x7fff_0000,
        A::ScmpActNotify => unreachable!(),
    }
}

/// seccomp(2): "in descending order of precedence".
fn precedence(value: u32) -> usize {
    [0x8000_0000, 0, 0x3_0000, 0x5_0000, 0x7ff0_0000, 0x7ffc_0000, 0x7fff_0000]
        .iter()
        .position(|action| *action == value & 0xffff_0000)
        .unwrap()
}

fn holds(arg: &LinuxSeccompArg, abi: Abi, args: &[u64; 6]) -> bool {
    use LinuxSeccompOperator as O;
    let word = |value: u64| if matches!(abi, Abi::X86 | Abi::Arm) { value & 0xffff_ffff } else { value };
    let (it, value, two) = (word(args[arg.index()]), word(arg.value()), word(arg.value_two().unwrap_or(0)));
    match arg.op() {
        O::ScmpCmpNe => it != value,
        O::ScmpCmpLt => it < value,
        O::ScmpCmpLe => it <= value,
        O::ScmpCmpEq => it == value,
        O::ScmpCmpGe => it >= value,
        O::ScmpCmpGt => it > value,
        O::ScmpCmpMaskedEq => it & value == two & value,
    }
}

fn matches(rule: &LinuxSyscall, abi: Abi, args: &[u64; 6]) -> bool {
    let conditions = rule.args().as_deref().unwrap_or_default();
    let twice = conditions.iter().any(|a| conditions.iter().filter(|b| a.index() == b.index()).count() > 1);
    let mut each = conditions.iter().map(|condition| holds(condition, abi, args));
    if twice { each.any(|holds| holds) } else { each.all(|holds| holds) }
}

/// What the rules say, read one by one: see the documentation of the crate.
pub(crate) fn expected(filter: &LinuxSeccomp, native: Abi, call: &Call) -> u32 {
    let default = value(filter.default_action(), filter.default_errno_ret());
    let (errno, refuses) = (default & 0xffff_0000 == 0x5_0000, precedence(default) <= 3);
    let enosys = 0x5_0000 + 38;
    let listed = |abi: Abi| {
        abi == native
            || native.of_one_kernel().contains(&abi)
                && filter.architectures().iter().flatten().any(|arch| *arch == abi.arch())
    };
    let x32 = call.arch == Abi::X32.audit_arch() && call.number & 0x4000_0000 != 0;
    let abi = Abi::ALL.into_iter().find(|&abi| {
        listed(abi) && abi.audit_arch() == call.arch && (abi == Abi::X32) == (x32 && abi != Abi::X86)
    });
    // A number outside x32's bit alone, such as -1, is x86_64's where x32 is not listed.
    let abi = match abi {
        None if x32 && call.number == u32::MAX && listed(Abi::X86_64) => Some(Abi::X86_64),
        other => other,
    };
    let Some(abi) = abi else {
        return if errno {
            enosys
        } else if refuses {
            default
        } else {
            0x8000_0000
        };
    };
    let rules = || filter.syscalls().iter().flatten();
    let number_of =
        |rule: &LinuxSyscall| rule.names().iter().filter_map(|name| abi.number(name)).collect::<Vec<_>>();
    let private = |number: u32| number & 0x3fff_ffff >= 0xf_0000;
    let found = rules()
        .filter(|rule| number_of(rule).contains(&call.number) && matches(rule, abi, &call.args))
        .map(|rule| value(rule.action(), rule.errno_ret()))
        .min_by_key(|value| precedence(*value));
    let named = rules().any(|rule| number_of(rule).contains(&call.number));
    let newest = rules().flat_map(number_of).filter(|number| !private(*number)).max();
    match found {
        Some(found) => found,
        None if !named && errno && newest.is_some_and(|newest| call.number > newest) => enosys,
        // -1 with x32's bit but no x32: as any number beyond, also where nothing is named.
        None if !named && errno && abi == Abi::X86_64 && call.number == u32::MAX => enosys,
        None => default,
    }
}
