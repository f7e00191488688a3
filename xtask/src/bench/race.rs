//! Interleaved rounds over contestants, on a quiet machine; medians and spread.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::say;

/// How much time is spent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Rounds over all contestants.
    pub(super) rounds: usize,
    /// Time for one contestant in one round.
    pub(super) slice: Duration,
    /// Calls of which none may fail.
    pub(super) calls: usize,
}

impl Pace {
    /// For a look.
    pub(super) const QUICK: Self = Self { rounds: 2, slice: Duration::from_millis(300), calls: 2_000 };
    /// For the record.
    pub(super) const FULL: Self = Self { rounds: 5, slice: Duration::from_millis(800), calls: 100_000 };
}

type Sample<'a> = Box<dyn FnMut(usize) -> Result<Vec<f64>> + 'a>;

/// Someone who can be measured: asked for so many samples, it gives so many numbers.
pub(super) struct Contestant<'a> {
    name: String,
    sample: Sample<'a>,
}

impl<'a> Contestant<'a> {
    /// With a name for the table.
    pub(super) fn new(name: impl Into<String>, sample: impl FnMut(usize) -> Result<Vec<f64>> + 'a) -> Self {
        Self { name: name.into(), sample: Box::new(sample) }
    }
}

/// What a contestant achieved.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    /// Its name.
    pub(super) name: String,
    samples: Vec<f64>,
    /// The medians of its rounds, for the ratios: both sides of a ratio were measured within the same round.
    rounds: Vec<f64>,
}

impl Figures {
    /// A single number, where there are no rounds.
    pub(super) fn single(name: &str, value: f64) -> Self {
        Self { name: name.to_owned(), samples: vec![value], rounds: vec![value] }
    }

    /// The middle of all samples.
    pub(super) fn median(&self) -> f64 {
        quantile(&self.samples, 0.5)
    }

    /// The value beneath which this part of the samples lies.
    pub(super) fn quantile(&self, part: f64) -> f64 {
        quantile(&self.samples, part)
    }

    /// How many samples.
    pub(super) fn count(&self) -> usize {
        self.samples.len()
    }

    /// The middle of the ratios of the rounds.
    pub(super) fn ratio_to(&self, other: &Self) -> f64 {
        let ratios: Vec<f64> =
            self.rounds.iter().zip(&other.rounds).map(|(own, theirs)| own / theirs).collect();
        quantile(&ratios, 0.5)
    }
}

/// Runs the rounds, each beginning with another contestant. One that fails is left out, and said so.
pub(super) fn race(pace: Pace, contestants: Vec<Contestant<'_>>) -> Vec<Figures> {
    let mut running: Vec<(Contestant<'_>, usize, Figures)> = Vec::new();
    for mut contestant in contestants {
        match (contestant.sample)(3) {
            Ok(warm) => {
                let each = quantile(&warm, 0.5).max(0.05) / 1000.0;
                let count = (pace.slice.as_secs_f64() / each).clamp(4.0, 200.0) as usize;
                let figures =
                    Figures { name: contestant.name.clone(), samples: Vec::new(), rounds: Vec::new() };
                running.push((contestant, count, figures));
            }
            Err(error) => say::note(&format!("{} is left out: {error:#}", contestant.name)),
        }
    }
    for round in 0..pace.rounds {
        let length = running.len();
        for index in 0..length {
            let Some((contestant, count, figures)) = running.get_mut((round + index) % length) else {
                continue;
            };
            wait_until_quiet();
            match (contestant.sample)(*count) {
                Ok(samples) => {
                    figures.rounds.push(quantile(&samples, 0.5));
                    figures.samples.extend(samples);
                }
                Err(error) => {
                    say::note(&format!("{} failed in round {round}: {error:#}", contestant.name));
                    figures.rounds.push(f64::NAN);
                }
            }
        }
        say::note(&format!("round {} of {}", round + 1, pace.rounds));
    }
    running.into_iter().map(|(_, _, figures)| figures).filter(|figures| figures.count() > 0).collect()
}

/// Times a closure, in milliseconds.
pub(super) fn timed(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64() * 1000.0)
}

static SAMPLED: AtomicUsize = AtomicUsize::new(0);
static DISTURBED: AtomicUsize = AtomicUsize::new(0);

/// How many times it was waited for a quiet machine, and how often in vain.
pub(super) fn disturbances() -> (usize, usize) {
    (SAMPLED.load(Ordering::Relaxed), DISTURBED.load(Ordering::Relaxed))
}

/// Waits until the processors have been idle for nine tenths of a quarter second, for 3 s at most.
pub(super) fn wait_until_quiet() {
    SAMPLED.fetch_add(1, Ordering::Relaxed);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        let before = processor_time();
        std::thread::sleep(Duration::from_millis(250));
        let after = processor_time();
        let all = (after.0 - before.0).max(1.0);
        if (after.1 - before.1) / all < 0.1 {
            return;
        }
    }
    DISTURBED.fetch_add(1, Ordering::Relaxed);
}

/// All ticks, and those that somebody used.
fn processor_time() -> (f64, f64) {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<f64> = stat
        .lines()
        .next()
        .unwrap_or("")
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    let all = fields.iter().take(8).sum();
    let idle: f64 = fields.iter().skip(3).take(2).sum();
    (all, all - idle)
}

fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    sorted.sort_by(f64::total_cmp);
    let index = ((sorted.len() as f64 - 1.0) * part).round().max(0.0) as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_rounds() {
        let figures = |rounds: &[f64]| Figures {
            name: String::new(),
            samples: rounds.to_vec(),
            rounds: rounds.to_vec(),
        };
        let (ours, theirs) = (figures(&[1.0, 2.0, 1.5]), figures(&[2.0, 4.0, 3.0]));
        assert!((ours.ratio_to(&theirs) - 0.5).abs() < 1e-9);
        assert!((figures(&[1.0, 9.0, 2.0]).median() - 2.0).abs() < 1e-9);
    }
}
