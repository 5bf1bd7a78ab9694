//! What the leader of an election publishes: there for as long as the leadership that published it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::domain::entry::Entry;
use crate::domain::lock::Place;
use crate::domain::{
    Change, ClaimRef, Fault, LockRef, Outcome, Proclaim, Rejection, Success, Table, Tables, key,
};
use crate::{FencingToken, Revision};

/// The value of an election.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ElectionValue {
    /// The token of the leader that published it. Invariant: that leader leads.
    pub(crate) token: FencingToken,
    /// The bytes.
    pub(crate) value: Bytes,
    /// Their media type.
    pub(crate) content_type: String,
    /// The revision that published it.
    pub(crate) revision: Revision,
}

impl<T: Tables> Entry<'_, '_, T> {
    /// Publishes a value, if the token is that of the leader.
    pub(crate) fn proclaim(&mut self, proclaim: &Proclaim) -> Result<Outcome, Fault> {
        let Proclaim { election, token, value, content_type } = proclaim;
        if self.namespace(&election.namespace)?.is_none() {
            return Ok(Err(Rejection::NamespaceNotFound));
        }
        let leads: Option<Place> = self.rows.read(Table::Holder, &key::holder(election, *token))?;
        let Some(Place { claim }) = leads else {
            let held = self.tokens_of(election)?.first().copied();
            return Ok(Err(Rejection::StaleToken { held }));
        };
        let claim_ref = ClaimRef { lock: election.clone(), claim };
        let Some(claim) = self.claim(&claim_ref)? else {
            let key = key::claim(&claim_ref);
            return Err(Fault::damaged(Table::Claim, &key, "it is missing while it leads"));
        };
        let revision = self.take_revision();
        let (value, content_type) = (value.clone(), content_type.clone());
        let row = ElectionValue { token: *token, value, content_type, revision };
        self.rows.put(Table::ElectionValue, key::lock(election), &row);
        let ElectionValue { token, value, content_type, .. } = row;
        let session = claim.session;
        self.tell(revision, Change::Proclaimed { claim: claim_ref, session, token, value, content_type });
        Ok(Ok(Success::Proclaimed { revision }))
    }

    /// Forgets what a leader of an election published, because that leadership ends.
    pub(crate) fn forget_value(&mut self, lock: &LockRef, token: FencingToken) -> Result<(), Fault> {
        if lock.lock.as_election().is_none() {
            return Ok(());
        }
        let value: Option<ElectionValue> = self.rows.read(Table::ElectionValue, &key::lock(lock))?;
        if value.is_some_and(|value| value.token == token) {
            self.rows.delete(Table::ElectionValue, key::lock(lock));
        }
        Ok(())
    }
}
