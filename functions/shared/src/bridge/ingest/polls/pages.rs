//! Pages of Avito's lists, one call each: an account's chats, and a chat's messages.

use super::account::{PollError, PolledAccount};
use crate::{
    App, avito,
    bridge::common::avito_rate_limit::{self, CallPriority},
    platform::secrets::Secret,
    tenancy::accounts,
};

/// The highest offset Avito serves.
pub(super) const MAX_OFFSET: u16 = 1000;

pub(super) async fn list(
    app: &App,
    account: &PolledAccount,
    token: &Secret,
    unread_only: bool,
    offset: u16,
) -> Result<avito::ChatsPage, PollError> {
    let query = avito::ChatsQuery { unread_only, limit: avito::MAX_PAGE_SIZE, offset, ..avito::ChatsQuery::default() };
    let (avito, user_id) = (accounts::avito(app), account.keys.user_id);
    Ok(avito_rate_limit::within(
        app,
        account.keys.account_id,
        CallPriority::Background,
        avito.chats(token, user_id, &query),
    )
    .await?
    .value)
}

/// A page of a chat's messages, newest first.
pub(super) async fn messages(
    app: &App,
    account: &PolledAccount,
    token: &Secret,
    chat_id: &str,
    offset: u16,
) -> Result<Vec<avito::Message>, PollError> {
    let (avito, user_id) = (accounts::avito(app), account.keys.user_id);
    let call = avito.messages(token, user_id, chat_id, avito::MAX_PAGE_SIZE, offset);
    Ok(avito_rate_limit::within(app, account.keys.account_id, CallPriority::Background, call).await?.value)
}
