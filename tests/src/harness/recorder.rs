//! One clock and one list for the operations of all clients.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::history::{Call, ClientId, History, Operation, Outcome};

/// Records operations. Clones share the clock and the list.
#[derive(Clone, Debug)]
pub struct Recorder {
    origin: Instant,
    operations: Arc<Mutex<Vec<Operation>>>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { origin: Instant::now(), operations: Arc::default() }
    }
}

impl Recorder {
    /// Nanoseconds since the recorder was made.
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Adds an operation that was sent at `invoked_ns`.
    pub fn record(&self, client: ClientId, invoked_ns: u64, call: Call, outcome: Outcome) {
        let operation = Operation { client, invoked_ns, call, outcome };
        self.operations.lock().unwrap_or_else(PoisonError::into_inner).push(operation);
    }

    /// How many operations so far say something about the store: all but those that no node served.
    pub fn telling(&self) -> usize {
        let operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        operations.iter().filter(|operation| operation.is_telling()).count()
    }

    /// What was recorded so far. Calls under way at this moment are missing: ask after the clients have ended,
    /// and see to it that a client which is stopped in a call records it as unknown.
    pub fn history(&self) -> History {
        let operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner).clone();
        History { operations }
    }
}
