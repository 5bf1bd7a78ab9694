//! edit.

use anyhow::{Context, Result, ensure};
use holdfast_tests::harness::{Scratch, Shell};

use super::{CONFLICT, REFUSED, node, program, put, text};

/// A user whose editor is this program of the shell, with `$1` for the file.
fn editing(shell: &Shell, scratch: &Scratch, editor: &str) -> Result<Shell> {
    let path = scratch.path().join("editor");
    program(&path, editor)?;
    let drafts = scratch.path().join("drafts");
    std::fs::create_dir_all(&drafts)?;
    let binary = shell.command(&[]).get_program().to_str().context("a path in UTF-8")?.to_owned();
    Ok(shell
        .clone()
        .with_env("VISUAL", text(&path)?)
        .with_env("TMPDIR", text(&drafts)?)
        .with_env("HOLDFAST", &binary))
}

/// The files that are left of edits.
fn drafts(scratch: &Scratch) -> Result<Vec<std::path::PathBuf>> {
    let entries = std::fs::read_dir(scratch.path().join("drafts"))?;
    Ok(entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?)
}

#[tokio::test]
async fn what_is_saved_in_the_editor_is_written() -> Result<()> {
    let (_cluster, shell) = node().await?;
    let scratch = Scratch::new()?;
    shell.text(&["config", "put", "app/page", "<p>", "--content-type", "text/html"])?;
    let screen =
        editing(&shell, &scratch, "printf '</p>' >> \"$1\"")?.screen(&["config", "edit", "app/page"])?;
    ensure!(screen.starts_with("app/page is written at revision "), "{screen}");
    let item = shell.json(&["config", "get", "app/page"])?;
    ensure!(item["value"] == "<p></p>" && item["content_type"] == "text/html", "{item}");

    // An editor that puts another file in the place of the first.
    let editor = "case \"$1\" in *.json) echo '{}' > \"$1.new\"; mv \"$1.new\" \"$1\";; esac";
    let written = editing(&shell, &scratch, editor)?.json(&["config", "edit", "app/new.json"])?;
    ensure!(written["created"] == true, "{written}");
    ensure!(shell.text(&["config", "get", "app/new.json"])? == "{}\n");
    ensure!(drafts(&scratch)?.is_empty(), "{:?}", drafts(&scratch)?);
    Ok(())
}

#[tokio::test]
async fn nothing_is_sent_when_nothing_is_changed_or_the_editor_fails() -> Result<()> {
    let (_cluster, shell) = node().await?;
    let scratch = Scratch::new()?;
    let revision = put(&shell, "app/color", "blue")?;
    for key in ["app/color", "app/none"] {
        let screen = editing(&shell, &scratch, "true")?.screen(&["config", "edit", key])?;
        ensure!(screen == format!("{key} is unchanged, nothing is sent\n"), "{screen}");
    }
    let failing = editing(&shell, &scratch, "echo red > \"$1\"; exit 3")?;
    let complaint = failing.refusal(REFUSED, &["config", "edit", "app/color"])?;
    ensure!(complaint.contains("nothing is changed"), "{complaint}");
    let list = shell.json(&["config", "list"])?;
    ensure!(list["items"][0]["mod_revision"] == revision && list["items"][1].is_null(), "{list}");
    ensure!(drafts(&scratch)?.is_empty(), "{:?}", drafts(&scratch)?);
    Ok(())
}

#[tokio::test]
async fn a_text_that_comes_too_late_is_kept() -> Result<()> {
    let (_cluster, shell) = node().await?;
    let scratch = Scratch::new()?;
    put(&shell, "app/color", "blue")?;
    let editor = "\"$HOLDFAST\" config put app/color red >&2; printf green > \"$1\"";
    let late = editing(&shell, &scratch, editor)?;
    let complaint = late.refusal(CONFLICT, &["config", "edit", "app/color"])?;
    ensure!(shell.text(&["config", "get", "app/color"])? == "red");
    let kept = drafts(&scratch)?;
    ensure!(kept.len() == 1 && complaint.contains(text(&kept[0])?), "{kept:?}: {complaint}");
    ensure!(std::fs::read_to_string(&kept[0])? == "green");
    // What the complaint says helps.
    shell.text(&["config", "put", "app/color", "-f", text(&kept[0])?])?;
    ensure!(shell.text(&["config", "get", "app/color"])? == "green");
    Ok(())
}
