//! Reading requests: bodies within their limits, JSON with precise complaints, headers and names as validated types.

use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use holdfast_api::config::{ETag, WriteGuard};
use holdfast_api::{ErrorCode, Problem, header};
use holdfast_core::domain::{Guard, Precondition, ReplayKey};
use holdfast_core::{FencingToken, NamespaceName, Revision, limits};
use http::{HeaderMap, Method, Uri};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::auth::Identity;
use crate::http::contest;
use crate::http::error::ApiError;

/// What a value without a media type is, and what `curl -d` calls everything.
pub(crate) const OCTETS: &str = "application/octet-stream";
const FORM: &str = "application/x-www-form-urlencoded";

/// The largest JSON body, but for that of a transaction: no request comes near it.
const JSON_BYTES_MAX: usize = 64 << 10;
/// The largest idempotency key: a UUID with a prefix is far shorter.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;

/// What every handler knows of its request, besides path and body.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    /// Who asks.
    pub(crate) identity: Identity,
    /// The method.
    pub(crate) method: Method,
    /// Path and query, as sent.
    pub(crate) uri: Uri,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// Whether another node sent it on: then it is not sent on again.
    pub(crate) forwarded: bool,
}

impl Context {
    /// The context of a request, and its body.
    pub(crate) fn split(request: Request) -> (Self, Body) {
        let (parts, body) = request.into_parts();
        let forwarded = parts.headers.contains_key(header::FORWARDED);
        let context = Self {
            identity: Identity::Anonymous,
            method: parts.method,
            uri: parts.uri,
            headers: parts.headers,
            forwarded,
        };
        (context, body)
    }

    /// The context of a request that takes no query parameters, and its body.
    ///
    /// A parameter that is ignored is a misunderstanding: somebody who writes `?ttl_ms=1000` means it.
    pub(crate) fn without_query(request: Request) -> Result<(Self, Body), ApiError> {
        let (context, body) = Self::split(request);
        match context.uri.query() {
            None | Some("") => Ok((context, body)),
            Some(query) => {
                let why = format!("this request takes no query parameters, it has {query:?}");
                Err(ApiError::new(ErrorCode::InvalidField, why))
            }
        }
    }

