//! Methods about the bot itself, its webhook and its chats.

use serde_json::{Value, json};

use super::error::Refusal;
use super::request::Params;
use super::state::{Status, TelegramState, Webhook};
use super::target;

/// The kinds of updates that a webhook may subscribe to.
const KINDS: &str = "message edited_message channel_post edited_channel_post business_connection business_message \
    edited_business_message deleted_business_messages guest_message message_reaction message_reaction_count \
    inline_query chosen_inline_result callback_query shipping_query pre_checkout_query purchased_paid_media poll \
    poll_answer my_chat_member chat_member chat_join_request chat_boost removed_chat_boost managed_bot";

/// Methods that concern the bot itself.
pub(crate) fn bot_method(
    telegram: &mut TelegramState,
    bot: i64,
    method: &str,
    params: &Params,
) -> Result<Value, Refusal> {
    if method == "answerCallbackQuery" {
        return answer_callback(telegram, params);
    }
    let Some(bot) = telegram.bots.get_mut(&bot) else { return Err(Refusal::unauthorized()) };
    match method {
        "getMe" => {
            let mut me = bot.user();
            for (capability, has) in [("can_join_groups", true), ("can_read_all_group_messages", true)] {
                me[capability] = json!(has);
            }
            for missing in ["supports_inline_queries", "can_connect_to_business", "has_main_web_app"] {
                me[missing] = json!(false);
            }
            Ok(me)
        }
        "deleteWebhook" => {
            bot.webhook = None;
            if params.flag("drop_pending_updates") {
                bot.drop_pending();
            }
            Ok(json!(true))
        }
        "setMyCommands" => {
            let commands = params.values["commands"].as_array().cloned().unwrap_or_default();
            let fits = |command: &Value| {
                let name = command["command"].as_str().unwrap_or_default();
                let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
                let description = command["description"].as_str().unwrap_or_default().chars().count();
                plain && (1..=32).contains(&name.len()) && (1..=256).contains(&description)
            };
            if commands.len() > 100 || !commands.iter().all(fits) {
                return Err(Refusal::bad_request("BOT_COMMAND_INVALID"));
            }
            bot.commands = commands;
            Ok(json!(true))
        }
        _ => {
            let webhook = bot.webhook.clone();
            let mut info = json!({
                "url": webhook.as_ref().map(|webhook| webhook.url.clone()).unwrap_or_default(),
                "has_custom_certificate": false,
                "pending_update_count": bot.pending(),
            });
            if let Some(webhook) = webhook {
                info["max_connections"] = json!(webhook.max_connections);
                info["ip_address"] = json!("127.0.0.1");
                if let Some((date, message)) = webhook.last_error {
                    info["last_error_date"] = json!(date);
                    info["last_error_message"] = json!(message);
                }
            }
            if !bot.allowed_updates.is_empty() {
                info["allowed_updates"] = json!(bot.allowed_updates);
            }
            Ok(info)
        }
    }
}

/// `setWebhook`. Returns the number of connections that it allows. Plain http is accepted, since all stays on loopback.
pub(crate) fn set_webhook(telegram: &mut TelegramState, bot: i64, params: &Params) -> Result<usize, Refusal> {
    let Some(bot) = telegram.bots.get_mut(&bot) else { return Err(Refusal::unauthorized()) };
    let address = params.text("url").unwrap_or_default();
    let valid = url::Url::parse(address).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if !valid && !address.is_empty() {
        return Err(Refusal::bad_request("bad webhook: invalid webhook URL specified"));
    }
    let secret = params.text("secret_token");
    let plain = |secret: &str| secret.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if secret.is_some_and(|secret| secret.is_empty() || secret.len() > 256 || !plain(secret)) {
        return Err(Refusal::bad_request("secret token contains unallowed characters"));
    }
    let connections = u16::try_from(params.int("max_connections").unwrap_or(40)).unwrap_or(0);
    if !(1..=100).contains(&connections) {
        return Err(Refusal::bad_request("max_connections must be from 1 to 100"));
    }
    if let Some(allowed) = params.values.get("allowed_updates") {
        let names = allowed.as_array().cloned().unwrap_or_default();
        let names: Vec<String> = names.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        if let Some(unknown) = names.iter().find(|name| !KINDS.split_whitespace().any(|kind| kind == *name)) {
            return Err(Refusal::bad_request(&format!("there is no kind of update \"{unknown}\"")));
        }
        bot.allowed_updates = names;
    }
    if params.flag("drop_pending_updates") {
        bot.drop_pending();
    }
    bot.webhook = (!address.is_empty()).then(|| Webhook {
        url: address.to_owned(),
        secret_token: secret.map(str::to_owned),
        max_connections: connections,
        last_error: None,
    });
    Ok(usize::from(connections))
}

/// `getChat`, `getChatMember`, `getChatAdministrators`.
pub(crate) fn chat_method(telegram: &TelegramState, bot: i64, method: &str, params: &Params) -> Result<Value, Refusal> {
    let key = target::chat(telegram, bot, params)?;
    let chat = &telegram.chats[&key];
    let rendered =
        |(id, member): (&i64, &super::state::Member)| telegram.bots.get(id).map(|bot| member.rendered(&bot.user()));
    match method {
        "getChat" => Ok(chat.rendered_in_full()),
        "getChatMember" => {
            let id = params.int("user_id").unwrap_or_default();
            if let Some(member) = chat.members.get(&id) {
                return Ok(rendered((&id, member)).unwrap_or_default());
            }
            // The chat knows a person by a message.
            let person = chat.messages.values().find(|message| message.from["id"] == id).map(|message| &message.from);
            let person = person.ok_or_else(|| Refusal::bad_request("user not found"))?;
            Ok(json!({ "status": "member", "user": person }))
        }
        _ if chat.is_private() => Err(Refusal::bad_request("there are no administrators in the private chat")),
        _ => {
            let administrators = chat.members.iter().filter(|(id, member)| {
                member.status == Status::Administrator && (**id == bot || params.flag("return_bots"))
            });
            Ok(Value::Array(administrators.filter_map(rendered).collect()))
        }
    }
}

fn answer_callback(telegram: &mut TelegramState, params: &Params) -> Result<Value, Refusal> {
    if params.text("text").is_some_and(|text| text.chars().count() > 200) {
        return Err(Refusal::bad_request("MESSAGE_TOO_LONG"));
    }
    match telegram.callbacks.get_mut(params.text("callback_query_id").unwrap_or_default()) {
        Some(answered) if !*answered => {
            *answered = true;
            Ok(json!(true))
        }
        _ => Err(Refusal::bad_request("query is too old and response timeout expired or query ID is invalid")),
    }
}
