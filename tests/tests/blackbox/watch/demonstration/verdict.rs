//! What every watcher must have been told, from what was acknowledged, and whether it was.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::takers::{self, Grant};
use super::watchers::{Subject, Told};
use super::writers::{Effect, Fate, Written};

/// A watcher that was not told what it must be told.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Missed(String);

/// Everything that a run leaves.
pub(super) struct Evidence {
    pub(super) written: Vec<Written>,
    /// The keys and values at the end.
    pub(super) state: BTreeMap<String, String>,
    pub(super) taken: Vec<Grant>,
    pub(super) told: Vec<Told>,
    /// The revision after everything.
    pub(super) last: u64,
}

/// What was judged.
#[derive(Debug)]
pub(super) struct Summary {
    pub(super) watchers: usize,
    pub(super) writes: usize,
    pub(super) unknown: usize,
    pub(super) grants: usize,
    pub(super) changes: usize,
    pub(super) resumptions: usize,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { watchers, writes, unknown, grants, changes, resumptions } = self;
        write!(
            f,
            "{watchers} watchers were told {changes} changes and resumed {resumptions} times; {writes} writes and {grants} grants \
             acknowledged, {unknown} writes without an outcome"
        )
    }
}

/// What happened to keys: by revision, then by key.
type Past = BTreeMap<u64, BTreeMap<String, Effect>>;

impl Evidence {
    /// Compares what each watcher was told with what happened.
    ///
    /// # Errors
    /// [`Missed`] names the first difference; any other error says that the evidence proves nothing.
    pub(super) fn judge(&self) -> Result<Summary> {
        for told in &self.told {
            // A stream that broke off for good was not told the rest.
            if let Some(why) = &told.broken {
                return Err(Missed(format!("{}: {why}", told.name)).into());
            }
            let arrived = self.last <= told.up_to || told.is_over;
            ensure!(arrived, "{} is at {} of {}", told.name, told.up_to, self.last);
            in_order(told)?;
        }
        self.judge_keys()?;
        self.judge_locks()?;
        let writes = self.written.iter().filter(|written| written.fate != Fate::Unknown).count();
        Ok(Summary {
            watchers: self.told.len(),
            writes,
            unknown: self.written.len() - writes,
            grants: self.taken.len(),
            changes: self
                .told
                .iter()
                .flat_map(|told| &told.revisions)
                .map(|(_, changes)| changes.len())
                .sum(),
            resumptions: self.told.iter().map(|told| told.resumptions).sum(),
        })
    }

    fn judge_keys(&self) -> Result<()> {
        let past = self.past()?;
        for told in &self.told {
            let Subject::Keys(prefixes) = &told.subject else { continue };
            let mine =
                |key: &str| prefixes.is_empty() || prefixes.iter().any(|prefix| key.starts_with(prefix));
            let mut expected = Vec::new();
            for (revision, effects) in past.range(told.since + 1..=self.last) {
                let effects = effects.iter().filter(|(key, _)| mine(key));
                let effects: Vec<_> = effects.map(|(key, effect)| (key.clone(), effect.clone())).collect();
                if !effects.is_empty() {
                    expected.push((*revision, effects));
                }
            }
            let mut actual = Vec::new();
            for (revision, changes) in told.revisions.iter().filter(|(revision, _)| *revision <= self.last) {
                actual.push((*revision, changes.iter().map(effect).collect::<Result<Vec<_>>>()?));
            }
            same(told, &expected, &actual)?;
        }
        self.judge_state(&past)
    }

    /// What happened: everything acknowledged, and what was seen of the writes without an outcome.
    fn past(&self) -> Result<Past> {
        let mut past = Past::new();
        let mut open: BTreeSet<(String, Effect)> = BTreeSet::new();
        let mut open_deletes: BTreeMap<&str, Vec<Option<u64>>> = BTreeMap::new();
        for Written { key, effect, fate } in &self.written {
            match (fate, effect) {
                (Fate::At(revision), _) => {
                    let twice = past.entry(*revision).or_default().insert(key.clone(), effect.clone());
                    ensure!(twice.is_none(), "two writes of {key} were acknowledged at {revision}");
                }
                (Fate::AtIfThere(revision), _) => open_deletes.entry(key).or_default().push(Some(*revision)),
                (Fate::Unknown, Effect::Put(_)) => {
                    open.insert((key.clone(), effect.clone()));
                }
                (Fate::Unknown, Effect::Delete) => open_deletes.entry(key).or_default().push(None),
            }
        }
        for told in self.told.iter().filter(|told| matches!(told.subject, Subject::Keys(_))) {
            for (revision, changes) in &told.revisions {
                for change in changes {
                    let (key, effect) = effect(change)?;
                    if past.get(revision).and_then(|effects| effects.get(&key)) == Some(&effect) {
                        continue;
                    }
                    // Each write happens once at most.
                    let was_tried = match &effect {
                        Effect::Put(_) => open.remove(&(key.clone(), effect.clone())),
                        Effect::Delete => take_delete(open_deletes.get_mut(key.as_str()), *revision),
                    };
                    if !was_tried {
                        let why =
                            format!("{} was told of {change} at {revision}, which nobody wrote", told.name);
                        return Err(Missed(why).into());
                    }
                    past.entry(*revision).or_default().insert(key, effect);
                }
            }
        }
        Ok(past)
    }

