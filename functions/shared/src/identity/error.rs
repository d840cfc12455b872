//! The reasons not to sign a person in, and the answer for each.

use axum::http::StatusCode;

use crate::{
    platform::{
        db::DbError,
        http::{Problem, text},
    },
    telegram::login::WidgetError,
};

/// A reason not to sign a person in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// The widget's answer is not Telegram's, or too old.
    #[error("the widget's answer does not hold")]
    Widget(#[from] WidgetError),
    /// The widget's answer was used before.
    #[error("the widget's answer was used before")]
    Used,
    /// The person was switched off, or the organisation suspended.
    #[error("the account may not work")]
    Inactive,
    /// The platform's admin already runs an organisation.
    #[error("the admin's Telegram account has an organisation")]
    AdminHasOrganisation,
    /// An admin that the configuration does not name any more.
    #[error("not the platform's admin any more")]
    NotAdmin,
    /// Our database.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<SignInError> for Problem {
    fn from(error: SignInError) -> Self {
        let unauthorized = |code, detail| Self::new(StatusCode::UNAUTHORIZED, code, detail);
        match error {
            SignInError::Widget(_) => unauthorized(
                "login_refused",
                text(
                    "Telegram не подтвердил этот вход или он устарел. Войдите ещё раз.",
                    "Telegram did not confirm this sign-in, or it is too old. Sign in again.",
                ),
            ),
            SignInError::Used => unauthorized(
                "login_used",
                text("Этот вход уже использован. Войдите ещё раз.", "This sign-in was already used. Sign in again."),
            ),
            SignInError::Inactive => Self::new(
                StatusCode::FORBIDDEN,
                "account_inactive",
                text("Аккаунт отключён. Напишите в поддержку.", "The account is switched off. Please contact support."),
            ),
            SignInError::AdminHasOrganisation => Self::conflict(
                "admin_has_organisation",
                text(
                    "Этот аккаунт Telegram уже ведёт организацию. Для администратора нужен другой.",
                    "This Telegram account already runs an organisation. The admin needs another one.",
                ),
            ),
            SignInError::NotAdmin => Self::forbidden(),
            SignInError::Db(error) => error.into(),
        }
    }
}
