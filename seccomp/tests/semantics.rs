//! A compiled filter says what its rules say, for every call.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use common::{Call, expected, run};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompOperator as Operator, LinuxSyscall,
};
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use seccomp::{Abi, compile_for};

/// Words whose halves decide.
fn word() -> impl Strategy<Value = u64> {
    let half = || {
        prop_oneof![
            select(vec![0_u32, 1, 2, 0x5412, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff]),
            any::<u32>()
        ]
    };
    (half(), half()).prop_map(|(high, low)| u64::from(high) << 32 | u64::from(low))
}

fn action() -> impl Strategy<Value = (Action, Option<u32>)> {
    prop_oneof![
        Just((Action::ScmpActKill, None)),
        Just((Action::ScmpActKillThread, None)),
        Just((Action::ScmpActKillProcess, None)),
        Just((Action::ScmpActTrap, None)),
        Just((Action::ScmpActLog, None)),
        Just((Action::ScmpActAllow, None)),
        proptest::option::of(0..=4095_u32).prop_map(|errno| (Action::ScmpActErrno, errno)),
        proptest::option::of(0..=65535_u32).prop_map(|errno| (Action::ScmpActTrace, errno)),
    ]
}

fn arg() -> impl Strategy<Value = LinuxSeccompArg> {
    use Operator as O;
    let operator = select(vec![
        O::ScmpCmpNe,
        O::ScmpCmpLt,
        O::ScmpCmpLe,
        O::ScmpCmpEq,
        O::ScmpCmpGe,
        O::ScmpCmpGt,
        O::ScmpCmpMaskedEq,
    ]);
    (0..6_usize, word(), word(), operator).prop_map(|(index, value, two, op)| {
        LinuxSeccompArgBuilder::default().index(index).value(value).value_two(two).op(op).build().unwrap()
    })
}

fn names() -> Vec<&'static str> {
    Abi::ALL.iter().flat_map(|abi| abi.table()).map(|(name, _)| *name).collect()
}

fn rule() -> impl Strategy<Value = LinuxSyscall> {
    // Few names, so that rules meet; any name, so that numbers are everywhere.
    let common =
        select(vec!["read", "ioctl", "clone3", "socketcall", "set_tls", "uselib", "newfstatat", "pwritev2"]);
    let name = prop_oneof![common, select(names())];
    (proptest::collection::vec(name, 1..12), action(), proptest::collection::vec(arg(), 0..4)).prop_map(
        |(names, (action, errno), args)| {
            let mut rule = LinuxSyscall::default();
            rule.set_names(names.into_iter().map(str::to_owned).collect())
                .set_action(action)
                .set_errno_ret(errno)
                .set_args((!args.is_empty()).then_some(args));
            rule
        },
    )
}

fn filter() -> impl Strategy<Value = LinuxSeccomp> {
    let architectures = subsequence(
        vec![
            Arch::ScmpArchX86_64,
            Arch::ScmpArchX86,
            Arch::ScmpArchX32,
            Arch::ScmpArchAarch64,
            Arch::ScmpArchArm,
            Arch::ScmpArchMips,
        ],
        0..=6,
    );
    (action(), architectures, proptest::collection::vec(rule(), 0..30)).prop_map(
        |((action, errno), architectures, rules)| {
            let mut filter = LinuxSeccomp::default();
            filter
                .set_default_action(action)
                .set_default_errno_ret(errno)
                .set_architectures(Some(architectures))
                .set_syscalls(Some(rules));
            filter
        },
    )
}

