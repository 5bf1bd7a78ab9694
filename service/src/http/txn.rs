//! Transactions: compare, and then one of two lists of operations as a whole.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use holdfast_api::config::{
    CompareOp, RevisionTarget, TxnAnswer, TxnCompare, TxnDeleted, TxnKey, TxnOp, TxnPut, TxnRead, TxnRequest,
    TxnResult,
};
use holdfast_api::{ErrorCode, Problem};
use holdfast_core::domain::{self, Command, Compare, Comparison, KeyTest, LockRef, Success, Txn};
use holdfast_core::{
    ClaimId, ConfigKey, FencingToken, InvalidName, LockName, NamespaceName, Revision, SessionId, limits,
};
use http::{HeaderValue, StatusCode};

use crate::auth::{Resource, Verb};
use crate::http::App;
use crate::http::dispatch::{Call, dispatch};
use crate::http::error::{self, ApiError};
use crate::http::request::OCTETS;
use crate::http::request::{self, Context, invalid_field, short_text};
use crate::http::{item, respond};

/// The largest body: an entry of the largest size in base64, with the names around it.
const BODY_BYTES_MAX: usize = limits::ENTRY_BYTES_MAX / 3 * 4 + (256 << 10);
const _: () = assert!(limits::VALUE_BYTES_MAX.div_ceil(3) * 4 < BODY_BYTES_MAX);

/// `POST …/txn`.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other outcome is a bug and told as one")]
pub(crate) async fn post(
    State(app): State<Arc<App>>,
    Path(namespace): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let (context, body) = Context::without_query(request)?;
    let namespace = request::namespace(namespace)?;
    let (sent, bytes) = request::json_up_to::<TxnRequest>(&context, body, BODY_BYTES_MAX).await?;
    let txn = validate(namespace, sent, &context)?;
    authorize(&app, &context, &txn)?;
    let replay = context.replay_key(txn.namespace.as_str(), &bytes)?;
    let replays = replay.is_some();
    let same_body = |_| -> Bytes { bytes.clone() };
    dispatch(&app, Call::same(&context, &same_body, replays), || async {
        let applied = app
            .raft
            .propose(Command::Txn(txn.clone()), replay)
            .await
            .map_err(|failure| error::from_propose(failure, replays))?;
        match applied.outcome.map_err(error::from_rejection)? {
            Success::Txn { succeeded, revision, results } => {
                let answer = TxnAnswer {
                    succeeded,
                    revision: revision.unwrap_or(applied.revision).as_u64(),
                    results: results.into_iter().map(result).collect(),
                };
                Ok(respond::json(StatusCode::OK, &answer, applied.revision))
            }
            other => Err(error::unexpected_outcome(&other)),
        }
    })
    .await
}

/// Everything that either list could touch, whichever is done.
fn authorize(app: &App, context: &Context, txn: &Txn) -> Result<(), ApiError> {
    let Txn { namespace, guard: _, compare, success, failure } = txn;
    let key = |key: &ConfigKey| Resource::Key(namespace.clone(), key.clone());
    let mut read: Vec<Resource> = compare
        .iter()
        .map(|compare| match compare {
            Compare::Key { key: of, test: _ } => key(of),
            Compare::Lock { lock, claim: _, token: _ } => {
                Resource::Lock(LockRef { namespace: namespace.clone(), lock: lock.clone() })
            }
        })
        .collect();
    let mut written = Vec::new();
    for op in success.iter().chain(failure) {
        match op {
            domain::TxnOp::Get { key: of } => read.push(key(of)),
            domain::TxnOp::Delete { key: of } => written.push(key(of)),
            domain::TxnOp::Put { key: of, session, .. } => {
                written.push(key(of));
                written.extend(session.clone().map(|session| Resource::Session(Some(session))));
            }
        }
    }
    app.authorize(context, Verb::Read, &read)?;
    app.authorize(context, Verb::Write, &written)
}

fn validate(namespace: NamespaceName, sent: TxnRequest, context: &Context) -> Result<Txn, ApiError> {
    let TxnRequest { compare, success, failure } = sent;
    check_length("/compare", compare.len())?;
    let conditions = compare.into_iter().enumerate();
    let conditions = conditions.map(|(at, sent)| condition(&format!("/compare/{at}"), sent));
    Ok(Txn {
        namespace,
        guard: context.guard()?,
        compare: conditions.collect::<Result<_, _>>()?,
        success: ops("/success", success)?,
        failure: ops("/failure", failure)?,
    })
}

fn check_length(pointer: &str, length: usize) -> Result<(), ApiError> {
    if length <= limits::TXN_OPS_MAX {
        return Ok(());
    }
    let why = format!("it has {length} elements, at most {} are allowed", limits::TXN_OPS_MAX);
    Err(Problem::new(ErrorCode::OutOfRange, why).with_pointer(pointer).into())
}

/// Says where a name of the body stands that breaks its rules.
fn named<N>(pointer: &str, name: Result<N, InvalidName>) -> Result<N, ApiError> {
    name.map_err(|invalid| {
        Problem::new(ErrorCode::InvalidName, invalid.to_string()).with_pointer(pointer).into()
    })
}

