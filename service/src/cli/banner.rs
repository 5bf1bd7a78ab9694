//! What `dev` prints once its cluster serves: where it is, where its data is, and requests to paste into a shell.
//!
//! Every request is one line that begins with `curl`, stands for itself in any shell, and works again when the whole list
//! is sent again. So no line may rest on an id that an earlier run has used up or on a variable of another line.

use std::fmt::Write;
use std::path::Path;

use holdfast_api::path;

/// How long the tour's lock is held without a release: long enough to read on, short enough to begin again.
const TTL_SECONDS: u64 = 30;
const NAMESPACE: &str = "default";
const LOCK: &str = "nightly";
const KEY: &str = "app/greeting";
/// Every request prints its answer's body and status.
const CURL: &str = r"curl -sSw ' %{http_code}\n'";

/// One node as the banner shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Its name.
    pub(super) name: String,
    /// The base URL of its API.
    pub(super) api: String,
    /// The base URL of its health checks and metrics.
    pub(super) ops: String,
    /// Whether it leads.
    pub(super) leads: bool,
}

/// Where the data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data<'a> {
    /// In a directory that stays.
    Kept(&'a Path),
    /// In one that goes when the command ends.
    Temporary(&'a Path),
}

/// The whole text. There is at least one node.
pub(super) fn banner(cluster_id: &str, nodes: &[Place], data: Data<'_>) -> String {
    let leader = nodes.iter().find(|node| node.leads).map_or("nobody", |node| node.name.as_str());
    let version = env!("CARGO_PKG_VERSION");
    let count =
        if nodes.len() == 1 { "one node serves".to_owned() } else { format!("{} nodes serve", nodes.len()) };
    let mut text = format!("Holdfast {version}: {count}, {leader} leads.\n\n");
    for Place { name, api, ops, leads } in nodes {
        let mark = if *leads { "  leader" } else { "" };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name}  {api}   health and metrics: {ops}{mark}");
    }
    let kept = match data {
        Data::Kept(path) => format!("{} (stays; the next start there goes on with it)", path.display()),
        Data::Temporary(path) => {
            format!("{} (temporary: removed at the end; --data-dir keeps it)", path.display())
        }
    };
    let _ = write!(
        text,
        "\n  cluster  {cluster_id}\n  data     {kept}\n\n\
         Trusted network only: there is no access control, whoever reaches a port may do everything.\n\n\
         Try it from another terminal. Each line prints the answer and its status.\n\n"
    );
    for Request { why, line } in requests(nodes) {
        let _ = writeln!(text, "# {why}\n{line}");
    }
    text.push_str("\nCtrl-C stops all nodes.");
    text
}

struct Request {
    why: String,
    line: String,
}

/// The tour, spread over the nodes.
fn requests(nodes: &[Place]) -> Vec<Request> {
    let at = |index: usize| nodes[index % nodes.len()].api.as_str();
    let elsewhere = if nodes.len() == 1 { "" } else { ", through another node" };
    let (lock, key) = (path::lock(NAMESPACE, LOCK), path::config_key(NAMESPACE, KEY));
    let claim = format!(r#"--json '{{"ttl_ms":{}}}'"#, TTL_SECONDS * 1_000);
    let request = |why: String, line: String| Request { why, line: format!("{CURL} {line}") };
    let holder = format!(r#"$(curl -sS {}{lock} | sed -n 's/.*"claim":"\([^"]*\).*/\1/p')"#, at(0));
    vec![
        request(
            format!("Take a lock for {TTL_SECONDS} seconds. The answer has its fencing token."),
            format!("{claim} {}{lock}/claims", at(0)),
        ),
        request(
            format!("Ask for the same lock{elsewhere}: 409, and who holds it."),
            format!("{claim} {}{lock}/claims", at(1)),
        ),
        request(
            "Write a value.".to_owned(),
            format!(r#"-X PUT --json '{{"hello":"world"}}' {}{key}"#, at(0)),
        ),
        request(format!("Read it{elsewhere}."), format!("{}{key}", at(2))),
        request(
            "Release the lock: end the claim that the lock names as its holder.".to_owned(),
            format!("-X DELETE {}{lock}/claims/{holder}", at(2)),
        ),
        request("Look at the lock: nobody holds it.".to_owned(), format!("{}{lock}", at(1))),
    ]
}

#[cfg(test)]
mod tests {
    use super::{Data, Place, banner};
    use std::path::Path;

    fn places(count: u16) -> Vec<Place> {
        let place = |index: u16| Place {
            name: format!("n{}", index + 1),
            api: format!("http://127.0.0.1:{}", 7700 + 10 * index),
            ops: format!("http://127.0.0.1:{}", 7703 + 10 * index),
            leads: index == 0,
        };
        (0..count).map(place).collect()
    }

    #[test]
    fn the_banner_says_who_leads_and_where_the_data_is() {
        let kept = banner("c1", &places(3), Data::Kept(Path::new("/d")));
        assert!(kept.starts_with("Holdfast ") && kept.contains("3 nodes serve, n1 leads"), "{kept}");
        assert!(kept.contains("cluster  c1\n  data     /d (stays"), "{kept}");
        let temporary = banner("c1", &places(1), Data::Temporary(Path::new("/t")));
        assert!(temporary.contains("one node serves") && temporary.contains("/t (temporary"), "{temporary}");
    }

    #[test]
    fn the_tour_visits_every_node() {
        let text = banner("c1", &places(3), Data::Kept(Path::new("/d")));
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("curl ")).collect();
        assert_eq!(lines.len(), 6);
        for port in ["7700", "7710", "7720"] {
            assert!(lines.iter().any(|line| line.contains(port)), "{port}: {text}");
        }
    }
}
