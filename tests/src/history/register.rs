//! The sequential specification of one config key: a register with revisions and conditions.

use std::collections::BTreeMap;

use crate::history::search::{Model, Step, Twins};
use crate::history::{Answer, Call, Condition, History, Key, Operation, Outcome, Refusal, ValueId};

/// What one operation did to the key, or saw of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyEvent {
    /// A read's answer.
    Saw(Option<(ValueId, u64)>),
    /// A write; the value is `None` when nobody ever read it, the revision when no answer told it.
    Put { value: Option<ValueId>, condition: Condition, revision: Option<u64> },
    /// A delete.
    Removed { condition: Condition },
    /// A refusal: the condition did not hold.
    Mismatch { condition: Condition },
}

/// The revision of the present item.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Revision {
    Known(u64),
    /// No answer told it; an answer ruled these out.
    Untold {
        not: Vec<u64>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Item {
    value: Option<ValueId>,
    revision: Revision,
}

/// The key's item and the highest revision that is known to be over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct KeyState {
    item: Option<Item>,
    revision_floor: u64,
}

/// Invariant: `revision_floor` is at least the revision of the item, when that is known.
impl KeyState {
    /// The same state after learning that the item has `revision`; `None` if it cannot have it.
    fn with_revision(&self, revision: u64) -> Option<Self> {
        let item = self.item.as_ref()?;
        match &item.revision {
            Revision::Known(known) => (*known == revision).then(|| self.clone()),
            Revision::Untold { not } => {
                if revision <= self.revision_floor || not.contains(&revision) {
                    return None;
                }
                let item = Item { value: item.value, revision: Revision::Known(revision) };
                Some(Self { item: Some(item), revision_floor: revision })
            }
        }
    }

    /// The same state after learning that the item, if any, does not have `revision`.
    fn without_revision(&self, revision: u64) -> Option<Self> {
        let Some(item) = &self.item else { return Some(self.clone()) };
        match &item.revision {
            Revision::Known(known) => (*known != revision).then(|| self.clone()),
            Revision::Untold { not } => {
                let mut not = not.clone();
                if let Err(place) = not.binary_search(&revision) {
                    not.insert(place, revision);
                }
                let item = Item { value: item.value, revision: Revision::Untold { not } };
                Some(Self { item: Some(item), revision_floor: self.revision_floor })
            }
        }
    }

    fn meets(&self, condition: Condition) -> Option<Self> {
        match condition {
            Condition::Always => Some(self.clone()),
            Condition::Absent => self.item.is_none().then(|| self.clone()),
            Condition::Revision(revision) => self.with_revision(revision),
        }
    }

    fn fails(&self, condition: Condition) -> Option<Self> {
        match condition {
            Condition::Always => None,
            Condition::Absent => self.item.is_some().then(|| self.clone()),
            Condition::Revision(revision) => self.without_revision(revision),
        }
    }
}

/// The register.
pub(super) struct Register;

impl Model for Register {
    type State = KeyState;
    type Event = KeyEvent;

    fn initial(&self) -> KeyState {
        KeyState::default()
    }

    fn apply(&self, state: &KeyState, event: &KeyEvent) -> Option<KeyState> {
        match event {
            KeyEvent::Saw(None) => state.item.is_none().then(|| state.clone()),
            KeyEvent::Saw(Some((value, revision))) => {
                let item = state.item.as_ref()?;
                if item.value == Some(*value) { state.with_revision(*revision) } else { None }
            }
            KeyEvent::Put { value, condition, revision } => {
                let state = state.meets(*condition)?;
                let (revision, revision_floor) = match revision {
                    Some(revision) if *revision <= state.revision_floor => return None,
                    Some(revision) => (Revision::Known(*revision), *revision),
                    None => (Revision::Untold { not: Vec::new() }, state.revision_floor),
                };
                Some(KeyState { item: Some(Item { value: *value, revision }), revision_floor })
            }
            KeyEvent::Removed { condition } => {
                // A conditional delete of an absent key is a mismatch, so it cannot have succeeded.
                let state = state.meets(*condition)?;
                Some(KeyState { item: None, revision_floor: state.revision_floor })
            }
            KeyEvent::Mismatch { condition } => state.fails(*condition),
        }
    }

    fn only_observes(&self, event: &KeyEvent) -> bool {
        match event {
            KeyEvent::Saw(_) | KeyEvent::Mismatch { .. } => true,
            KeyEvent::Put { .. } | KeyEvent::Removed { .. } => false,
        }
    }
}

