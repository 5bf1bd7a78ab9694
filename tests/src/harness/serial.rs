//! One heavy scenario at a time.
//!
//! The test runner starts tests side by side. Clusters that share two cores slow each other down until bounds on
//! failover are about the machine and not about the service.

use tokio::sync::{Mutex, MutexGuard};

static TURN: Mutex<()> = Mutex::const_new(());

/// The turn of one scenario; the next one begins when it is dropped. Take it before the cluster, so that it is
/// dropped after the cluster.
#[derive(Debug)]
#[must_use]
pub struct Serial {
    _turn: MutexGuard<'static, ()>,
}

/// Waits for this scenario's turn.
pub async fn serial() -> Serial {
    Serial { _turn: TURN.lock().await }
}
