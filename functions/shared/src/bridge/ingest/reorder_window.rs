//! The wait for messages that were overtaken: webhooks overtake each other. A message that follows another closely waits
//! a moment. A message that comes just after Postgres was away waits for those that the intake queue buffered.

use std::time::Duration;

use crate::platform::last_event::LastEvent;

/// A message this soon after another of its dialog may have overtaken a third.
pub(super) const REORDER_WINDOW: Duration = Duration::from_secs(5);
/// Such a message waits this long for those that it overtook.
pub(super) const REORDER_WAIT: Duration = Duration::from_secs(1);
/// The moment at which this process last put a webhook into the intake queue, because Postgres was away.
pub(super) static LAST_BUFFERED: LastEvent = LastEvent::never();
/// The time after Postgres was away in which buffered webhooks may still be in the intake queue.
pub(super) const OUTAGE_WINDOW: Duration = Duration::from_secs(15);
/// A message that comes in that time waits this long for them: the queue's consumer tries every second, but for a pause
/// of two. Nothing waits longer for the sake of order.
pub(super) const OUTAGE_REORDER_WAIT: Duration = Duration::from_secs(4);
