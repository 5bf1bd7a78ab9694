//! Builds request paths; every segment is percent-encoded here and nowhere else.
//!
//! A lock name is one segment, so its `/` becomes `%2F`; a config key is the rest of the path and keeps its `/`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

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
    fn a_member_is_named_by_sixteen_hex_digits() {
        assert_eq!(promote(crate::cluster::NodeId(0x2a)), "/v1/cluster/members/000000000000002a/promote");
    }
}
