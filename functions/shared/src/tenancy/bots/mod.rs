//! Bots. Each belongs to one organisation and works in one group. A bot is identified by Telegram's own id for it,
//! so no second organisation can connect the same one.

mod bot;
mod change;
mod checks;
mod connection;
mod webhook;

pub use bot::{
    Bot, BotStatus, GroupId, exists, find, find_tenant_by_webhook_secret, find_tenant_of_bot, list, mark_broken,
    mark_removed, mark_working, move_group, notify_missing_right, telegram, token_context, username,
};
pub use change::{Change, ChangeError, change, renew_webhook};
pub use checks::{Checked, ConnectError, NewBot, check};
pub use connection::connect;
