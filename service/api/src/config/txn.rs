//! Transactions: `POST /v1/namespaces/{ns}/txn`. Conditions are compared and one of two lists of operations is carried
//! out, in one step. All writes of a transaction share one revision.

use serde::{Deserialize, Serialize};

use crate::config::{
    ConfigItem, ConfigWrite,
    value::{Base64, BothForms, ValueJson},
};

/// Body of a transaction. Absent lists are empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TxnRequest {
    /// The conditions; all must hold for `success`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compare: Vec<TxnCompare>,
    /// What is done when all conditions hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub success: Vec<TxnOp>,
    /// What is done otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failure: Vec<TxnOp>,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "CompareJson", into = "CompareJson")]
pub enum TxnCompare {
    /// A number of a key's item compares like this; all numbers of an absent key are 0.
    Revision {
        /// The key.
        key: String,
        /// Which number.
        target: RevisionTarget,
        /// How the item's number must relate to `value`.
        op: CompareOp,
        /// What it is compared with.
        value: u64,
    },
    /// The bytes of a key's value compare like this, in the order of bytes; false when the key is absent.
    Value {
        /// The key.
        key: String,
        /// How the item's value must relate to `value`.
        op: CompareOp,
        /// What it is compared with.
        value: Vec<u8>,
    },
    /// The key exists, or does not.
    Exists {
        /// The key.
        key: String,
        /// Which of the two must be so.
        exists: bool,
    },
    /// The lock is held with exactly this token.
    Held {
        /// Name of a lock in the namespace of the transaction.
        lock: String,
        /// The fencing token of the grant.
        token: u64,
        /// The claim that must hold it; any when absent.
        claim: Option<String>,
    },
}

/// Which number of an item is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RevisionTarget {
    /// The revision that wrote it last.
    ModRevision,
    /// The revision that created it.
    CreateRevision,
    /// How often it was written since it was created.
    Version,
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CompareOp {
    /// Equal.
    #[serde(rename = "=")]
    Equal,
    /// Not equal.
    #[serde(rename = "!=")]
    NotEqual,
    /// The item's is less than the given one.
    #[serde(rename = "<")]
    Less,
    /// The item's is greater than the given one.
    #[serde(rename = ">")]
    Greater,
}

impl CompareOp {
    /// Whether two values that compare in this order meet the condition.
    #[must_use]
    pub const fn holds(self, ordering: std::cmp::Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::Less => ordering.is_lt(),
            Self::Greater => ordering.is_gt(),
        }
    }
}

/// A condition as JSON has it.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CompareJson {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<TargetJson>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    op: Option<CompareOp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<OperandJson>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value_base64: Option<Base64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lock: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claim: Option<String>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TargetJson {
    ModRevision,
    CreateRevision,
    Version,
    Value,
    Exists,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged, expecting = "a value is a number from 0, a text, true or false")]
enum OperandJson {
    Number(u64),
    Text(String),
    Bool(bool),
}