fn condition(pointer: &str, sent: TxnCompare) -> Result<Compare, ApiError> {
    let config_key = |key| named(&format!("{pointer}/key"), ConfigKey::new(key));
    Ok(match sent {
        TxnCompare::Revision { key, target, op, value } => {
            let test = match target {
                RevisionTarget::ModRevision => KeyTest::ModRevision,
                RevisionTarget::CreateRevision => KeyTest::CreateRevision,
                RevisionTarget::Version => KeyTest::Version,
            };
            Compare::Key { key: config_key(key)?, test: test(comparison(op), value) }
        }
        TxnCompare::Value { key, op, value } => {
            Compare::Key { key: config_key(key)?, test: KeyTest::Value(comparison(op), value.into()) }
        }
        TxnCompare::Exists { key, exists } => {
            Compare::Key { key: config_key(key)?, test: KeyTest::Exists(exists) }
        }
        TxnCompare::Held { lock, token, claim } => Compare::Lock {
            lock: named(&format!("{pointer}/lock"), LockName::new(lock))?,
            claim: claim.map(|claim| named(&format!("{pointer}/claim"), ClaimId::new(claim))).transpose()?,
            token: FencingToken::of_grant(Revision::new(token)),
        },
    })
}

const fn comparison(op: CompareOp) -> Comparison {
    match op {
        CompareOp::Equal => Comparison::Equal,
        CompareOp::NotEqual => Comparison::NotEqual,
        CompareOp::Less => Comparison::Less,
        CompareOp::Greater => Comparison::Greater,
    }
}

/// A list of operations, which names a key at most once: otherwise their order would matter, and one revision could not tell
/// two writes of a key apart.
fn ops(pointer: &str, sent: Vec<TxnOp>) -> Result<Vec<domain::TxnOp>, ApiError> {
    check_length(pointer, sent.len())?;
    let mut keys = BTreeSet::new();
    let mut ops = Vec::with_capacity(sent.len());
    for (at, sent) in sent.into_iter().enumerate() {
        let (name, op) = match sent {
            TxnOp::Put(sent) => ("put", put(&format!("{pointer}/{at}/put"), sent)?),
            TxnOp::Delete(TxnKey { key }) => {
                let key = named(&format!("{pointer}/{at}/delete/key"), ConfigKey::new(key))?;
                ("delete", domain::TxnOp::Delete { key })
            }
            TxnOp::Get(TxnKey { key }) => {
                let key = named(&format!("{pointer}/{at}/get/key"), ConfigKey::new(key))?;
                ("get", domain::TxnOp::Get { key })
            }
        };
        if !keys.insert(op.key().clone()) {
            let why = format!("the key {} is named twice in this list", op.key());
            return Err(invalid_field(&format!("{pointer}/{at}/{name}/key"), why));
        }
        ops.push(op);
    }
    Ok(ops)
}

fn put(pointer: &str, sent: TxnPut) -> Result<domain::TxnOp, ApiError> {
    let TxnPut { key, value, content_type, session, managed_by } = sent;
    let of = |member: &str| format!("{pointer}/{member}");
    if limits::VALUE_BYTES_MAX < value.len() {
        let why = format!("the value has more than {} bytes", limits::VALUE_BYTES_MAX);
        return Err(Problem::new(ErrorCode::TooLarge, why).with_pointer(of("value")).into());
    }
    Ok(domain::TxnOp::Put {
        key: named(&of("key"), ConfigKey::new(key))?,
        value: value.into(),
        content_type: content_type
            .map_or_else(|| Ok(OCTETS.to_owned()), |text| media_type(&of("content_type"), text))?,
        session: session.map(|session| named(&of("session"), SessionId::new(session))).transpose()?,
        managed_by: short_text(
            &of("managed_by"),
            managed_by.unwrap_or_default(),
            limits::MANAGED_BY_BYTES_MAX,
        )?,
    })
}

/// A media type, which a read answers as its header.
fn media_type(pointer: &str, text: String) -> Result<String, ApiError> {
    let is_header = HeaderValue::from_str(&text).is_ok_and(|value| value.to_str().is_ok());
    if text.trim().is_empty() || limits::CONTENT_TYPE_BYTES_MAX < text.len() || !is_header {
        let why = format!(
            "a media type has 1 to {} visible ASCII characters and blanks",
            limits::CONTENT_TYPE_BYTES_MAX
        );
        return Err(invalid_field(pointer, why));
    }
    Ok(text)
}

fn result(done: domain::TxnResult) -> TxnResult {
    match done {
        domain::TxnResult::Put { key, create_revision, mod_revision, version } => {
            TxnResult::Put(item::of_write(&key, create_revision, mod_revision, version))
        }
        domain::TxnResult::Deleted { key, deleted } => {
            TxnResult::Delete(TxnDeleted { key: key.into(), deleted })
        }
        domain::TxnResult::Got { key, item: found } => {
            TxnResult::Get(TxnRead { key: key.into(), item: found.map(item::of_item) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{media_type, ops};
    use holdfast_api::config::{TxnKey, TxnOp};

    #[test]
    fn a_list_names_a_key_once_and_the_place_of_the_second_is_told() {
        let key = |key: &str| TxnKey { key: key.to_owned() };
        assert!(ops("/success", vec![TxnOp::Get(key("a")), TxnOp::Delete(key("b"))]).is_ok());
        let twice = vec![TxnOp::Get(key("a")), TxnOp::Delete(key("b")), TxnOp::Delete(key("a"))];
        let refused = ops("/success", twice).unwrap_err();
        assert_eq!(refused.0.pointer.as_deref(), Some("/success/2/delete/key"));
    }

    #[test]
    fn a_media_type_is_what_a_header_can_carry() {
        assert!(media_type("/t", "text/plain; charset=utf-8".to_owned()).is_ok());
        for bad in ["", " ", "text/\n", "text/ö", &"x".repeat(257)] {
            assert!(media_type("/t", bad.to_owned()).is_err(), "{bad:?}");
        }
    }
}
