//! Names of the HTTP headers that Holdfast defines or relies on.

/// Answer: the store's revision that the answer reflects.
pub const REVISION: &str = "Revision";
/// Answer: the id of the cluster that answered.
pub const CLUSTER_ID: &str = "Cluster-Id";
/// Answer: the node that carried the request out; the leader, when the one that took it passed it on.
pub const SERVED_BY: &str = "Served-By";
/// Request between nodes: this request was forwarded once and must not be forwarded again.
pub const FORWARDED: &str = "Holdfast-Forwarded";
/// Request: the write happens only while this claim holds its lock; see [`WriteGuard`](crate::config::WriteGuard).
pub const GUARD: &str = "Holdfast-Guard";
/// Request: who manages the config item that is written.
pub const MANAGED_BY: &str = "Holdfast-Managed-By";
/// Request: names one logical write, so that repeating it answers what the first one answered.
pub const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
/// Request and answer: finds the request in the nodes' logs.
pub const REQUEST_ID: &str = "Request-Id";

/// Request: the id of the last event that was delivered; a stream goes on after it.
pub const LAST_EVENT_ID: &str = "Last-Event-ID";

/// Media type of a stream of events.
pub const EVENT_STREAM: &str = "text/event-stream";
/// Media type of a [`Problem`](crate::Problem).
pub const PROBLEM_JSON: &str = "application/problem+json";
