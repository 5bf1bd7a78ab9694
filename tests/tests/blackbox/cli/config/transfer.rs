//! export and import.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use holdfast_tests::harness::{Scratch, Shell};
use serde_json::Value;

use super::{USAGE, bytes, keys, node, put, text, with_input};

/// Everything about a namespace but its revisions.
fn store(shell: &Shell, namespace: &str) -> Result<Vec<Value>> {
    let list = shell.json(&["config", "list", "--values", "-n", namespace])?;
    let items = list["items"].as_array().context("a list has items")?;
    let strip = |item: &Value| {
        let mut item = item.clone();
        if let Some(members) = item.as_object_mut() {
            members.retain(|name, _| !name.ends_with("revision") && name != "version");
        }
        item
    };
    Ok(items.iter().map(strip).collect())
}

fn export(shell: &Shell, scratch: &Scratch, args: &[&str]) -> Result<PathBuf> {
    let path = scratch.path().join("export.ndjson");
    std::fs::write(&path, bytes(shell, &[&["config", "export"], args].concat())?)?;
    Ok(path)
}

fn fill(shell: &Shell) -> Result<()> {
    put(shell, "app/color", "blue")?;
    put(shell, "app/größe", "größer\nals\u{1b}das")?;
    shell.text(&["config", "put", "app/page", "<p>", "--content-type", "text/html"])?;
    let all: Vec<u8> = (0..=255).collect();
    let output = with_input(shell, &["config", "put", "app/icon.png", "-"], &all)?;
    ensure!(output.status.success(), "{output:?}");
    put(shell, "jobs/empty", "")?;
    put(shell, "jobs/gone", "1")?;
    shell.text(&["config", "rm", "jobs/gone"])?;
    Ok(())
}

#[tokio::test]
async fn an_import_of_an_export_gives_an_equal_store() -> Result<()> {
    let (_cluster, shell) = node().await?;
    let scratch = Scratch::new()?;
    fill(&shell)?;
    shell.text(&["config", "put", "app/managed", "v", "--managed-by", "git"])?;
    shell.text(&["namespace", "create", "copy"])?;
    let file = export(&shell, &scratch, &[])?;
    let lines = std::fs::read_to_string(&file)?;
    let header: Value = serde_json::from_str(lines.lines().next().unwrap_or_default())?;
    ensure!(header["format"] == "holdfast-config" && header["version"] == 1, "{header}");
    ensure!(header["namespace"] == "default" && header["prefix"] == "" && header["items"] == 6, "{header}");

    let dry = ["config", "import", text(&file)?, "-n", "copy", "--dry-run"];
    let screen = shell.screen(&dry)?;
    ensure!(screen.contains("create  app/color\n"), "{screen}");
    ensure!(
        screen.ends_with("nothing is written: 6 created, 0 updated, 0 deleted, 0 unchanged\n"),
        "{screen}"
    );
    ensure!(store(&shell, "copy")?.is_empty());
    let report = shell.json(&dry[..5])?;
    ensure!(report["created"].as_array().map_or(0, Vec::len) == 6 && report["dry_run"] == false, "{report}");
    ensure!(store(&shell, "copy")? == store(&shell, "default")?);
    ensure!(store(&shell, "copy")?.len() == 6);

    let before = shell.json(&["config", "list", "-n", "copy"])?;
    let screen = shell.screen(&dry[..5])?;
    ensure!(screen.ends_with("0 created, 0 updated, 0 deleted, 6 unchanged\n"), "{screen}");
    ensure!(shell.json(&["config", "list", "-n", "copy"])?["items"] == before["items"], "nothing is written");
    let screen = shell.screen(&["config", "export", "app/"])?;
    ensure!(screen.contains("\"prefix\":\"app/\",\"items\":5}"), "{screen}");
    Ok(())
}

#[tokio::test]
async fn an_import_writes_what_differs_and_deletes_only_when_asked() -> Result<()> {
    let (_cluster, shell) = node().await?;
    let scratch = Scratch::new()?;
    fill(&shell)?;
    let then = put(&shell, "app/last", "1")?.to_string();
    let original = store(&shell, "default")?;
    put(&shell, "app/color", "red")?;
    put(&shell, "app/extra", "1")?;
    put(&shell, "other", "1")?;
    shell.text(&["config", "rm", "app/page"])?;
    let file = export(&shell, &scratch, &["app/", "--at", &then])?;
    let report = shell.json(&["config", "import", text(&file)?])?;
    ensure!(report["created"] == serde_json::json!(["app/page"]), "{report}");
    ensure!(report["updated"] == serde_json::json!(["app/color"]) && report["unchanged"] == 3, "{report}");
    ensure!(keys(&shell.json(&["config", "list", "app/"])?).contains(&"app/extra"));

    let output = with_input(&shell, &["config", "import", "--prune", "-o", "json"], &std::fs::read(&file)?)?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(report["deleted"] == serde_json::json!(["app/extra"]), "{report}");
    shell.text(&["config", "rm", "other"])?;
    ensure!(store(&shell, "default")? == original);
    Ok(())
}

#[tokio::test]
async fn a_malformed_file_writes_nothing() -> Result<()> {
    let (_cluster, shell) = node().await?;
    let scratch = Scratch::new()?;
    fill(&shell)?;
    shell.text(&["namespace", "create", "copy"])?;
    let good = std::fs::read_to_string(export(&shell, &scratch, &[])?)?;
    let lines: Vec<&str> = good.lines().collect();
    let cut = lines[..lines.len() - 1].join("\n");
    let cases = [
        (good.replace("\"version\":1,\"namespace\"", "\"version\":7,\"namespace\""), "line 1: "),
        (good.replace("app/page", "app//page"), "line 5: "),
        (format!("{good}{{\n"), "line 7: "),
        (cut, "line 5: "),
        (String::new(), "line 1: "),
    ];
    for (text, place) in cases {
        let output = with_input(&shell, &["config", "import", "-n", "copy"], text.as_bytes())?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(USAGE) && complaint.contains(place), "{place}: {complaint}");
        ensure!(complaint.contains("nothing is written"), "{complaint}");
    }
    ensure!(store(&shell, "copy")?.is_empty());
    Ok(())
}

#[tokio::test]
async fn keys_of_sessions_are_left_out_unless_they_are_to_stay() -> Result<()> {
    let (cluster, shell) = node().await?;
    let scratch = Scratch::new()?;
    let client = holdfast_api::client::Client::new(cluster.endpoints())?;
    let request = holdfast_api::sessions::SessionRequest { ttl_ms: Some(600_000), ..Default::default() };
    client.put_session("alice", &request).await?;
    shell.text(&["config", "put", "up/alice", "1", "--session", "alice"])?;
    shell.text(&["namespace", "create", "copy"])?;
    let file = export(&shell, &scratch, &[])?;
    ensure!(std::fs::read_to_string(&file)?.contains("\"session\":\"alice\""));
    let args = ["config", "import", text(&file)?, "-n", "copy"];
    let output = shell.run(&args)?;
    let (told, notice) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    ensure!(
        told.contains("1 left out") && notice.contains("up/alice belonged to a session"),
        "{told}{notice}"
    );
    ensure!(store(&shell, "copy")?.is_empty());
    shell.text(&[&args[..], &["--ephemeral", "permanent"]].concat())?;
    let item = shell.json(&["config", "get", "up/alice", "-n", "copy"])?;
    ensure!(item["value"] == "1" && item.get("session").is_none(), "{item}");
    Ok(())
}
