//! Filters that users write: what is taken, what is refused, and with which words.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::error::Error as _;

use common::{Call, run};
use seccomp::{Abi, Program, compile_for, from_json};

fn compiled(json: &str) -> Result<Program, seccomp::Error> {
    compile_for(&from_json(json.as_bytes())?, Abi::X86_64)
}

fn refusal(json: &str) -> String {
    compiled(json).unwrap_err().to_string()
}

fn ask(program: &Program, abi: Abi, name: &str, args: &[u64]) -> u32 {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    let call = Call { arch: abi.audit_arch(), number: abi.number(name).unwrap(), args: all };
    run(program.instructions(), &call).value
}

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x5_0001;
const ENOSYS: u32 = 0x5_0026;

#[test]
fn a_filter_of_the_user_is_read_and_holds() {
    let program = compiled(
        r#"{
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 1,
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"],
            "syscalls": [
                {"names": ["read", "clone3", "arm_fadvise64_64"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["socket"], "action": "SCMP_ACT_ALLOW",
                 "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
                {"names": ["swapon"], "action": "SCMP_ACT_KILL_PROCESS"}
            ]
        }"#,
    )
    .unwrap();
    assert_eq!(program.flags(), 3);
    for abi in [Abi::X86_64, Abi::X86, Abi::X32] {
        assert_eq!(ask(&program, abi, "read", &[]), ALLOW);
        assert_eq!(ask(&program, abi, "socket", &[1]), ALLOW);
        assert_eq!(ask(&program, abi, "socket", &[2]), EPERM);
        assert_eq!(ask(&program, abi, "write", &[]), EPERM);
        assert_eq!(ask(&program, abi, "swapon", &[]), 0x8000_0000);
        assert_eq!(ask(&program, abi, "mseal", &[]), ENOSYS);
    }
}

#[test]
fn what_is_wrong_is_said_with_its_name() {
    let rule = |rule: &str| format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{rule}]}}"#);
    assert_eq!(
        refusal(&rule(r#"{"names": ["read", "raed"], "action": "SCMP_ACT_ALLOW"}"#)),
        r#"unknown system call "raed" in seccomp filter"#
    );
    assert_eq!(
        refusal(&rule(
            r#"{"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}}"#
        )),
        r#"unknown field "includes" in seccomp filter"#
    );
    assert_eq!(
        refusal(r#"{"defaultAction": "SCMP_ACT_ALLOW", "archMap": []}"#),
        r#"unknown field "archMap" in seccomp filter"#
    );
    assert_eq!(
        refusal(&rule(
            r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW"}, {"names": [], "action": "SCMP_ACT_LOG"}"#
        )),
        "seccomp rule 1 names no system call"
    );
    assert_eq!(
        refusal(&rule(
            r#"{"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}"#
        )),
        r#"seccomp rule for "read" compares argument 6, the last one is 5"#
    );
    assert_eq!(
        refusal(&rule(r#"{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}"#)),
        "seccomp action SCMP_ACT_NOTIFY is not supported: there is no agent to notify"
    );
    assert_eq!(
        refusal(&rule(r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1}"#)),
        "seccomp action SCMP_ACT_ALLOW takes no errno"
    );
    assert_eq!(
        refusal(&rule(r#"{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096}"#)),
        "errno 4096 of seccomp action SCMP_ACT_ERRNO is above 4095"
    );
    assert_eq!(
        refusal(
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}"#
        ),
        "seccomp flag SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs an agent to notify, which is not supported"
    );
    assert_eq!(
        refusal(r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}"#),
        "seccomp listener metadata without a listener path"
    );
    let error = compiled(&rule(r#"{"names": ["read"], "action": "SCMP_ACT_ALOW"}"#)).unwrap_err();
    assert_eq!(error.to_string(), "read seccomp filter");
    assert!(error.source().unwrap().to_string().contains("SCMP_ACT_ALOW"));
}

#[test]
fn a_call_of_another_architecture_is_skipped() {
    let program = compiled(
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["riscv_flush_icache", "socketcall", "swapcontext", "read"], "action": "SCMP_ACT_ALLOW"}]}"#,
    )
    .unwrap();
    assert_eq!(ask(&program, Abi::X86_64, "read", &[]), ALLOW);
    assert_eq!(ask(&program, Abi::X86, "socketcall", &[]), ENOSYS);
}

#[test]
fn the_strictest_rule_decides_in_any_order() {
    let refuse = r#"{"names": ["ioctl"], "action": "SCMP_ACT_ERRNO",
                     "args": [{"index": 1, "value": 4294967295, "valueTwo": 21522, "op": "SCMP_CMP_MASKED_EQ"}]}"#;
    let allow = r#"{"names": ["ioctl"], "action": "SCMP_ACT_ALLOW"}"#;
    for (first, second) in [(refuse, allow), (allow, refuse)] {
        let program =
            compiled(&format!(r#"{{"defaultAction": "SCMP_ACT_KILL", "syscalls": [{first}, {second}]}}"#))
                .unwrap();
        assert_eq!(ask(&program, Abi::X86_64, "ioctl", &[0, 0x5412]), EPERM);
        assert_eq!(ask(&program, Abi::X86_64, "ioctl", &[0, 0xdead_0000_5412]), EPERM);
        assert_eq!(ask(&program, Abi::X86_64, "ioctl", &[0, 0x5413]), ALLOW);
    }
}

#[test]
fn another_abi_is_no_way_around_a_list_of_refusals() {
    let program = compiled(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]}"#,
    )
    .unwrap();
    assert_eq!(ask(&program, Abi::X86_64, "read", &[]), ALLOW);
    assert_eq!(ask(&program, Abi::X86_64, "swapon", &[]), EPERM);
    assert_eq!(ask(&program, Abi::X32, "read", &[]), 0x8000_0000);
    assert_eq!(ask(&program, Abi::X86, "read", &[]), 0x8000_0000);
    // A tracer that skips a call makes its number -1.
    let skipped = Call { arch: Abi::X86_64.audit_arch(), number: u32::MAX, args: [0; 6] };
    assert_eq!(run(program.instructions(), &skipped).value, ALLOW);
}

#[test]
fn a_filter_too_long_for_the_kernel_is_refused() {
    let rules: Vec<String> = (0..1500)
        .map(|n| {
            format!(
                r#"{{"names": ["read"], "action": "SCMP_ACT_ALLOW",
                     "args": [{{"index": 0, "value": {n}, "op": "SCMP_CMP_EQ"}}]}}"#
            )
        })
        .collect();
    let filter = |rules: &[String]| {
        format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{}]}}"#, rules.join(","))
    };
    let refused = refusal(&filter(&rules));
    assert!(refused.starts_with("seccomp filter has 60"), "{refused}");
    // What fits has jumps longer than 255, and they arrive.
    let program = compiled(&filter(&rules[..900])).unwrap();
    for (value, action) in [(0, ALLOW), (450, ALLOW), (899, ALLOW), (900, EPERM), (1 << 32, EPERM)] {
        assert_eq!(ask(&program, Abi::X86_64, "read", &[value]), action, "{value}");
    }
}

#[test]
fn a_program_that_was_written_down_is_the_same() {
    let program = compiled(
        r#"{"defaultAction": "SCMP_ACT_LOG", "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]}"#,
    )
    .unwrap();
    let bytes = program.to_bytes();
    assert_eq!(Program::from_bytes(&bytes), Some(program));
    for wrong in [&bytes[..bytes.len() - 1], &bytes[..4], &bytes[..3], &[], &vec![0; 4 + 8 * 4097]] {
        assert_eq!(Program::from_bytes(wrong), None);
    }
}

#[test]
fn the_default_profile_is_oci_json() {
    let profile = seccomp::default_profile(&seccomp::For::default());
    let json = serde_json::to_vec_pretty(&profile).unwrap();
    let read = from_json(&json).unwrap();
    assert_eq!(read, profile);
    assert_eq!(seccomp::compile(&read).unwrap(), seccomp::default_program(&seccomp::For::default()).unwrap());
}
