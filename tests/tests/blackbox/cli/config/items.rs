//! get, put, rm and list.

use anyhow::{Result, ensure};
use holdfast_tests::harness::Scratch;

use super::{CONFLICT, NOT_FOUND, USAGE, bytes, keys, node, put, text, with_input};

#[tokio::test]
async fn a_value_comes_back_byte_for_byte() -> Result<()> {
    let (_cluster, shell) = node().await?;
    let scratch = Scratch::new()?;
    let file = scratch.path().join("icon.png");
    let icon: Vec<u8> = (0..=255).collect();
    std::fs::write(&file, &icon)?;

    let screen = shell.screen(&["config", "put", "app/icon", "-f", text(&file)?])?;
    ensure!(screen.starts_with("app/icon is created at revision "), "{screen}");
    ensure!(bytes(&shell, &["config", "get", "app/icon"])? == icon);
    let item = shell.json(&["config", "get", "app/icon"])?;
    ensure!(item["content_type"] == "image/png" && item["value_base64"].is_string(), "{item}");
    ensure!(item == shell.yaml(&["config", "get", "app/icon"])?);

    let output = with_input(&shell, &["config", "put", "app/settings.json", "-"], b"{\"a\": 1}\n")?;
    ensure!(output.status.success(), "{output:?}");
    ensure!(shell.screen(&["config", "get", "app/settings.json"])? == "{\"a\": 1}\n");
    let item = shell.json(&["config", "get", "app/settings.json"])?;
    ensure!(item["content_type"] == "application/json" && item["value"] == "{\"a\": 1}\n", "{item}");

    // A key is not its own prefix's neighbour.
    put(&shell, "app/icon2", "x")?;
    let complaint = shell.refusal(NOT_FOUND, &["config", "get", "app/ico", "-o", "json"])?;
    ensure!(complaint.contains("app/ico") && complaint.contains("config list"), "{complaint}");
    shell.refusal(NOT_FOUND, &["config", "get", "app/ico"])?;
    Ok(())
}

#[tokio::test]
async fn an_earlier_value_can_be_read() -> Result<()> {
    let (_cluster, shell) = node().await?;
    let blue = put(&shell, "app/color", "blue")?;
    let then = blue.to_string();
    put(&shell, "app/color", "red")?;
    ensure!(shell.text(&["config", "get", "app/color"])? == "red");
    ensure!(shell.text(&["config", "get", "app/color", "--at", &then])? == "blue");
    let item = shell.json(&["config", "get", "app/color", "--at", &then])?;
    ensure!(item["value"] == "blue" && item["mod_revision"] == blue, "{item}");
    let list = shell.json(&["config", "list", "--values", "--at", &then])?;
    ensure!(list["revision"] == blue && list["items"][0]["value"] == "blue", "{list}");
    shell.refusal(super::REFUSED, &["config", "get", "app/color", "--at", "999999999"])?;
    Ok(())
}

#[tokio::test]
async fn a_write_happens_only_under_its_conditions() -> Result<()> {
    let (_cluster, shell) = node().await?;
    let first = put(&shell, "app/color", "blue")?.to_string();
    let complaint = shell.refusal(CONFLICT, &["config", "put", "app/color", "red", "--create"])?;
    ensure!(complaint.contains("revision-mismatch"), "{complaint}");
    let second = shell.json(&["config", "put", "app/color", "red", "--if-match", &first])?;
    ensure!(second["created"] == false, "{second}");
    shell.refusal(CONFLICT, &["config", "put", "app/color", "green", "--if-match", &first])?;
    let stale = ["config", "put", "app/color", "green", "--guard", "lock=jobs,token=1"];
    ensure!(shell.refusal(CONFLICT, &stale)?.contains("stale-token"));
    ensure!(shell.text(&["config", "get", "app/color"])? == "red");

    shell.refusal(CONFLICT, &["config", "rm", "app/color", "--if-match", &first])?;
    let second = second["mod_revision"].to_string();
    let screen = shell.screen(&["config", "rm", "app/color", "--if-match", &second])?;
    ensure!(screen == "app/color is deleted\n", "{screen}");
    ensure!(shell.text(&["config", "rm", "app/color", "-o", "json"])?.is_empty());
    shell.refusal(NOT_FOUND, &["config", "get", "app/color"])?;
    Ok(())
}