/// Calls near what the filter speaks of: its numbers and the ones beside them, its values and the ones beside them.
fn calls(filter: &LinuxSeccomp, seeds: &[(Index, Index, [u64; 6], [Index; 6])]) -> Vec<Call> {
    let mut numbers =
        vec![0, 1, 470, 0x3fff_ffff, 0x4000_0000, 0x4000_0001, 0x7fff_ffff, u32::MAX - 1, u32::MAX];
    let mut values = vec![0, 1, u64::MAX, 1 << 32];
    for rule in filter.syscalls().iter().flatten() {
        let of_names =
            Abi::ALL.iter().flat_map(|abi| rule.names().iter().filter_map(|name| abi.number(name)));
        numbers.extend(of_names.flat_map(|number| [number.saturating_sub(1), number, number + 1]));
        for arg in rule.args().iter().flatten() {
            for value in
                [arg.value(), arg.value_two().unwrap_or(0), arg.value() & arg.value_two().unwrap_or(0)]
            {
                values.extend([
                    value,
                    value.wrapping_sub(1),
                    value.wrapping_add(1),
                    value ^ 1 << 32,
                    value & 0xffff_ffff,
                ]);
            }
        }
    }
    let archs = [0xc000_003e, 0x4000_0003, 0xc000_00b7, 0x4000_0028, 8];
    seeds
        .iter()
        .map(|(arch, number, random, known)| Call {
            arch: *arch.get(&archs),
            number: *number.get(&numbers),
            args: std::array::from_fn(
                |n| if random[n] % 4 == 0 { random[n] } else { *known[n].get(&values) },
            ),
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_program_says_what_its_rules_say(
        filter in filter(),
        native in select(vec![Abi::X86_64, Abi::X86, Abi::Aarch64, Abi::Arm]),
        seeds in proptest::collection::vec(any::<(Index, Index, [u64; 6], [Index; 6])>(), 200),
    ) {
        let program = compile_for(&filter, native).unwrap();
        for call in calls(&filter, &seeds) {
            let (said, meant) = (run(program.instructions(), &call).value, expected(&filter, native, &call));
            prop_assert_eq!(said, meant, "{:x?}: said {:x}, meant {:x}", call, said, meant);
        }
    }

    #[test]
    fn a_number_is_found_in_about_as_many_steps_as_it_has_digits(filter in filter()) {
        let program = compile_for(&filter, Abi::X86_64).unwrap();
        let named: std::collections::BTreeSet<&String> =
            filter.syscalls().iter().flatten().flat_map(LinuxSyscall::names).collect();
        // Each name makes at most three ranges under each of two ABIs in the largest section, and there are five more.
        let ranges = 4 * named.len() + 6;
        let bound = ranges.next_power_of_two().ilog2() as usize;
        for arch in [0xc000_003e, 0x4000_0003] {
            for number in (0..600).chain(0x4000_0000..0x4000_0300).chain([u32::MAX]) {
                let returned = run(program.instructions(), &Call { arch, number, args: [0; 6] });
                // Two loads, two architectures, the return; three because many numbers weigh more than one range; and the
                // long jumps, one for each 256 instructions at most.
                let most = bound + 8 + program.instructions().len() / 256;
                prop_assert!(returned.read_an_argument || returned.steps <= most, "{} > {}", returned.steps, most);
            }
        }
    }
}

#[test]
fn the_default_profile_is_read_the_same_way() {
    use oci_spec::runtime::Capability;
    let sets = [vec![], vec![Capability::SysAdmin], vec![Capability::SysChroot, Capability::Mknod]];
    for set in sets {
        let filter =
            seccomp::default_profile(&set.into_iter().collect::<std::collections::HashSet<_>>().into());
        let program = seccomp::compile(&filter).unwrap();
        let mut steps = 0;
        for abi in [Abi::X86_64, Abi::X32, Abi::X86] {
            let base = if abi == Abi::X32 { 0x4000_0000 } else { 0 };
            for number in (base..base + 600).chain([u32::MAX]) {
                let call = Call { arch: abi.audit_arch(), number, args: [0; 6] };
                let returned = run(program.instructions(), &call);
                assert_eq!(returned.value, expected(&filter, Abi::X86_64, &call), "{call:x?}");
                steps = steps.max(if returned.read_an_argument { 0 } else { returned.steps });
            }
            for name in ["clone", "ioctl", "personality", "socket", "unshare"] {
                for low in
                    [0, 1, 8, 17, 38, 40, 41, 0x80, 0x5412, 0x541c, 0x1000_0000, 0x1000_0011, 0xffff_ffff]
                {
                    for arg in [low, 1 << 32 | low] {
                        let args = [arg, arg, 0, 0, 0, 0];
                        let call = Call { arch: abi.audit_arch(), number: abi.number(name).unwrap(), args };
                        let said = run(program.instructions(), &call).value;
                        assert_eq!(said, expected(&filter, Abi::X86_64, &call), "{call:x?}");
                    }
                }
            }
        }
        // Of some 70 ranges. Those of 32-bit calls are not counted, below.
        assert!(steps <= 12, "{steps}");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_kernel_can_remember_calls_of_its_own_architecture_and_does_not_try_others() {
    let program = seccomp::default_program(&seccomp::For::default()).unwrap();
    let reads_arguments = |abi: Abi, name| {
        let call = Call { arch: abi.audit_arch(), number: abi.number(name).unwrap(), args: [0; 6] };
        run(program.instructions(), &call).read_an_argument
    };
    for name in ["read", "openat", "mount"] {
        assert!(!reads_arguments(Abi::X86_64, name), "{name}");
        assert!(reads_arguments(Abi::X86, name), "{name}");
    }
    assert!(reads_arguments(Abi::X86_64, "ioctl"));
}
