//! Certainty about a call that failed: did it take effect? Each rule for repeating a call asks this first.

/// The effect of a call that failed, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// It had no effect, so it may be repeated.
    NotDone,
    /// The answer is lost. A gateway's 5xx may hide success too.
    MaybeDone,
    /// It took effect, or all was so already.
    Done,
    /// It was refused; repeating it changes nothing.
    Refused,
}
