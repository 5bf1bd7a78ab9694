//! `holdfast namespace`: the name spaces that locks and keys live in.

use clap::{Args, Subcommand};
use holdfast_api::namespaces::{NamespaceList, NamespaceView};
use holdfast_api::query::ReadQuery;

use crate::cli::target::Target;
use crate::cli::{output, pages};
use crate::exit::Fatal;

/// The flags of `holdfast namespace`.
#[derive(Debug, Args)]
pub(super) struct NamespaceArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the namespaces
    #[command(after_help = "Examples:
  holdfast namespace list
  holdfast namespace list team- -o json")]
    List {
        /// Only those whose name begins with this
        #[arg(value_name = "PREFIX")]
        prefix: Option<String>,
    },
    /// Show one namespace
    #[command(after_help = "Example:
  holdfast namespace get payments")]
    Get {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Create a namespace; one that exists stays as it is
    #[command(after_help = "Example:
  holdfast namespace create payments")]
    Create {
        /// Its name: small letters, digits and dashes, at most 63
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Delete a namespace that holds no key and no claim
    #[command(after_help = "Example:
  holdfast namespace delete payments")]
    Delete {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// Runs the command.
///
/// # Errors
/// [`Fatal`] says what failed, where, and what to do.
pub(super) async fn run(args: NamespaceArgs, target: &Target) -> Result<(), Fatal> {
    match args.command {
        Command::List { prefix } => list(target, prefix).await,
        Command::Get { name } => get(target, &name).await,
        Command::Create { name } => create(target, &name).await,
        Command::Delete { name } => delete(target, &name).await,
    }
}

async fn list(target: &Target, prefix: Option<String>) -> Result<(), Fatal> {
    let list = pages::all(prefix, async |query| {
        let page = target.client().list_namespaces(&query).await;
        Ok(page.map_err(|error| target.failed("list the namespaces", &error))?.value)
    });
    let list = list.await?;
    output::answer(target.output, &list, |list: &NamespaceList| show(&list.items))
}

async fn get(target: &Target, name: &str) -> Result<(), Fatal> {
    let view = target.client().get_namespace(name, &ReadQuery::default()).await;
    let view = view.map_err(|error| target.failed(&format!("look at namespace {name}"), &error))?.value;
    output::answer(target.output, &view, |view| show(std::slice::from_ref(view)))
}

async fn create(target: &Target, name: &str) -> Result<(), Fatal> {
    let created = target.client().put_namespace(name).await;
    let created = created.map_err(|error| target.failed(&format!("create namespace {name}"), &error))?;
    let done = if created.status == 201 { "is created" } else { "exists already" };
    output::answer(target.output, &created.value, |view| {
        output::line(&format!("namespace {} {done}", view.name))
    })
}

async fn delete(target: &Target, name: &str) -> Result<(), Fatal> {
    let deleted = target.client().delete_namespace(name).await;
    deleted.map_err(|error| target.failed(&format!("delete namespace {name}"), &error))?;
    output::done(target.output, &format!("namespace {name} is deleted"))
}

fn show(namespaces: &[NamespaceView]) -> Result<(), Fatal> {
    let row = |namespace: &NamespaceView| vec![namespace.name.clone(), namespace.create_revision.to_string()];
    output::table(&["NAME", "CREATED AT REVISION"], &namespaces.iter().map(row).collect::<Vec<_>>())
}
