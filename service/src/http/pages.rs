//! `/errors/{code}`: the pages that explain error codes, which a problem's `type` leads to.
//!
//! They are the files of `docs/errors`, built into the binary: whoever reads one at night has no network but the cluster's.
//! Markdown for whoever asks with `curl`, HTML for browsers.

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Redirect, Response};
use holdfast_api::ErrorCode;

use crate::http::error::ApiError;
use crate::http::markdown;

macro_rules! page {
    ($code:literal) => {
        include_str!(concat!("../../../docs/errors/", $code, ".md"))
    };
}

/// The page of a code, in Markdown. A code without a file does not compile.
const fn page(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::InvalidJson => page!("invalid-json"),
        ErrorCode::InvalidField => page!("invalid-field"),
        ErrorCode::InvalidName => page!("invalid-name"),
        ErrorCode::InvalidHeader => page!("invalid-header"),
        ErrorCode::FutureRevision => page!("future-revision"),
        ErrorCode::Unauthenticated => page!("unauthenticated"),
        ErrorCode::Forbidden => page!("forbidden"),
        ErrorCode::NamespaceNotFound => page!("namespace-not-found"),
        ErrorCode::SessionNotFound => page!("session-not-found"),
        ErrorCode::ClaimNotFound => page!("claim-not-found"),
        ErrorCode::KeyNotFound => page!("key-not-found"),
        ErrorCode::MemberNotFound => page!("member-not-found"),
        ErrorCode::RouteNotFound => page!("route-not-found"),
        ErrorCode::MethodNotAllowed => page!("method-not-allowed"),
        ErrorCode::WaitTimeout => page!("wait-timeout"),
        ErrorCode::SessionExists => page!("session-exists"),
        ErrorCode::ClaimConflict => page!("claim-conflict"),
        ErrorCode::LockHeld => page!("lock-held"),
        ErrorCode::LockModeConflict => page!("lock-mode-conflict"),
        ErrorCode::WouldDeadlock => page!("would-deadlock"),
        ErrorCode::NamespaceNotEmpty => page!("namespace-not-empty"),
        ErrorCode::IdempotencyInFlight => page!("idempotency-in-flight"),
        ErrorCode::AlreadyBootstrapped => page!("already-bootstrapped"),
        ErrorCode::ChangeInFlight => page!("change-in-flight"),
        ErrorCode::NotCaughtUp => page!("not-caught-up"),
        ErrorCode::WouldLoseQuorum => page!("would-lose-quorum"),
        ErrorCode::LastVoter => page!("last-voter"),
        ErrorCode::ClaimEnded => page!("claim-ended"),
        ErrorCode::SessionExpired => page!("session-expired"),
        ErrorCode::RevisionCompacted => page!("revision-compacted"),
        ErrorCode::HistoryChanged => page!("history-changed"),
        ErrorCode::TooLarge => page!("too-large"),
        ErrorCode::RevisionMismatch => page!("revision-mismatch"),
        ErrorCode::StaleToken => page!("stale-token"),
        ErrorCode::TokenMismatch => page!("token-mismatch"),
        ErrorCode::MembershipChanged => page!("membership-changed"),
        ErrorCode::UnsupportedMediaType => page!("unsupported-media-type"),
        ErrorCode::OutOfRange => page!("out-of-range"),
        ErrorCode::IdempotencyKeyReused => page!("idempotency-key-reused"),
        ErrorCode::QueueFull => page!("queue-full"),
        ErrorCode::Overloaded => page!("overloaded"),
        ErrorCode::NoLeader => page!("no-leader"),
        ErrorCode::ShuttingDown => page!("shutting-down"),
        ErrorCode::NotBootstrapped => page!("not-bootstrapped"),
        ErrorCode::RevisionNotReached => page!("revision-not-reached"),
        ErrorCode::OutcomeUnknown => page!("outcome-unknown"),
        ErrorCode::DiskReserve => page!("disk-reserve"),
    }
}

