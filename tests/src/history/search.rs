//! The search for a linearization of one object's operations.
//!
//! The algorithm is Wing and Gong's ("Testing and verifying concurrent objects", 1993) with Lowe's memory of
//! visited configurations ("Testing for linearizability", 2017): walk forward by picking, of all operations that
//! may come next in real time, one whose answer the model allows; step back when none is left; never enter the
//! same pair of (picked operations, state) twice.
//!
//! Three shortcuts keep busy histories cheap, and none of them loses an order. A step that only observes and
//! agrees with the state is picked at once, since it would agree here in any order that has it later. Ranked
//! steps are picked by rank. Of open steps with equal effects, only the first is tried.
//!
//! Definite steps must all be picked, each before any step that was invoked after it completed. Open steps have
//! no completion: they may be picked at any later point, or never.

use std::collections::HashSet;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// How much a search may spend. Spending it all is an outcome of its own, never an acceptance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Steps tried, over the whole search.
    pub steps_max: u64,
    /// Time on the clock.
    pub time_max: Duration,
}

impl Default for Budget {
    /// Enough for tens of thousands of operations on a key; also the bound on the memory of the search.
    fn default() -> Self {
        Self { steps_max: 20_000_000, time_max: Duration::from_secs(60) }
    }
}

/// A sequential specification.
pub(super) trait Model {
    /// What the object remembers.
    type State: Clone + Eq + Hash;
    /// One operation together with its answer.
    type Event;

    /// The object before the first operation.
    fn initial(&self) -> Self::State;

    /// The state after `event`, or `None` if the event cannot happen in `state`.
    fn apply(&self, state: &Self::State, event: &Self::Event) -> Option<Self::State>;

    /// Whether the event changes the object in no state. It may add to what is known of the object.
    fn only_observes(&self, event: &Self::Event) -> bool;
}

/// A class of open steps with equal effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Twins {
    /// Writes that nobody read.
    UnreadWrites,
    /// Unconditional deletes.
    Deletes,
}

/// One operation as the search sees it.
#[derive(Clone, Debug)]
pub(super) struct Step<E> {
    /// Its index in the history; `None` for what no client asked for, such as an expiry.
    pub(super) operation: Option<usize>,
    pub(super) invoked_ns: u64,
    /// `None` for an open step.
    pub(super) completed_ns: Option<u64>,
    pub(super) event: E,
    /// Open steps of one class have equal effects, so only the first of them that is left needs to be tried.
    pub(super) twins: Option<Twins>,
    /// What must not decrease along any order that the model accepts, such as the revision that is written or
    /// seen. It spares the search orders that the model would refuse, only much later.
    pub(super) rank: Option<u64>,
}

/// How a search ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There is a linearization.
    Order,
    /// There is none.
    NoOrder {
        /// Where the longest attempt got stuck: the last operations it picked, and those that could not follow.
        stuck: Vec<usize>,
    },
    /// Unknown: the budget was spent after this many steps.
    Exhausted(u64),
}

/// Operations picked just before the dead end that a report shows.
const SHOWN_BEFORE_STUCK: usize = 4;
/// Steps between two looks at the clock.
const STEPS_PER_CLOCK_READ: u64 = 1_024;

/// A set of indexes that are mostly a prefix. Equal sets have equal fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct IndexSet {
    /// Words before this one are full and not stored.
    full_words: usize,
    /// The last word is not zero.
    words: Vec<u64>,
}

impl IndexSet {
    fn contains(&self, index: usize) -> bool {
        match (index / 64).checked_sub(self.full_words) {
            None => true,
            Some(word) => self.words.get(word).is_some_and(|word| word >> (index % 64) & 1 == 1),
        }
    }

    fn insert(&mut self, index: usize) {
        let Some(word) = (index / 64).checked_sub(self.full_words) else { return };
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (index % 64);
        let full = self.words.iter().take_while(|word| **word == u64::MAX).count();
        self.words.drain(..full);
        self.full_words += full;
    }

