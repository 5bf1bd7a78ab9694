//! One revision counter for the whole store: what is answered later never has an older revision.

use std::collections::BTreeMap;

use crate::history::{Answer, Call, ClaimName, History, LockName, Rule, Violation};

/// Whose effect a revision is. Two different effects never share one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Effect<'h> {
    Write(u64),
    Grant(&'h LockName, &'h ClaimName),
}

struct Sighting<'h> {
    operation: usize,
    invoked_ns: u64,
    completed_ns: u64,
    revision: u64,
    /// The effect that happened within this very operation, as opposed to one that it merely saw.
    made: bool,
    effect: Effect<'h>,
}

/// Checks that each effect has one revision, each revision one effect, and that an effect whose request began
/// after an answer has a greater revision than any that answer told of.
pub fn check_revisions(history: &History) -> Vec<Violation> {
    let sightings = sightings(history);
    let mut violations = shared_revisions(&sightings);
    violations.extend(backward_revisions(&sightings));
    violations
}

fn sightings(history: &History) -> Vec<Sighting<'_>> {
    let mut sightings = Vec::new();
    for (operation, op) in history.operations.iter().enumerate() {
        let (Some(answer), Some(completed_ns)) = (op.answer(), op.completed_ns()) else { continue };
        let (effect, revision, made) = match (&op.call, answer) {
            (Call::Read { .. }, Answer::Item { value, mod_revision }) => {
                (Effect::Write(value.0), *mod_revision, false)
            }
            (Call::Write { value, .. }, Answer::Written { mod_revision }) => {
                (Effect::Write(value.0), *mod_revision, true)
            }
            // An acquire may be the replay of an older grant: only the first answer for a claim can be its own.
            (Call::Acquire { lock, claim, .. }, Answer::Held { token }) => {
                let is_only_request = !history.operations.iter().enumerate().any(|(other, earlier)| {
                    other != operation
                        && earlier.invoked_ns <= op.invoked_ns
                        && matches!(&earlier.call, Call::Acquire { lock: l, claim: c, .. } if l == lock && c == claim)
                });
                (Effect::Grant(lock, claim), *token, is_only_request)
            }
            _ => continue,
        };
        let invoked_ns = op.invoked_ns;
        sightings.push(Sighting { operation, invoked_ns, completed_ns, revision, made, effect });
    }
    sightings
}

fn shared_revisions(sightings: &[Sighting<'_>]) -> Vec<Violation> {
    let mut by_effect: BTreeMap<&Effect<'_>, &Sighting<'_>> = BTreeMap::new();
    let mut by_revision: BTreeMap<u64, &Sighting<'_>> = BTreeMap::new();
    let mut violations = Vec::new();
    for sighting in sightings {
        let first = *by_effect.entry(&sighting.effect).or_insert(sighting);
        if first.revision != sighting.revision {
            // A claim with two tokens is the replay law's to report.
            if let Effect::Write(value) = sighting.effect {
                violations.push(Violation {
                    rule: Rule::Revisions,
                    operations: vec![first.operation, sighting.operation],
                    why: format!(
                        "value {value} has two revisions, {} and {}",
                        first.revision, sighting.revision
                    ),
                });
            }
        }
        let owner = *by_revision.entry(sighting.revision).or_insert(sighting);
        let both_grants = matches!((&owner.effect, &sighting.effect), (Effect::Grant(..), Effect::Grant(..)));
        if owner.effect != sighting.effect && !both_grants {
            violations.push(Violation {
                rule: Rule::Revisions,
                operations: vec![owner.operation, sighting.operation],
                why: format!("two effects share revision {}", sighting.revision),
            });
        }
    }
    violations
}

fn backward_revisions(sightings: &[Sighting<'_>]) -> Vec<Violation> {
    let mut by_completion: Vec<&Sighting<'_>> = sightings.iter().collect();
    by_completion.sort_by_key(|sighting| sighting.completed_ns);
    let mut made: Vec<&Sighting<'_>> = sightings.iter().filter(|sighting| sighting.made).collect();
    made.sort_by_key(|sighting| sighting.invoked_ns);
    let mut completed = by_completion.into_iter().peekable();
    let mut highest: Option<&Sighting<'_>> = None;
    let mut violations = Vec::new();
    for sighting in made {
        while let Some(earlier) = completed.next_if(|earlier| earlier.completed_ns < sighting.invoked_ns) {
            if highest.is_none_or(|highest| highest.revision < earlier.revision) {
                highest = Some(earlier);
            }
        }
        let Some(highest) = highest else { continue };
        let both_grants =
            matches!((&highest.effect, &sighting.effect), (Effect::Grant(..), Effect::Grant(..)));
        if sighting.revision <= highest.revision && highest.effect != sighting.effect && !both_grants {
            violations.push(Violation {
                rule: Rule::Revisions,
                operations: vec![highest.operation, sighting.operation],
                why: format!(
                    "revision {} was made after revision {} had been answered",
                    sighting.revision, highest.revision
                ),
            });
        }
    }
    violations
}
