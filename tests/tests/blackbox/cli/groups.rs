//! The commands that look at locks, sessions and namespaces and change them, against one real node.

use anyhow::{Context, Result, ensure};
use holdfast_api::claims::{ClaimRequest, ClaimView, HeldClaim};
use holdfast_api::client::Client;
use holdfast_api::sessions::SessionRequest;
use holdfast_tests::harness::{Cluster, Shell};
use serde_json::Value;

/// The documented exit codes that these commands end with.
const REFUSED: i32 = 1;
const NOT_FOUND: i32 = 3;
const CONFLICT: i32 = 4;

/// Long enough that nothing expires during a test on a loaded machine.
const TTL_MS: u64 = 600_000;

/// Makes a session with this id.
async fn session(client: &Client, id: &str, name: Option<&str>) -> Result<()> {
    let name = name.map(ToOwned::to_owned);
    let labels = [("pod".to_owned(), "web-1".to_owned())].into();
    let request = SessionRequest { ttl_ms: Some(TTL_MS), name, labels, ..SessionRequest::default() };
    client.put_session(id, &request).await?;
    Ok(())
}

/// Makes a claim that stays in the queue when the lock is held.
async fn claim(client: &Client, lock: &str, session: &str, label: Option<&str>) -> Result<ClaimView> {
    let request = ClaimRequest {
        session: Some(session.to_owned()),
        keep_waiting: true,
        wait_ms: 1,
        label: label.map(ToOwned::to_owned),
        ..ClaimRequest::default()
    };
    Ok(client.put_claim("default", lock, &format!("{session}.1"), &request).await?.value)
}

/// The cells of the row that begins with this one.
fn row<'a>(table: &'a str, first: &str) -> Result<Vec<&'a str>> {
    let rows = table.lines().map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()));
    let mut rows = rows.map(Iterator::collect::<Vec<_>>);
    rows.find(|cells| cells.first() == Some(&first)).with_context(|| format!("no row of {first} in\n{table}"))
}

/// The same answer in both forms for programs.
fn data(shell: &Shell, args: &[&str]) -> Result<Value> {
    let (json, yaml) = (shell.json(args)?, shell.yaml(args)?);
    // Ages grow from one answer to the next.
    let ageless = |value: &Value| {
        let mut value = value.clone();
        strip_ages(&mut value);
        value
    };
    ensure!(ageless(&json) == ageless(&yaml), "{args:?}: {json} as JSON, {yaml} as YAML");
    Ok(json)
}

fn strip_ages(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|name, _| !["held_ms", "waiting_ms", "remaining_ms"].contains(&name.as_str()));
            members.values_mut().for_each(strip_ages);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_ages),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test]
async fn the_lock_commands_show_holders_and_waiters_and_take_a_lock_away() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let client = Client::new(cluster.endpoints())?;
    session(&client, "alice", Some("payments")).await?;
    session(&client, "bob", None).await?;
    let held = claim(&client, "jobs/nightly", "alice", Some("job 7")).await?;
    let ClaimView::Held(HeldClaim { fencing_token: token, .. }) = held else {
        anyhow::bail!("a free lock is granted: {held:?}")
    };
    claim(&client, "jobs/nightly", "bob", None).await?;
    claim(&client, "reports", "bob", None).await?;
    let shell = Shell::at(&cluster.endpoints())?;
    let token_text = token.to_string();

    let screen = shell.screen(&["lock", "list"])?;
    ensure!(screen.starts_with("NAME "), "{screen}");
    let cells = row(&screen, "jobs/nightly")?;
    ensure!(cells[1..4] == ["exclusive", "job 7", &token_text] && cells[5] == "1", "{screen}");
    // Without a label the holder is known by its session.
    ensure!(row(&screen, "reports")?[2] == "bob", "{screen}");
    let list = data(&shell, &["lock", "list", "jobs/"])?;
    ensure!(list["items"].as_array().map(Vec::len) == Some(1), "{list}");
    ensure!(list["items"][0]["holders"][0]["fencing_token"] == token, "{list}");

    let screen = shell.screen(&["lock", "get", "jobs/nightly"])?;
    ensure!(screen.contains("state       held, exclusive"), "{screen}");
    ensure!(row(&screen, "job 7")?[1..3] == ["exclusive", &token_text], "{screen}");
    let waiter = row(&screen, "1")?;
    ensure!(waiter[1..3] == ["bob", "exclusive"] && waiter[4..] == ["bob", "bob.1"], "{screen}");
    let view = data(&shell, &["lock", "get", "jobs/nightly"])?;
    ensure!(view["queue"][0]["claim"] == "bob.1" && view["last_token"] == token, "{view}");

    take_away(&shell, &token_text)?;

    let screen = shell.screen(&["lock", "get", "never-used"])?;
    ensure!(screen.contains("state       free\n") && screen.contains("last token  0"), "{screen}");
    let complaint = shell.refusal(NOT_FOUND, &["-n", "nowhere", "lock", "list"])?;
    ensure!(complaint.contains("nowhere") && complaint.contains("namespace create"), "{complaint}");
    Ok(())
}

