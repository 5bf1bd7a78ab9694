//! A cluster of real nodes, formed as an operator would form it: one node is told to bootstrap, every other
//! joins as a learner and is promoted when it has caught up.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::harness::binary::Binary;
use crate::harness::node::{Node, NodeOptions};
use crate::harness::poll::{Seen, poll};
use crate::harness::scratch::Scratch;

/// Bound on one request of the harness itself.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// Bound on forming, joining and recovering; far above what they take on a loaded machine.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);
/// Fresh addresses tried when a first start finds one taken.
const START_ATTEMPTS: usize = 5;

/// A node as it presents itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SelfRecord {
    /// Its id, 16 hex digits.
    pub id: String,
    /// Its label.
    pub name: String,
    /// Its REST address, as others should use it.
    pub api: String,
    /// Its Raft address.
    pub peer: String,
    /// Its gossip address.
    pub gossip: String,
}

/// A member as a node reports it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// `voter`, `learner` or `observer`.
    pub role: String,
    /// How far it is behind the leader's log, if the leader said.
    #[serde(default)]
    pub lag: Option<u64>,
}

/// The part of `GET /v1/cluster` that the harness reads.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ClusterStatus {
    /// The node that answered.
    #[serde(rename = "self")]
    pub this: SelfRecord,
    /// The leader's id, if the node knows one.
    #[serde(default)]
    pub leader: Option<String>,
    /// `waiting`, `electing`, `synchronizing`, `serving`, `no-quorum` or `removed`.
    pub phase: String,
    /// The Raft term.
    #[serde(default)]
    pub term: Option<u64>,
    /// The store's revision.
    #[serde(default)]
    pub revision: Option<u64>,
    /// The last applied log index.
    #[serde(default)]
    pub applied_index: Option<u64>,
    /// What a membership change must name as the membership it changes.
    #[serde(default)]
    pub membership_log_id: Option<String>,
    /// The members.
    #[serde(default)]
    pub members: Vec<Member>,
}

impl ClusterStatus {
    fn leads(&self) -> bool {
        self.leader.as_ref() == Some(&self.this.id)
    }
}

/// Nodes and what drives them. Dropping it ends all processes and removes their data.
#[derive(Debug)]
pub struct Cluster {
    // Before `scratch`, so that the processes are gone when their data is removed.
    nodes: Vec<Node>,
    http: reqwest::Client,
    scratch: Scratch,
}

impl Cluster {
    /// Starts `count` nodes on a disk and waits until all are voters that serve.
    pub async fn start(count: usize) -> Result<Self> {
        Self::start_with(count, &NodeOptions::default()).await
    }

    /// The same with further arguments and environment for every node.
    pub async fn start_with(count: usize, options: &NodeOptions) -> Result<Self> {
        Self::start_binary(&Binary::locate()?, count, options).await
    }

    /// The same of a given binary.
    pub async fn start_binary(binary: &Binary, count: usize, options: &NodeOptions) -> Result<Self> {
        let mut cluster = Self::launch_binary(binary, count, options).await?;
        match cluster.form().await {
            Ok(()) => Ok(cluster),
            Err(error) => Err(cluster.explain(error)),
        }
    }

    /// Starts `count` nodes that wait: nobody bootstraps and nobody joins.
    pub async fn launch(count: usize, options: &NodeOptions) -> Result<Self> {
        Self::launch_binary(&Binary::locate()?, count, options).await
    }

    async fn launch_binary(binary: &Binary, count: usize, options: &NodeOptions) -> Result<Self> {
        let scratch = Scratch::durable()?;
        let http = reqwest::Client::builder().no_proxy().timeout(REQUEST_LIMIT).build()?;
        let mut cluster = Self { nodes: Vec::with_capacity(count), http, scratch };
        for index in 0..count {
            let name = format!("n{index}");
            let node = Node::new(binary, cluster.scratch.path(), &name, options.clone())?;
            cluster.nodes.push(node);
            cluster.first_start(index).await?;
        }
        Ok(cluster)
    }

