//! The ways in which people sign in. Each checks who the person is, and opens a session.

pub mod login_widget;
