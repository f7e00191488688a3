//! Rules to a program: the architecture, then a binary search over the number, then the arguments.
//!
//! Until the number is decided, only architecture and number are read. The kernel tries every number when a filter is
//! loaded, and calls that are allowed by these two alone never run the filter again (Linux 5.11,
//! `seccomp_cache_prepare`). A search keeps both short: that trial and every call that runs the filter.
//!
//! That trial is a third of what loading takes, and half of it would be for calls of another architecture than the
//! machine's own, which hardly anybody makes. Their search begins with a word that the kernel's trial gives up at, an
//! argument: they run the filter each time, a dozen instructions, and every start of a process is spared the trial of them.

use std::collections::HashMap;

use linux::seccomp::{Instruction, MOST_INSTRUCTIONS};

use crate::Error;
use crate::assembler::{Assembler, If, Target};
use crate::rules::{Comparison, Is, Rules, Verdict};

// `struct seccomp_data`, linux/seccomp.h.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Writes the program.
pub(crate) fn program(rules: &Rules) -> Result<Vec<Instruction>, Error> {
    let mut tree = Tree { assembler: Assembler::default(), verdicts: HashMap::new() };
    let mut start = Target::Return(rules.outside);
    // Backwards, so that the kernel's own architecture is asked for first.
    for (index, section) in rules.sections.iter().enumerate().rev() {
        let ranges = section.ranges.iter().map(|range| (range.first, &range.verdict)).collect();
        let search = tree.search(ranges, u32::MAX);
        let mut search = tree.assembler.load(NUMBER, u32::MAX, search);
        if index > 0 {
            search = tree.assembler.load(ARGUMENTS, u32::MAX, search);
        }
        start = tree.assembler.jump(If::Equal, section.audit_arch, search, start);
    }
    let start = tree.assembler.load(ARCHITECTURE, u32::MAX, start);
    let instructions = tree.assembler.finish(start);
    if instructions.len() > MOST_INSTRUCTIONS {
        return Err(Error::TooLong { instructions: instructions.len() });
    }
    Ok(instructions)
}

/// Up to so many ranges, single numbers are asked for first.
const FEW: usize = 5;

/// From this number on, up to the next one.
type Start<'a> = (u32, &'a Verdict);

/// A number that is alone among others that all get the same.
fn lonely(ranges: &[Start<'_>]) -> Option<usize> {
    let is = |three: &[Start<'_>]| three[0].1 == three[2].1 && three[2].0 - three[1].0 == 1;
    ranges.windows(3).position(is).map(|before| before + 1)
}

/// Where to part them, so that as many numbers lie on either side: the kernel tries each number that there is. Each range
/// counts a little for itself, so that many small ones do not make a long way.
fn middle(ranges: &[Start<'_>], end: u32) -> usize {
    const CALLS: u32 = 512;
    const EACH: u32 = 4;
    let ends = ranges.iter().skip(1).map(|(first, _)| *first).chain([end]);
    let weights =
        ranges.iter().zip(ends).map(|((first, _), end)| end.min(CALLS) - (*first).min(CALLS) + EACH);
    let sums: Vec<u32> = weights
        .scan(0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        })
        .collect();
    let all = sums.last().copied().unwrap_or_default();
    // Not behind the last one: then nothing would be parted.
    let parts = sums.iter().take(ranges.len() - 1).enumerate();
    parts.min_by_key(|(_, sum)| all.abs_diff(2 * **sum)).map_or(1, |(last, _)| last + 1)
}

struct Tree<'a> {
    assembler: Assembler,
    /// Calls with the same comparisons share them.
    verdicts: HashMap<&'a Verdict, Target>,
}

impl<'a> Tree<'a> {
    /// What numbers get from the first of these on, up to `end`.
    fn search(&mut self, mut ranges: Vec<Start<'a>>, end: u32) -> Target {
        match ranges[..] {
            [] => return Target::Return(crate::action::Action::KILL_PROCESS),
            [(_, verdict)] => return self.verdict(verdict),
            _ => {}
        }
        if ranges.len() <= FEW
            && let Some(at) = lonely(&ranges)
        {
            // One comparison in the place of two: around it, all is the same.
            let (number, verdict) = ranges[at];
            ranges.drain(at..at + 2);
            let others = self.search(ranges, end);
            let verdict = self.verdict(verdict);
            return self.assembler.jump(If::Equal, number, verdict, others);
        }
        let right = ranges.split_off(middle(&ranges, end));
        let first = right[0].0;
        let above = self.search(right, end);
        let below = self.search(ranges, first);
        self.assembler.jump(If::GreaterOrEqual, first, above, below)
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