    /// The lowest index that is not in the set.
    fn first_absent(&self) -> usize {
        let ones = self.words.first().map_or(0, |word| word.trailing_ones() as usize);
        self.full_words * 64 + ones
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Configuration<S> {
    definite: IndexSet,
    open: IndexSet,
    /// How many of the ranked steps, by rank, are picked without a gap; a function of `definite`.
    ranked: usize,
    state: S,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pick {
    Definite(usize),
    Open(usize),
}

struct Frame<S> {
    configuration: Configuration<S>,
    /// How this configuration was reached; `None` for the first.
    reached_by: Option<Pick>,
    choices: Vec<Pick>,
    tried: usize,
}

/// Looks for a linearization of `steps`.
pub(super) fn search<M: Model>(model: &M, steps: Vec<Step<M::Event>>, budget: Budget) -> Found {
    let (mut definite, mut open): (Vec<_>, Vec<_>) =
        steps.into_iter().partition(|step| step.completed_ns.is_some());
    definite.sort_by_key(|step| (step.invoked_ns, step.completed_ns));
    open.sort_by_key(|step| step.invoked_ns);
    let mut by_rank: Vec<(u64, usize)> =
        definite.iter().enumerate().filter_map(|(index, step)| Some((step.rank?, index))).collect();
    by_rank.sort_unstable();
    Search { model, definite, open, by_rank, visited: HashSet::new() }.run(budget)
}

struct Search<'m, M: Model> {
    model: &'m M,
    definite: Vec<Step<M::Event>>,
    open: Vec<Step<M::Event>>,
    /// The ranked definite steps: rank and index.
    by_rank: Vec<(u64, usize)>,
    visited: HashSet<Configuration<M::State>>,
}

impl<M: Model> Search<'_, M> {
    fn run(mut self, budget: Budget) -> Found {
        if self.definite.is_empty() {
            return Found::Order;
        }
        let deadline = Instant::now() + budget.time_max;
        let first = Configuration {
            definite: IndexSet::default(),
            open: IndexSet::default(),
            ranked: 0,
            state: self.model.initial(),
        };
        let mut stack = vec![self.frame(first, None)];
        let mut steps = 0;
        let mut deepest = 0;
        let mut stuck = Vec::new();
        while let Some(top) = stack.last_mut() {
            let Some(&pick) = top.choices.get(top.tried) else {
                if stack.len() > deepest {
                    deepest = stack.len();
                    stuck = self.operations_at(&stack);
                }
                stack.pop();
                continue;
            };
            top.tried += 1;
            steps += 1;
            if steps > budget.steps_max || (steps % STEPS_PER_CLOCK_READ == 0 && deadline < Instant::now()) {
                return Found::Exhausted(steps);
            }
            let Some(next) = self.follow(&stack[stack.len() - 1].configuration, pick) else { continue };
            if next.definite.first_absent() == self.definite.len() {
                return Found::Order;
            }
            if self.visited.insert(next.clone()) {
                stack.push(self.frame(next, Some(pick)));
            }
        }
        Found::NoOrder { stuck }
    }

    fn frame(&self, configuration: Configuration<M::State>, reached_by: Option<Pick>) -> Frame<M::State> {
        let choices = self.choices(&configuration);
        Frame { configuration, reached_by, choices, tried: 0 }
    }

    fn follow(&self, from: &Configuration<M::State>, pick: Pick) -> Option<Configuration<M::State>> {
        let state = self.model.apply(&from.state, &self.step(pick).event)?;
        if matches!(pick, Pick::Open(_)) && state == from.state {
            // "Never" explains as much.
            return None;
        }
        let mut next = Configuration { state, ..from.clone() };
        match pick {
            Pick::Definite(index) => next.definite.insert(index),
            Pick::Open(index) => next.open.insert(index),
        }
        let picked =
            self.by_rank[next.ranked..].iter().take_while(|(_, index)| next.definite.contains(*index));
        next.ranked += picked.count();
        Some(next)
    }

    fn step(&self, pick: Pick) -> &Step<M::Event> {
        match pick {
            Pick::Definite(index) => &self.definite[index],
            Pick::Open(index) => &self.open[index],
        }
    }

    /// The steps that are worth trying next.
    fn choices(&self, at: &Configuration<M::State>) -> Vec<Pick> {
        let mut candidates = self.candidates(at);
        let agrees = |pick: &&Pick| {
            let event = &self.step(**pick).event;
            matches!(pick, Pick::Definite(_))
                && self.model.only_observes(event)
                && self.model.apply(&at.state, event).is_some_and(|state| state == at.state)
        };
        if let Some(observation) = candidates.iter().find(agrees) {
            return vec![*observation];
        }
        if let Some((lowest, _)) = self.by_rank.get(at.ranked) {
            candidates.retain(|pick| self.step(*pick).rank.is_none_or(|rank| rank <= *lowest));
        }
        candidates
    }

    /// The steps that may come next: those invoked no later than the earliest completion still to come. Definite
    /// ones first, by completion, because that order is right most often.
    fn candidates(&self, at: &Configuration<M::State>) -> Vec<Pick> {
        let mut first_completion_ns = u64::MAX;
        let mut definite = Vec::new();
        for index in at.definite.first_absent()..self.definite.len() {
            let step = &self.definite[index];
            if step.invoked_ns > first_completion_ns {
                break;
            }
            if !at.definite.contains(index) {
                let completed_ns = step.completed_ns.unwrap_or(u64::MAX);
                first_completion_ns = first_completion_ns.min(completed_ns);
                definite.push((completed_ns, index));
            }
        }
        definite.retain(|(_, index)| self.definite[*index].invoked_ns <= first_completion_ns);
        definite.sort_unstable();
        let mut picks: Vec<Pick> = definite.into_iter().map(|(_, index)| Pick::Definite(index)).collect();
        let mut classes = Vec::new();
        for index in at.open.first_absent()..self.open.len() {
            let step = &self.open[index];
            if step.invoked_ns > first_completion_ns {
                break;
            }
            if at.open.contains(index) || step.twins.is_some_and(|class| classes.contains(&class)) {
                continue;
            }
            classes.extend(step.twins);
            picks.push(Pick::Open(index));
        }
        picks
    }

    fn operations_at(&self, stack: &[Frame<M::State>]) -> Vec<usize> {
        let before = stack.len().saturating_sub(SHOWN_BEFORE_STUCK);
        let picked = stack[before..].iter().filter_map(|frame| frame.reached_by);
        let blocked = stack.last().into_iter().flat_map(|frame| self.candidates(&frame.configuration));
        picked.chain(blocked).filter_map(|pick| self.step(pick).operation).collect()
    }
}