#[tokio::test]
async fn a_lock_is_shared_and_counted_from_the_command_line() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let client = Client::new(cluster.endpoints())?;
    let shell = Shell::at(&cluster.endpoints())?;
    let reader = client.lock("default", "reports").shared().acquire().await?;
    let worker = client.lock("default", "workers").permits(2, 3).acquire().await?;

    let ran = shell.screen(&["lock", "run", "reports", "--shared", "--", "echo", "beside"])?;
    ensure!(ran.contains("beside"), "{ran}");
    let complaint = shell.refusal(120, &["lock", "run", "reports", "--wait", "0", "--", "echo", "alone"])?;
    ensure!(!complaint.contains("alone\n"), "{complaint}");
    let ran = shell.screen(&["lock", "run", "workers", "--of", "3", "--", "echo", "the third"])?;
    ensure!(ran.contains("the third"), "{ran}");
    let two = ["lock", "run", "workers", "--permits", "2", "--of", "3", "--wait", "0", "--", "echo", "x"];
    shell.refusal(120, &two)?;
    shell.refusal(120, &["lock", "run", "workers", "--of", "4", "--wait", "0", "--", "echo", "x"])?;
    shell.refusal(2, &["lock", "run", "workers", "--permits", "2", "--", "echo", "x"])?;
    let screen = shell.screen(&["lock", "get", "workers"])?;
    ensure!(screen.contains("state       held, 2 of 3 permits"), "{screen}");

    reader.release().await?;
    worker.release().await?;
    Ok(())
}

/// Takes a lock from its holder, who has this token; the waiter gets it.
fn take_away(shell: &Shell, token: &str) -> Result<()> {
    let force =
        |token, reason| ["lock", "force-release", "jobs/nightly", "--token", token, "--reason", reason];
    let complaint = shell.refusal(CONFLICT, &force("1", "x"))?;
    ensure!(complaint.contains("token-mismatch") && complaint.contains("lock get"), "{complaint}");
    let screen = shell.screen(&force(token, "it's stuck"))?;
    ensure!(screen.contains("alice no longer holds jobs/nightly"), "{screen}");
    let granted = shell.json(&["lock", "get", "jobs/nightly"])?;
    ensure!(granted["holders"][0]["session"] == "bob", "{granted}");
    let token = granted["holders"][0]["fencing_token"].to_string();
    let released = shell.json(&force(&token, "again"))?;
    ensure!(released["session"] == "bob", "{released}");
    ensure!(released["fencing_token"] == granted["holders"][0]["fencing_token"], "{released}");
    Ok(())
}

#[tokio::test]
async fn the_session_commands_show_what_a_session_owns_and_end_it() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let client = Client::new(cluster.endpoints())?;
    session(&client, "alice", Some("payments")).await?;
    session(&client, "bob", None).await?;
    claim(&client, "nightly", "alice", None).await?;
    claim(&client, "nightly", "bob", None).await?;
    let shell = Shell::at(&cluster.endpoints())?;

    let screen = shell.screen(&["session", "list"])?;
    let cells = row(&screen, "alice")?;
    ensure!(cells[1..3] == ["payments", "10m0s"] && cells[4..] == ["1", "0"], "{screen}");
    ensure!(row(&screen, "bob")?[4..] == ["0", "1"], "{screen}");
    let list = data(&shell, &["session", "list", "ali"])?;
    ensure!(list["items"][0]["id"] == "alice" && list["items"][1] == Value::Null, "{list}");

    let screen = shell.screen(&["session", "get", "alice"])?;
    ensure!(screen.contains("name        payments") && screen.contains("ttl         10m0s, "), "{screen}");
    ensure!(screen.contains("pod=web-1"), "{screen}");
    ensure!(row(&screen, "default")?[1..4] == ["lock", "nightly", "held"], "{screen}");
    let view = data(&shell, &["session", "get", "bob"])?;
    ensure!(view["claims"][0]["state"] == "queued", "{view}");

    let screen = shell.screen(&["session", "end", "alice"])?;
    ensure!(screen.contains("session alice is ended"), "{screen}");
    ensure!(shell.json(&["lock", "get", "nightly"])?["holders"][0]["session"] == "bob");
    // The API answers with nothing, and so does the command.
    ensure!(shell.text(&["session", "end", "bob", "-o", "json"])?.is_empty());
    for gone in ["alice", "nobody"] {
        let complaint = shell.refusal(NOT_FOUND, &["session", "get", gone])?;
        ensure!(complaint.contains(gone) && complaint.contains("session list"), "{complaint}");
    }
    Ok(())
}

