//! Builds request paths; every segment is percent-encoded here and nowhere else.
//!
//! A lock name is one segment, so its `/` becomes `%2F`; a config key is the rest of the path and keeps its `/`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::claims::ContestKind;

/// What is encoded in a segment: all but the unreserved characters of RFC 3986 and `:`, which ids may contain.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

/// Path of the list of namespaces.
pub const NAMESPACES: &str = "/v1/namespaces";
/// Path of the list of sessions, and of creating one with a server-chosen id.
pub const SESSIONS: &str = "/v1/sessions";
/// Path of the cluster's state.
pub const CLUSTER: &str = "/v1/cluster";
/// Path of forming a cluster of one.
pub const CLUSTER_BOOTSTRAP: &str = "/v1/cluster/bootstrap";
/// Path of the members.
pub const CLUSTER_MEMBERS: &str = "/v1/cluster/members";
/// Path of handing the leadership over.
pub const CLUSTER_TRANSFER_LEADER: &str = "/v1/cluster/transfer-leader";

/// One path segment.
#[must_use]
pub fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// A config key: its segments encoded, its `/` kept.
#[must_use]
pub fn key(key: &str) -> String {
    key.split('/').map(segment).collect::<Vec<_>>().join("/")
}

/// `/v1/namespaces/{ns}`
#[must_use]
pub fn namespace(namespace: &str) -> String {
    format!("{NAMESPACES}/{}", segment(namespace))
}

/// `/v1/sessions/{id}`
#[must_use]
pub fn session(id: &str) -> String {
    format!("{SESSIONS}/{}", segment(id))
}

/// `/v1/sessions/{id}/keepalive`
#[must_use]
pub fn keepalive(id: &str) -> String {
    format!("{}/keepalive", session(id))
}

/// `/v1/sessions/{id}/events`
#[must_use]
pub fn session_events(id: &str) -> String {
    format!("{}/events", session(id))
}

/// `/v1/namespaces/{ns}/locks`
#[must_use]
pub fn locks(namespace: &str) -> String {
    format!("{}/locks", self::namespace(namespace))
}

/// `/v1/namespaces/{ns}/locks/{name}`
#[must_use]
pub fn lock(namespace: &str, lock: &str) -> String {
    format!("{}/{}", locks(namespace), segment(lock))
}

/// `/v1/namespaces/{ns}/locks/{name}/force-release`
#[must_use]
pub fn force_release(namespace: &str, lock: &str) -> String {
    format!("{}/force-release", self::lock(namespace, lock))
}

/// `/v1/namespaces/{ns}/locks/{name}/claims`
#[must_use]
pub fn claims(namespace: &str, lock: &str) -> String {
    format!("{}/claims", self::lock(namespace, lock))
}

/// `/v1/namespaces/{ns}/locks/{name}/claims/{claim}`
#[must_use]
pub fn claim(namespace: &str, lock: &str, claim: &str) -> String {
    format!("{}/{}", claims(namespace, lock), segment(claim))
}

/// `/v1/namespaces/{ns}/locks/{name}/events`
#[must_use]
pub fn lock_events(namespace: &str, lock: &str) -> String {
    format!("{}/events", self::lock(namespace, lock))
}

/// `/v1/namespaces/{ns}/lock-sets/{claim}`
#[must_use]
pub fn lock_set(namespace: &str, claim: &str) -> String {
    format!("{}/lock-sets/{}", self::namespace(namespace), segment(claim))
}

/// `/v1/namespaces/{ns}/elections/{name}`
#[must_use]
pub fn election(namespace: &str, election: &str) -> String {
    format!("{}/elections/{}", self::namespace(namespace), segment(election))
}

/// `/v1/namespaces/{ns}/elections/{name}/candidates`
#[must_use]
pub fn candidates(namespace: &str, election: &str) -> String {
    format!("{}/candidates", self::election(namespace, election))
}

/// `/v1/namespaces/{ns}/elections/{name}/candidates/{id}`
#[must_use]
pub fn candidate(namespace: &str, election: &str, candidate: &str) -> String {
    format!("{}/{}", candidates(namespace, election), segment(candidate))
}

/// `/v1/namespaces/{ns}/elections/{name}/events`
#[must_use]
pub fn election_events(namespace: &str, election: &str) -> String {
    format!("{}/events", self::election(namespace, election))
}

/// `/v1/namespaces/{ns}/elections/{name}/value`
#[must_use]
pub fn election_value(namespace: &str, election: &str) -> String {
    format!("{}/value", self::election(namespace, election))
}