    /// The last effect on each key is what is there at the end: so nothing happened that no watcher was told.
    fn judge_state(&self, past: &Past) -> Result<()> {
        let mut state = BTreeMap::new();
        for (key, effect) in past.values().flatten() {
            match effect {
                Effect::Put(value) => drop(state.insert(key.clone(), value.clone())),
                Effect::Delete => drop(state.remove(key)),
            }
        }
        if state != self.state {
            let of = |a: &BTreeMap<String, String>, b: &BTreeMap<String, String>| -> Vec<String> {
                a.iter()
                    .filter(|(key, value)| b.get(*key) != Some(value))
                    .map(|(k, v)| format!("{k}={v}"))
                    .collect()
            };
            let (told, there) = (of(&state, &self.state), of(&self.state, &state));
            return Err(Missed(format!("the watchers were told {told:?}, the store has {there:?}")).into());
        }
        Ok(())
    }

    fn judge_locks(&self) -> Result<()> {
        let mut by_lock: BTreeMap<usize, BTreeMap<u64, Vec<Value>>> = BTreeMap::new();
        for told in &self.told {
            let Subject::Lock(lock) = told.subject else { continue };
            for (revision, changes) in &told.revisions {
                by_lock.entry(lock).or_default().entry(*revision).or_insert_with(|| changes.clone());
            }
        }
        for told in &self.told {
            let Subject::Lock(lock) = told.subject else { continue };
            let all = by_lock.get(&lock).into_iter().flat_map(|all| all.range(told.since + 1..=self.last));
            let expected: Vec<_> = all.map(|(revision, changes)| (*revision, changes.clone())).collect();
            let actual: Vec<_> =
                told.revisions.iter().filter(|(revision, _)| *revision <= self.last).cloned().collect();
            same(told, &expected, &actual)?;
        }
        for Grant { lock, claim, session, token } in &self.taken {
            let at = by_lock.get(lock).and_then(|all| all.get(token)).into_iter().flatten();
            let granted = at.filter(|change| change["op"] == "granted" && change["fencing_token"] == *token);
            let told = granted.filter(|change| change["claim"] == **claim && change["session"] == **session);
            if told.count() != 1 {
                return Err(Missed(format!("nobody was told that {claim} was granted {token}")).into());
            }
        }
        self.judge_sessions(&by_lock)
    }

