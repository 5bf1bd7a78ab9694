//! `holdfast man` and `holdfast completions`: what packagers and shells want to know about the command line.

use std::path::{Path, PathBuf};

use clap::{Arg, Args};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::cli::{LOCAL_COMMANDS, output};
use crate::exit::{Ending, Fatal};

/// The flags of `holdfast man`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast man | man -l -
  holdfast man lock list | man -l -
  holdfast man --dir /usr/local/share/man/man1")]
pub(super) struct ManArgs {
    /// Write one page for every command into this directory, which is made if it is missing
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    dir: Option<PathBuf>,
    /// The command that the page is about [default: holdfast itself]
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
}

/// The flags of `holdfast completions`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  source <(holdfast completions bash)
  holdfast completions zsh > \"${fpath[1]}/_holdfast\"
  holdfast completions fish > ~/.config/fish/completions/holdfast.fish")]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

/// Prints one manual page, or writes all of them.
///
/// # Errors
/// [`Fatal`] when there is no such command, or the pages cannot be written.
pub(super) fn man(args: &ManArgs, whole: clap::Command) -> Result<(), Fatal> {
    // A page about `help` would say nothing that the others do not.
    let mut whole = whole.disable_help_subcommand(true);
    whole.build();
    if let Some(dir) = &args.dir {
        return write_pages(&whole, dir);
    }
    let mut about = &whole;
    for name in &args.command {
        about = about.find_subcommand(name).ok_or_else(|| {
            let names: Vec<&str> = about.get_subcommands().map(clap::Command::get_name).collect();
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let why = format!("{} has no command {name}; it has: {known}", about.get_name());
            Fatal::new(Ending::Usage, why)
        })?;
    }
    output::bytes(&page(about).1)
}

/// The file name and the text of a command's page.
fn page(command: &clap::Command) -> (String, Vec<u8>) {
    let source = concat!("holdfast ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).manual("Holdfast").source(source);
    let mut text = Vec::new();
    let rendered = render(&man, command, &mut text);
    rendered.expect("writing to memory does not fail");
    (man.get_filename(), text)
}

fn render(man: &Man, command: &clap::Command, out: &mut Vec<u8>) -> std::io::Result<()> {
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    man.render_options_section(out)?;
    if command.has_subcommands() {
        man.render_subcommands_section(out)?;
    }
    if let Some(text) = command.get_after_long_help().or_else(|| command.get_after_help()) {
        notes(&text.to_string()).to_writer(out)?;
    }
    if let Some(version) = command.get_long_version() {
        notes(&format!("Version\n{version}")).to_writer(out)?;
    }
    Ok(())
}

/// What the help says after the flags, line by line: its first line is the heading.
fn notes(text: &str) -> Roff {
    let (heading, lines) = text.split_once('\n').unwrap_or((text, ""));
    let mut roff = Roff::new();
    roff.control("SH", [heading.trim_end_matches(':').to_uppercase().as_str()]);
    roff.control("nf", []);
    for line in lines.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    roff
}

fn write_pages(whole: &clap::Command, dir: &Path) -> Result<(), Fatal> {
    let failed = |error: std::io::Error| {
        Fatal::new(Ending::Refused, format!("cannot write manual pages to {}: {error}", dir.display()))
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    let mut left = vec![whole];
    while let Some(command) = left.pop() {
        let (name, text) = page(command);
        std::fs::write(dir.join(name), text).map_err(failed)?;
        left.extend(command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()));
    }
    Ok(())
}

/// Prints the completions of a shell.
///
/// # Errors
/// [`Fatal`] when standard output does not take them.
pub(super) fn completions(args: &CompletionsArgs, whole: clap::Command) -> Result<(), Fatal> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut with_read_globals(whole), "holdfast", &mut script);
    output::bytes(&script)
}

/// The command line with each global flag only at commands that read it: completions also offer what help hides.
fn with_read_globals(whole: clap::Command) -> clap::Command {
    let globals: Vec<Arg> = whole
        .get_arguments()
        .filter(|arg| arg.is_global_set())
        .map(|arg| arg.clone().global(false))
        .collect();
    let whole = whole.mut_args(|arg| arg.global(false));
    whole.mut_subcommands(|subcommand| {
        if LOCAL_COMMANDS.contains(&subcommand.get_name()) {
            subcommand
        } else {
            with_globals(subcommand, &globals)
        }
    })
}

fn with_globals(command: clap::Command, globals: &[Arg]) -> clap::Command {
    command.args(globals).mut_subcommands(|subcommand| with_globals(subcommand, globals))
}
