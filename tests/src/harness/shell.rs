//! The command line of one user: `holdfast` run for its data, and run on a terminal.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::harness::binary::Binary;

/// The environment that decides about the output, left to the test.
const LEFT_OUT: [&str; 5] =
    ["HOLDFAST_ENDPOINT", "HOLDFAST_NAMESPACE", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"];

/// Runs `holdfast` as one user does.
#[derive(Clone, Debug)]
pub struct Shell {
    binary: Binary,
    environment: Vec<(String, String)>,
}

/// What a command showed on its terminal, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Screen {
    /// Everything, standard output and standard error in one; lines end with `\n`.
    pub text: String,
    /// The exit code.
    pub code: Option<i32>,
}

impl Shell {
    /// A user who has named these endpoints in the environment.
    pub fn at(endpoints: &[String]) -> Result<Self> {
        Ok(Self::anywhere()?.with_env("HOLDFAST_ENDPOINT", &endpoints.join(",")))
    }

    /// A user who has named no endpoint.
    pub fn anywhere() -> Result<Self> {
        Ok(Self { binary: Binary::locate()?, environment: Vec::new() })
    }

    /// The same user with one more variable in the environment.
    #[must_use]
    pub fn with_env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The command, not started yet, without an input.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.prepare(self.binary.path().as_os_str());
        command.args(args);
        command
    }

    fn prepare(&self, program: &OsStr) -> Command {
        let mut command = Command::new(program);
        for name in LEFT_OUT {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Result<Output> {
        self.command(args).output().with_context(|| format!("run holdfast {args:?}"))
    }

    /// What a command prints that succeeds.
    pub fn text(&self, args: &[&str]) -> Result<String> {
        let output = self.run(args)?;
        let (text, complaint) = texts(&output);
        ensure!(output.status.success(), "holdfast {args:?}: {}: {text}{complaint}", output.status);
        Ok(text)
    }

    /// The same with `-o json`, read back.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let text = self.text(&[args, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("holdfast {args:?} printed {text}"))
    }

    /// The same with `-o yaml`, read back.
    pub fn yaml(&self, args: &[&str]) -> Result<Value> {
        let text = self.text(&[args, &["-o", "yaml"]].concat())?;
        serde_yaml::from_str(&text).with_context(|| format!("holdfast {args:?} printed {text}"))
    }

    /// What a command says that fails with this exit code; it prints nothing else.
    pub fn refusal(&self, code: i32, args: &[&str]) -> Result<String> {
        let output = self.run(args)?;
        let (text, complaint) = texts(&output);
        ensure!(
            output.status.code() == Some(code),
            "holdfast {args:?}: {}, not {code}: {text}{complaint}",
            output.status
        );
        ensure!(text.is_empty(), "holdfast {args:?} failed and printed {text}");
        Ok(complaint)
    }

    /// Runs a command on a terminal of its own (util-linux `script`) to its end.
    pub fn terminal(&self, args: &[&str]) -> Result<Screen> {
        let binary = self.binary.path().to_str().context("the binary has a path in UTF-8")?;
        let words: Vec<String> = std::iter::once(&binary).chain(args).map(|word| quoted(word)).collect();
        let mut command = self.prepare(OsStr::new("script"));
        command.args(["--quiet", "--return", "--echo", "never", "--command", &words.join(" "), "/dev/null"]);
        // The end of its input would be typed into the terminal, so the input stays open until the end.
        let mut child = command
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("run script, which is part of util-linux")?;
        let input = child.stdin.take();
        let output = child.wait_with_output().with_context(|| format!("run holdfast {args:?}"))?;
        drop(input);
        let (text, complaint) = texts(&output);
        ensure!(complaint.is_empty(), "script: {complaint}");
        Ok(Screen { text: text.replace("\r\n", "\n"), code: output.status.code() })
    }

    /// What a command shows on a terminal that succeeds.
    pub fn screen(&self, args: &[&str]) -> Result<String> {
        let Screen { text, code } = self.terminal(args)?;
        ensure!(code == Some(0), "holdfast {args:?} on a terminal: {code:?}: {text}");
        Ok(text)
    }
}

/// What a command printed, and what it complained about.
fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// A word that the shell takes as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_quoted_word_is_one_word_whatever_is_in_it() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
