//! What a person sees who waits: a line that changes on a terminal, a line for each change elsewhere.

use std::time::Duration;

use holdfast_api::claims::QueuedClaim;
use holdfast_api::locks::HolderView;
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::duration;
use crate::cli::lock_run::say;
use crate::cli::output::printable;

/// How often the line on a terminal moves.
const TICK_PERIOD: Duration = Duration::from_millis(120);

/// The place in the queue, on standard error. Dropping it takes its line off the terminal.
#[derive(Debug)]
pub(super) struct WaitingLine {
    line: ProgressBar,
    what: String,
    /// The place and the holders' claims that were shown last, and how.
    shown: Option<(u64, Vec<String>)>,
    text: String,
}

impl WaitingLine {
    /// Begins; nothing is shown before the first look.
    pub(super) fn start(what: &str) -> Self {
        let line = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{spinner} waiting {elapsed} for {msg}");
        line.set_style(style.expect("the template names known fields"));
        Self { line, what: what.to_owned(), shown: None, text: "nothing was seen of its queue".to_owned() }
    }

    /// Shows where the claim stands.
    pub(super) fn show(&mut self, view: &QueuedClaim) {
        self.text = format!("position {}, {}", view.position, held_by(&view.holders, None));
        let text = format!("{}: {}", self.what, self.text);
        if !self.line.is_hidden() {
            self.line.set_message(text);
            self.line.enable_steady_tick(TICK_PERIOD);
            return;
        }
        // For how long it has been held changes all the time, and is no news.
        let holders = view.holders.iter().map(|holder| holder.claim.clone()).collect();
        let now = Some((view.position, holders));
        if self.shown != now {
            self.shown = now;
            say(&format!("waiting for {text}"));
        }
    }

    /// What was seen last.
    pub(super) fn last_seen(&self) -> &str {
        &self.text
    }
}

impl Drop for WaitingLine {
    fn drop(&mut self) {
        self.line.finish_and_clear();
    }
}

/// Who holds it, since when, and with which token.
pub(super) fn held_by(holders: &[HolderView], delay_remaining_ms: Option<u64>) -> String {
    let each = holders.iter().map(|holder| {
        let who = holder.label.as_ref().or(holder.session_name.as_ref()).unwrap_or(&holder.session);
        format!("{} for {} (token {})", printable(who), duration::brief(holder.held_ms), holder.fencing_token)
    });
    let each: Vec<String> = each.collect();
    match (each.is_empty(), delay_remaining_ms) {
        (false, _) => format!("held by {}", each.join(", ")),
        (true, Some(delay_ms)) => {
            format!("held by nobody, but kept free for {}", duration::brief(delay_ms))
        }
        (true, None) => "held by nobody at the moment".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_api::claims::ClaimMode;

    fn holder(label: Option<&str>, session_name: Option<&str>) -> HolderView {
        HolderView {
            mode: ClaimMode::Exclusive,
            permits: None,
            claim: "c".to_owned(),
            session: "s".to_owned(),
            session_name: session_name.map(ToOwned::to_owned),
            label: label.map(ToOwned::to_owned),
            fencing_token: 7,
            held_ms: 41_000,
        }
    }

    #[test]
    fn a_holder_is_known_by_its_label_or_its_sessions_name_or_its_session() {
        assert_eq!(
            held_by(&[holder(Some("nightly"), Some("h:1"))], None),
            "held by nightly for 41s (token 7)"
        );
        assert_eq!(held_by(&[holder(None, Some("h:1"))], None), "held by h:1 for 41s (token 7)");
        assert_eq!(held_by(&[holder(None, None)], None), "held by s for 41s (token 7)");
    }

    #[test]
    fn a_lock_without_holder_says_why_it_is_not_granted() {
        assert_eq!(held_by(&[], Some(2_500)), "held by nobody, but kept free for 2s");
        assert_eq!(held_by(&[], None), "held by nobody at the moment");
    }
}