/// `/errors/{code}`, and `/errors/{code}.md` for Markdown whatever the client prefers.
pub(super) async fn show(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, ApiError> {
    let (name, is_file) = match name.strip_suffix(".md") {
        Some(name) => (name, true),
        None => (name.as_str(), false),
    };
    let code: ErrorCode = name
        .parse()
        .map_err(|_| ApiError::new(ErrorCode::RouteNotFound, format!("there is no error code {name:?}")))?;
    let text = page(code);
    Ok(if !is_file && prefers_html(&headers) {
        html(&format!("{code} · {}", code.title()), text)
    } else {
        plain(text.to_owned())
    })
}

/// `/errors/`: all codes.
pub(super) async fn index(headers: HeaderMap) -> Response {
    let text = list();
    if prefers_html(&headers) { html("Error codes", &text) } else { plain(text) }
}

/// `/errors`: the links of the list need the slash.
pub(super) async fn to_index() -> Redirect {
    Redirect::permanent("/errors/")
}

/// The list of all codes, in Markdown.
fn list() -> String {
    let mut text = "# Error codes\n\nEvery problem document names one of these. The status alone tells whether the request \
        was applied: only a 504 leaves it open.\n"
        .to_owned();
    let mut status = 0;
    for code in ErrorCode::ALL {
        if code.status() != status {
            status = code.status();
            text.push_str(&format!("\n## {status}\n\n"));
        }
        text.push_str(&format!("- [{code}]({code}.md): {}\n", code.title()));
    }
    text
}

fn plain(text: String) -> Response {
    answer("text/markdown; charset=utf-8", text)
}

fn html(title: &str, text: &str) -> Response {
    let mut response = answer("text/html; charset=utf-8", markdown::document(title, text));
    let policy = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

fn answer(content_type: &'static str, text: String) -> Response {
    ([(header::CONTENT_TYPE, content_type), (header::VARY, "Accept")], text).into_response()
}

/// Whether the client would rather have HTML than Markdown (RFC 9110 §12.5.1).
fn prefers_html(headers: &HeaderMap) -> bool {
    let accept: Vec<&str> =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let accept = accept.join(",");
    quality(&accept, "text/markdown") < quality(&accept, "text/html")
}

/// What `Accept` gives a media type of `text`: the weight of the most specific range that covers it.
fn quality(accept: &str, media_type: &str) -> f32 {
    let ranges = accept.split(',').filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let named = parts.next().unwrap_or_default().to_ascii_lowercase();
        let specific = ["*/*", "text/*", media_type].iter().position(|covers| *covers == named)?;
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        Some((specific, weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0))))
    });
    ranges.max_by_key(|(specific, _)| *specific).map_or(0.0, |(_, weight)| weight)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use axum::http::{HeaderMap, HeaderValue, header};
    use holdfast_api::{Applied, ErrorCode, Problem};

    use super::{list, page, prefers_html};

    /// The codes that a page's links lead to.
    fn links(text: &str) -> Vec<&str> {
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        targets.map(|(target, _)| target.strip_suffix(".md").unwrap_or(target)).collect()
    }

    #[test]
    fn every_page_begins_with_what_its_code_means_everywhere() {
        for code in ErrorCode::ALL {
            let applied = match code.applied() {
                Applied::No => "no",
                Applied::Yes => "yes",
                Applied::Unknown => "unknown",
            };
            let retryable = if code == ErrorCode::OutcomeUnknown {
                "if `replayable`"
            } else if code.default_retryable() {
                "yes"
            } else {
                "no"
            };
            let facts =
                format!("{} · {} · applied: {applied} · retryable: {retryable}", code.status(), code.title());
            let mut lines = page(code).lines();
            assert_eq!(lines.next(), Some(format!("# {code}").as_str()));
            assert_eq!(lines.nth(1), Some(facts.as_str()), "{code}");
        }
    }

    #[test]
    fn every_page_has_the_same_short_parts() {
        for code in ErrorCode::ALL {
            let headings: Vec<&str> = page(code).lines().filter(|line| line.starts_with("## ")).collect();
            let expected = ["Was anything applied?", "Causes", "What to do", "Example"];
            assert_eq!(headings, expected.map(|heading| format!("## {heading}")), "{code}");
            assert!(page(code).lines().count() <= 45, "{code}: too long for three in the morning");
        }
    }

    #[test]
    fn every_example_is_a_problem_document_of_its_code() {
        for code in ErrorCode::ALL {
            let (_, example) = page(code).split_once("```json\n").unwrap();
            let (example, _) = example.split_once("```").unwrap();
            let problem: Problem = serde_json::from_str(example).unwrap_or_else(|e| panic!("{code}: {e}"));
            let json: serde_json::Value = serde_json::from_str(example).unwrap();
            assert_eq!(serde_json::to_value(&problem).unwrap(), json, "{code}: a member that no problem has");
            let expected = Problem::new(code, problem.detail.clone());
            assert_eq!((problem.code(), problem.status()), (code, code.status()));
            assert_eq!((problem.type_uri(), problem.title()), (expected.type_uri(), expected.title()));
            assert_eq!(problem.applied, expected.applied, "{code}");
            assert_eq!(problem.retryable, problem.replayable.unwrap_or(expected.retryable), "{code}");
            assert_eq!(
                problem.retry_after_ms.is_some(),
                matches!(code.status(), 429 | 503) || code == ErrorCode::IdempotencyInFlight,
                "{code}: who may wait is told how long"
            );
        }
    }

    #[test]
    fn every_link_leads_to_a_page_and_every_page_is_on_the_list() {
        for code in ErrorCode::ALL {
            let links = links(page(code));
            assert!(!links.is_empty(), "{code}");
            for link in links {
                assert!(link.parse::<ErrorCode>().is_ok_and(|other| other != code), "{code}: {link}");
            }
        }
        assert_eq!(links(&list()), ErrorCode::ALL.map(ErrorCode::as_str));
    }

    #[test]
    fn no_file_explains_a_code_that_there_is_not() {
        let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or(env!("CARGO_MANIFEST_DIR").into());
        let files = std::fs::read_dir(std::path::Path::new(&package).join("../docs/errors")).unwrap();
        let names: BTreeSet<String> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(names, ErrorCode::ALL.map(|code| format!("{code}.md")).into());
    }

    #[test]
    fn only_who_prefers_html_gets_html() {
        let check = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            prefers_html(&headers)
        };
        assert!(!prefers_html(&HeaderMap::new()));
        for accept in
            ["*/*", "text/*", "text/markdown, text/html", "text/html;q=0", "text/html;q=0.5, */*", "", "q=1"]
        {
            assert!(!check(accept), "{accept}");
        }
        for accept in [
            "text/html",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "*/*;q=0.1, TEXT/HTML ; q=0.2",
            "text/*, text/markdown;q=0.5",
        ] {
            assert!(check(accept), "{accept}");
        }
    }
}
