//! The state of an account's webhook beside those of other products, and the decision what to do with it. Pure rules:
//! Avito may keep several addresses of an account or exactly one, and nobody says which.

use serde::{Deserialize, Serialize};
use strum::VariantArray;
use tokio_postgres::Row;
use utoipa::ToSchema;

use crate::platform::db::{DbError, get, get_variant};

/// The state of a webhook, as in `avito_accounts.webhook_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema, strum::IntoStaticStr, strum::VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum WebhookState {
    /// Avito sends messages to us, and to nobody else.
    Registered,
    /// Avito sends messages to us and to others.
    Shared,
    /// Avito sends messages to another product. A person has to say whether we take its place.
    Ask,
    /// A person has left the webhook to another product.
    Left,
    /// Another product took our place.
    TakenOver,
    /// Avito did not take our address.
    Refused,
    /// The account is not followed.
    Off,
}

/// The order of a person, as in `avito_accounts.webhook_choice`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, strum::IntoStaticStr, strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum WebhookChoice {
    /// Register our address, even if another product loses its own by that.
    Take,
    /// Leave the webhook to others, and poll.
    Leave,
}

/// Reads a text column that may be null as the variant of that name.
pub(in crate::tenancy::accounts) fn variant<T>(row: &Row, column: &str) -> Result<Option<T>, DbError>
where
    T: VariantArray + Copy,
    &'static str: From<T>,
{
    let name: Option<&str> = get(row, column)?;
    name.map(|_| get_variant(row, column)).transpose()
}

/// The address of ours that Avito knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ours {
    /// The present one.
    Current,
    /// Only one with a former secret.
    Former,
    /// None.
    Gone,
}

/// The account before Avito was asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    /// None: Avito was never asked.
    pub(super) state: Option<WebhookState>,
    pub(super) choice: Option<WebhookChoice>,
    /// True if its chats are followed.
    pub(super) is_monitored: bool,
}

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Only the state is stored.
    Keep(WebhookState),
    /// Our address is registered, and Avito is asked again.
    Register,
    /// Our addresses are unsubscribed, and no other.
    Unsubscribe(WebhookState),
}

/// Decides what follows from what Avito knows. We never register over another product unless a person said so, and
/// never again where it took our place.
pub(super) fn decide(before: Before, ours: Ours, has_others: bool) -> Action {
    let ends = |state| if ours == Ours::Gone { Action::Keep(state) } else { Action::Unsubscribe(state) };
    if !before.is_monitored {
        return ends(WebhookState::Off);
    }
    if before.choice == Some(WebhookChoice::Leave) {
        return ends(WebhookState::Left);
    }
    match ours {
        Ours::Current => Action::Keep(with_us(has_others)),
        Ours::Former => Action::Register,
        Ours::Gone if !has_others || before.choice == Some(WebhookChoice::Take) => Action::Register,
        Ours::Gone => Action::Keep(match before.state {
            Some(WebhookState::Registered | WebhookState::Shared | WebhookState::TakenOver) => WebhookState::TakenOver,
            None | Some(WebhookState::Ask | WebhookState::Left | WebhookState::Refused | WebhookState::Off) => {
                WebhookState::Ask
            }
        }),
    }
}

/// Returns the state after a registration, as Avito's list shows it. `is_accepted`: Avito took the address.
pub(super) fn after_registration(ours: Ours, has_others: bool, is_accepted: bool) -> WebhookState {
    match ours {
        Ours::Current | Ours::Former => with_us(has_others),
        Ours::Gone if is_accepted && has_others => WebhookState::TakenOver,
        Ours::Gone => WebhookState::Refused,
    }
}

fn with_us(has_others: bool) -> WebhookState {
    if has_others { WebhookState::Shared } else { WebhookState::Registered }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [Option<WebhookState>; 8] = [
        None,
        Some(WebhookState::Registered),
        Some(WebhookState::Shared),
        Some(WebhookState::Ask),
        Some(WebhookState::Left),
        Some(WebhookState::TakenOver),
        Some(WebhookState::Refused),
        Some(WebhookState::Off),
    ];
    const CHOICES: [Option<WebhookChoice>; 3] = [None, Some(WebhookChoice::Take), Some(WebhookChoice::Leave)];

    fn before(state: Option<WebhookState>, choice: Option<WebhookChoice>) -> Before {
        Before { state, choice, is_monitored: true }
    }

    #[test]
    fn we_register_over_another_product_only_if_a_person_said_so() {
        assert_eq!(STATES.len(), WebhookState::VARIANTS.len() + 1);
        for state in STATES {
            for choice in CHOICES {
                let action = decide(before(state, choice), Ours::Gone, true);
                assert_eq!(action == Action::Register, choice == Some(WebhookChoice::Take), "{state:?} {choice:?}");
            }
        }
    }

    #[test]
    fn where_nobody_is_we_register_unless_a_person_or_the_account_forbids_it() {
        for state in STATES {
            assert_eq!(decide(before(state, None), Ours::Gone, false), Action::Register, "{state:?}");
            let left = decide(before(state, Some(WebhookChoice::Leave)), Ours::Gone, false);
            assert_eq!(left, Action::Keep(WebhookState::Left));
            let off = Before { is_monitored: false, ..before(state, Some(WebhookChoice::Take)) };
            assert_eq!(decide(off, Ours::Current, true), Action::Unsubscribe(WebhookState::Off));
            assert_eq!(decide(off, Ours::Gone, true), Action::Keep(WebhookState::Off));
        }
    }

    #[test]
    fn a_product_that_took_our_place_keeps_it_and_one_that_was_there_first_is_asked_about() {
        let gone = |state| decide(before(state, None), Ours::Gone, true);
        for state in [WebhookState::Registered, WebhookState::Shared, WebhookState::TakenOver] {
            assert_eq!(gone(Some(state)), Action::Keep(WebhookState::TakenOver));
        }
        assert_eq!([gone(None), gone(Some(WebhookState::Off))], [Action::Keep(WebhookState::Ask); 2]);
    }

    #[test]
    fn after_a_registration_the_list_says_what_became_of_it() {
        let after = |ours, has_others| after_registration(ours, has_others, true);
        assert_eq!(after(Ours::Current, false), WebhookState::Registered);
        assert_eq!(after(Ours::Current, true), WebhookState::Shared);
        assert_eq!(after(Ours::Gone, true), WebhookState::TakenOver);
        assert_eq!(after(Ours::Gone, false), WebhookState::Refused);
        assert_eq!(after_registration(Ours::Gone, true, false), WebhookState::Refused);
    }
}
