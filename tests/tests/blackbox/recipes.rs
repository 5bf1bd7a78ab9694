//! The recipes of the guarantees page, pasted: each lets the newest token write and refuses an older one.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use holdfast_tests::harness::{Cluster, Scratch};
use serde_json::{Value, json};

/// Runs a list of `[statement, token]` on a database in memory, each by itself, and prints for each the rows that it
/// changed, or what the database said against it.
const SQLITE: &str = r#"
import json, sqlite3, sys
base = sqlite3.connect(":memory:", isolation_level=None)
said = []
for statement, token in json.load(sys.stdin):
    try:
        said.append(base.execute(statement, {"token": token} if token is not None else {}).rowcount)
    except sqlite3.Error as error:
        said.append(str(error))
json.dump([said, base.execute("SELECT total, fence FROM report").fetchall()], sys.stdout)
"#;

fn page() -> Result<String> {
    // Asked for when it runs: a binary in a shared target directory may be another checkout's.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or(env!("CARGO_MANIFEST_DIR").into());
    let path: PathBuf = Path::new(&package).join("../docs/guarantees.md");
    std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

/// The code block of the page that begins with these words.
fn block(info: &str) -> Result<String> {
    let page = page()?;
    let (_, rest) = page.split_once(&format!("\n```{info}\n")).with_context(|| format!("no block {info}"))?;
    let (code, _) = rest.split_once("\n```\n").with_context(|| format!("block {info} has no end"))?;
    Ok(format!("{code}\n"))
}

/// Runs a program with this input.
fn run(command: &mut Command, input: &str) -> Result<Output> {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().with_context(|| format!("run {command:?}; is it installed?"))?;
    let mut stdin = child.stdin.take().context("its input")?;
    // A program that ends early closes its input, and says why on its other outputs.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    Ok(child.wait_with_output()?)
}

/// What SQLite says to each statement, and the table in the end.
fn sqlite(statements: &[(&str, Option<u64>)]) -> Result<(Vec<Value>, Value)> {
    let input = serde_json::to_string(statements)?;
    let output = run(Command::new("python3").args(["-c", SQLITE]), &input)?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{complaint}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[test]
fn a_row_takes_the_newest_token_and_no_older_one() -> Result<()> {
    let (setup, write, upsert) = (block("sql row-setup")?, block("sql row-write")?, block("sql row-upsert")?);
    let (said, rows) = sqlite(&[
        (&setup, None),
        (&write, Some(40)),
        (&upsert, Some(40)),
        (&write, Some(42)),
        (&write, Some(42)),
        (&write, Some(41)),
        (&upsert, Some(41)),
    ])?;
    assert_eq!(
        said[1..],
        [0, 1, 1, 1, 0, 0],
        "no row yet, then the newest token each time, then an older one"
    );
    assert_eq!(rows, json!([[120, 42]]));
    let (said, rows) = sqlite(&[(&setup, None), (&upsert, Some(42)), (&upsert, Some(43))])?;
    assert_eq!((&said[1..], rows), (&[json!(1), json!(1)][..], json!([[100, 43]])));
    Ok(())
}

#[test]
fn a_mark_stops_the_transaction_of_an_older_token() -> Result<()> {
    let (setup, raise) = (block("sql mark-setup-sqlite")?, block("sql mark-raise")?);
    // A driver's `execute` takes one statement at a time.
    let (table, trigger) = setup.split_once(";\n").context("a table and a trigger")?;
    let report = block("sql row-setup")?;
    let work = |total: u64| format!("INSERT INTO report (id, total, fence) VALUES ({total}, {total}, 0)");
    let (first, second) = (work(1), work(2));
    let (said, rows) = sqlite(&[
        (&report, None),
        (table, None),
        (trigger, None),
        ("BEGIN IMMEDIATE", None),
        (&raise, Some(42)),
        (&first, None),
        ("COMMIT", None),
        ("BEGIN IMMEDIATE", None),
        (&raise, Some(41)),
        ("ROLLBACK", None),
        ("BEGIN IMMEDIATE", None),
        (&raise, Some(42)),
        (&second, None),
        ("COMMIT", None),
    ])?;
    assert_eq!(said[8], "the fencing token is stale");
    let others: Vec<&Value> =
        said.iter().enumerate().filter(|(at, _)| *at != 8).map(|(_, said)| said).collect();
    assert!(others.iter().all(|said| said.is_number()), "{others:?}");
    assert_eq!(rows, json!([[1, 0], [2, 0]]));
    Ok(())
}

#[test]
fn a_file_takes_the_newest_token_and_no_older_one() -> Result<()> {
    let scratch = Scratch::new()?;
    let file = scratch.path().join("report");
    let code = block("sh file-write")?;
    let write = |token: &str, content: &str| -> Result<(Option<i32>, String)> {
        let script = format!("{code}fenced_write \"$1\" \"$2\"");
        let mut shell = Command::new("sh");
        let output = run(shell.args(["-c", &script, "sh", token]).arg(&file), content)?;
        Ok((output.status.code(), std::fs::read_to_string(&file).unwrap_or_default()))
    };
    assert_eq!(write("40", "one")?, (Some(0), "one".to_owned()));
    assert_eq!(write("42", "two")?, (Some(0), "two".to_owned()));
    assert_eq!(write("41", "late")?, (Some(1), "two".to_owned()), "an older token");
    assert_eq!(write("42", "three")?, (Some(0), "three".to_owned()), "the same holder again");
    assert_eq!(write("", "none")?, (Some(2), "three".to_owned()), "no token at all");
    std::fs::write(file.with_extension("fence"), "damaged")?;
    assert_eq!(write("99", "four")?, (Some(2), "three".to_owned()), "a mark that nobody can read");
    let mut left = std::fs::read_dir(scratch.path())?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    left.sort();
    assert_eq!(left, ["report", "report.fence", "report.lock"]);
    Ok(())
}

#[test]
fn every_shell_recipe_is_one_that_a_shell_reads() -> Result<()> {
    for info in ["sh s3-put", "sh file-write", "sh guard"] {
        let output = run(Command::new("sh").arg("-n"), &block(info)?)?;
        assert!(output.status.success(), "{info}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

#[tokio::test]
async fn a_guarded_write_takes_the_holders_token_and_none_once_it_released() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let node = cluster.nodes()[0].api_url();
    let code = block("sh guard")?.replace("http://127.0.0.1:7700", node.trim_end_matches('/'));
    assert!(code.contains(node.trim_end_matches('/')), "the recipe asks another node");
    let write = code.lines().last().context("the write")?;
    let list = "curl -sS $api/locks/nightly | sed -n 's/.*\"claim\":\"\\([^\"]*\\).*/\\1/p'";
    let release = format!("curl -sS -X DELETE $api/locks/nightly/claims/$({list})");
    let script = format!("{code}{write}\n{release}\n{write}\n");
    let output =
        tokio::task::spawn_blocking(move || run(Command::new("sh").args(["-ec", &script]), "")).await??;
    let said = String::from_utf8(output.stdout)?;
    let lines: Vec<&str> = said.lines().collect();
    let [created, written, refused] = lines[..] else { anyhow::bail!("{said}") };
    assert_eq!((created, written), ("201", "200"));
    assert!(refused.contains("\"code\":\"stale-token\"") && refused.ends_with("412"), "{refused}");
    Ok(())
}