    /// A session is told what its locks are told of it.
    fn judge_sessions(&self, by_lock: &BTreeMap<usize, BTreeMap<u64, Vec<Value>>>) -> Result<()> {
        for told in &self.told {
            let Subject::Session(number) = told.subject else { continue };
            ensure!(told.is_over, "{} was not told the end", told.name);
            let session = takers::session(number);
            let mut expected: BTreeMap<u64, BTreeSet<(String, String, String)>> = BTreeMap::new();
            for (lock, all) in by_lock {
                for (revision, changes) in all.range(told.since + 1..) {
                    for change in changes.iter().filter(|change| change["session"] == *session) {
                        let entry = (takers::lock(*lock), text(change, "op")?, text(change, "claim")?);
                        expected.entry(*revision).or_default().insert(entry);
                    }
                }
            }
            let mut actual: BTreeMap<u64, BTreeSet<(String, String, String)>> = BTreeMap::new();
            for (revision, changes) in &told.revisions {
                for change in changes.iter().filter(|change| change["op"] != "session-ended") {
                    let entry = (text(change, "lock")?, text(change, "op")?, text(change, "claim")?);
                    actual.entry(*revision).or_default().insert(entry);
                }
            }
            let expected: Vec<_> = expected.into_iter().collect();
            same(told, &expected, &actual.into_iter().collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

/// Revisions go up; none comes twice.
fn in_order(told: &Told) -> Result<(), Missed> {
    let mut last = told.since;
    for (revision, _) in &told.revisions {
        if *revision <= last {
            return Err(Missed(format!("{} was told {revision} after {last}", told.name)));
        }
        last = *revision;
    }
    Ok(())
}

/// Fails with the first difference.
fn same<T: PartialEq + fmt::Debug>(
    told: &Told,
    expected: &[(u64, T)],
    actual: &[(u64, T)],
) -> Result<(), Missed> {
    let first = expected.iter().zip(actual).position(|(expected, actual)| expected != actual);
    let first = first.or_else(|| (expected.len() != actual.len()).then(|| expected.len().min(actual.len())));
    match first {
        None => Ok(()),
        Some(at) => Err(Missed(format!(
            "{} since {}: change {at} is {:?} and not {:?}, the one before {:?}; {} told, {} expected",
            told.name,
            told.since,
            actual.get(at),
            expected.get(at),
            at.checked_sub(1).and_then(|before| actual.get(before)),
            actual.len(),
            expected.len(),
        ))),
    }
}

/// A delete that may have happened at a revision.
fn take_delete(open: Option<&mut Vec<Option<u64>>>, revision: u64) -> bool {
    let Some(open) = open else { return false };
    let exact = open.iter().position(|at| *at == Some(revision));
    let found = exact.or_else(|| open.iter().position(Option::is_none));
    found.map(|at| open.swap_remove(at)).is_some()
}

fn text(change: &Value, name: &str) -> Result<String> {
    change[name].as_str().map(str::to_owned).with_context(|| format!("{change} has no {name}"))
}

fn effect(change: &Value) -> Result<(String, Effect)> {
    let effect = match change["op"].as_str() {
        Some("put") => Effect::Put(text(change, "value")?),
        Some("delete") => Effect::Delete,
        _ => anyhow::bail!("{change} is no change of a key that is written here"),
    };
    Ok((text(change, "key")?, effect))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn put(key: &str, value: &str, fate: Fate) -> Written {
        Written { key: key.to_owned(), effect: Effect::Put(value.to_owned()), fate }
    }

    fn told(since: u64, revisions: &[(u64, &str, &str)]) -> Told {
        let revisions = revisions.iter().map(|(revision, key, value)| {
            (*revision, vec![json!({"op": "put", "key": key, "value": value})])
        });
        Told {
            name: "w".to_owned(),
            subject: Subject::Keys(vec!["a".to_owned()]),
            since,
            revisions: revisions.collect(),
            up_to: 9,
            is_over: false,
            resumptions: 0,
            broken: None,
        }
    }

    fn judged(told: Vec<Told>) -> Result<Summary> {
        let written = vec![
            put("a", "1", Fate::At(1)),
            put("b", "2", Fate::At(2)),
            put("a", "3", Fate::Unknown),
            put("a", "4", Fate::At(4)),
        ];
        let state = [("a", "4"), ("b", "2")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        Evidence { written, state: state.into(), taken: Vec::new(), told, last: 9 }.judge()
    }

    #[test]
    fn a_watcher_that_was_told_everything_once_and_in_order_passes() {
        judged(vec![told(0, &[(1, "a", "1"), (4, "a", "4")]), told(1, &[(4, "a", "4")])]).unwrap();
        // A write without an outcome may have happened, for everybody alike.
        let seen = || told(0, &[(1, "a", "1"), (3, "a", "3"), (4, "a", "4")]);
        judged(vec![seen(), seen()]).unwrap();
    }

    #[test]
    fn gaps_repetitions_other_orders_inventions_and_disagreement_are_seen() {
        let first = (1, "a", "1");
        let last = (4, "a", "4");
        for bad in [
            vec![told(0, &[first])],
            vec![told(0, &[last])],
            vec![told(0, &[first, first, last])],
            vec![told(0, &[last, first])],
            vec![told(0, &[first, (2, "b", "2"), last])],
            vec![told(0, &[first, last, (5, "a", "5")])],
            vec![told(0, &[first, (3, "a", "3"), last]), told(0, &[first, last])],
            vec![told(0, &[first, (2, "a", "3"), (3, "a", "3"), last])],
        ] {
            let failure = judged(bad).expect_err("a bad list passes");
            assert!(failure.is::<Missed>(), "{failure:#}");
        }
    }
}
