//! How much a package may do: rates, what is under way, kinds of calls that only fail, and when it is enough. Pure: the time is
//! an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::capability::Capability;

/// So many at once, and so many a second from then on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    size: f64,
    per_second: f64,
    level: f64,
    at: Option<Instant>,
}

impl Bucket {
    pub(crate) const fn new(size: f64, per_second: f64) -> Self {
        Self { size, per_second, level: size, at: None }
    }

    fn fill(&mut self, now: Instant) {
        let passed = self.at.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        self.level = (self.level + passed * self.per_second).min(self.size);
        self.at = Some(now);
    }

    pub(crate) fn take(&mut self, now: Instant) -> bool {
        self.fill(now);
        if self.level < 1.0 {
            return false;
        }
        self.level -= 1.0;
        true
    }

    pub(crate) fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.level >= self.size
    }
}

/// How much of a call's cost is whose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    /// Reads what is at hand.
    Read,
    /// Looks through much.
    Scan,
    /// Waits for the disk.
    Write,
    /// Goes out, or makes something.
    Act,
    /// Does something in what was made: starts a command, looks at a file.
    Run,
    /// Is read by people.
    Tell,
}

/// Rates of one package. A read costs microseconds, a write a part of a flush of the disk.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// At once, and each second from then on, of: reads.
    pub read: (f64, f64),
    /// Lists, and lines of the audit log.
    pub scan: (f64, f64),
    /// Changes of keys, secrets and files.
    pub write: (f64, f64),
    /// Requests to the outside, processes of the manifest, subcontainers.
    pub act: (f64, f64),
    /// Commands and files in subcontainers.
    pub run: (f64, f64),
    /// Lines of the log, messages to the operator.
    pub tell: (f64, f64),
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            read: (100_000.0, 50_000.0),
            scan: (500.0, 200.0),
            write: (2_000.0, 1_000.0),
            act: (100.0, 50.0),
            run: (2_000.0, 500.0),
            tell: (200.0, 20.0),
        }
    }
}

/// So many denials within [`PATIENCE`], and the package is put in quarantine.
const DENIALS: u32 = 100;
const PATIENCE: Duration = Duration::from_secs(60);
/// So many failures of a kind in a row, and it rests.
const FAILURES: u32 = 20;
const REST: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, Default)]
struct Breaker {
    failures: u32,
    until: Option<Instant>,
}

/// What fails together: a capability, and of those that reach others, which one.
pub(crate) type Kind = (Capability, Box<str>);

/// What a package has done, and whether it may do more.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    read: Bucket,
    scan: Bucket,
    write: Bucket,
    act: Bucket,
    run: Bucket,
    tell: Bucket,
    breakers: BTreeMap<Kind, Breaker>,
    denials: u32,
    since: Option<Instant>,
    pub(crate) counts: Counts,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) done: u64,
    pub(crate) denied: u64,
    pub(crate) failed: u64,
    pub(crate) limited: u64,
}

/// What became of a call, as far as it counts here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Came {
    Done,
    /// It may not be.
    Denied,
    /// It was more than may be.
    Limited,
    /// It was the caller's fault, or there was nothing to find: no sign that the kind of call is broken.
    Refused,
    /// It did not work.
    Failed,
}

impl Meter {
    pub(crate) fn new(rates: &Rates) -> Self {
        let bucket = |(size, per_second)| Bucket::new(size, per_second);
        Self {
            read: bucket(rates.read),
            scan: bucket(rates.scan),
            write: bucket(rates.write),
            act: bucket(rates.act),
            run: bucket(rates.run),
            tell: bucket(rates.tell),
            breakers: BTreeMap::new(),
            denials: 0,
            since: None,
            counts: Counts::default(),
        }
    }

    /// Whether there may be one more of this class now.
    pub(crate) fn take(&mut self, class: Class, now: Instant) -> bool {
        match class {
            Class::Read => self.read.take(now),
            Class::Scan => self.scan.take(now),
            Class::Write => self.write.take(now),
            Class::Act => self.act.take(now),
            Class::Run => self.run.take(now),
            Class::Tell => self.tell.take(now),
        }
    }