#[tokio::test]
async fn a_list_shows_keys_and_with_values_what_they_are() -> Result<()> {
    let (_cluster, shell) = node().await?;
    put(&shell, "app/color", "blue\u{1b}[31m")?;
    put(&shell, "app/text", "first\nsecond")?;
    put(&shell, "jobs/a", "1")?;
    let screen = shell.screen(&["config", "list", "app/"])?;
    ensure!(screen.starts_with("KEY ") && screen.contains("app/color") && !screen.contains("jobs/a"));
    ensure!(!screen.contains("blue"), "{screen}");
    let screen = shell.screen(&["config", "list", "--values"])?;
    ensure!(screen.contains(r"blue\u{1b}[31m") && screen.contains("first…"), "{screen}");
    let list = shell.json(&["config", "list"])?;
    ensure!(keys(&list) == ["app/color", "app/text", "jobs/a"], "{list}");
    ensure!(list["items"][0].get("value").is_none(), "{list}");
    shell.refusal(NOT_FOUND, &["config", "list", "-n", "nowhere"])?;
    Ok(())
}

#[tokio::test]
async fn a_key_says_who_manages_it_until_the_next_write() -> Result<()> {
    let (_cluster, shell) = node().await?;
    shell.text(&["config", "put", "app/color", "blue", "--managed-by", "git"])?;
    ensure!(shell.json(&["config", "get", "app/color"])?["managed_by"] == "git");
    let screen = shell.screen(&["config", "list"])?;
    ensure!(screen.lines().any(|line| line.starts_with("app/color") && line.ends_with("git")), "{screen}");
    put(&shell, "app/color", "red")?;
    ensure!(shell.json(&["config", "get", "app/color"])?.get("managed_by").is_none());
    Ok(())
}

#[tokio::test]
async fn a_key_of_a_session_goes_with_it() -> Result<()> {
    let (cluster, shell) = node().await?;
    let client = holdfast_api::client::Client::new(cluster.endpoints())?;
    let request = holdfast_api::sessions::SessionRequest { ttl_ms: Some(600_000), ..Default::default() };
    client.put_session("alice", &request).await?;
    shell.text(&["config", "put", "up/alice", "1", "--session", "alice"])?;
    ensure!(shell.json(&["config", "get", "up/alice"])?["session"] == "alice");
    let screen = shell.screen(&["config", "list"])?;
    ensure!(screen.contains("session alice"), "{screen}");
    shell.text(&["session", "end", "alice"])?;
    shell.refusal(NOT_FOUND, &["config", "get", "up/alice"])?;
    shell.refusal(NOT_FOUND, &["config", "put", "up/alice", "1", "--session", "alice"])?;
    Ok(())
}

#[tokio::test]
async fn a_wrong_command_line_writes_nothing() -> Result<()> {
    let (_cluster, shell) = node().await?;
    for (args, explanation) in [
        (&["config", "put", "a"] as &[&str], "<VALUE"),
        (&["config", "put", "a", "b", "-f", "c"], "cannot be used with"),
        (&["config", "put", "a", "b", "--create", "--if-match", "1"], "cannot be used with"),
        (&["config", "put", "a", "b", "--guard", "jobs:1"], "lock=<name>"),
        (&["config", "put", "a", "-f", "/no/such/file"], "/no/such/file"),
        (&["config", "put", "a//b", "c"], "a//b"),
        (&["config", "watch", "--exec"], "--exec"),
        (&["config", "watch", "--", "true"], "--exec"),
        (&["config", "watch", "--initial", "--from", "1"], "cannot be used with"),
    ] {
        let complaint = shell.refusal(USAGE, args)?;
        ensure!(complaint.contains(explanation), "{args:?}: {complaint}");
    }
    let large = vec![b'x'; (1 << 20) + 1];
    let output = with_input(&shell, &["config", "put", "a", "-"], &large)?;
    ensure!(output.status.code() == Some(USAGE), "{output:?}");
    ensure!(keys(&shell.json(&["config", "list"])?).is_empty());
    Ok(())
}
