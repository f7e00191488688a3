//! Device rules as a program for cgroup v2 (`BPF_PROG_TYPE_CGROUP_DEVICE`): there is no devices controller in v2.
//!
//! The kernel calls it with `{ access << 16 | type, major, minor }`; 1 lets the device be used.

use super::devices::Rule;

/// An instruction: `struct bpf_insn`, linux/bpf.h.
fn instruction(code: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> [u8; 8] {
    let [o0, o1] = offset.to_ne_bytes();
    let [i0, i1, i2, i3] = immediate.to_ne_bytes();
    [code, src << 4 | dst, o0, o1, i0, i1, i2, i3]
}

const LOAD_WORD: u8 = 0x61;
const MOVE32_REGISTER: u8 = 0xbc;
const MOVE: u8 = 0xb7;
const AND32: u8 = 0x54;
const RIGHT32: u8 = 0x74;
const JUMP_EQUAL: u8 = 0x15;
const JUMP_NOT_EQUAL: u8 = 0x55;
const JUMP_NOT_EQUAL_REGISTER: u8 = 0x5d;
const EXIT: u8 = 0x95;

const CONTEXT: u8 = 1;
const TYPE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// The program. Rules are looked at from the last one on; the first that matches decides.
pub(super) fn program(rules: &[Rule]) -> Vec<[u8; 8]> {
    const MKNOD: i32 = 1;
    const READ: i32 = 2;
    const WRITE: i32 = 4;
    const BLOCK: i32 = 1;
    const CHARACTER: i32 = 2;
    let mut code = vec![
        instruction(LOAD_WORD, TYPE, CONTEXT, 0, 0),
        instruction(MOVE32_REGISTER, ACCESS, TYPE, 0, 0),
        instruction(AND32, TYPE, 0, 0, 0xffff),
        instruction(RIGHT32, ACCESS, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.iter().rev() {
        // Each test, and whether it jumps on when its operand differs.
        let mut tests: Vec<[u8; 8]> = Vec::new();
        let mut jumps = Vec::new();
        if let Some(kind) = rule.kind {
            jumps.push(tests.len());
            let kind = if kind == 'b' { BLOCK } else { CHARACTER };
            tests.push(instruction(JUMP_NOT_EQUAL, TYPE, 0, 0, kind));
        }
        let letters = [(rule.mknod, MKNOD), (rule.read, READ), (rule.write, WRITE)];
        let access = letters.into_iter().filter(|(has, _)| *has).fold(0, |all, (_, bit)| all | bit);
        if access != MKNOD | READ | WRITE {
            tests.push(instruction(MOVE32_REGISTER, CONTEXT, ACCESS, 0, 0));
            tests.push(instruction(AND32, CONTEXT, 0, 0, access));
            jumps.push(tests.len());
            tests.push(if rule.allow {
                // All that is wanted is allowed.
                instruction(JUMP_NOT_EQUAL_REGISTER, CONTEXT, ACCESS, 0, 0)
            } else {
                // Something that is wanted is not.
                instruction(JUMP_EQUAL, CONTEXT, 0, 0, 0)
            });
        }
        for (register, number) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
            if let Some(number) = number {
                jumps.push(tests.len());
                tests.push(instruction(JUMP_NOT_EQUAL, register, 0, 0, number.cast_signed()));
            }
        }
        tests.push(instruction(MOVE, 0, 0, 0, i32::from(rule.allow)));
        tests.push(instruction(EXIT, 0, 0, 0, 0));
        for at in jumps {
            let offset = (tests.len() - at - 1) as i16;
            tests[at][2..4].copy_from_slice(&offset.to_ne_bytes());
        }
        // What comes after a rule for everything is never reached, and the kernel refuses such code.
        let everything = tests.len() == 2;
        code.extend(tests);
        if everything {
            return code;
        }
    }
    code.push(instruction(MOVE, 0, 0, 0, 0));
    code.push(instruction(EXIT, 0, 0, 0, 0));
    code
}
