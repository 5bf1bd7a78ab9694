//! Harm by a seeded schedule, and a record of what it really hit.
//!
//! The schedule is a function of its seed. What it hits is not, since leaders move; therefore every hit is
//! recorded, so that a test can fail itself when nothing was hurt.

use std::time::{Duration, Instant};

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::harness::cluster::Cluster;

/// One kind of harm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// SIGKILL to the leader; restarted after a while.
    KillLeader {
        /// How long it stays down once the others have a leader.
        down_ms: u64,
    },
    /// SIGKILL to one node, whatever it is.
    KillNode {
        /// Its index.
        node: usize,
        /// How long it stays down.
        down_ms: u64,
    },
    /// SIGSTOP to the leader; resumed after a while.
    PauseLeader {
        /// How long it is stopped.
        pause_ms: u64,
    },
    /// SIGSTOP to one node.
    PauseNode {
        /// Its index.
        node: usize,
        /// How long it is stopped.
        pause_ms: u64,
    },
    /// SIGKILL to all nodes, restarted at once.
    KillAll,
}

/// An action and how long to wait before it, from the end of the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strike {
    /// The wait.
    pub after_ms: u64,
    /// The harm.
    pub action: Action,
}

/// How often each kind of harm comes, relative to the others, and the bounds on times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Weight of leader kills.
    pub kill_leader: u32,
    /// Weight of kills of any node.
    pub kill_node: u32,
    /// Weight of leader pauses.
    pub pause_leader: u32,
    /// Weight of pauses of any node.
    pub pause_node: u32,
    /// Weight of kills of all nodes.
    pub kill_all: u32,
    /// Bound on the wait before a strike.
    pub gap_ms_max: u64,
    /// Bound on how long a node stays down or stopped.
    pub down_ms_max: u64,
}

impl Default for Mix {
    fn default() -> Self {
        Self {
            kill_leader: 5,
            kill_node: 2,
            pause_leader: 3,
            pause_node: 2,
            kill_all: 1,
            gap_ms_max: 1_500,
            down_ms_max: 3_000,
        }
    }
}

/// Strikes in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// The strikes.
    pub strikes: Vec<Strike>,
}

impl Schedule {
    /// `count` strikes against `nodes` nodes. Equal arguments give equal schedules. Without any weight there are
    /// no strikes.
    pub fn seeded(seed: u64, count: usize, nodes: usize, mix: Mix) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let total = mix.kill_leader + mix.kill_node + mix.pause_leader + mix.pause_node + mix.kill_all;
        if total == 0 || nodes == 0 {
            return Self::default();
        }
        let strikes = (0..count).map(|_| {
            let after_ms = rng.random_range(0..=mix.gap_ms_max);
            let down_ms = rng.random_range(0..=mix.down_ms_max);
            let node = rng.random_range(0..nodes);
            let kinds = [
                (mix.kill_leader, Action::KillLeader { down_ms }),
                (mix.kill_node, Action::KillNode { node, down_ms }),
                (mix.pause_leader, Action::PauseLeader { pause_ms: down_ms }),
                (mix.pause_node, Action::PauseNode { node, pause_ms: down_ms }),
                (mix.kill_all, Action::KillAll),
            ];
            Strike { after_ms, action: pick(rng.random_range(0..total), kinds) }
        });
        Self { strikes: strikes.collect() }
    }
}

/// The kind whose share of the weights contains `point`, which lies below their sum.
fn pick(mut point: u32, kinds: [(u32, Action); 5]) -> Action {
    for (weight, action) in kinds {
        if point < weight {
            return action;
        }
        point -= weight;
    }
    Action::KillAll
}

/// One strike that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hit {
    /// The harm.
    pub action: Action,
    /// The nodes that it hit, by index.
    pub nodes: Vec<usize>,
    /// Whether the leader was among them.
    pub hit_leader: bool,
    /// From the harm to a leader that serves, where the harm took the leader by a kill.
    pub leaderless_ms: Option<u64>,
}

/// Carries out schedules.
#[derive(Debug, Default)]
pub struct Nemesis {
    hits: Vec<Hit>,
}

impl Nemesis {
    /// Strikes until the schedule is over or `stop` is cancelled, and leaves all nodes running and serving.
    pub async fn run(
        &mut self,
        schedule: &Schedule,
        cluster: &mut Cluster,
        stop: &CancellationToken,
    ) -> Result<()> {
        for strike in &schedule.strikes {
            let wait = tokio::time::sleep(Duration::from_millis(strike.after_ms));
            if stop.run_until_cancelled(wait).await.is_none() {
                break;
            }
            let hit = carry_out(&strike.action, cluster).await.map_err(|error| cluster.explain(error))?;
            self.hits.push(hit);
        }
        cluster.wait_serving().await
    }

