//! The real machine and the naive model agree on every answer, every event and everything a reader can see.

use holdfast_core::domain::{Applied, Success, invariants};
use holdfast_core::testing::{Model, members};

use crate::cases::{History, for_each_history};
use crate::replica::Replica;
use crate::sights;

/// Answers, events and views of the real machine equal the model's after every entry.
pub(crate) fn equals_model(mut replica: Replica, seed: u64, log: &History) -> Result<(), String> {
    let mut model = Model::default();
    for (at, (leader, proposal)) in log.iter().enumerate() {
        let expected = model.apply(*leader, proposal);
        let members = members(seed, at);
        let step = (leader, proposal, members.clone());
        let answers = replica.batch(&[step]).map_err(|fault| format!("entry {at}: {fault}"))?;
        if let Some(members) = members {
            model.note_membership(&members);
        }
        if answers != [expected.clone()] {
            return Err(format!("entry {at}: {}", difference(&answers[0], &expected)));
        }
        let mut seen = sights::equal_now(&replica, &model);
        if matches!(expected.outcome, Ok(Success::Namespace { created: true, .. })) {
            seen = seen.and_then(|()| sights::equal_history(&replica, &model));
        }
        seen.map_err(|why| format!("after entry {at}: {why}"))?;
    }
    sights::equal_history(&replica, &model)
}

fn difference(real: &Applied, model: &Applied) -> String {
    if real.outcome != model.outcome {
        return format!("answered {:?}, the model {:?}", real.outcome, model.outcome);
    }
    if real.revision != model.revision {
        return format!("is at revision {}, the model at {}", real.revision, model.revision);
    }
    let at = (0..).find(|at| real.events.get(*at) != model.events.get(*at)).unwrap_or_default();
    let (real, model) = (real.events.get(at), model.events.get(at));
    format!("event {at} is {real:?}, the model's {model:?}")
}

#[test]
fn the_machine_equals_the_model_after_every_entry() {
    for_each_history(|seed, log| equals_model(Replica::new(), seed, log));
}

/// No invariant of the rows is ever broken.
pub(crate) fn rows_stay_sound(mut replica: Replica, log: &History) -> Result<(), String> {
    for (at, (leader, proposal)) in log.iter().enumerate() {
        let _ = replica.apply(*leader, proposal).map_err(|fault| format!("entry {at}: {fault}"))?;
        let broken = invariants::check(&replica.tables);
        if !broken.is_empty() {
            return Err(format!("after entry {at}: {broken:?}"));
        }
    }
    Ok(())
}

#[test]
fn no_invariant_is_ever_broken() {
    for_each_history(|_, log| rows_stay_sound(Replica::new(), log));
}
