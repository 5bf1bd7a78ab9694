//! history, diff and rollback.

use anyhow::{Result, ensure};

use super::{NOT_FOUND, REFUSED, node, put};

#[tokio::test]
async fn a_history_shows_every_version_newest_first() -> Result<()> {
    let (_cluster, shell) = node().await?;
    put(&shell, "app/color", "blue")?;
    put(&shell, "app/color", "red")?;
    shell.text(&["config", "rm", "app/color"])?;
    let newest = put(&shell, "app/color", "green")?;
    let screen = shell.screen(&["config", "history", "app/color"])?;
    let shown: Vec<&str> = screen.lines().filter_map(|line| line.split_whitespace().last()).collect();
    ensure!(shown == ["VALUE", "green", "-", "red", "blue"], "{screen}");
    ensure!(screen.contains("deleted"), "{screen}");
    let history = shell.json(&["config", "history", "app/color"])?;
    let versions = history["versions"].as_array().map_or(0, Vec::len);
    ensure!(versions == 4 && history["versions"][1]["deleted"] == true, "{history}");
    let history = shell.json(&["config", "history", "app/color", "--limit", "1"])?;
    ensure!(history["versions"].as_array().map_or(0, Vec::len) == 1, "{history}");
    ensure!(history["versions"][0]["mod_revision"] == newest, "{history}");
    shell.refusal(NOT_FOUND, &["config", "history", "app/none"])?;
    Ok(())
}

#[tokio::test]
async fn a_difference_is_shown_and_is_the_exit_code() -> Result<()> {
    let (_cluster, shell) = node().await?;
    let old = put(&shell, "app/color", "a\nb\nc\n")?.to_string();
    let new = put(&shell, "app/color", "a\nB\nc\n")?.to_string();
    let colored = shell.terminal(&["config", "diff", "app/color", &old])?;
    ensure!(colored.code == Some(REFUSED) && colored.text.contains("\u{1b}[31m-b\u{1b}[0m"), "{colored:?}");
    let plain = shell.clone().with_env("NO_COLOR", "1").terminal(&["config", "diff", "app/color", &old])?;
    ensure!(plain.text.contains("\n-b\n+B\n") && !plain.text.contains('\u{1b}'), "{plain:?}");
    let output = shell.run(&["config", "diff", "app/color", &old, &new])?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.code() == Some(REFUSED) && text.contains("\n-b\n+B\n"), "{text}");
    let output = shell.run(&["config", "diff", "app/color", &old, &new, "-o", "json"])?;
    let diff: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    ensure!(output.status.code() == Some(REFUSED) && diff["equal"] == false, "{diff}");
    ensure!(shell.text(&["config", "diff", "app/color", &new])?.is_empty());
    ensure!(shell.json(&["config", "diff", "app/color", &new])?["equal"] == true);
    Ok(())
}

#[tokio::test]
async fn a_rollback_writes_an_earlier_value_again() -> Result<()> {
    let (_cluster, shell) = node().await?;
    let blue = put(&shell, "app/color", "blue")?.to_string();
    put(&shell, "app/color", "red")?;
    shell.text(&["config", "rm", "app/color"])?;
    let screen = shell.screen(&["config", "rollback", "app/color", "--to", &blue])?;
    ensure!(
        screen.starts_with(&format!("app/color has the value of revision {blue} again, at revision ")),
        "{screen}"
    );
    ensure!(shell.text(&["config", "get", "app/color"])? == "blue");
    let written = shell.json(&["config", "rollback", "app/color", "--to", &blue])?;
    ensure!(written["key"] == "app/color" && written["version"] == 2, "{written}");
    shell.refusal(NOT_FOUND, &["config", "rollback", "app/none", "--to", &blue])?;
    Ok(())
}
