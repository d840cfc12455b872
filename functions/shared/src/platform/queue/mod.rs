//! SQS: sends typed tasks and reads typed batches. A task only starts work, so its loss or repetition changes nothing.

mod batch;
mod tasks;

pub use batch::{Batch, Received};
pub use tasks::{MAX_DELAY, Queue, QueueError, Task};
