//! Calls on sessions and locks. Most programs want [`Session`](crate::client::Session) and
//! [`LockGuard`](crate::client::LockGuard) instead, which count leases.

use reqwest::Method;

use crate::{
    client::{Answer, Call, Client, ClientError, read_json, transport::Reply},
    locks::{ForceReleaseRequest, ForceReleaseView, LockList, LockView},
    path,
    query::{ListQuery, ReadQuery},
    sessions::{KeepaliveView, SessionList, SessionRequest, SessionView},
};

impl Client {
    /// Creates a session under an id that the caller chose, or replays that.
    ///
    /// # Errors
    /// `session-exists` when the id is in use with another body, `session-expired` when it was used; else as every call.
    pub async fn put_session(
        &self,
        id: &str,
        request: &SessionRequest,
    ) -> Result<Answer<SessionView>, ClientError> {
        read_json(&self.send_session(id, request).await?)
    }

    pub(crate) async fn send_session(
        &self,
        id: &str,
        request: &SessionRequest,
    ) -> Result<Reply, ClientError> {
        self.send(Call::by_id(Method::PUT, path::session(id)).with_json(request)).await
    }

    /// Creates a session under an id that the service chooses.
    ///
    /// # Errors
    /// As every call: [`ClientError`].
    pub async fn post_session(&self, request: &SessionRequest) -> Result<Answer<SessionView>, ClientError> {
        self.json(Call::keyed(Method::POST, path::SESSIONS.to_owned()).with_json(request)).await
    }

    /// Looks at a session.
    ///
    /// # Errors
    /// `session-not-found`, `session-expired`; else as every call.
    pub async fn get_session(&self, id: &str, query: &ReadQuery) -> Result<Answer<SessionView>, ClientError> {
        self.json(Call::get(path::session(id) + &query.to_query_string())).await
    }

    /// A page of live sessions.
    ///
    /// # Errors
    /// As every call: [`ClientError`].
    pub async fn list_sessions(&self, query: &ListQuery) -> Result<Answer<SessionList>, ClientError> {
        self.json(Call::get(path::SESSIONS.to_owned() + &query.to_query_string())).await
    }

    /// Renews a session.
    ///
    /// # Errors
    /// `session-not-found`, `session-expired`; else as every call.
    pub async fn keepalive(&self, id: &str) -> Result<Answer<KeepaliveView>, ClientError> {
        read_json(&self.send_keepalive(id).await?)
    }

    pub(crate) async fn send_keepalive(&self, id: &str) -> Result<Reply, ClientError> {
        // Without a key: a keepalive leaves no record, and repeating it only renews.
        self.send(Call::by_id(Method::POST, path::keepalive(id))).await
    }

    /// Ends a session and releases all that it owns. Ending it twice is a success.
    ///
    /// # Errors
    /// As every call: [`ClientError`].
    pub async fn delete_session(&self, id: &str) -> Result<Answer<()>, ClientError> {
        self.empty(Call::by_id(Method::DELETE, path::session(id))).await
    }

    /// Looks at a lock.
    ///
    /// # Errors
    /// As every call: [`ClientError`].
    pub async fn get_lock(
        &self,
        namespace: &str,
        lock: &str,
        query: &ReadQuery,
    ) -> Result<Answer<LockView>, ClientError> {
        self.json(Call::get(path::lock(namespace, lock) + &query.to_query_string())).await
    }

    /// A page of the locks in use.
    ///
    /// # Errors
    /// As every call: [`ClientError`].
    pub async fn list_locks(
        &self,
        namespace: &str,
        query: &ListQuery,
    ) -> Result<Answer<LockList>, ClientError> {
        self.json(Call::get(path::locks(namespace) + &query.to_query_string())).await
    }

    /// Takes a lock away from the holder with that token.
    ///
    /// # Errors
    /// `token-mismatch`; else as every call.
    pub async fn force_release(
        &self,
        namespace: &str,
        lock: &str,
        request: &ForceReleaseRequest,
    ) -> Result<Answer<ForceReleaseView>, ClientError> {
        self.json(Call::keyed(Method::POST, path::force_release(namespace, lock)).with_json(request)).await
    }
}
