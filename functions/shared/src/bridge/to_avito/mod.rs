//! From rows to Avito: the worker that holds a dialog's lease sends its parts, one at a time, in order.

mod blocking;
mod claim;
mod edits;
mod mark_read;
mod outage;
mod outcomes;
mod pictures;
mod send;
mod sender;
mod verify;
mod work;
pub mod worker;
