//! What a node counts of its streams of events.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::metrics::CopiedCounter;
use crate::watch::{EndKind, Feed, FrameKind};

#[derive(Default)]
pub(super) struct StreamGauges {
    open: Gauge,
    frames: Family<FrameLabels, CopiedCounter>,
    ends: Family<EndLabels, CopiedCounter>,
    pages: CopiedCounter,
}

/// A kind of frame.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FrameLabels {
    kind: &'static str,
}

/// Why streams end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabels {
    reason: &'static str,
}

impl StreamGauges {
    pub(super) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("watch");
        registry.register("streams", "Streams of events that are open", self.open.clone());
        registry.register("frames", "Frames given to streams since the start", self.frames.clone());
        registry.register("ends", "Streams that this node ended since the start", self.ends.clone());
        registry.register(
            "catch_up_pages",
            "Reads of the state for streams that were behind, since the start",
            self.pages.clone(),
        );
    }

    pub(super) fn observe(&self, feed: &Feed) {
        self.open.set(i64::try_from(feed.open()).unwrap_or(i64::MAX));
        let counters = feed.counters();
        for kind in FrameKind::ALL {
            self.frames.get_or_create(&FrameLabels { kind: kind.name() }).set(counters.frames(kind));
        }
        for kind in EndKind::ALL {
            self.ends.get_or_create(&EndLabels { reason: kind.name() }).set(counters.ends(kind));
        }
        self.pages.set(counters.pages());
    }
}
