//! How far long work is: bars while somebody watches, else a line now and then.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::cli::output;

/// Where nobody watches, what takes no longer than this says nothing, and the rest no more often.
const OFTEN: Duration = Duration::from_secs(5);

/// On standard error: one bar for each stage on a terminal; lines where that is none.
pub(in crate::cli) struct Bars {
    all: MultiProgress,
    bars: Mutex<BTreeMap<String, ProgressBar>>,
    lines: Mutex<Lines>,
    begun: Instant,
    shown: bool,
}

impl Bars {
    pub(in crate::cli) fn new(shown: bool) -> Self {
        Self {
            all: MultiProgress::new(),
            bars: Mutex::default(),
            lines: Mutex::default(),
            begun: Instant::now(),
            shown,
        }
    }

    /// Takes them away.
    pub(in crate::cli) fn clear(&self) {
        // Only a terminal that has gone fails.
        let _gone = self.all.clear();
    }
}

impl images::Progress for Bars {
    fn update(&self, stage: &str, done: u64, total: Option<u64>) {
        if !self.shown {
            return;
        }
        if !output::watched() {
            let said = self
                .lines
                .lock()
                .ok()
                .and_then(|mut lines| lines.update(stage, done, total, self.begun.elapsed()));
            if let Some(line) = said {
                output::error(&line);
            }
            return;
        }
        let Ok(mut bars) = self.bars.lock() else { return };
        let bar = bars.entry(stage.to_owned()).or_insert_with(|| {
            let template = "{msg:40} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}";
            let style =
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = self.all.add(ProgressBar::new(total.unwrap_or(0)).with_style(style));
            bar.set_message(stage.chars().take(40).collect::<String>());
            bar
        });
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_position(done);
        if total == Some(done) {
            bar.finish();
        }
    }
}

/// When each stage was told of last, and whether it was at all.
#[derive(Default)]
struct Lines(BTreeMap<String, (Duration, bool)>);

impl Lines {
    /// What to say of it now, if anything.
    fn update(&mut self, stage: &str, done: u64, total: Option<u64>, now: Duration) -> Option<String> {
        let (last, told) = self.0.entry(stage.to_owned()).or_insert((now, false));
        let over = total == Some(done);
        if !(over && *told || now.saturating_sub(*last) >= OFTEN) {
            return None;
        }
        (*last, *told) = (now, !over);
        let stage = output::plain(stage);
        let amount = output::bytes(done);
        Some(match total {
            _ if over => format!("{stage}: {amount}, done"),
            Some(total) => format!("{stage}: {amount} of {}", output::bytes(total)),
            None => format!("{stage}: {amount}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_says_so_now_and_then_and_the_rest_nothing() {
        let mut lines = Lines::default();
        let mut at =
            |stage, done, total, seconds| lines.update(stage, done, total, Duration::from_secs(seconds));
        assert_eq!(at("short", 1, Some(2), 0), None);
        assert_eq!(at("short", 2, Some(2), 4), None);
        assert_eq!(at("layer \u{1b}[31m", 0, Some(2_000_000), 0), None);
        assert_eq!(
            at("layer \u{1b}[31m", 1_000_000, Some(2_000_000), 5).unwrap(),
            "layer \\u{1b}[31m: 1.0 MB of 2.0 MB"
        );
        assert_eq!(at("layer \u{1b}[31m", 1_500_000, Some(2_000_000), 9), None);
        assert_eq!(
            at("layer \u{1b}[31m", 2_000_000, Some(2_000_000), 9).unwrap(),
            "layer \\u{1b}[31m: 2.0 MB, done"
        );
        assert_eq!(at("layer \u{1b}[31m", 2_000_000, Some(2_000_000), 10), None);
        assert_eq!(at("endless", 5, None, 0), None);
        assert_eq!(at("endless", 7, None, 60).unwrap(), "endless: 7 B");
    }
}
