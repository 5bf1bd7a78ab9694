//! All checks over one recording, and the report that they make.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::history::search::Budget;
use crate::history::{Operation, Recording, Verdict, check_contract, check_linearizability, check_revisions};

/// What a recording can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Rule {
    /// Every key and lock behaves as if its operations happened one by one, within their calls.
    Linearizable,
    /// Revisions are unique and never go back.
    Revisions,
    /// At most one exclusive holder, in revision order.
    L1,
    /// Tokens strictly increase and are never shared.
    L2,
    /// No grant to a session that has ended.
    L3,
    /// No session expires before its TTL has passed since the last acknowledged renewal.
    L4,
    /// Nothing is granted again before the expiry that freed it.
    L5,
    /// Claims are granted in the order in which they queued.
    L6,
    /// A release ends only its own claim.
    L7,
    /// A replay gets the first answer.
    L8,
    /// A guarded write succeeds only with the current holder's token.
    L10,
}

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// The operations that show it, by index; empty when the ledger alone shows it.
    pub operations: Vec<usize>,
    /// What happened.
    pub why: String,
}

/// A key or lock whose search spent its budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecided {
    /// The key or lock.
    pub object: String,
    /// The steps tried.
    pub steps: u64,
}

/// What all checks found.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Broken rules.
    pub violations: Vec<Violation>,
    /// What could not be decided.
    pub undecided: Vec<Undecided>,
}

impl Report {
    /// Whether everything was decided and nothing is broken.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty() && self.undecided.is_empty()
    }

    /// The broken rules, each once, in order.
    pub fn broken_rules(&self) -> Vec<Rule> {
        let mut rules: Vec<Rule> = self.violations.iter().map(|violation| violation.rule).collect();
        rules.sort_unstable();
        rules.dedup();
        rules
    }

    /// The report as text, with the operations that it names.
    pub fn explain<'r>(&'r self, operations: &'r [Operation]) -> impl fmt::Display + 'r {
        Explained { report: self, operations }
    }
}

struct Explained<'r> {
    report: &'r Report,
    operations: &'r [Operation],
}

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for violation in &self.report.violations {
            writeln!(f, "{:?}: {}", violation.rule, violation.why)?;
            for index in &violation.operations {
                match self.operations.get(*index) {
                    Some(operation) => writeln!(f, "  #{index} {operation:?}")?,
                    None => writeln!(f, "  #{index}")?,
                }
            }
        }
        for undecided in &self.report.undecided {
            writeln!(f, "undecided after {} steps: {}", undecided.steps, undecided.object)?;
        }
        Ok(())
    }
}

/// Runs every check. The budget bounds the search of each key and each lock.
pub fn check(recording: &Recording, budget: Budget) -> Report {
    let mut report = Report::default();
    for object in check_linearizability(&recording.history, budget) {
        match object.verdict {
            Verdict::Linearizable => {}
            Verdict::Violation { culprit, window } => {
                let blame =
                    culprit.map_or(String::new(), |index| format!("; the first answer too many is #{index}"));
                report.violations.push(Violation {
                    rule: Rule::Linearizable,
                    operations: window,
                    why: format!("no order explains all answers on {}{blame}", object.object),
                });
            }
            Verdict::BudgetExhausted { steps } => {
                report.undecided.push(Undecided { object: object.object, steps });
            }
        }
    }
    report.violations.extend(check_revisions(&recording.history));
    report.violations.extend(check_contract(&recording.history, &recording.ledger));
    report
}
