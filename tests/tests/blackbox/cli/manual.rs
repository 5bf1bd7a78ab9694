//! What the command line says of itself: help, version, manual pages and completions.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use holdfast_tests::harness::{Scratch, Shell};

/// The exit code of a wrong command line.
const USAGE: i32 = 2;

const SHELLS: [&str; 5] = ["bash", "zsh", "fish", "elvish", "powershell"];

/// The words that lead to every command, found as a person finds them: by the lists in the help.
fn commands(shell: &Shell) -> Result<Vec<Vec<String>>> {
    let mut found = Vec::new();
    let mut left = vec![Vec::<String>::new()];
    while let Some(words) = left.pop() {
        let mut args: Vec<&str> = words.iter().map(String::as_str).collect();
        args.push("--help");
        let help = shell.text(&args)?;
        let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        for line in listed.take_while(|line| !line.is_empty()) {
            let (name, about) = line.trim().split_once("  ").with_context(|| format!("{words:?}: {line}"))?;
            ensure!(!about.trim().is_empty(), "{words:?} {name} has no help");
            if name != "help" {
                left.push(words.iter().cloned().chain([name.to_owned()]).collect());
            }
        }
        found.push(words);
    }
    Ok(found)
}

#[test]
fn every_command_explains_itself_has_a_manual_page_and_is_completed() -> Result<()> {
    let shell = Shell::anywhere()?;
    let commands = commands(&shell)?;
    for expected in [
        "lock get",
        "lock run",
        "elect leader",
        "config get",
        "session end",
        "namespace create",
        "cluster add",
        "dev",
        "serve",
        "man",
    ] {
        ensure!(commands.iter().any(|words| words.join(" ") == expected), "{expected}: {commands:?}");
    }

    let scratch = Scratch::new()?;
    let dir = scratch.path().join("man1");
    shell.text(&["man", "--dir", dir.to_str().context("a path in UTF-8")?])?;
    let mut pages = BTreeSet::new();
    for entry in std::fs::read_dir(&dir)? {
        pages.insert(entry?.file_name().into_string().ok().context("a name in UTF-8")?);
    }
    let name = |words: &[String]| {
        let words: Vec<&str> = std::iter::once("holdfast").chain(words.iter().map(String::as_str)).collect();
        format!("{}.1", words.join("-"))
    };
    let expected: BTreeSet<String> = commands.iter().map(|words| name(words)).collect();
    ensure!(pages == expected, "{pages:?}, not {expected:?}");
    for words in &commands {
        let page = std::fs::read_to_string(dir.join(name(words)))?;
        ensure!(page.contains(".SH SYNOPSIS") && page.contains(".SH DESCRIPTION"), "{words:?}: {page}");
        let mut args = vec!["man"];
        args.extend(words.iter().map(String::as_str));
        ensure!(shell.text(&args)? == page, "`holdfast {args:?}` prints another page than it writes");
    }

    for name in SHELLS {
        let script = shell.text(&["completions", name])?;
        for word in commands.iter().flatten() {
            ensure!(script.contains(word.as_str()), "the completions of {name} lack {word}");
        }
    }
    Ok(())
}

#[test]
fn the_completions_of_bash_are_ones_that_bash_takes() -> Result<()> {
    let script = Shell::anywhere()?.text(&["completions", "bash"])?;
    let output = std::process::Command::new("bash")
        .args(["-c", "eval \"$1\"; COMP_WORDS=(holdfast lock f) COMP_CWORD=2; _holdfast holdfast f lock; echo \"${COMPREPLY[@]}\""])
        .args(["bash", &script])
        .output()?;
    ensure!(output.status.success() && output.stdout == b"force-release\n", "{output:?}");
    Ok(())
}

#[test]
fn the_long_version_names_the_formats() -> Result<()> {
    let shell = Shell::anywhere()?;
    let short = shell.text(&["-V"])?;
    ensure!(short.lines().count() == 1 && short.starts_with("holdfast "), "{short}");
    let long = shell.text(&["--version"])?;
    ensure!(long.starts_with(short.trim_end()), "{long}");
    for format in [
        "data directory",
        "state rows",
        "log entries",
        "proposals",
        "snapshots",
        "peer protocol",
        "config exports",
    ] {
        ensure!(long.contains(format), "{format}: {long}");
    }
    Ok(())
}

#[test]
fn help_has_colours_on_a_terminal_unless_no_color_is_set() -> Result<()> {
    let shell = Shell::anywhere()?;
    ensure!(shell.screen(&["--help"])?.contains('\u{1b}'), "no colours on a terminal");
    let plain = shell.clone().with_env("NO_COLOR", "1");
    ensure!(!plain.screen(&["--help"])?.contains('\u{1b}'), "colours in spite of NO_COLOR");
    ensure!(!shell.text(&["--help"])?.contains('\u{1b}'), "colours in a pipe");
    ensure!(shell.text(&["--help"])?.contains("\nExit codes:\n  0  done\n"));
    Ok(())
}

#[test]
fn a_wrong_command_line_says_what_is_wrong_with_it() -> Result<()> {
    let shell = Shell::anywhere()?;
    for (args, explanation) in [
        (&["lock", "gett", "x"] as &[&str], "'get'"),
        (&["lock", "get"], "<NAME>"),
        (&["lock", "force-release", "x", "--token", "ten", "--reason", "y"], "ten"),
        (&["lock", "list", "-o", "xml"], "table, json, yaml"),
        (&["dev", "--endpoint", "127.0.0.1:7700"], "takes no --endpoint"),
        (&["-o", "json", "serve"], "takes no --output"),
        (&["man", "lock", "fly"], "it has: run, list, get"),
        (&["lock", "list", "--endpoint", "ftp://127.0.0.1"], "ftp://127.0.0.1"),
    ] {
        let complaint = shell.refusal(USAGE, args)?;
        ensure!(complaint.contains(explanation), "{args:?}: {complaint}");
    }
    Ok(())
}
