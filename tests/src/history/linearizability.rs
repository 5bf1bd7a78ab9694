//! Linearizability of every key and every lock.
//!
//! Linearizability is local (Herlihy and Wing, 1990): a history is linearizable when each object's part of it
//! is, so keys and locks are searched one at a time.

use crate::history::search::{Budget, Found, Model, Step, search};
use crate::history::{History, Key, LockName, mutex, register};

/// What a search found out about one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order that explains every answer.
    Linearizable,
    /// There is none.
    Violation {
        /// The first operation, by completion, whose answer cannot be explained together with all before it.
        /// `None` when finding it would have cost more than the budget.
        culprit: Option<usize>,
        /// Operations to look at: the last that could be ordered, and those that could not follow them.
        window: Vec<usize>,
    },
    /// Undecided: the budget was spent after this many steps. A failure, but not a violation.
    BudgetExhausted {
        /// The steps tried.
        steps: u64,
    },
}

/// The verdict on a key or lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectVerdict {
    /// The key or lock, as `key <name>` or `lock <name>`.
    pub object: String,
    /// What was found.
    pub verdict: Verdict,
}

/// Checks every key and every lock of `history`, each within `budget`.
pub fn check_linearizability(history: &History, budget: Budget) -> Vec<ObjectVerdict> {
    let keys = history
        .keys()
        .into_iter()
        .map(|key| ObjectVerdict { object: format!("key {key}"), verdict: check_key(history, key, budget) });
    let locks = history.locks().into_iter().map(|lock| ObjectVerdict {
        object: format!("lock {lock}"),
        verdict: check_lock(history, lock, budget),
    });
    keys.chain(locks).collect()
}

/// Checks one key against the register with revisions and conditions.
pub fn check_key(history: &History, key: &Key, budget: Budget) -> Verdict {
    check_object(history, budget, |history| (register::Register, register::steps(history, key)))
}

/// Checks one lock against the owner-aware fenced mutex.
pub fn check_lock(history: &History, lock: &LockName, budget: Budget) -> Verdict {
    check_object(history, budget, |history| mutex::steps(history, lock))
}

fn check_object<M: Model>(
    history: &History,
    budget: Budget,
    steps: impl Fn(&History) -> (M, Vec<Step<M::Event>>),
) -> Verdict {
    let (model, all) = steps(history);
    match search(&model, all, budget) {
        Found::Order => Verdict::Linearizable,
        Found::Exhausted(steps) => Verdict::BudgetExhausted { steps },
        Found::NoOrder { stuck } => minimal_violation(history, budget, &steps, stuck),
    }
}

/// Finds the shortest prefix in time that has no linearization. Prefixes of a linearizable history are
/// linearizable, so bisection over the completions is exact.
fn minimal_violation<M: Model>(
    history: &History,
    budget: Budget,
    steps: &impl Fn(&History) -> (M, Vec<Step<M::Event>>),
    stuck: Vec<usize>,
) -> Verdict {
    let mut completions: Vec<(u64, usize)> = steps(history)
        .1
        .iter()
        .filter_map(|step| step.operation)
        .filter_map(|index| Some((history.operations[index].completed_ns()?, index)))
        .collect();
    completions.sort_unstable();
    let mut window = stuck;
    let mut exact = true;
    // Invariant: the prefix up to `broken` has no linearization; prefixes up to below `sound` do, or are unknown.
    let (mut sound, mut broken) = (0, completions.len().saturating_sub(1));
    while sound < broken {
        let middle = sound + (broken - sound) / 2;
        let (prefix, original) = prefix(history, completions[middle].0);
        let (model, all) = steps(&prefix);
        match search(&model, all, budget) {
            Found::Order => sound = middle + 1,
            Found::NoOrder { stuck } => {
                broken = middle;
                window = stuck.into_iter().map(|index| original[index]).collect();
            }
            Found::Exhausted(_) => {
                exact = false;
                break;
            }
        }
    }
    window.sort_by_key(|index| history.operations[*index].invoked_ns);
    window.dedup();
    let culprit = completions.get(broken).map(|(_, index)| *index).filter(|_| exact);
    Verdict::Violation { culprit, window }
}

/// What was known at `end_ns`: calls sent later are gone, answers that came later are open. The second part
/// maps the prefix's indexes to the history's.
fn prefix(history: &History, end_ns: u64) -> (History, Vec<usize>) {
    let mut operations = Vec::new();
    let mut original = Vec::new();
    for (index, op) in history.operations.iter().enumerate() {
        if op.invoked_ns > end_ns {
            continue;
        }
        let mut op = op.clone();
        if op.completed_ns().is_some_and(|at_ns| at_ns > end_ns) {
            if !op.may_have_happened() {
                // Certainly without effect, even if nobody knew it yet.
                continue;
            }
            op.outcome = crate::history::Outcome::Unknown;
        }
        operations.push(op);
        original.push(index);
    }
    (History { operations }, original)
}
