//! Classic BPF, written from its end to its beginning.
//!
//! Jumps go forward only, so whoever writes backwards knows every target already. A conditional jump reaches 255
//! instructions; where its target is farther, an unconditional one (32 bits) is put right behind it. Returns are
//! shared by whatever can reach them.

use std::collections::HashMap;

use linux::seccomp::Instruction;

use crate::action::Action;

/// `BPF_LD | BPF_W | BPF_ABS`: a word of `struct seccomp_data`.
const LOAD: u16 = 0x20;
/// `BPF_ALU | BPF_AND | BPF_K`.
const AND: u16 = 0x54;
/// `BPF_JMP | BPF_JA`.
const ALWAYS: u16 = 0x05;
/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;

/// The conditional jumps that a filter needs; all of them unsigned.
#[derive(Clone, Copy, Debug)]
#[repr(u16)]
pub(crate) enum If {
    /// `BPF_JMP | BPF_JEQ | BPF_K`.
    Equal = 0x15,
    /// `BPF_JMP | BPF_JGT | BPF_K`.
    Greater = 0x25,
    /// `BPF_JMP | BPF_JGE | BPF_K`.
    GreaterOrEqual = 0x35,
}

/// Where to go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Target {
    /// An instruction, counted from the end of the program.
    At(usize),
    /// The end, with this.
    Return(Action),
}

/// A program in the making.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    /// The last instruction of the program first.
    backwards: Vec<Instruction>,
    /// Where each action was last returned.
    returns: HashMap<Action, usize>,
}

impl Assembler {
    /// A comparison of the accumulator.
    pub(crate) fn jump(&mut self, compare: If, with: u32, yes: Target, no: Target) -> Target {
        if yes == no {
            return yes;
        }
        let yes = self.near(yes);
        let no = self.near(no);
        // `near` leaves room for what the other one may have added.
        let skip = |target: usize| u8::try_from(self.backwards.len() - target - 1).unwrap_or(u8::MAX);
        let (jt, jf) = (skip(yes), skip(no));
        self.push(Instruction { code: compare as u16, jt, jf, k: with })
    }

    /// Puts a word of `struct seccomp_data` into the accumulator, keeps the bits of the mask, and goes on.
    pub(crate) fn load(&mut self, offset: u32, mask: u32, then: Target) -> Target {
        self.right_before(then);
        if mask != u32::MAX {
            self.push(Instruction { code: AND, jt: 0, jf: 0, k: mask });
        }
        self.push(Instruction { code: LOAD, jt: 0, jf: 0, k: offset })
    }

    /// The program, which begins at `start`.
    pub(crate) fn finish(mut self, start: Target) -> Vec<Instruction> {
        self.right_before(start);
        self.backwards.reverse();
        self.backwards
    }

    fn push(&mut self, instruction: Instruction) -> Target {
        self.backwards.push(instruction);
        Target::At(self.backwards.len() - 1)
    }

    /// Makes the next instruction fall through to the target.
    fn right_before(&mut self, target: Target) {
        match target {
            Target::At(at) if at + 1 == self.backwards.len() => {}
            Target::At(at) => self.always(at),
            Target::Return(action) => self.give(action),
        }
    }

    /// Something that a conditional jump reaches, even when one more instruction comes between.
    fn near(&mut self, target: Target) -> usize {
        let reach = |at: usize| self.backwards.len() - at - 1 < 254;
        match target {
            Target::At(at) if reach(at) => return at,
            Target::At(at) => self.always(at),
            Target::Return(action) => match self.returns.get(&action) {
                Some(&at) if reach(at) => return at,
                _ => self.give(action),
            },
        }
        self.backwards.len() - 1
    }

    fn always(&mut self, to: usize) {
        let k = u32::try_from(self.backwards.len() - to - 1).unwrap_or(u32::MAX);
        self.push(Instruction { code: ALWAYS, jt: 0, jf: 0, k });
    }

    fn give(&mut self, action: Action) {
        self.returns.insert(action, self.backwards.len());
        self.push(Instruction { code: RETURN, jt: 0, jf: 0, k: action.0 });
    }
}