struct Sighting {
    first_completed_ns: u64,
    revision: u64,
}

/// The steps of `key`. A write of unknown outcome whose value was read is definite: it took effect before the
/// first read that saw it was answered.
pub(super) fn steps(history: &History, key: &Key) -> Vec<Step<KeyEvent>> {
    let on_key = || history.operations.iter().enumerate().filter(|(_, op)| op.call.key() == Some(key));
    let mut seen: BTreeMap<ValueId, Sighting> = BTreeMap::new();
    for (_, op) in on_key() {
        if let Outcome::Ok { at_ns, answer: Answer::Item { value, mod_revision } } = &op.outcome {
            let sighting = Sighting { first_completed_ns: *at_ns, revision: *mod_revision };
            let earliest = seen.entry(*value).or_insert(sighting);
            if *at_ns < earliest.first_completed_ns {
                *earliest = Sighting { first_completed_ns: *at_ns, revision: *mod_revision };
            }
        }
    }
    let has_conditions = on_key().any(|(_, op)| condition(&op.call) != Condition::Always);
    on_key().filter_map(|(index, op)| step(index, op, &seen, has_conditions)).collect()
}

fn condition(call: &Call) -> Condition {
    match call {
        Call::Write { condition, .. } | Call::Delete { condition, .. } => *condition,
        Call::Read { .. }
        | Call::OpenSession { .. }
        | Call::KeepAlive { .. }
        | Call::EndSession { .. }
        | Call::Acquire { .. }
        | Call::Release { .. }
        | Call::LookAtLock { .. } => Condition::Always,
    }
}

fn step(
    index: usize,
    op: &Operation,
    seen: &BTreeMap<ValueId, Sighting>,
    has_conditions: bool,
) -> Option<Step<KeyEvent>> {
    let mut completed_ns = op.completed_ns();
    let mut twins = None;
    if let Some(refusal) = op.refusal() {
        if *refusal != Refusal::RevisionMismatch {
            return None;
        }
        let event = KeyEvent::Mismatch { condition: condition(&op.call) };
        return Some(Step {
            operation: Some(index),
            invoked_ns: op.invoked_ns,
            completed_ns,
            event,
            twins,
            rank: None,
        });
    }
    let event = match (&op.call, op.answer()) {
        (Call::Read { .. }, Some(Answer::Item { value, mod_revision })) => {
            KeyEvent::Saw(Some((*value, *mod_revision)))
        }
        (Call::Read { .. }, Some(_)) => KeyEvent::Saw(None),
        (Call::Read { .. }, None) => return None,
        (Call::Write { value, condition, .. }, answer) => {
            let sighting = seen.get(value);
            let revision = match answer {
                Some(Answer::Written { mod_revision }) => Some(*mod_revision),
                Some(_) => None,
                None => {
                    completed_ns = sighting.map(|sighting| sighting.first_completed_ns.max(op.invoked_ns));
                    sighting.map(|sighting| sighting.revision)
                }
            };
            if completed_ns.is_none() && !has_conditions {
                // Nobody read it and no condition can tell that it happened: "never" explains as much.
                return None;
            }
            if completed_ns.is_none() && *condition == Condition::Always {
                twins = Some(Twins::UnreadWrites);
            }
            KeyEvent::Put { value: sighting.map(|_| *value), condition: *condition, revision }
        }
        (Call::Delete { condition, .. }, _) => {
            if completed_ns.is_none() && *condition == Condition::Always {
                twins = Some(Twins::Deletes);
            }
            KeyEvent::Removed { condition: *condition }
        }
        (
            Call::OpenSession { .. }
            | Call::KeepAlive { .. }
            | Call::EndSession { .. }
            | Call::Acquire { .. }
            | Call::Release { .. }
            | Call::LookAtLock { .. },
            _,
        ) => return None,
    };
    // The revision of the present item never decreases, so what is written and seen is ordered by it.
    let rank = match &event {
        KeyEvent::Saw(seen) => seen.map(|(_, revision)| revision),
        KeyEvent::Put { revision, .. } => *revision,
        KeyEvent::Removed { .. } | KeyEvent::Mismatch { .. } => None,
    };
    Some(Step { operation: Some(index), invoked_ns: op.invoked_ns, completed_ns, event, twins, rank })
}
