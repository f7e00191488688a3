//! A spec, checked and turned into what each number of each ABI gets.

use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompArg, LinuxSeccompOperator as Operator};

use crate::Error;
use crate::abi::{self, ARM_PRIVATE, Abi, X32_BIT};
use crate::action::Action;

/// How an argument is compared, unsigned.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Is {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A comparison of one argument, already in the word of its ABI.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Comparison {
    pub(crate) argument: u8,
    pub(crate) is: Is,
    /// All ones, but for `SCMP_CMP_MASKED_EQ`.
    pub(crate) mask: u64,
    pub(crate) value: u64,
    /// Only the lower half is looked at.
    pub(crate) short: bool,
}

/// All of these, then that.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Clause {
    pub(crate) all: Vec<Comparison>,
    pub(crate) action: Action,
}

/// What happens to a number: the first clause that holds, strictest first, or else the last word.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) clauses: Vec<Clause>,
    pub(crate) otherwise: Action,
}

impl From<Action> for Verdict {
    fn from(action: Action) -> Self {
        Self { clauses: Vec::new(), otherwise: action }
    }
}

/// From this number on, up to the next one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Range {
    pub(crate) first: u32,
    pub(crate) verdict: Verdict,
}

/// What a filter sees as one architecture: ranges without a gap, from 0 on.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) audit_arch: u32,
    pub(crate) ranges: Vec<Range>,
}

/// A whole filter.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) sections: Vec<Section>,
    /// For every other `AUDIT_ARCH`.
    pub(crate) outside: Action,
}

/// Checks a spec and resolves it for a kernel whose own ABI is `native`.
pub(crate) fn resolve(spec: &LinuxSeccomp, native: Abi) -> Result<Rules, Error> {
    if spec.listener_metadata().is_some() && spec.listener_path().is_none() {
        return Err(Error::MetadataWithoutListener);
    }
    let default = Action::of(spec.default_action(), spec.default_errno_ret())?;
    // A filter of refusals with a way around it would be none.
    let outside = match default {
        action if action.is_errno() => Action::ENOSYS,
        action if action.refuses() => action,
        _ => Action::KILL_PROCESS,
    };
    let listed: Vec<Abi> =
        native.of_one_kernel().iter().copied().filter(|&abi| abi == native || lists(spec, abi)).collect();
    let mut named: Vec<Named> = listed.iter().map(|&abi| Named::new(abi)).collect();
    for (index, rule) in spec.syscalls().iter().flatten().enumerate() {
        let action = Action::of(rule.action(), rule.errno_ret())?;
        let Some(first) = rule.names().first() else { return Err(Error::NoNames(index)) };
        let args = rule.args().as_deref().unwrap_or_default();
        if let Some(wrong) = args.iter().find(|arg| arg.index() > 5) {
            return Err(Error::Argument { syscall: first.clone(), index: wrong.index() });
        }
        for named in &mut named {
            named.rule(args, action);
        }
        for name in rule.names() {
            let mut known = false;
            for named in &mut named {
                known |= named.name(name);
            }
            if !known && !abi::known_anywhere(name) {
                return Err(Error::UnknownSyscall(name.clone()));
            }
        }
    }
    let mut sections: Vec<Section> = Vec::new();
    for arch in [native.audit_arch()].into_iter().chain(listed.iter().map(|abi| abi.audit_arch())) {
        if sections.iter().all(|section| section.audit_arch != arch) {
            let here: Vec<&Named> = named.iter().filter(|named| named.abi.audit_arch() == arch).collect();
            sections.push(Section { audit_arch: arch, ranges: ranges(&here, default, outside) });
        }
    }
    Ok(Rules { sections, outside })
}

fn lists(spec: &LinuxSeccomp, abi: Abi) -> bool {
    spec.architectures().iter().flatten().any(|&arch: &Arch| arch == abi.arch())
}

/// The numbers that rules name under one ABI.
struct Named {
    abi: Abi,
    /// Rules of the document, in its order, each as its clauses.
    rules: Vec<Vec<Clause>>,
    /// Which number is in which rule.
    numbers: Vec<(u32, usize)>,
}

impl Named {
    fn new(abi: Abi) -> Self {
        Self { abi, rules: Vec::new(), numbers: Vec::new() }
    }

    /// The next rule of the document.
    fn rule(&mut self, args: &[LinuxSeccompArg], action: Action) {
        let all = || args.iter().map(|arg| comparison(*arg, self.abi.has_short_arguments()));
        let twice = (0..6).any(|index| args.iter().filter(|arg| arg.index() == index).count() > 1);
        let clauses = if twice {
            all().map(|one| Clause { all: vec![one], action }).collect()
        } else {
            vec![Clause { all: all().collect(), action }]
        };
        self.rules.push(clauses);
    }

