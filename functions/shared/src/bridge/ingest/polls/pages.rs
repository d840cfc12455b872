//! Pages of Avito's lists, one call each: an account's chats, and a chat's messages.

use super::account::PollError;
use crate::{
    avito,
    bridge::common::{avito_call::AvitoCaller, avito_rate_limit::CallPriority},
    platform::secrets::Secret,
};

/// The highest offset Avito serves.
pub(super) const MAX_OFFSET: u16 = 1000;
/// The most pages of a list that Avito serves.
pub(super) const MAX_PAGES: usize = (MAX_OFFSET / avito::MAX_PAGE_SIZE + 1) as usize;

/// A page of an account's chats, newest activity first.
pub(super) async fn list(
    caller: &AvitoCaller<'_>,
    unread_only: bool,
    offset: u16,
) -> Result<avito::ChatsPage, PollError> {
    let query = avito::ChatsQuery { unread_only, limit: avito::MAX_PAGE_SIZE, offset, ..avito::ChatsQuery::default() };
    let (user_id, query) = (caller.user_id(), &query);
    let call = async |avito: &avito::Client, token: &Secret| avito.chats(token, user_id, query).await;
    Ok(caller.call(CallPriority::Background, None, call).await?)
}

/// A page of a chat's messages, newest first.
pub(super) async fn messages(
    caller: &AvitoCaller<'_>,
    chat_id: &str,
    offset: u16,
) -> Result<Vec<avito::Message>, PollError> {
    let user_id = caller.user_id();
    let call = async |avito: &avito::Client, token: &Secret| {
        avito.messages(token, user_id, chat_id, avito::MAX_PAGE_SIZE, offset).await
    };
    Ok(caller.call(CallPriority::Background, None, call).await?)
}