    /// Starts a node that nobody knows yet; if it ends at once, an address may have been taken meanwhile.
    async fn first_start(&mut self, index: usize) -> Result<()> {
        for _ in 0..START_ATTEMPTS {
            self.nodes[index].start()?;
            if self.wait_answering(index).await? {
                return Ok(());
            }
            self.nodes[index].pick_other_addresses()?;
        }
        bail!("start failed {START_ATTEMPTS} times: {}", self.nodes[index].describe())
    }

    /// Waits until the node answers (true) or its process has ended (false).
    async fn wait_answering(&mut self, index: usize) -> Result<bool> {
        let (node, http) = (&mut self.nodes[index], &self.http);
        let url = node.api_url();
        let answering = poll("an answer or an end", SETTLE_LIMIT, async || match node.is_running() {
            Ok(false) => Seen::Ready(false),
            Ok(true) => match status_at(http, &url).await {
                Ok(_) => Seen::Ready(true),
                Err(error) => Seen::NotYet(format!("{error:#}")),
            },
            Err(error) => Seen::NotYet(format!("{error:#}")),
        });
        answering.await.with_context(|| self.nodes[index].describe())
    }

    async fn form(&mut self) -> Result<()> {
        let first = self.status(0).await?;
        let bootstrap = json!({ "node_id": first.this.id });
        let (status, body) = self.post(0, "/v1/cluster/bootstrap", &bootstrap).await?;
        if !status.is_success() {
            bail!("bootstrap answered {status}: {body}");
        }
        self.wait_node_serving(0).await?;
        for index in 1..self.nodes.len() {
            self.add_voter(index).await?;
        }
        self.wait_serving().await
    }

    /// Adds a running, waiting node as a learner, waits until it has caught up, and promotes it.
    pub async fn add_voter(&self, index: usize) -> Result<()> {
        let record = self.status(index).await?.this;
        let SelfRecord { id, name, api, peer, gossip } = &record;
        let what = format!("{name} to be a voter");
        poll(&what, SETTLE_LIMIT, async || {
            let step = async {
                let leader = self.leader().await?.context("no leader")?;
                let status = self.status(leader).await?;
                let expected = &status.membership_log_id;
                let (path, body) = match status.members.iter().find(|member| member.id == *id) {
                    Some(member) if member.role == "voter" => return Ok(true),
                    Some(_) => {
                        let path = format!("/v1/cluster/members/{id}/promote");
                        (path, json!({ "expected_membership_log_id": expected }))
                    }
                    None => {
                        let body = json!({
                            "id": id, "name": name, "api": api, "peer": peer, "gossip": gossip,
                            "role": "voter", "expected_membership_log_id": expected,
                        });
                        ("/v1/cluster/members".to_owned(), body)
                    }
                };
                let (answer, body) = self.post(leader, &path, &body).await?;
                // 409 not-caught-up and change-in-flight, 412 and 5xx: look again and decide anew.
                if answer.is_success() { Ok(false) } else { Err(anyhow!("{path} answered {answer}: {body}")) }
            };
            match step.await {
                Ok(true) => Seen::Ready(()),
                Ok(false) => Seen::NotYet("not a voter yet".to_owned()),
                Err(error) => Seen::NotYet(format!("{error:#}")),
            }
        })
        .await
    }

    /// What the node says of itself and the cluster.
    pub async fn status(&self, index: usize) -> Result<ClusterStatus> {
        status_at(&self.http, &self.nodes[index].api_url()).await
    }

    /// The node that says it leads and serves, in the highest term if several say so.
    pub async fn leader(&self) -> Result<Option<usize>> {
        let mut leader = None;
        for index in 0..self.nodes.len() {
            // A node that is down or paused does not answer; the others may still have a leader.
            let Ok(status) = self.status(index).await else { continue };
            if status.leads() && status.phase == "serving" {
                leader = leader.max(Some((status.term, index)));
            }
        }
        Ok(leader.map(|(_, index)| index))
    }