    /// The text of a header, if it is there.
    pub(crate) fn header(&self, name: &str) -> Result<Option<&str>, ApiError> {
        let mut values = self.headers.get_all(name).iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(invalid_header(name, "it is there more than once"));
        }
        value.to_str().map(Some).map_err(|_| invalid_header(name, "it is not visible ASCII"))
    }

    /// The `Idempotency-Key`, if one was sent.
    pub(crate) fn idempotency_key(&self) -> Result<Option<&str>, ApiError> {
        let Some(key) = self.header(header::IDEMPOTENCY_KEY)? else { return Ok(None) };
        let key = key.trim().trim_matches('"');
        if key.is_empty() || IDEMPOTENCY_KEY_BYTES_MAX < key.len() {
            return Err(invalid_header(
                header::IDEMPOTENCY_KEY,
                &format!("it must have 1 to {IDEMPOTENCY_KEY_BYTES_MAX} bytes"),
            ));
        }
        Ok(Some(key))
    }

    /// The replay key of this request, if it carries an `Idempotency-Key`.
    ///
    /// The scope names the request's place, the fingerprint everything that decides what it does.
    pub(crate) fn replay_key(&self, namespace: &str, body: &[u8]) -> Result<Option<ReplayKey>, ApiError> {
        let Some(key) = self.idempotency_key()? else { return Ok(None) };
        let scope = digest(&[
            self.identity.scope().as_bytes(),
            namespace.as_bytes(),
            self.method.as_str().as_bytes(),
            self.uri.path().as_bytes(),
            key.as_bytes(),
        ]);
        let mut parts: Vec<&[u8]> = vec![self.uri.query().unwrap_or("").as_bytes(), body];
        for name in ["content-type", "if-match", "if-none-match", header::GUARD, header::MANAGED_BY] {
            parts.push(self.headers.get(name).map_or(b"", |value| value.as_bytes()));
        }
        Ok(Some(ReplayKey { scope, fingerprint: digest(&parts) }))
    }

    /// Who manages the key that is written, by `Holdfast-Managed-By`; empty for nobody.
    pub(crate) fn managed_by(&self) -> Result<String, ApiError> {
        let Some(text) = self.header(header::MANAGED_BY)? else { return Ok(String::new()) };
        let text = text.trim();
        if limits::MANAGED_BY_BYTES_MAX < text.len() {
            let why = format!("it has at most {} bytes", limits::MANAGED_BY_BYTES_MAX);
            return Err(invalid_header(header::MANAGED_BY, &why));
        }
        Ok(text.to_owned())
    }

    /// What `If-Match` and `If-None-Match` ask of a write.
    pub(crate) fn precondition(&self) -> Result<Precondition, ApiError> {
        match (self.header("if-match")?, self.header("if-none-match")?) {
            (None, None) => Ok(Precondition::None),
            (Some(_), Some(_)) => {
                Err(invalid_header("If-None-Match", "a write takes If-Match or If-None-Match, not both"))
            }
            (Some("*"), None) => Ok(Precondition::Exists),
            (Some(tag), None) => match tag.trim().parse::<ETag>() {
                Ok(ETag(revision)) => Ok(Precondition::ModRevision(Revision::new(revision))),
                Err(invalid) => Err(invalid_header("If-Match", &invalid.to_string())),
            },
            (None, Some("*")) => Ok(Precondition::Absent),
            (None, Some(_)) => {
                Err(invalid_header("If-None-Match", "a write takes only `*`: the key must not exist"))
            }
        }
    }

    /// The guard of a write.
    pub(crate) fn guard(&self) -> Result<Option<Guard>, ApiError> {
        let Some(text) = self.header(header::GUARD)? else { return Ok(None) };
        let WriteGuard { kind, name, token } = text
            .parse::<WriteGuard>()
            .map_err(|invalid| invalid_header(header::GUARD, &invalid.to_string()))?;
        let token = FencingToken::of_grant(Revision::new(token));
        Ok(Some(Guard { lock: contest::lock_name(kind, name)?, token }))
    }

    /// An id that the server chooses: random, or derived from the idempotency key, so that a replay names the same thing.
    pub(crate) fn chosen_id(&self) -> Result<String, ApiError> {
        let bytes: [u8; 32] = match self.idempotency_key()? {
            Some(key) => digest(&[
                self.identity.scope().as_bytes(),
                self.method.as_str().as_bytes(),
                self.uri.path().as_bytes(),
                key.as_bytes(),
            ]),
            None => rand::random(),
        };
        Ok(bytes[..16].iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// SHA-256 over the parts, each with its length, so that no two lists of parts look alike.
fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// The problem of a header.
pub(crate) fn invalid_header(name: &str, why: &str) -> ApiError {
    ApiError::new(ErrorCode::InvalidHeader, format!("header {name}: {why}"))
}

/// The body, refused before more than `bytes_max` is buffered.
pub(crate) async fn body(context: &Context, body: Body, bytes_max: usize) -> Result<Bytes, ApiError> {
    let too_large =
        || ApiError::new(ErrorCode::TooLarge, format!("the body has more than {bytes_max} bytes"));
    if let Some(length) = context.header("content-length")? {
        let length: usize =
            length.parse().map_err(|_| invalid_header("Content-Length", "it is not a number of bytes"))?;
        if bytes_max < length {
            return Err(too_large());
        }
    }
    match http_body_util::BodyExt::collect(http_body_util::Limited::new(body, bytes_max)).await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Err(error) => Err(ApiError::new(ErrorCode::InvalidJson, format!("the body broke off: {error}"))),
    }
}

/// The body of a config value.
pub(crate) async fn value_body(context: &Context, raw: Body) -> Result<Bytes, ApiError> {
    body(context, raw, limits::VALUE_BYTES_MAX).await
}

pub(crate) fn content_type(context: &Context) -> Result<String, ApiError> {
    match context.header("content-type")? {
        None => Ok(OCTETS.to_owned()),
        Some(text) if text.trim().is_empty() || text.trim().eq_ignore_ascii_case(FORM) => {
            Ok(OCTETS.to_owned())
        }
        Some(text) if limits::CONTENT_TYPE_BYTES_MAX < text.len() => {
            Err(invalid_header("Content-Type", "it is longer than any media type"))
        }
        Some(text) => Ok(text.to_owned()),
    }
}

/// A JSON body. An empty one is `{}` where every field has a default.
pub(crate) async fn json<T: DeserializeOwned>(context: &Context, raw: Body) -> Result<(T, Bytes), ApiError> {
    json_up_to(context, raw, JSON_BYTES_MAX).await
}

/// A JSON body that may be larger than others.
pub(crate) async fn json_up_to<T: DeserializeOwned>(
    context: &Context,
    raw: Body,
    bytes_max: usize,
) -> Result<(T, Bytes), ApiError> {
    let bytes = body(context, raw, bytes_max).await?;
    let text: &[u8] = if bytes.is_empty() {
        b"{}"
    } else {
        require_json(context, &bytes)?;
        &bytes
    };
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let pointer = json_pointer(error.path());
        invalid_json(error.inner(), pointer)
    })?;
    deserializer.end().map_err(|error| invalid_json(&error, String::new()))?;
    // A list would be taken for the fields in their order.
    if text.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(invalid_field("", "the body must be a JSON object"));
    }
    Ok((value, bytes))
}

