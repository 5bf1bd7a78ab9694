//! `holdfast cluster` against four real nodes, each command as a table and as JSON.

use anyhow::{Context, Result, ensure};
use holdfast_tests::harness::{Cluster, NodeOptions, Shell};
use serde_json::Value;

/// The documented exit codes that these commands end with.
const USAGE: i32 = 2;
const NOT_FOUND: i32 = 3;
const CONFLICT: i32 = 4;
const UNAVAILABLE: i32 = 5;

/// The `cluster` commands of one user.
struct ClusterShell(Shell);

impl ClusterShell {
    fn table(&self, args: &[&str]) -> Result<String> {
        self.0.text(&of_cluster(args))
    }

    fn json(&self, args: &[&str]) -> Result<Value> {
        self.0.json(&of_cluster(args))
    }

    fn refusal(&self, code: i32, args: &[&str]) -> Result<String> {
        self.0.refusal(code, &of_cluster(args))
    }
}

fn of_cluster<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [&["cluster"], args].concat()
}

/// The columns of a member's row.
fn row<'a>(table: &'a str, name: &str) -> Result<Vec<&'a str>> {
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.find(|columns| columns.len() == 6 && columns[1] == name)
        .with_context(|| format!("no row of {name} in\n{table}"))
}

fn role(view: &Value, id: &str) -> Value {
    let members = view["members"].as_array().cloned().unwrap_or_default();
    members.into_iter().find(|member| member["id"] == id).map_or(Value::Null, |member| member["role"].clone())
}

#[tokio::test]
async fn the_commands_form_a_cluster_show_it_and_change_it() -> Result<()> {
    let cluster = Cluster::launch(4, &NodeOptions::default()).await?;
    match form_and_change(&cluster).await {
        Ok(()) => Ok(()),
        Err(error) => Err(cluster.explain(error)),
    }
}

async fn form_and_change(cluster: &Cluster) -> Result<()> {
    let endpoints = cluster.endpoints();
    let mut ids = Vec::new();
    for index in 0..4 {
        ids.push(cluster.status(index).await?.this.id);
    }
    let [n0, n1, n2, n3] = &ids[..] else { anyhow::bail!("four nodes") };
    let shell = ClusterShell(Shell::at(&endpoints[..1])?);

    // Before there is a cluster.
    let waiting = shell.table(&["status"])?;
    ensure!(waiting.contains("phase     waiting") && waiting.contains("cluster bootstrap"), "{waiting}");
    ensure!(shell.json(&["status"])?["phase"] == "waiting");
    let complaint = shell.refusal(UNAVAILABLE, &["add", &endpoints[1]])?;
    ensure!(complaint.contains("belongs to no cluster") && complaint.contains(&endpoints[0]), "{complaint}");

    // One node begins it; the same again is a success, another one is refused.
    let begun = shell.table(&["bootstrap", "--cluster-id", "tour"])?;
    ensure!(begun.contains("cluster tour begins with n0") && begun.contains(n0.as_str()), "{begun}");
    let again = shell.json(&["bootstrap", "--cluster-id", "tour"])?;
    ensure!(again["cluster_id"] == "tour" && again["node_id"] == n0.as_str(), "{again}");
    let complaint = shell.refusal(CONFLICT, &["bootstrap", "--cluster-id", "other"])?;
    ensure!(complaint.contains("already-bootstrapped") && complaint.contains("cluster add"), "{complaint}");

    // One joins in two steps, one in one, its address without a scheme.
    let added = shell.json(&["add", &endpoints[1]])?;
    ensure!(role(&added, n1) == "learner", "{added}");
    let added = shell.table(&["add", &endpoints[1]])?;
    ensure!(added.contains("is a learner") && added.contains("cluster promote n1"), "{added}");
    promote_once_caught_up(&shell, n1)?;
    let bare = endpoints[2].trim_start_matches("http://");
    let output = shell.0.run(&["cluster", "add", "--wait", bare])?;
    let (text, progress) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    ensure!(output.status.success() && text == format!("n2 ({n2}) votes\n"), "{text}{progress}");
    ensure!(progress.contains("n2: "), "the progress is told: {progress}");
    // On a terminal the same words change in one line, which is gone at the end.
    let screen = shell.0.screen(&["cluster", "add", "--wait", &endpoints[3]])?;
    ensure!(screen.contains("n3: ") && screen.ends_with(&format!("n3 ({n3}) votes\n")), "{screen:?}");
    let again = shell.json(&["add", "--wait", bare])?;
    ensure!(role(&again, n2) == "voter", "{again}");

    show_and_hand_over(&shell, &endpoints, n1, n2)?;
    remove_and_refuse(&shell, &endpoints, n1, n2)
}

