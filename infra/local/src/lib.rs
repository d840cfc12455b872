//! Strict simulators of the outside world for the local stack and the tests.