/// [`claims`] or [`candidates`].
#[must_use]
pub fn contest_claims(kind: ContestKind, namespace: &str, name: &str) -> String {
    match kind {
        ContestKind::Lock => claims(namespace, name),
        ContestKind::Election => candidates(namespace, name),
    }
}

/// [`claim`] or [`candidate`].
#[must_use]
pub fn contest_claim(kind: ContestKind, namespace: &str, name: &str, claim: &str) -> String {
    match kind {
        ContestKind::Lock => self::claim(namespace, name, claim),
        ContestKind::Election => candidate(namespace, name, claim),
    }
}

/// `/v1/namespaces/{ns}/config`
#[must_use]
pub fn config(namespace: &str) -> String {
    format!("{}/config", self::namespace(namespace))
}

/// `/v1/namespaces/{ns}/config/{key…}`
#[must_use]
pub fn config_key(namespace: &str, key: &str) -> String {
    format!("{}/{}", config(namespace), self::key(key))
}

/// `/v1/namespaces/{ns}/history/{key…}`
#[must_use]
pub fn history(namespace: &str, key: &str) -> String {
    format!("{}/history/{}", self::namespace(namespace), self::key(key))
}

/// `/v1/namespaces/{ns}/diff/{key…}`
#[must_use]
pub fn diff(namespace: &str, key: &str) -> String {
    format!("{}/diff/{}", self::namespace(namespace), self::key(key))
}

/// `/v1/namespaces/{ns}/rollback/{key…}`
#[must_use]
pub fn rollback(namespace: &str, key: &str) -> String {
    format!("{}/rollback/{}", self::namespace(namespace), self::key(key))
}

/// `/v1/namespaces/{ns}/txn`
#[must_use]
pub fn txn(namespace: &str) -> String {
    format!("{}/txn", self::namespace(namespace))
}

/// `/v1/namespaces/{ns}/watch`
#[must_use]
pub fn watch(namespace: &str) -> String {
    format!("{}/watch", self::namespace(namespace))
}

/// `/v1/cluster/members/{id}`
#[must_use]
pub fn member(id: crate::cluster::NodeId) -> String {
    format!("{CLUSTER_MEMBERS}/{id}")
}

/// `/v1/cluster/members/{id}/promote`
#[must_use]
pub fn promote(id: crate::cluster::NodeId) -> String {
    format!("{}/promote", member(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slash_of_a_lock_name_stays_inside_its_segment() {
        assert_eq!(
            claim("default", "jobs/nightly", "c:1"),
            "/v1/namespaces/default/locks/jobs%2Fnightly/claims/c:1"
        );
    }

    #[test]
    fn a_config_key_keeps_its_slashes_and_loses_everything_special() {
        assert_eq!(
            config_key("default", "app/ö ?#%/x"),
            "/v1/namespaces/default/config/app/%C3%B6%20%3F%23%25/x"
        );
    }

    #[test]
    fn what_is_done_with_a_key_is_named_before_it() {
        assert_eq!(history("a", "app/x y"), "/v1/namespaces/a/history/app/x%20y");
        assert_eq!(diff("a", "app/x"), "/v1/namespaces/a/diff/app/x");
        assert_eq!(rollback("a", "app/x"), "/v1/namespaces/a/rollback/app/x");
        assert_eq!(txn("a"), "/v1/namespaces/a/txn");
    }

    #[test]
    fn each_stream_of_events_has_its_place() {
        assert_eq!(watch("a"), "/v1/namespaces/a/watch");
        assert_eq!(lock_events("a", "b/c"), "/v1/namespaces/a/locks/b%2Fc/events");
        assert_eq!(election_events("a", "b/c"), "/v1/namespaces/a/elections/b%2Fc/events");
        assert_eq!(session_events("s"), "/v1/sessions/s/events");
    }

    #[test]
    fn a_candidate_is_to_an_election_what_a_claim_is_to_a_lock() {
        assert_eq!(contest_claim(ContestKind::Lock, "a", "b", "c"), claim("a", "b", "c"));
        assert_eq!(
            contest_claim(ContestKind::Election, "a", "b/x", "c"),
            "/v1/namespaces/a/elections/b%2Fx/candidates/c"
        );
        assert_eq!(contest_claims(ContestKind::Lock, "a", "b"), claims("a", "b"));
        assert_eq!(contest_claims(ContestKind::Election, "a", "b"), candidates("a", "b"));
    }

    #[test]
    fn a_member_is_named_by_sixteen_hex_digits() {
        assert_eq!(promote(crate::cluster::NodeId(0x2a)), "/v1/cluster/members/000000000000002a/promote");
    }
}
