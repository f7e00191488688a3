//! Rules to a program: the architecture, then a binary search over the number, then the arguments.
//!
//! Until the number is decided, only architecture and number are read. The kernel tries every number when a filter is
//! loaded, and calls that are allowed by these two alone never run the filter again (Linux 5.11,
//! `seccomp_cache_prepare`). A search keeps both short: that trial and every call that runs the filter.

use std::collections::HashMap;

use linux::seccomp::{Instruction, MOST_INSTRUCTIONS};

use crate::Error;
use crate::assembler::{Assembler, If, Target};
use crate::rules::{Comparison, Is, Range, Rules, Verdict};

// `struct seccomp_data`, linux/seccomp.h.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Writes the program.
pub(crate) fn program(rules: &Rules) -> Result<Vec<Instruction>, Error> {
    let mut tree = Tree { assembler: Assembler::default(), verdicts: HashMap::new() };
    let mut start = Target::Return(rules.outside);
    // Backwards, so that the kernel's own architecture is asked for first.
    for section in rules.sections.iter().rev() {
        let search = tree.search(&section.ranges);
        let search = tree.assembler.load(NUMBER, u32::MAX, search);
        start = tree.assembler.jump(If::Equal, section.audit_arch, search, start);
    }
    let start = tree.assembler.load(ARCHITECTURE, u32::MAX, start);
    let instructions = tree.assembler.finish(start);
    if instructions.len() > MOST_INSTRUCTIONS {
        return Err(Error::TooLong { instructions: instructions.len() });
    }
    Ok(instructions)
}

struct Tree<'a> {
    assembler: Assembler,
    /// Calls with the same comparisons share them.
    verdicts: HashMap<&'a Verdict, Target>,
}

impl<'a> Tree<'a> {
    fn search(&mut self, ranges: &'a [Range]) -> Target {
        match ranges {
            [] => Target::Return(crate::action::Action::KILL_PROCESS),
            [one] => self.verdict(&one.verdict),
            _ => {
                let (left, right) = ranges.split_at(ranges.len() / 2);
                let above = self.search(right);
                let below = self.search(left);
                self.assembler.jump(If::GreaterOrEqual, right[0].first, above, below)
            }
        }
    }

    fn verdict(&mut self, verdict: &'a Verdict) -> Target {
        if verdict.clauses.is_empty() {
            return Target::Return(verdict.otherwise);
        }
        if let Some(&known) = self.verdicts.get(verdict) {
            return known;
        }
        let mut otherwise = Target::Return(verdict.otherwise);
        for clause in verdict.clauses.iter().rev() {
            let mut holds = Target::Return(clause.action);
            for comparison in clause.all.iter().rev() {
                holds = self.compare(comparison, holds, otherwise);
            }
            otherwise = holds;
        }
        self.verdicts.insert(verdict, otherwise);
        otherwise
    }

    fn compare(&mut self, comparison: &Comparison, yes: Target, no: Target) -> Target {
        match comparison.is {
            Is::Equal => self.equal(comparison, yes, no),
            Is::NotEqual => self.equal(comparison, no, yes),
            Is::Greater => self.above(comparison, If::Greater, yes, no),
            Is::GreaterOrEqual => self.above(comparison, If::GreaterOrEqual, yes, no),
            Is::LessOrEqual => self.above(comparison, If::Greater, no, yes),
            Is::Less => self.above(comparison, If::GreaterOrEqual, no, yes),
        }
    }

    fn equal(&mut self, comparison: &Comparison, yes: Target, no: Target) -> Target {
        let mut then = yes;
        for (half, offset) in [(0, low(comparison)), (32, high(comparison))] {
            let (mask, value) = (word(comparison.mask >> half), word(comparison.value >> half));
            // Nothing of this half is asked for: so it is with the upper half of a short argument.
            if mask != 0 {
                then = self.assembler.jump(If::Equal, value, then, no);
                then = self.assembler.load(offset, mask, then);
            }
        }
        then
    }

    fn above(&mut self, comparison: &Comparison, lower: If, yes: Target, no: Target) -> Target {
        let then = self.assembler.jump(lower, word(comparison.value), yes, no);
        let then = self.assembler.load(low(comparison), u32::MAX, then);
        if comparison.short {
            return then;
        }
        let value = word(comparison.value >> 32);
        let then = self.assembler.jump(If::Equal, value, then, no);
        let then = self.assembler.jump(If::Greater, value, yes, then);
        self.assembler.load(high(comparison), u32::MAX, then)
    }
}

fn low(comparison: &Comparison) -> u32 {
    ARGUMENTS + 8 * u32::from(comparison.argument)
}

fn high(comparison: &Comparison) -> u32 {
    low(comparison) + 4
}

/// The lower 32 bits.
fn word(value: u64) -> u32 {
    (value & u64::from(u32::MAX)) as u32
}
