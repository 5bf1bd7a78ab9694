//! How a client command ends that gets no for an answer, or none: against a service that answers what the test says.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread::JoinHandle;

use anyhow::{Context, Result, ensure};
use holdfast_api::claims::ClaimMode;
use holdfast_api::locks::HolderView;
use holdfast_api::{ErrorCode, Problem};
use holdfast_tests::harness::Shell;

/// Answers one request with a problem and ends.
struct Refuser {
    address: SocketAddr,
    answering: JoinHandle<std::io::Result<()>>,
}

impl Refuser {
    fn start(problem: &Problem) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let body = serde_json::to_string(problem)?;
        let answer = format!(
            "HTTP/1.1 {} X\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            problem.status(),
            body.len()
        );
        let answering = std::thread::spawn(move || {
            let (stream, _) = listener.accept()?;
            let mut lines = BufReader::new(&stream).lines();
            while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
            (&stream).write_all(answer.as_bytes())
        });
        Ok(Self { address, answering })
    }

    fn finish(self) -> Result<()> {
        Ok(self.answering.join().ok().context("the service panicked")??)
    }
}

/// What a command says that is answered with this problem, and ends with this code.
fn refused(problem: &Problem, code: i32) -> Result<String> {
    let refuser = Refuser::start(problem)?;
    let shell = Shell::at(&[refuser.address.to_string()])?;
    let complaint = shell.refusal(code, &["lock", "get", "nightly"])?;
    refuser.finish()?;
    ensure!(
        complaint.starts_with("error: cannot look at lock nightly of namespace default: "),
        "{complaint}"
    );
    ensure!(complaint.contains(problem.title()) && complaint.contains(&problem.detail), "{complaint}");
    Ok(complaint)
}

#[test]
fn each_kind_of_refusal_has_its_exit_code() -> Result<()> {
    for (code, exit_code) in [
        (ErrorCode::RevisionCompacted, 1),
        (ErrorCode::InvalidName, 2),
        (ErrorCode::NamespaceNotFound, 3),
        (ErrorCode::TokenMismatch, 4),
        (ErrorCode::DiskReserve, 5),
        (ErrorCode::Forbidden, 6),
        (ErrorCode::Unauthenticated, 6),
        (ErrorCode::LockHeld, 7),
    ] {
        refused(&Problem::new(code, "so it is"), exit_code)?;
    }
    Ok(())
}

#[test]
fn a_held_lock_is_refused_with_the_name_of_its_holder() -> Result<()> {
    let holder = HolderView {
        mode: ClaimMode::Exclusive,
        permits: None,
        claim: "c".to_owned(),
        session: "s".to_owned(),
        session_name: Some("payments".to_owned()),
        label: Some("job\u{7} 7".to_owned()),
        fencing_token: 42,
        held_ms: 125_000,
    };
    let problem = Problem::new(ErrorCode::LockHeld, "somebody holds it").with_holders(vec![holder]);
    let complaint = refused(&problem, 7)?;
    ensure!(complaint.contains(r"held by job\u{7} 7, for 2m5s, token 42"), "{complaint}");
    Ok(())
}

#[test]
fn an_endpoint_that_nobody_listens_on_is_named_with_what_to_do() -> Result<()> {
    let shell = Shell::anywhere()?.with_env("HOLDFAST_ENDPOINT", "127.0.0.1:1");
    let complaint = shell.refusal(5, &["namespace", "list"])?;
    for part in ["127.0.0.1:1", "refused", "HOLDFAST_ENDPOINT"] {
        ensure!(complaint.contains(part), "{part}: {complaint}");
    }
    Ok(())
}