/// The members of a condition do not fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum CompareError {
    #[error("missing field `{0}`")]
    Missing(&'static str),
    #[error("a condition has a `key` with target, op and value, or a `lock` with a token")]
    Mixed,
    #[error("the `value` of this target is {0}")]
    Operand(&'static str),
    #[error("`value_base64` is for the target `value` only")]
    Base64,
    #[error("the `op` of the target `exists` is = or !=")]
    ExistsOp,
    #[error(transparent)]
    Both(#[from] BothForms),
}

impl From<RevisionTarget> for TargetJson {
    fn from(target: RevisionTarget) -> Self {
        match target {
            RevisionTarget::ModRevision => Self::ModRevision,
            RevisionTarget::CreateRevision => Self::CreateRevision,
            RevisionTarget::Version => Self::Version,
        }
    }
}

impl From<TxnCompare> for CompareJson {
    fn from(compare: TxnCompare) -> Self {
        match compare {
            TxnCompare::Revision { key, target, op, value } => Self {
                key: Some(key),
                target: Some(target.into()),
                op: Some(op),
                value: Some(OperandJson::Number(value)),
                ..Self::default()
            },
            TxnCompare::Value { key, op, value } => {
                let ValueJson { value, value_base64 } = ValueJson::from(Some(value));
                Self {
                    key: Some(key),
                    target: Some(TargetJson::Value),
                    op: Some(op),
                    value: value.map(OperandJson::Text),
                    value_base64,
                    ..Self::default()
                }
            }
            TxnCompare::Exists { key, exists } => Self {
                key: Some(key),
                target: Some(TargetJson::Exists),
                op: Some(CompareOp::Equal),
                value: Some(OperandJson::Bool(exists)),
                ..Self::default()
            },
            TxnCompare::Held { lock, token, claim } => {
                Self { lock: Some(lock), token: Some(token), claim, ..Self::default() }
            }
        }
    }
}

impl TryFrom<CompareJson> for TxnCompare {
    type Error = CompareError;

    fn try_from(json: CompareJson) -> Result<Self, Self::Error> {
        let CompareJson { key, target, op, value, value_base64, lock, token, claim } = json;
        if let Some(lock) = lock {
            if key.is_some() || target.is_some() || op.is_some() || value.is_some() || value_base64.is_some()
            {
                return Err(CompareError::Mixed);
            }
            return Ok(Self::Held { lock, token: token.ok_or(CompareError::Missing("token"))?, claim });
        }
        if token.is_some() || claim.is_some() {
            return Err(CompareError::Mixed);
        }
        let key = key.ok_or(CompareError::Missing("key"))?;
        let target = target.ok_or(CompareError::Missing("target"))?;
        let op = op.ok_or(CompareError::Missing("op"))?;
        match target {
            TargetJson::ModRevision => revision(key, RevisionTarget::ModRevision, op, value, value_base64),
            TargetJson::CreateRevision => {
                revision(key, RevisionTarget::CreateRevision, op, value, value_base64)
            }
            TargetJson::Version => revision(key, RevisionTarget::Version, op, value, value_base64),
            TargetJson::Value => {
                let value = match value {
                    None => None,
                    Some(OperandJson::Text(text)) => Some(text),
                    Some(OperandJson::Number(_) | OperandJson::Bool(_)) => {
                        return Err(CompareError::Operand("a text"));
                    }
                };
                let value = ValueJson { value, value_base64 }.into_bytes()?;
                Ok(Self::Value { key, op, value: value.ok_or(CompareError::Missing("value"))? })
            }
            TargetJson::Exists => {
                let exists = match one_operand(value, value_base64)? {
                    OperandJson::Bool(exists) => exists,
                    OperandJson::Number(_) | OperandJson::Text(_) => {
                        return Err(CompareError::Operand("true or false"));
                    }
                };
                match op {
                    CompareOp::Equal => Ok(Self::Exists { key, exists }),
                    CompareOp::NotEqual => Ok(Self::Exists { key, exists: !exists }),
                    CompareOp::Less | CompareOp::Greater => Err(CompareError::ExistsOp),
                }
            }
        }
    }
}

fn revision(
    key: String,
    target: RevisionTarget,
    op: CompareOp,
    value: Option<OperandJson>,
    value_base64: Option<Base64>,
) -> Result<TxnCompare, CompareError> {
    match one_operand(value, value_base64)? {
        OperandJson::Number(value) => Ok(TxnCompare::Revision { key, target, op, value }),
        OperandJson::Text(_) | OperandJson::Bool(_) => Err(CompareError::Operand("a number")),
    }
}

fn one_operand(
    value: Option<OperandJson>,
    value_base64: Option<Base64>,
) -> Result<OperandJson, CompareError> {
    match (value, value_base64) {
        (_, Some(_)) => Err(CompareError::Base64),
        (None, None) => Err(CompareError::Missing("value")),
        (Some(value), None) => Ok(value),
    }
}

/// One operation. A key is named at most once in a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TxnOp {
    /// Writes an item.
    Put(TxnPut),
    /// Deletes an item; one that does not exist is no failure.
    Delete(TxnKey),
    /// Reads an item.
    Get(TxnKey),
}

impl TxnOp {
    /// The key that it is about.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Put(put) => &put.key,
            Self::Delete(TxnKey { key }) | Self::Get(TxnKey { key }) => key,
        }
    }
}

/// A write within a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PutJson", into = "PutJson")]
pub struct TxnPut {
    /// The key.
    pub key: String,
    /// The bytes to write.
    pub value: Vec<u8>,
    /// Their media type; `application/octet-stream` when absent.
    pub content_type: Option<String>,
    /// The session whose end deletes the item; it is permanent when absent.
    pub session: Option<String>,
    /// Who manages the item; nobody when absent.
    pub managed_by: Option<String>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PutJson {
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value_base64: Option<Base64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    managed_by: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum PutError {
    #[error("missing field `value` or `value_base64`")]
    NoValue,
    #[error(transparent)]
    Both(#[from] BothForms),
}

impl From<TxnPut> for PutJson {
    fn from(put: TxnPut) -> Self {
        let TxnPut { key, value, content_type, session, managed_by } = put;
        let ValueJson { value, value_base64 } = ValueJson::from(Some(value));
        Self { key, value, value_base64, content_type, session, managed_by }
    }
}

impl TryFrom<PutJson> for TxnPut {
    type Error = PutError;

    fn try_from(json: PutJson) -> Result<Self, Self::Error> {
        let PutJson { key, value, value_base64, content_type, session, managed_by } = json;
        let value = ValueJson { value, value_base64 }.into_bytes()?.ok_or(PutError::NoValue)?;
        Ok(Self { key, value, content_type, session, managed_by })
    }
}

/// The key that a delete or a read is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TxnKey {
    /// The key.
    pub key: String,
}

/// Answer to a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnAnswer {
    /// Whether all conditions held, so that `success` was carried out.
    pub succeeded: bool,
    /// The store's revision after the transaction; that of its writes, if it wrote.
    pub revision: u64,
    /// One result for each operation that was carried out, in their order.
    pub results: Vec<TxnResult>,
}

/// What one operation did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TxnResult {
    /// It wrote this.
    Put(ConfigWrite),
    /// It deleted the item, or found none.
    Delete(TxnDeleted),
    /// It read this.
    Get(TxnRead),
}

