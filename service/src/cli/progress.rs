//! How far something is that takes long: on standard error, in one line that changes on a terminal, and in one line for
//! each change elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::output;

/// How often the line moves, so that people see that the program lives.
const TICK_PERIOD: Duration = Duration::from_millis(120);

/// Something that goes on. Dropping it takes its line off the terminal.
#[derive(Debug)]
pub(super) struct Progress {
    line: ProgressBar,
    told: String,
}

impl Progress {
    /// Begins; nothing is shown before the first word.
    pub(super) fn start() -> Self {
        let line = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{spinner} {msg}").expect("the template names known fields");
        line.set_style(style);
        Self { line, told: String::new() }
    }

    /// Says how far it is. The same again changes nothing.
    pub(super) fn tell(&mut self, text: &str) {
        if self.told == text {
            return;
        }
        if self.line.is_hidden() {
            output::complaint(text);
        } else {
            self.line.set_message(text.to_owned());
            self.line.enable_steady_tick(TICK_PERIOD);
        }
        text.clone_into(&mut self.told);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.line.finish_and_clear();
    }
}