    /// What was hit, in order.
    pub fn hits(&self) -> &[Hit] {
        &self.hits
    }

    /// How often a kill took the leader.
    pub fn leader_kills(&self) -> usize {
        self.count(|action| match action {
            Action::KillLeader { .. } | Action::KillNode { .. } | Action::KillAll => true,
            Action::PauseLeader { .. } | Action::PauseNode { .. } => false,
        })
    }

    /// How often a pause stopped the leader.
    pub fn leader_pauses(&self) -> usize {
        self.count(|action| match action {
            Action::PauseLeader { .. } | Action::PauseNode { .. } => true,
            Action::KillLeader { .. } | Action::KillNode { .. } | Action::KillAll => false,
        })
    }

    fn count(&self, counts: impl Fn(&Action) -> bool) -> usize {
        self.hits.iter().filter(|hit| hit.hit_leader && counts(&hit.action)).count()
    }
}

async fn carry_out(action: &Action, cluster: &mut Cluster) -> Result<Hit> {
    let leader = cluster.wait_leader().await?;
    let all: Vec<usize> = (0..cluster.nodes().len()).collect();
    let (nodes, leaderless_ms) = match action {
        Action::KillLeader { down_ms } => (vec![leader], kill(cluster, leader, leader, *down_ms).await?),
        Action::KillNode { node, down_ms } => (vec![*node], kill(cluster, *node, leader, *down_ms).await?),
        Action::PauseLeader { pause_ms } => (vec![leader], pause(cluster, leader, *pause_ms).await?),
        Action::PauseNode { node, pause_ms } => (vec![*node], pause(cluster, *node, *pause_ms).await?),
        Action::KillAll => {
            cluster.kill_all()?;
            let killed = Instant::now();
            cluster.start_all()?;
            cluster.wait_leader().await?;
            (all, Some(millis(killed.elapsed())))
        }
    };
    let hit_leader = nodes.contains(&leader);
    Ok(Hit { action: action.clone(), nodes, hit_leader, leaderless_ms })
}

/// Kills one node and restarts it later. With a single node nobody can take over, so it is restarted first.
async fn kill(cluster: &mut Cluster, node: usize, leader: usize, down_ms: u64) -> Result<Option<u64>> {
    cluster.node_mut(node).kill()?;
    let killed = Instant::now();
    let is_alone = cluster.nodes().len() == 1;
    if is_alone {
        cluster.node_mut(node).start()?;
    }
    cluster.wait_leader().await?;
    let leaderless_ms = (node == leader).then(|| millis(killed.elapsed()));
    if !is_alone {
        tokio::time::sleep(Duration::from_millis(down_ms)).await;
        cluster.node_mut(node).start()?;
    }
    Ok(leaderless_ms)
}

async fn pause(cluster: &mut Cluster, node: usize, pause_ms: u64) -> Result<Option<u64>> {
    cluster.node_mut(node).pause()?;
    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    cluster.node_mut(node).resume()?;
    Ok(None)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_a_function_of_its_seed() {
        let mix = Mix::default();
        let schedule = Schedule::seeded(7, 200, 3, mix);
        assert_eq!(schedule, Schedule::seeded(7, 200, 3, mix));
        assert_ne!(schedule, Schedule::seeded(8, 200, 3, mix));
        assert_eq!(schedule.strikes.len(), 200);
    }

    #[test]
    fn a_schedule_keeps_to_its_mix() {
        let mix = Mix { pause_leader: 0, pause_node: 0, kill_all: 0, ..Mix::default() };
        let schedule = Schedule::seeded(1, 500, 3, mix);
        let leader_kills = schedule
            .strikes
            .iter()
            .filter(|strike| match strike.action {
                Action::KillLeader { down_ms } => {
                    assert!(down_ms <= mix.down_ms_max);
                    true
                }
                Action::KillNode { node, .. } => {
                    assert!(node < 3);
                    false
                }
                Action::PauseLeader { .. } | Action::PauseNode { .. } | Action::KillAll => {
                    panic!("{strike:?} has no weight")
                }
            })
            .count();
        // 5 of 7 shares: 357 on average, with a deviation of 10.
        assert!((300..420).contains(&leader_kills), "{leader_kills} leader kills");
    }

    #[test]
    fn only_harm_to_the_leader_counts_as_such() {
        let hit = |action, hit_leader| Hit { action, nodes: vec![0], hit_leader, leaderless_ms: None };
        let hits = vec![
            hit(Action::KillLeader { down_ms: 0 }, true),
            hit(Action::KillNode { node: 0, down_ms: 0 }, false),
            hit(Action::PauseNode { node: 0, pause_ms: 0 }, true),
            hit(Action::KillAll, true),
        ];
        let nemesis = Nemesis { hits };
        assert_eq!((nemesis.leader_kills(), nemesis.leader_pauses()), (2, 1));
    }
}
