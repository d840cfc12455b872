//! From rows to Avito: the worker that holds a dialog's lease sends its parts, one at a time, in order.

mod blocking;
mod edits;
mod pictures;
mod work;
pub mod worker;
