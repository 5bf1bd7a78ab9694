//! How far something is that takes long: on standard error, in one line that changes on a terminal, and in one line for
//! each change elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::output;

/// How often the line moves, so that people see that the program lives.
const TICK_PERIOD: Duration = Duration::from_millis(120);
/// A line of words.
const WORDS: &str = "{spinner} {msg}";
/// A line of words after a bar.
const WORDS_AND_BAR: &str = "{spinner} [{bar:30}] {msg}";

/// Something that goes on. Dropping it takes its line off the terminal.
#[derive(Debug)]
pub(super) struct Progress {
    line: ProgressBar,
    told: String,
    /// The most that was ever left to do; the bar is full when nothing is.
    whole: u64,
}

impl Progress {
    /// Begins; nothing is shown before the first word.
    pub(super) fn start() -> Self {
        Self { line: ProgressBar::new_spinner(), told: String::new(), whole: 0 }
    }

    /// Says how far it is, with a bar if it is known how much is left to do. The same again changes nothing.
    pub(super) fn tell(&mut self, text: &str, left: Option<u64>) {
        if self.told == text {
            return;
        }
        text.clone_into(&mut self.told);
        if self.line.is_hidden() {
            return output::complaint(text);
        }
        if let Some(left) = left {
            self.whole = self.whole.max(left);
            self.line.set_length(self.whole);
            self.line.set_position(self.whole - left);
        }
        let template = if self.whole == 0 { WORDS } else { WORDS_AND_BAR };
        self.line.set_style(ProgressStyle::with_template(template).expect("it names known fields"));
        self.line.set_message(text.to_owned());
        self.line.enable_steady_tick(TICK_PERIOD);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.line.finish_and_clear();
    }
}