fn invalid_json(error: &serde_json::Error, pointer: String) -> ApiError {
    match error.classify() {
        serde_json::error::Category::Data => {
            Problem::new(ErrorCode::InvalidField, error.to_string()).with_pointer(pointer).into()
        }
        serde_json::error::Category::Syntax
        | serde_json::error::Category::Eof
        | serde_json::error::Category::Io => ApiError::new(ErrorCode::InvalidJson, error.to_string()),
    }
}

/// The JSON pointer (RFC 6901) of a path within a body.
fn json_pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter()
        .map(|segment| match segment {
            Segment::Seq { index } => format!("/{index}"),
            Segment::Map { key } => format!("/{}", key.replace('~', "~0").replace('/', "~1")),
            Segment::Enum { variant } => format!("/{variant}"),
            Segment::Unknown => String::new(),
        })
        .collect()
}

fn require_json(context: &Context, body: &[u8]) -> Result<(), ApiError> {
    let media_type = context.header("content-type")?.unwrap_or("");
    let essence = media_type.split(';').next().unwrap_or("").trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let given = if media_type.is_empty() { "none" } else { essence };
    let detail = format!("the body must be application/json, its Content-Type is {given}");
    let problem = Problem::new(ErrorCode::UnsupportedMediaType, detail);
    Err(match corrected_command(context, body) {
        Some(command) => problem.with_hint(command),
        None => problem,
    }
    .into())
}

/// The command line that sends the same request as JSON, if a shell can carry it. Everything in it was written by a
/// stranger, so all of it is quoted.
fn corrected_command(context: &Context, body: &[u8]) -> Option<String> {
    let body = std::str::from_utf8(body).ok().filter(|body| !body.contains('\0'))?;
    let host = context.header("host").ok().flatten().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-' | '[' | ']');
    let host = if !host.is_empty() && host.chars().all(plain) { host } else { "127.0.0.1:7700" };
    let key = context.idempotency_key().ok().flatten();
    let key = key.map(|key| format!(" -H {}", quoted(&format!("{}: {key}", header::IDEMPOTENCY_KEY))));
    Some(format!(
        "curl -X {} --json {}{} {}",
        quoted(context.method.as_str()),
        quoted(body),
        key.unwrap_or_default(),
        quoted(&format!("http://{host}{}", context.uri)),
    ))
}

/// A text as one word of a POSIX shell.
fn quoted(text: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric();
    if !text.is_empty() && text.chars().all(bare) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// The problem of a field of a JSON body.
pub(crate) fn invalid_field(pointer: &str, why: impl Into<String>) -> ApiError {
    Problem::new(ErrorCode::InvalidField, why).with_pointer(pointer).into()
}

/// A number within its range.
pub(crate) fn in_range(pointer: &str, number: u64, min: u64, max: u64) -> Result<u64, ApiError> {
    if min <= number && number <= max {
        return Ok(number);
    }
    Err(Problem::new(
        ErrorCode::OutOfRange,
        format!("{} is {number}, it must be from {min} to {max}", &pointer[1..]),
    )
    .with_pointer(pointer)
    .into())
}

/// A text for people, within its bound.
pub(crate) fn short_text(pointer: &str, text: String, bytes_max: usize) -> Result<String, ApiError> {
    if text.len() <= bytes_max && !text.chars().any(char::is_control) {
        return Ok(text);
    }
    Err(invalid_field(
        pointer,
        format!("{} has at most {bytes_max} bytes and no control characters", &pointer[1..]),
    ))
}

/// A namespace in a path.
pub(crate) fn namespace(text: String) -> Result<NamespaceName, ApiError> {
    Ok(NamespaceName::new(text)?)
}