    /// For how long a kind rests, and after how many failures; the first call after that is a trial.
    pub(crate) fn rests(&mut self, kind: &Kind, now: Instant) -> Option<(u32, Duration)> {
        let breaker = self.breakers.get_mut(kind)?;
        let until = breaker.until?;
        if now < until {
            return Some((breaker.failures, until - now));
        }
        // One may try; the others wait for what becomes of it.
        breaker.until = Some(now + REST);
        None
    }

    /// Takes note of what became of a call. Says why, when that is enough.
    pub(crate) fn came(&mut self, kind: Option<Kind>, came: Came, now: Instant) -> Option<String> {
        match came {
            Came::Done => self.counts.done += 1,
            Came::Denied => self.counts.denied += 1,
            Came::Limited => {
                self.counts.denied += 1;
                self.counts.limited += 1;
            }
            Came::Refused | Came::Failed => self.counts.failed += 1,
        }
        match (came, kind) {
            (Came::Done | Came::Refused, Some(kind)) => {
                self.breakers.remove(&kind);
                None
            }
            (Came::Failed, Some(kind)) => {
                let breaker = self.breakers.entry(kind).or_default();
                breaker.failures += 1;
                breaker.until = (breaker.failures >= FAILURES).then_some(now + REST);
                None
            }
            (Came::Denied, _) => {
                if self.since.is_none_or(|since| now.saturating_duration_since(since) > PATIENCE) {
                    self.since = Some(now);
                    self.denials = 0;
                }
                self.denials += 1;
                (self.denials >= DENIALS)
                    .then(|| format!("{DENIALS} denied calls within {} s", PATIENCE.as_secs()))
            }
            _ => None,
        }
    }

    /// Kinds that rest.
    pub(crate) fn broken(&self, now: Instant) -> Vec<String> {
        let rest = self.breakers.iter().filter(|(_, breaker)| breaker.until.is_some_and(|until| now < until));
        rest.map(|((capability, item), _)| format!("{} {item}", capability.name()).trim_end().to_owned())
            .collect()
    }

    /// The operator has forgiven it.
    pub(crate) fn forgive(&mut self) {
        self.denials = 0;
        self.since = None;
        self.breakers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter() -> Meter {
        Meter::new(&Rates { write: (3.0, 1.0), ..Rates::default() })
    }

    #[test]
    fn b11_a_rate_holds_and_comes_back() {
        let (mut meter, now) = (meter(), Instant::now());
        let took = (0..10).filter(|_| meter.take(Class::Write, now)).count();
        assert_eq!(took, 3);
        assert!(meter.take(Class::Read, now), "another class has a rate of its own");
        assert!(!meter.take(Class::Write, now + Duration::from_millis(900)));
        assert!(meter.take(Class::Write, now + Duration::from_millis(1100)));
    }

    #[test]
    fn b11_what_only_fails_rests_and_is_tried_again_by_one() {
        let (mut meter, now) = (meter(), Instant::now());
        let kind: Kind = (Capability::HttpEgress, "a.example:443".into());
        let other: Kind = (Capability::HttpEgress, "b.example:443".into());
        for _ in 0..FAILURES {
            assert_eq!(meter.rests(&kind, now), None);
            meter.came(Some(kind.clone()), Came::Failed, now);
        }
        assert_eq!(meter.rests(&kind, now), Some((FAILURES, REST)));
        assert_eq!(meter.broken(now), ["http:egress a.example:443"]);
        assert_eq!(meter.rests(&other, now), None, "others go on");
        let later = now + REST;
        assert_eq!(meter.rests(&kind, later), None, "one tries");
        assert!(meter.rests(&kind, later).is_some(), "and the others wait for it");
        meter.came(Some(kind.clone()), Came::Done, later);
        assert_eq!(meter.rests(&kind, later), None);
    }

    #[test]
    fn b11_who_is_denied_again_and_again_is_put_in_quarantine_and_who_is_denied_now_and_then_is_not() {
        let (mut meter, now) = (meter(), Instant::now());
        for number in 0..DENIALS * 3 {
            let slowly = now + PATIENCE.mul_f64(f64::from(number) / f64::from(DENIALS - 10));
            assert_eq!(meter.came(None, Came::Denied, slowly), None, "{number}");
        }
        let (mut meter, now) = (self::meter(), Instant::now());
        let enough = (0..DENIALS).filter_map(|_| meter.came(None, Came::Denied, now)).count();
        assert_eq!(enough, 1);
    }
}
