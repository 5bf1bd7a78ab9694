//! What a client command works on: the flags that all of them share, and failures that a person can act on.

use std::time::Duration;

use clap::Args;
use holdfast_api::client::{Client, ClientError, WatchError};

use crate::cli::failure;
use crate::cli::output::Format;
use crate::exit::{Ending, Fatal};

/// How long a call is tried: several elections fit in, and a person still waits for the answer.
const CALL_DEADLINE: Duration = Duration::from_secs(15);

/// The flags that all client commands share, accepted before and after the command's name.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct GlobalArgs {
    /// The API of one or more nodes of the cluster, tried in this order
    #[arg(
        long,
        env = "HOLDFAST_ENDPOINT",
        value_name = "URL[,URL]",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7700",
        global = true
    )]
    endpoint: Vec<String>,
    /// The namespace that locks, elections and keys are in
    #[arg(
        short,
        long,
        env = "HOLDFAST_NAMESPACE",
        value_name = "NS",
        default_value = "default",
        global = true
    )]
    namespace: String,
    /// How the answer looks: a table for people, or json or yaml with the names of the REST API
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        value_enum,
        default_value_t = Format::Table,
        hide_possible_values = true,
        global = true
    )]
    output: Format,
}

/// A cluster behind some endpoints.
#[derive(Debug)]
pub(super) struct Endpoints {
    client: Client,
    listed: String,
}

impl Endpoints {
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// [`Fatal`] names the endpoint that is none.
    pub(super) fn at(endpoints: &[String]) -> Result<Self, Fatal> {
        let client = Client::builder(endpoints).deadline(CALL_DEADLINE).build();
        let client = client.map_err(|error| Fatal::new(Ending::Usage, error.to_string()))?;
        Ok(Self { client, listed: endpoints.join(", ") })
    }

    /// The client.
    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    /// Why a call failed: what was tried, where, and what to do. `what` follows "cannot", as in "look at lock x".
    pub(super) fn failed(&self, what: &str, error: &ClientError) -> Fatal {
        let reason = format!("cannot {what}: {}\n  asked: {}", failure::account(error), self.listed);
        let advice = failure::advice(error).map(|advice| format!("\n  next:  {advice}")).unwrap_or_default();
        Fatal::new(failure::ending(error), reason + &advice)
    }

    /// A refusal that needs no request.
    pub(super) fn refused(&self, ending: Ending, what: &str, why: &str, advice: &str) -> Fatal {
        Fatal::new(ending, format!("cannot {what}: {why}\n  asked: {}\n  next:  {advice}", self.listed))
    }
}

/// What a client command works on.
#[derive(Debug)]
pub(super) struct Target {
    endpoints: Endpoints,
    /// How many endpoints there are.
    pub(super) endpoint_count: usize,
    /// The namespace of the locks, elections and keys.
    pub(super) namespace: String,
    /// How the answer looks.
    pub(super) output: Format,
}

impl Target {
    /// What the flags name; nothing is sent yet.
    ///
    /// # Errors
    /// [`Fatal`] names the endpoint that is none.
    pub(super) fn of(globals: GlobalArgs) -> Result<Self, Fatal> {
        let GlobalArgs { endpoint, namespace, output } = globals;
        let endpoints = Endpoints::at(&endpoint)?;
        Ok(Self { endpoints, endpoint_count: endpoint.len(), namespace, output })
    }

    /// The endpoints as the flag has them.
    pub(super) fn endpoint_list(&self) -> String {
        self.endpoints.listed.replace(", ", ",")
    }

    /// The cluster alone.
    pub(super) fn into_endpoints(self) -> Endpoints {
        self.endpoints
    }

    /// The client.
    pub(super) const fn client(&self) -> &Client {
        self.endpoints.client()
    }

    /// As [`Endpoints::failed`].
    pub(super) fn failed(&self, what: &str, error: &ClientError) -> Fatal {
        self.endpoints.failed(what, error)
    }

    /// Why a watch cannot go on.
    pub(super) fn watch_failed(&self, what: &str, error: WatchError) -> Fatal {
        match error {
            WatchError::Compacted(problem)
            | WatchError::HistoryChanged(problem)
            | WatchError::Gone(problem) => self.failed(what, &ClientError::Problem(problem)),
            WatchError::Failed(error) => self.failed(what, &error),
            WatchError::Ended => Fatal::new(Ending::NotFound, format!("cannot {what}: {error}")),
        }
    }

    /// As [`Endpoints::refused`].
    pub(super) fn refused(&self, ending: Ending, what: &str, why: &str, advice: &str) -> Fatal {
        self.endpoints.refused(ending, what, why, advice)
    }
}
