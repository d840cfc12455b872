//! From rows to Avito: the worker that holds a dialog's lease sends its parts, one at a time, in order.

mod blocking;
mod claim;
mod delete;
mod mark_read;
mod outcomes;
pub(in crate::bridge) mod pictures;
mod send;
mod sender;
mod verify;
pub(in crate::bridge) mod work;
pub mod worker;
