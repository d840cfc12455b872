//! Lets time pass for one account and one bot: all that they have becomes older, and nothing else does. Tests need not
//! wait for hours then.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Failure, parsed};
use crate::avito::state::AvitoState;
use crate::telegram::limits::Limits;
use crate::telegram::state::TelegramState;
use crate::world::World;

/// The time that passes, for the account of `user_id` and the bot of `bot_token`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TimeRequest {
    seconds: u32,
    user_id: Option<i64>,
    bot_token: Option<String>,
}

/// `POST /_local/time`.
pub(crate) async fn pass(State(world): State<Arc<World>>, body: Bytes) -> Answer {
    let request: TimeRequest = parsed(&body)?;
    let state = &mut *world.state();
    if let Some(user_id) = request.user_id {
        if !state.avito.accounts.contains_key(&user_id) {
            return Err(super::avito::accounts::none());
        }
        pass_in_avito(&mut state.avito, user_id, i64::from(request.seconds));
    }
    if let Some(token) = request.bot_token {
        let bot = state.telegram.bot_by_token(&token).map(|bot| bot.id);
        let bot = bot.ok_or_else(|| Failure::not_found("No bot has this token."))?;
        pass_in_telegram(&mut state.telegram, &mut state.limits, bot, request.seconds);
    }
    Ok(Json(json!({})))
}

fn pass_in_avito(avito: &mut AvitoState, user_id: i64, seconds: i64) {
    if let Some(account) = avito.accounts.get_mut(&user_id) {
        account.calls_in_minute = (0, 0);
    }
    for token in avito.tokens.values_mut().filter(|token| token.user_id == user_id) {
        token.expires_at -= seconds;
    }
    for chat in avito.chats.values_mut().filter(|chat| chat.user_id == user_id) {
        chat.created -= seconds;
        chat.updated = chat.updated.map(|at| at - seconds);
        for message in &mut chat.messages {
            message.created -= seconds;
            message.at -= seconds * 1000;
            message.read = message.read.map(|at| at - seconds);
        }
    }
}

fn pass_in_telegram(telegram: &mut TelegramState, limits: &mut Limits, bot: i64, seconds: u32) {
    let (lasts, seconds) = (Duration::from_secs(u64::from(seconds)), i64::from(seconds));
    for chat in telegram.chats.values_mut().filter(|chat| chat.members.contains_key(&bot)) {
        limits.pass(bot, chat.id, lasts);
        for message in chat.messages.values_mut() {
            message.date -= seconds;
            message.at -= seconds * 1000;
            message.edit_date = message.edit_date.map(|at| at - seconds);
        }
    }
}