/// What a delete found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnDeleted {
    /// The key.
    pub key: String,
    /// Whether there was an item to delete.
    pub deleted: bool,
}

/// What a read found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnRead {
    /// The key.
    pub key: String,
    /// The item with its value; null when it does not exist.
    pub item: Option<ConfigItem>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn compare(json: Value) -> Result<TxnCompare, String> {
        serde_json::from_value(json).map_err(|error| error.to_string())
    }

    fn refused(json: Value) -> String {
        compare(json).unwrap_err()
    }

    #[test]
    fn each_target_takes_its_own_kind_of_value() {
        let refusal = refused(json!({"key": "a", "target": "mod_revision", "op": "=", "value": "7"}));
        assert_eq!(refusal, "the `value` of this target is a number");
        let refusal = refused(json!({"key": "a", "target": "value", "op": "=", "value": 7}));
        assert_eq!(refusal, "the `value` of this target is a text");
        let refusal = refused(json!({"key": "a", "target": "exists", "op": "=", "value": 1}));
        assert_eq!(refusal, "the `value` of this target is true or false");
        let refusal = refused(json!({"key": "a", "target": "version", "op": "=", "value": -1}));
        assert_eq!(refusal, "a value is a number from 0, a text, true or false");
        let refusal = refused(json!({"key": "a", "target": "version", "op": "=", "value_base64": "YQ=="}));
        assert_eq!(refusal, "`value_base64` is for the target `value` only");
    }

    #[test]
    fn a_condition_without_one_of_its_members_says_which() {
        assert_eq!(refused(json!({})), "missing field `key`");
        assert_eq!(refused(json!({"key": "a"})), "missing field `target`");
        assert_eq!(refused(json!({"key": "a", "target": "value"})), "missing field `op`");
        assert_eq!(refused(json!({"key": "a", "target": "value", "op": "="})), "missing field `value`");
        assert_eq!(refused(json!({"lock": "a"})), "missing field `token`");
    }

    #[test]
    fn a_condition_is_about_a_key_or_about_a_lock() {
        let mixed = "a condition has a `key` with target, op and value, or a `lock` with a token";
        assert_eq!(refused(json!({"lock": "a", "token": 1, "op": "="})), mixed);
        assert_eq!(
            refused(json!({"key": "a", "target": "version", "op": "=", "value": 1, "token": 1})),
            mixed
        );
    }

    #[test]
    fn a_value_is_compared_as_bytes() {
        let value = |value: &[u8]| TxnCompare::Value {
            key: "a".to_owned(),
            op: CompareOp::Less,
            value: value.to_vec(),
        };
        let text = json!({"key": "a", "target": "value", "op": "<", "value": "ö"});
        assert_eq!(compare(text), Ok(value("ö".as_bytes())));
        let bytes = json!({"key": "a", "target": "value", "op": "<", "value_base64": "/wA="});
        assert_eq!(compare(bytes), Ok(value(&[0xff, 0])));
        let both = json!({"key": "a", "target": "value", "op": "<", "value": "a", "value_base64": "YQ=="});
        assert!(refused(both).contains("not as both"));
        let malformed = json!({"key": "a", "target": "value", "op": "<", "value_base64": "*"});
        assert!(refused(malformed).contains("not base64"));
    }

    #[test]
    fn not_existing_can_be_said_in_two_ways() {
        let absent = Ok(TxnCompare::Exists { key: "a".to_owned(), exists: false });
        assert_eq!(compare(json!({"key": "a", "target": "exists", "op": "=", "value": false})), absent);
        assert_eq!(compare(json!({"key": "a", "target": "exists", "op": "!=", "value": true})), absent);
        let refusal = refused(json!({"key": "a", "target": "exists", "op": "<", "value": true}));
        assert_eq!(refusal, "the `op` of the target `exists` is = or !=");
    }

    #[test]
    fn an_operation_is_one_that_is_known_and_has_what_it_needs() {
        let op = |json: Value| serde_json::from_value::<TxnOp>(json).map_err(|error| error.to_string());
        assert!(op(json!({"move": {"key": "a"}})).unwrap_err().contains("unknown variant `move`"));
        assert!(op(json!({"put": {"key": "a"}})).unwrap_err().contains("missing field `value`"));
        assert!(op(json!({"get": {"key": "a", "at": 1}})).unwrap_err().contains("unknown field `at`"));
        assert!(op(json!({"delete": {}})).unwrap_err().contains("missing field `key`"));
        assert_eq!(op(json!({"get": {"key": "a"}})).unwrap().key(), "a");
    }

    #[test]
    fn operators_relate_the_item_to_the_given_value() {
        let relations = |op: CompareOp| [1.cmp(&2), 2.cmp(&2), 3.cmp(&2)].map(|ordering| op.holds(ordering));
        assert_eq!(relations(CompareOp::Equal), [false, true, false]);
        assert_eq!(relations(CompareOp::NotEqual), [true, false, true]);
        assert_eq!(relations(CompareOp::Less), [true, false, false]);
        assert_eq!(relations(CompareOp::Greater), [false, false, true]);
    }
}