    /// Waits for a leader that serves.
    pub async fn wait_leader(&self) -> Result<usize> {
        let leader = poll("a serving leader", SETTLE_LIMIT, async || match self.leader().await {
            Ok(Some(index)) => Seen::Ready(index),
            Ok(None) => Seen::NotYet(self.phases().await),
            Err(error) => Seen::NotYet(format!("{error:#}")),
        });
        leader.await.map_err(|error| self.explain(error))
    }

    /// Waits until every node serves and sees the same leader.
    pub async fn wait_serving(&self) -> Result<()> {
        let serving = poll("all nodes to serve", SETTLE_LIMIT, async || {
            let mut leaders = Vec::new();
            for index in 0..self.nodes.len() {
                match self.status(index).await {
                    Ok(status) if status.phase == "serving" && status.leader.is_some() => {
                        leaders.push(status.leader);
                    }
                    Ok(_) | Err(_) => return Seen::NotYet(self.phases().await),
                }
            }
            leaders.dedup();
            if leaders.len() <= 1 { Seen::Ready(()) } else { Seen::NotYet(format!("leaders {leaders:?}")) }
        });
        serving.await.map_err(|error| self.explain(error))
    }

    /// Waits until this node serves.
    pub async fn wait_node_serving(&self, index: usize) -> Result<()> {
        let serving = poll("the node to serve", SETTLE_LIMIT, async || match self.status(index).await {
            Ok(status) if status.phase == "serving" => Seen::Ready(()),
            Ok(status) => Seen::NotYet(format!("{status:?}")),
            Err(error) => Seen::NotYet(format!("{error:#}")),
        });
        serving.await.with_context(|| self.nodes[index].describe())
    }

    async fn phases(&self) -> String {
        let mut seen = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            seen.push(match self.status(index).await {
                Ok(status) => {
                    format!(
                        "{}: {} term {:?} leader {:?}",
                        node.name(),
                        status.phase,
                        status.term,
                        status.leader
                    )
                }
                Err(error) => format!("{}: {error:#}", node.name()),
            });
        }
        seen.join("; ")
    }

    async fn post(&self, index: usize, path: &str, body: &Value) -> Result<(StatusCode, String)> {
        let url = format!("{}{path}", self.nodes[index].api_url());
        let answer = self.http.post(&url).json(body).send().await.with_context(|| format!("post {url}"))?;
        Ok((answer.status(), answer.text().await?))
    }

    /// The nodes, in the order in which they were started.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// One node, to be hurt.
    pub fn node_mut(&mut self, index: usize) -> &mut Node {
        &mut self.nodes[index]
    }

    /// Kills all nodes (SIGKILL), so close together that none sees another one gone.
    pub fn kill_all(&mut self) -> Result<()> {
        for node in &mut self.nodes {
            node.strike_down()?;
        }
        self.nodes.iter_mut().try_for_each(Node::kill)
    }

    /// Starts all nodes on their data.
    pub fn start_all(&mut self) -> Result<()> {
        self.nodes.iter_mut().try_for_each(Node::start)
    }

    /// The base URLs of all REST APIs.
    pub fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().map(Node::api_url).collect()
    }

    /// The client that the harness itself uses, bounded by a short time limit.
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Adds the ends of all logs to an error.
    pub fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let tails: Vec<String> = self.nodes.iter().map(Node::describe).collect();
        error.context(tails.join("\n\n"))
    }
}

async fn status_at(http: &reqwest::Client, api_url: &str) -> Result<ClusterStatus> {
    let url = format!("{api_url}/v1/cluster");
    let answer = http.get(&url).send().await.with_context(|| format!("get {url}"))?;
    let (status, body) = (answer.status(), answer.text().await?);
    serde_json::from_str(&body).with_context(|| format!("{url} answered {status}: {body}"))
}