#[tokio::test]
async fn the_namespace_commands_create_show_and_delete_namespaces() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let client = Client::new(cluster.endpoints())?;
    let shell = Shell::at(&cluster.endpoints())?;

    let screen = shell.screen(&["namespace", "create", "team-a"])?;
    ensure!(screen == "namespace team-a is created\n", "{screen:?}");
    ensure!(shell.text(&["namespace", "create", "team-a"])? == "namespace team-a exists already\n");
    let created = data(&shell, &["namespace", "create", "team-b"])?;
    ensure!(created["name"] == "team-b", "{created}");

    let screen = shell.screen(&["namespace", "list"])?;
    for name in ["default", "team-a", "team-b"] {
        row(&screen, name)?;
    }
    let list = data(&shell, &["namespace", "list", "team-"])?;
    ensure!(list["items"].as_array().map(Vec::len) == Some(2), "{list}");
    let screen = shell.screen(&["namespace", "get", "team-b"])?;
    let shown: u64 = row(&screen, "team-b")?[1].parse()?;
    ensure!(created["create_revision"].as_u64() == Some(shown), "{screen}");
    ensure!(data(&shell, &["namespace", "get", "team-b"])? == created);

    // The namespace of a command comes from the flag, anywhere, or from the environment.
    session(&client, "alice", None).await?;
    let request = ClaimRequest { session: Some("alice".to_owned()), ..ClaimRequest::default() };
    client.put_claim("team-a", "nightly", "c1", &request).await?;
    for args in [["-n", "team-a", "lock", "list"], ["lock", "-n", "team-a", "list"]] {
        ensure!(shell.json(&args)?["items"][0]["name"] == "nightly", "{args:?}");
    }
    let at_home = shell.clone().with_env("HOLDFAST_NAMESPACE", "team-a");
    ensure!(at_home.json(&["lock", "list"])?["items"][0]["name"] == "nightly");
    ensure!(at_home.json(&["lock", "list", "-n", "team-b"])?["items"] == Value::Array(vec![]));

    let complaint = shell.refusal(CONFLICT, &["namespace", "delete", "team-a"])?;
    ensure!(complaint.contains("namespace-not-empty"), "{complaint}");
    let screen = shell.screen(&["namespace", "delete", "team-b"])?;
    ensure!(screen == "namespace team-b is deleted\n", "{screen:?}");
    shell.refusal(NOT_FOUND, &["namespace", "delete", "team-b"])?;
    shell.refusal(NOT_FOUND, &["namespace", "get", "team-b"])?;
    Ok(())
}

#[tokio::test]
async fn a_list_longer_than_a_page_is_printed_whole() -> Result<()> {
    const SESSIONS: usize = 1_203;
    let cluster = Cluster::start(1).await?;
    let client = Client::new(cluster.endpoints())?;
    let ids: Vec<String> = (0..SESSIONS).map(|number| format!("s{number:05}")).collect();
    for chunk in ids.chunks(64) {
        let mut made = tokio::task::JoinSet::new();
        for id in chunk {
            let (client, id) = (client.clone(), id.clone());
            made.spawn(async move { session(&client, &id, None).await });
        }
        while let Some(outcome) = made.join_next().await {
            outcome??;
        }
    }
    let list = Shell::at(&cluster.endpoints())?.json(&["session", "list"])?;
    let listed: Vec<&str> =
        list["items"].as_array().into_iter().flatten().filter_map(|item| item["id"].as_str()).collect();
    ensure!(listed == ids, "{} of {SESSIONS} sessions are listed", listed.len());
    ensure!(list.get("next_cursor").is_none(), "{}", list["next_cursor"]);
    Ok(())
}

#[test]
fn output_that_cannot_be_written_is_a_failure_and_a_reader_that_has_gone_is_not() -> Result<()> {
    let shell = Shell::anywhere()?;
    let full = std::fs::File::options().write(true).open("/dev/full")?;
    let output = shell.command(&["man"]).stdout(full).output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(REFUSED) && complaint.contains("cannot write the output"),
        "{complaint}"
    );

    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let output = shell.command(&["man"]).stdout(writer).output()?;
    ensure!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    Ok(())
}
