//! Namespaces: `/v1/namespaces`.

use serde::{Deserialize, Serialize};

/// One namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceView {
    /// Its name, a DNS label.
    pub name: String,
    /// The revision that created it; its history begins here.
    pub create_revision: u64,
}

/// A page of namespaces, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceList {
    /// The page.
    pub items: Vec<NamespaceView>,
    /// The store's revision that the page reflects.
    pub revision: u64,
    /// Give it as `cursor` to get the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}