    /// A name in the last rule. Whether this ABI has it.
    fn name(&mut self, name: &str) -> bool {
        let number = self.abi.number(name);
        self.numbers.extend(number.map(|number| (number, self.rules.len() - 1)));
        number.is_some()
    }

    /// What each number gets, by number.
    fn verdicts(&self, default: Action) -> Vec<(u32, Verdict)> {
        let mut numbers = self.numbers.clone();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
            .chunk_by(|(one, _), (other, _)| one == other)
            .map(|rules| {
                let clauses = rules.iter().flat_map(|(_, rule)| &self.rules[*rule]);
                (rules[0].0, verdict(clauses, default))
            })
            .collect()
    }
}

fn comparison(arg: LinuxSeccompArg, short: bool) -> Comparison {
    let word = if short { u64::from(u32::MAX) } else { u64::MAX };
    let (is, mask, value) = match arg.op() {
        // As libseccomp: what the mask hides does not count on either side.
        Operator::ScmpCmpMaskedEq => {
            (Is::Equal, arg.value(), arg.value_two().unwrap_or_default() & arg.value())
        }
        Operator::ScmpCmpEq => (Is::Equal, u64::MAX, arg.value()),
        Operator::ScmpCmpNe => (Is::NotEqual, u64::MAX, arg.value()),
        Operator::ScmpCmpLt => (Is::Less, u64::MAX, arg.value()),
        Operator::ScmpCmpLe => (Is::LessOrEqual, u64::MAX, arg.value()),
        Operator::ScmpCmpGt => (Is::Greater, u64::MAX, arg.value()),
        Operator::ScmpCmpGe => (Is::GreaterOrEqual, u64::MAX, arg.value()),
    };
    Comparison {
        // Checked to be less than 6.
        argument: u8::try_from(arg.index()).unwrap_or_default(),
        is,
        mask: mask & word,
        value: value & word,
        short,
    }
}

/// Strictest first; a clause without conditions is the last word, and what comes after it is never reached.
fn verdict<'a>(clauses: impl Iterator<Item = &'a Clause>, default: Action) -> Verdict {
    let mut sorted: Vec<&Clause> = clauses.collect();
    sorted.sort_by_key(|clause| clause.action.rank());
    let last = sorted.iter().position(|clause| clause.all.is_empty());
    let otherwise = last.map_or(default, |last| sorted[last].action);
    sorted.truncate(last.unwrap_or(sorted.len()));
    Verdict { clauses: sorted.into_iter().cloned().collect(), otherwise }
}

/// Every number of an `AUDIT_ARCH`: what is named, and between that the default, `ENOSYS` or what is outside.
fn ranges(named: &[&Named], default: Action, outside: Action) -> Vec<Range> {
    let newer = if default.is_errno() { Action::ENOSYS } else { default };
    let mut verdicts: Vec<(u32, Verdict)> = named.iter().flat_map(|named| named.verdicts(default)).collect();
    verdicts.sort_unstable_by_key(|(number, _)| *number);

    // What is not named, from each of these numbers on.
    let mut background: Vec<(u32, Action)> = Vec::new();
    for named in named {
        let first = if named.abi == Abi::X32 { X32_BIT } else { 0 };
        background.push((first, default));
        let numbers = named.numbers.iter().map(|(number, _)| *number);
        let newest = numbers.filter(|number| *number < first + ARM_PRIVATE).max();
        background.extend(newest.map(|newest| (newest + 1, newer)));
    }
    let is = |abi: Abi| named.iter().any(|named| named.abi == abi);
    if is(Abi::X86_64) && !is(Abi::X32) {
        background.push((X32_BIT, outside));
        // A tracer skips a call by making its number -1. That is no call of x32.
        background.push((u32::MAX, newer));
    }
    background.sort_unstable_by_key(|(first, _)| *first);

    let mut starts: Vec<u32> = background.iter().map(|(first, _)| *first).collect();
    starts.extend(verdicts.iter().flat_map(|(number, _)| [*number, number.saturating_add(1)]));
    starts.sort_unstable();
    starts.dedup();
    let mut ranges: Vec<Range> = Vec::new();
    let mut verdicts = verdicts.into_iter().peekable();
    let mut background = background.into_iter().peekable();
    let mut otherwise = default;
    for first in starts {
        while let Some((_, action)) = background.next_if(|(from, _)| *from <= first) {
            otherwise = action;
        }
        let verdict = match verdicts.next_if(|(number, _)| *number == first) {
            Some((_, verdict)) => verdict,
            None => otherwise.into(),
        };
        if ranges.last().is_none_or(|last| last.verdict != verdict) {
            ranges.push(Range { first, verdict });
        }
    }
    ranges
}
