//! Progress bars, one for each stage, while somebody watches.

use std::collections::BTreeMap;
use std::sync::Mutex;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::cli::output;

/// Bars on standard error; nothing where that is no terminal.
pub(super) struct Bars {
    all: MultiProgress,
    bars: Mutex<BTreeMap<String, ProgressBar>>,
    shown: bool,
}

impl Bars {
    pub(super) fn new(shown: bool) -> Self {
        Self { all: MultiProgress::new(), bars: Mutex::default(), shown: shown && output::watched() }
    }

    /// Takes them away.
    pub(super) fn clear(&self) {
        // Only a terminal that has gone fails.
        let _gone = self.all.clear();
    }
}

impl images::Progress for Bars {
    fn update(&self, stage: &str, done: u64, total: Option<u64>) {
        if !self.shown {
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
