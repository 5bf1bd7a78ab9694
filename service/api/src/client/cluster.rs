//! Calls on the cluster itself and on namespaces.

use reqwest::Method;

use crate::{
    client::{Answer, Call, Client, ClientError},
    cluster::{
        AddMemberRequest, BootstrapRequest, BootstrapView, ClusterView, MembershipView, NodeId,
        PromoteRequest, TransferRequest, TransferView,
    },
    namespaces::{NamespaceList, NamespaceView},
    path,
    query::{ListQuery, ReadQuery},
};

impl Client {
    /// The cluster as the endpoint that answers sees it. To ask one certain node, use a client of its address only.
    ///
    /// # Errors
    /// As every call: [`ClientError`].
    pub async fn cluster(&self) -> Result<Answer<ClusterView>, ClientError> {
        self.json(Call::get(path::CLUSTER.to_owned())).await
    }

    /// Makes the waiting node that the request names form a cluster of one. The same pair of ids again is a success.
    ///
    /// # Errors
    /// `already-bootstrapped` when the node belongs to another cluster; else as every call.
    pub async fn bootstrap(&self, request: &BootstrapRequest) -> Result<Answer<BootstrapView>, ClientError> {
        self.json(membership_call(Method::POST, path::CLUSTER_BOOTSTRAP.to_owned()).with_json(request)).await
    }

    /// Adds a waiting node, as a learner if it is to vote.
    ///
    /// # Errors
    /// `membership-changed`, `change-in-flight`; else as every call. After a lost answer `membership-changed` may be the
    /// echo of the first attempt: [`ClientError::applied`] is then unknown.
    pub async fn add_member(
        &self,
        request: &AddMemberRequest,
    ) -> Result<Answer<MembershipView>, ClientError> {
        self.json(membership_call(Method::POST, path::CLUSTER_MEMBERS.to_owned()).with_json(request)).await
    }

    /// Makes a learner a voter.
    ///
    /// # Errors
    /// `not-caught-up`, `member-not-found`; else as [`add_member`](Self::add_member).
    pub async fn promote_member(
        &self,
        id: NodeId,
        request: &PromoteRequest,
    ) -> Result<Answer<MembershipView>, ClientError> {
        self.json(membership_call(Method::POST, path::promote(id)).with_json(request)).await
    }

    /// Removes a member for ever.
    ///
    /// # Errors
    /// `would-lose-quorum`, `last-voter`, `member-not-found`; else as [`add_member`](Self::add_member).
    pub async fn remove_member(
        &self,
        id: NodeId,
        expected_membership_log_id: &str,
    ) -> Result<Answer<MembershipView>, ClientError> {
        let query = format!("?expected_membership_log_id={}", path::segment(expected_membership_log_id));
        self.json(membership_call(Method::DELETE, path::member(id) + &query)).await
    }

    /// Hands the leadership to another voter.
    ///
    /// # Errors
    /// `member-not-found`; else as every call.
    pub async fn transfer_leader(
        &self,
        request: &TransferRequest,
    ) -> Result<Answer<TransferView>, ClientError> {
        let call = membership_call(Method::POST, path::CLUSTER_TRANSFER_LEADER.to_owned());
        self.json(call.with_json(request)).await
    }

    /// Creates a namespace; 200 instead of 201 when it exists.
    ///
    /// # Errors
    /// As every call: [`ClientError`].
    pub async fn put_namespace(&self, name: &str) -> Result<Answer<NamespaceView>, ClientError> {
        self.json(Call::keyed(Method::PUT, path::namespace(name))).await
    }

    /// Looks at a namespace.
    ///
    /// # Errors
    /// `namespace-not-found`; else as every call.
    pub async fn get_namespace(
        &self,
        name: &str,
        query: &ReadQuery,
    ) -> Result<Answer<NamespaceView>, ClientError> {
        self.json(Call::get(path::namespace(name) + &query.to_query_string())).await
    }

    /// Deletes an empty namespace.
    ///
    /// # Errors
    /// `namespace-not-empty`, `namespace-not-found`; else as every call.
    pub async fn delete_namespace(&self, name: &str) -> Result<Answer<()>, ClientError> {
        self.empty(Call::keyed(Method::DELETE, path::namespace(name))).await
    }

    /// A page of namespaces.
    ///
    /// # Errors
    /// As every call: [`ClientError`].
    pub async fn list_namespaces(&self, query: &ListQuery) -> Result<Answer<NamespaceList>, ClientError> {
        self.json(Call::get(path::NAMESPACES.to_owned() + &query.to_query_string())).await
    }
}

/// Changes of the membership are guarded by what they expect of it, so a repetition never is a second change; but its
/// refusal may be the echo of the first attempt, hence the law of writes by id. The key finds them in the logs and serves
/// nodes that remember it.
fn membership_call(method: Method, path: String) -> Call {
    Call { replay: crate::client::Replay::ById, ..Call::keyed(method, path) }
}
