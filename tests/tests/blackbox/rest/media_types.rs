//! A body that does not say that it is JSON is refused with a command line that works.

use std::process::Command;

use serde_json::json;

use super::fixture::{Door, Fixture};
use super::wire::{Ask, ask};

/// Runs a hint as a person would paste it, and gives what it printed.
fn run(hint: &str) -> String {
    let output = Command::new("sh").args(["-c", hint]).output().expect("sh runs");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{hint}\n{errors}");
    String::from_utf8(output.stdout).expect("the answers are text")
}

async fn hint(door: &Door, request: Ask) -> String {
    let before = door.revision().await;
    let problem = door.send(request).await.refused(415, "unsupported-media-type");
    assert_eq!(door.revision().await, before);
    problem["hint"].as_str().unwrap_or_else(|| panic!("no hint: {problem}")).to_owned()
}

#[tokio::test]
async fn the_hint_of_a_wrong_media_type_works_when_it_is_pasted() {
    let fixture = Fixture::alone().await;
    let media_types = [
        "application/x-www-form-urlencoded",
        "text/plain",
        "application/jsonp",
        "text/json; a=application/json",
    ];
    for door in fixture.both().await {
        let to = |method: &str, target: String| ask(method, target).header("Host", door.api().to_string());
        for (index, media_type) in media_types.iter().enumerate() {
            let id = format!("hinted-{}-{index}", door.via);
            let body = json!({ "ttl_ms": 60_000, "name": "it's $HOME `id` \"quoted\" \\ é" });
            let request = to("PUT", format!("/v1/sessions/{id}")).header("Content-Type", *media_type);
            let hint = hint(&door, request.body(body.to_string())).await;
            let answer: serde_json::Value = serde_json::from_str(&run(&hint)).expect("the session");
            assert_eq!((&answer["id"], &answer["name"]), (&json!(id), &body["name"]), "{hint}");
            door.send(ask("DELETE", format!("/v1/sessions/{id}"))).await.expect(204);
        }
        // As `curl` sends it without a type, and longer than a line.
        let id = format!("hinted-{}-long", door.via);
        let labels: serde_json::Map<_, _> =
            (0..16).map(|n| (format!("label-{n}"), json!("v".repeat(64)))).collect();
        let body = json!({ "ttl_ms": 60_000, "labels": labels });
        let hint = hint(&door, to("PUT", format!("/v1/sessions/{id}")).body(body.to_string())).await;
        let answer: serde_json::Value = serde_json::from_str(&run(&hint)).expect("the session");
        assert_eq!(answer["labels"], body["labels"], "{hint}");
        door.send(ask("DELETE", format!("/v1/sessions/{id}"))).await.expect(204);
    }
}

#[tokio::test]
async fn nothing_that_a_stranger_wrote_becomes_a_command() {
    let fixture = Fixture::alone().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mark = dir.path().join("mark");
    let mark_text = mark.to_str().expect("the path is text");
    for door in fixture.both().await {
        let injected = format!("';touch${{IFS}}{mark_text};'");
        let body = format!("{{\"ttl_ms\":1000,\"name\":\"{injected}\"}}");
        for (target, host) in [
            ("/v1/sessions/quoted".to_owned(), door.api().to_string()),
            (format!("/v1/namespaces/quoted?{injected}"), door.api().to_string()),
            ("/v1/sessions/quoted".to_owned(), format!("localhost{injected}")),
        ] {
            let request = ask("PUT", target).header("Host", host).header("Content-Type", "text/plain");
            let answer = door.send(request.body(body.clone())).await;
            assert!((400..500).contains(&answer.status), "{}", answer.shown());
            if let Some(hint) = answer.value()["hint"].as_str() {
                // Whatever it does, it is one command.
                let _ = Command::new("sh").args(["-c", hint]).output().expect("sh runs");
                assert!(!mark.exists(), "the hint ran a stranger's command: {hint}");
            }
        }
        door.send(ask("DELETE", "/v1/sessions/quoted")).await.expect(204);
    }
}

#[tokio::test]
async fn json_is_told_by_its_media_type_in_any_spelling() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        for (index, media_type) in [
            "application/json",
            "APPLICATION/JSON",
            "application/json; charset=utf-8",
            "application/json;x=y",
        ]
        .iter()
        .enumerate()
        {
            let session = format!("/v1/sessions/spelled-{}-{index}", door.via);
            let request = ask("PUT", &session).header("Content-Type", *media_type).body("{\"ttl_ms\":60000}");
            door.send(request).await.expect(201);
            door.send(ask("DELETE", &session)).await.expect(204);
        }
    }
}
