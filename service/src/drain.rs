//! The way out: what a node that was told to stop still does, step by step.

use tokio::sync::watch;

/// How far the node is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DrainStage {
    /// It serves.
    Serving,
    /// It says that it is not ready and hands over the leadership; it still takes requests.
    HandingOver,
    /// It takes no new requests and ends those that wait.
    Closing,
}

/// Reads the stage. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Drain {
    stage: watch::Receiver<DrainStage>,
}

/// Moves the stage on.
#[derive(Debug)]
pub(crate) struct DrainControl {
    stage: watch::Sender<DrainStage>,
}

/// A drain and its control, serving.
pub(crate) fn drain() -> (DrainControl, Drain) {
    let (sender, receiver) = watch::channel(DrainStage::Serving);
    (DrainControl { stage: sender }, Drain { stage: receiver })
}

impl DrainControl {
    /// Goes on to a later stage; never back.
    pub(crate) fn advance(&self, to: DrainStage) {
        self.stage.send_if_modified(|stage| {
            let later = *stage < to;
            *stage = (*stage).max(to);
            later
        });
    }
}

impl Drain {
    /// Whether the node is on its way out.
    pub(crate) fn is_leaving(&self) -> bool {
        DrainStage::HandingOver <= *self.stage.borrow()
    }

    /// Whether the node takes no new requests.
    pub(crate) fn is_closed(&self) -> bool {
        DrainStage::Closing <= *self.stage.borrow()
    }

    /// Waits until the node takes no new requests.
    pub(crate) async fn closing(&self) {
        let mut stage = self.stage.clone();
        // A control that is gone means that the node ends.
        let _ = stage.wait_for(|stage| DrainStage::Closing <= *stage).await;
    }
}
