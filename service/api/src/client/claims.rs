//! Calls on claims of locks and on candidates of elections, which are the same calls at different places.

use std::time::Duration;

use reqwest::Method;

use crate::{
    claims::{ClaimRequest, ClaimView, ContestKind},
    client::{Answer, Call, Client, ClientError, read_json, transport::Reply},
    elections::ElectionView,
    lock_sets::{LockSetRequest, LockSetView},
    path,
    query::ReadQuery,
};

/// A lock or an election.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contest {
    pub(crate) kind: ContestKind,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Contest {
    pub(crate) fn lock(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind: ContestKind::Lock, namespace: namespace.into(), name: name.into() }
    }

    pub(crate) fn election(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind: ContestKind::Election, namespace: namespace.into(), name: name.into() }
    }

    fn claims_path(&self) -> String {
        path::contest_claims(self.kind, &self.namespace, &self.name)
    }

    fn claim_path(&self, claim: &str) -> String {
        path::contest_claim(self.kind, &self.namespace, &self.name, claim)
    }
}

impl Client {
    pub(crate) async fn send_claim(
        &self,
        contest: &Contest,
        claim: &str,
        request: &ClaimRequest,
    ) -> Result<Reply, ClientError> {
        let call = Call::by_id(Method::PUT, contest.claim_path(claim)).with_json(request);
        self.send(call.with_wait(Duration::from_millis(request.wait_ms))).await
    }

    async fn new_claim(
        &self,
        contest: &Contest,
        request: &ClaimRequest,
    ) -> Result<Answer<ClaimView>, ClientError> {
        let call = Call::keyed(Method::POST, contest.claims_path()).with_json(request);
        self.json(call.with_wait(Duration::from_millis(request.wait_ms))).await
    }

    async fn look_at_claim(
        &self,
        contest: &Contest,
        claim: &str,
        query: &ReadQuery,
    ) -> Result<Answer<ClaimView>, ClientError> {
        self.json(Call::get(contest.claim_path(claim) + &query.to_query_string())).await
    }

    pub(crate) async fn end_claim(&self, contest: &Contest, claim: &str) -> Result<Answer<()>, ClientError> {
        self.empty(Call::by_id(Method::DELETE, contest.claim_path(claim))).await
    }

    /// Makes a claim under an id that the caller chose, or replays that, and waits for the grant as the request says.
    ///
    /// # Errors
    /// `lock-held`, `wait-timeout`, `claim-conflict`, `claim-ended`, `session-not-found`, `session-expired`,
    /// `would-deadlock`, `queue-full`; else as every call. After a lost answer even a refusal leaves open whether an
    /// attempt that is still under way takes the lock: [`ClientError::applied`] is then unknown, and deleting the claim
    /// settles it.
    pub async fn put_claim(
        &self,
        namespace: &str,
        lock: &str,
        claim: &str,
        request: &ClaimRequest,
    ) -> Result<Answer<ClaimView>, ClientError> {
        read_json(&self.send_claim(&Contest::lock(namespace, lock), claim, request).await?)
    }

    /// Makes a claim under an id that the service chooses.
    ///
    /// # Errors
    /// As [`put_claim`](Self::put_claim).
    pub async fn post_claim(
        &self,
        namespace: &str,
        lock: &str,
        request: &ClaimRequest,
    ) -> Result<Answer<ClaimView>, ClientError> {
        self.new_claim(&Contest::lock(namespace, lock), request).await
    }

    /// Takes all locks of a set under an id that the caller chose, or replays that, and waits for them as the request says.
    ///
    /// # Errors
    /// As [`put_claim`](Self::put_claim).
    pub async fn put_lock_set(
        &self,
        namespace: &str,
        claim: &str,
        request: &LockSetRequest,
    ) -> Result<Answer<LockSetView>, ClientError> {
        let call = Call::by_id(Method::PUT, path::lock_set(namespace, claim)).with_json(request);
        self.json(call.with_wait(Duration::from_millis(request.wait_ms))).await
    }

    /// The truth about a lock set.
    ///
    /// # Errors
    /// `claim-not-found` when the service has never seen it; else as every call.
    pub async fn get_lock_set(
        &self,
        namespace: &str,
        claim: &str,
        query: &ReadQuery,
    ) -> Result<Answer<LockSetView>, ClientError> {
        self.json(Call::get(path::lock_set(namespace, claim) + &query.to_query_string())).await
    }

    /// Releases all locks of a set, or takes it out of all queues.
    ///
    /// # Errors
    /// As every call: [`ClientError`].
    pub async fn release_lock_set(&self, namespace: &str, claim: &str) -> Result<Answer<()>, ClientError> {
        self.empty(Call::by_id(Method::DELETE, path::lock_set(namespace, claim))).await
    }

    /// The truth about a claim.
    ///
    /// # Errors
    /// `claim-not-found` when the service has never seen it; else as every call.
    pub async fn get_claim(
        &self,
        namespace: &str,
        lock: &str,
        claim: &str,
        query: &ReadQuery,
    ) -> Result<Answer<ClaimView>, ClientError> {
        self.look_at_claim(&Contest::lock(namespace, lock), claim, query).await
    }

    /// Releases a claim or takes it out of the queue. Doing it twice, or before the service saw the claim, is a success,
    /// and no delayed request can make the claim any more.
    ///
    /// # Errors
    /// As every call: [`ClientError`].
    pub async fn delete_claim(
        &self,
        namespace: &str,
        lock: &str,
        claim: &str,
    ) -> Result<Answer<()>, ClientError> {
        self.end_claim(&Contest::lock(namespace, lock), claim).await
    }

    /// Campaigns under an id that the caller chose, or replays that, and waits for the leadership as the request says.
    ///
    /// # Errors
    /// As [`put_claim`](Self::put_claim).
    pub async fn put_candidate(
        &self,
        namespace: &str,
        election: &str,
        candidate: &str,
        request: &ClaimRequest,
    ) -> Result<Answer<ClaimView>, ClientError> {
        read_json(&self.send_claim(&Contest::election(namespace, election), candidate, request).await?)
    }

    /// Campaigns under an id that the service chooses.
    ///
    /// # Errors
    /// As [`put_claim`](Self::put_claim).
    pub async fn post_candidate(
        &self,
        namespace: &str,
        election: &str,
        request: &ClaimRequest,
    ) -> Result<Answer<ClaimView>, ClientError> {
        self.new_claim(&Contest::election(namespace, election), request).await
    }

    /// The truth about a candidate.
    ///
    /// # Errors
    /// As [`get_claim`](Self::get_claim).
    pub async fn get_candidate(
        &self,
        namespace: &str,
        election: &str,
        candidate: &str,
        query: &ReadQuery,
    ) -> Result<Answer<ClaimView>, ClientError> {
        self.look_at_claim(&Contest::election(namespace, election), candidate, query).await
    }

    /// Resigns, or stops campaigning; with the certainty of [`delete_claim`](Self::delete_claim).
    ///
    /// # Errors
    /// As every call: [`ClientError`].
    pub async fn delete_candidate(
        &self,
        namespace: &str,
        election: &str,
        candidate: &str,
    ) -> Result<Answer<()>, ClientError> {
        self.end_claim(&Contest::election(namespace, election), candidate).await
    }

    /// Looks at an election.
    ///
    /// # Errors
    /// As every call: [`ClientError`].
    pub async fn get_election(
        &self,
        namespace: &str,
        election: &str,
        query: &ReadQuery,
    ) -> Result<Answer<ElectionView>, ClientError> {
        self.json(Call::get(path::election(namespace, election) + &query.to_query_string())).await
    }
}