/// A learner may need a moment: the refusal says so, and that is all that may be refused.
fn promote_once_caught_up(shell: &ClusterShell, learner: &str) -> Result<()> {
    for _ in 0..100 {
        let output = shell.0.run(&["cluster", "promote", "n1"])?;
        let (text, complaint) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
        if output.status.success() {
            ensure!(text.contains(&format!("n1 ({learner}) votes")), "{text}");
            // By its id, as JSON, and without an effect.
            ensure!(role(&shell.json(&["promote", learner])?, learner) == "voter");
            return Ok(());
        }
        ensure!(output.status.code() == Some(CONFLICT), "{}: {complaint}", output.status);
        ensure!(complaint.contains("not-caught-up") || complaint.contains("change-in-flight"), "{complaint}");
    }
    anyhow::bail!("n1 did not catch up")
}

fn show_and_hand_over(shell: &ClusterShell, endpoints: &[String], n1: &str, n2: &str) -> Result<()> {
    // A follower answers with what the leader knows; a dead endpoint is passed over.
    let list = format!("127.0.0.1:1,{}", endpoints[1]);
    let table = shell.table(&["status", "--endpoint", &list])?;
    ensure!(table.contains("cluster   tour") && table.contains("leader    n0 ("), "{table}");
    ensure!(row(&table, "n0")?[2..4] == ["leader", "ok"], "{table}");
    let columns = row(&table, "n2")?;
    ensure!(columns[0] == n2 && columns[2..4] == ["voter", "ok"], "{table}");
    ensure!(columns[5] == endpoints[2].trim_start_matches("http://"), "{table}");
    let view = shell.json(&["status", "--endpoint", &list])?;
    ensure!(view["node_id"] == n1 && view["members"][0]["health"] == "ok", "{view}");

    let handed = shell.table(&["transfer", "--to", "n1"])?;
    ensure!(handed.contains(&format!("n1 ({n1}) leads in term ")), "{handed}");
    let handed = shell.json(&["transfer", "--to", n2])?;
    ensure!(handed["leader"] == n2, "{handed}");
    let handed = shell.json(&["transfer"])?;
    ensure!(handed["leader"] != n2, "{handed}");
    shell.table(&["transfer", "--to", "n0"])?;
    Ok(())
}

fn remove_and_refuse(shell: &ClusterShell, endpoints: &[String], n1: &str, n2: &str) -> Result<()> {
    let complaint = shell.refusal(NOT_FOUND, &["remove", "n9"])?;
    ensure!(complaint.contains("n9") && complaint.contains(&format!("n2 ({n2})")), "{complaint}");
    let removed = shell.table(&["remove", "n2"])?;
    ensure!(removed.contains(&format!("n2 ({n2}) is removed")), "{removed}");
    let complaint = shell.refusal(CONFLICT, &["add", "--wait", &endpoints[2]])?;
    ensure!(complaint.contains("removed") && complaint.contains("empty data directory"), "{complaint}");
    let removed = shell.json(&["remove", n1])?;
    ensure!(
        role(&removed, n1) == Value::Null && removed["members"].as_array().map(Vec::len) == Some(2),
        "{removed}"
    );
    shell.table(&["remove", "n3"])?;
    let complaint = shell.refusal(CONFLICT, &["remove", "n0"])?;
    ensure!(complaint.contains("last-voter") && complaint.contains("next:"), "{complaint}");

    let complaint = shell.refusal(UNAVAILABLE, &["status", "--endpoint", "127.0.0.1:1"])?;
    ensure!(complaint.contains("127.0.0.1:1") && complaint.contains("HOLDFAST_ENDPOINT"), "{complaint}");
    let complaint = shell.refusal(USAGE, &["status", "--endpoint", "ftp://127.0.0.1"])?;
    ensure!(complaint.contains("ftp://127.0.0.1"), "{complaint}");
    let complaint = shell.refusal(USAGE, &["bootstrap", "--endpoint", "127.0.0.1:1,127.0.0.1:2"])?;
    ensure!(complaint.contains("one --endpoint"), "{complaint}");
    Ok(())
}
