//! The methods that are served, and their parameters. The real service ignores unknown ones. The simulator refuses
//! them, so that a misspelt parameter fails on the first run and not in front of a customer.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::error::Refusal;

/// The type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    Float,
    Bool,
    Text,
    /// A chat's id or `@name`.
    Chat,
    /// An object or an array.
    Json,
    /// An upload, an address or a file id.
    File,
}

/// The parameters of all methods that send.
const SENDING: &str = "business_connection_id:text chat_id!chat message_thread_id:int direct_messages_topic_id:int \
    disable_notification:bool protect_content:bool allow_paid_broadcast:bool message_effect_id:text \
    reply_parameters:json";
const ANSWERABLE: &str = "suggested_post_parameters:json reply_markup:json";
const CAPTION: &str = "caption:text parse_mode:text caption_entities:json";
const TOPIC: &str = "chat_id!chat message_thread_id!int";

/// `!` marks a required parameter.
const METHODS: &[(&str, &[&str])] = &[
    ("getMe", &[]),
    ("getChat", &["chat_id!chat"]),
    ("getChatMember", &["chat_id!chat user_id!int"]),
    ("getChatAdministrators", &["chat_id!chat return_bots:bool"]),
    (
        "setWebhook",
        &["url!text certificate:file ip_address:text max_connections:int allowed_updates:json \
           drop_pending_updates:bool secret_token:text"],
    ),
    ("deleteWebhook", &["drop_pending_updates:bool"]),
    ("getWebhookInfo", &[]),
    ("sendMessage", &[SENDING, ANSWERABLE, "text!text parse_mode:text entities:json link_preview_options:json"]),
    (
        "editMessageText",
        &["business_connection_id:text chat_id:chat message_id:int inline_message_id:text text:text parse_mode:text \
           entities:json link_preview_options:json rich_message:json reply_markup:json"],
    ),
    ("deleteMessage", &["chat_id!chat message_id!int"]),
    ("sendPhoto", &[SENDING, ANSWERABLE, CAPTION, "photo!file show_caption_above_media:bool has_spoiler:bool"]),
    (
        "sendDocument",
        &[SENDING, ANSWERABLE, CAPTION, "document!file thumbnail:file disable_content_type_detection:bool"],
    ),
    ("sendVoice", &[SENDING, ANSWERABLE, CAPTION, "voice!file duration:int"]),
    ("sendMediaGroup", &[SENDING, "media!json"]),
    (
        "sendLocation",
        &[
            SENDING,
            ANSWERABLE,
            "latitude!float longitude!float horizontal_accuracy:float live_period:int heading:int \
             proximity_alert_radius:int",
        ],
    ),
    (
        "sendVenue",
        &[
            SENDING,
            ANSWERABLE,
            "latitude!float longitude!float title!text address!text foursquare_id:text foursquare_type:text \
             google_place_id:text google_place_type:text",
        ],
    ),
    ("createForumTopic", &["chat_id!chat name!text icon_color:int icon_custom_emoji_id:text"]),
    ("editForumTopic", &[TOPIC, "name:text icon_custom_emoji_id:text"]),
    ("closeForumTopic", &[TOPIC]),
    ("reopenForumTopic", &[TOPIC]),
    ("deleteForumTopic", &[TOPIC]),
    ("pinChatMessage", &["business_connection_id:text chat_id!chat message_id!int disable_notification:bool"]),
    ("unpinChatMessage", &["business_connection_id:text chat_id!chat message_id:int"]),
    ("setMessageReaction", &["chat_id!chat message_id!int reaction:json is_big:bool"]),
    ("answerCallbackQuery", &["callback_query_id!text text:text show_alert:bool url:text cache_time:int"]),
    ("getFile", &["file_id!text"]),
    ("sendChatAction", &["business_connection_id:text chat_id!chat message_thread_id:int action!text"]),
    ("setMyCommands", &["commands!json scope:json language_code:text"]),
];

/// Parameters that the simulator does not implement. It refuses them: ignored, they would silently have no effect.
const NOT_SERVED: [&str; 7] = [
    "business_connection_id",
    "direct_messages_topic_id",
    "inline_message_id",
    "message_effect_id",
    "suggested_post_parameters",
    "rich_message",
    "certificate",
];

/// A method: its proper name and its parameters.
pub(crate) struct Method {
    pub(crate) name: &'static str,
    pub(crate) parameters: BTreeMap<&'static str, (Kind, bool)>,
}

/// Finds a method by name; as in the real service, letter case does not matter.
pub(crate) fn method(name: &str) -> Option<Method> {
    let (name, groups) = METHODS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
    let parameters = groups.iter().flat_map(|group| group.split_whitespace()).filter_map(|parameter| {
        let at = parameter.find(['!', ':'])?;
        Some((&parameter[..at], (kind(&parameter[at + 1..])?, parameter[at..].starts_with('!'))))
    });
    Some(Method { name, parameters: parameters.collect() })
}

/// The names of all methods.
#[cfg(test)]
pub(crate) fn methods() -> impl Iterator<Item = &'static str> {
    METHODS.iter().map(|(name, _)| *name)
}

fn kind(name: &str) -> Option<Kind> {
    Some(match name {
        "int" => Kind::Int,
        "float" => Kind::Float,
        "bool" => Kind::Bool,
        "text" => Kind::Text,
        "chat" => Kind::Chat,
        "json" => Kind::Json,
        "file" => Kind::File,
        _ => return None,
    })
}

impl Method {
    /// Checks names and types, and parses values that came as text.
    pub(crate) fn check(&self, given: Map<String, Value>, uploads: &[&str]) -> Result<Map<String, Value>, Refusal> {
        let mut checked = Map::new();
        for (name, value) in given {
            let Some((kind, _)) = self.parameters.get(name.as_str()) else {
                return Err(Refusal::bad_request(&format!("{} takes no parameter \"{name}\"", self.name)));
            };
            if NOT_SERVED.contains(&name.as_str()) {
                return Err(Refusal::bad_request(&format!("the simulator does not serve \"{name}\"")));
            }
            let wrong = || Refusal::bad_request(&format!("parameter \"{name}\" must be of type {kind:?}"));
            let value = read(*kind, value).ok_or_else(wrong)?;
            checked.insert(name, value);
        }
        for (name, (_, required)) in &self.parameters {
            if *required && !checked.contains_key(*name) && !uploads.contains(name) {
                return Err(Refusal::bad_request(&missing(name)));
            }
        }
        Ok(checked)
    }
}

/// The refusal for a missing parameter. The real service words the most frequent ones differently.
fn missing(name: &str) -> String {
    match name {
        "chat_id" => "chat_id is empty".to_owned(),
        "text" => "message text is empty".to_owned(),
        "photo" | "document" | "voice" => format!("there is no {name} in the request"),
        _ => format!("parameter \"{name}\" is required"),
    }
}

fn read(kind: Kind, value: Value) -> Option<Value> {
    match (kind, value) {
        (Kind::Int, Value::String(text)) => text.parse::<i64>().ok().map(Value::from),
        (Kind::Int | Kind::Chat, value) if value.is_i64() => Some(value),
        (Kind::Float, Value::String(text)) => text.parse::<f64>().ok().map(Value::from),
        (Kind::Float, value) if value.is_number() => Some(value),
        (Kind::Bool, Value::String(text)) => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "1" => Some(Value::Bool(true)),
            "false" | "no" | "0" => Some(Value::Bool(false)),
            _ => None,
        },
        (Kind::Bool, value) if value.is_boolean() => Some(value),
        (Kind::Text | Kind::File, value) if value.is_string() => Some(value),
        (Kind::Chat, Value::String(text)) => Some(text.parse::<i64>().map_or(Value::String(text), Value::from)),
        (Kind::Json, Value::String(text)) => {
            serde_json::from_str(&text).ok().filter(|value: &Value| value.is_object() || value.is_array())
        }
        (Kind::Json, value) if value.is_object() || value.is_array() => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn spec() -> Option<Value> {
        let folder = std::env::var_os("TUBERRY_SPECS")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/specs"), PathBuf::from);
        let text = std::fs::read_to_string(folder.join("telegram-bot-api.json")).ok()?;
        serde_json::from_str(&text).ok()
    }

    fn fits(kind: Kind, types: &[&str]) -> bool {
        match kind {
            Kind::Int => types == ["Integer"],
            Kind::Float => types == ["Float"],
            Kind::Bool => types == ["Boolean"],
            Kind::Text => types == ["String"],
            Kind::Chat => types == ["Integer", "String"],
            Kind::File => types == ["InputFile", "String"] || types == ["InputFile"],
            Kind::Json => types.iter().all(|name| !["Integer", "Float", "Boolean", "String"].contains(name)),
        }
    }

    #[test]
    fn every_method_takes_exactly_what_the_specification_says() {
        let Some(spec) = spec() else {
            eprintln!("skipped: the Bot API specification is not on this machine");
            return;
        };
        for name in methods() {
            let ours = method(name).expect("a method of the table").parameters;
            let fields = spec["methods"][name].get("fields").and_then(Value::as_array).cloned().unwrap_or_default();
            assert!(spec["methods"].get(name).is_some(), "{name} is no method of the Bot API");
            for field in &fields {
                let field_name = field["name"].as_str().expect("a name");
                let types = field["types"].as_array().expect("types");
                let types: Vec<&str> = types.iter().filter_map(Value::as_str).collect();
                let (kind, required) =
                    ours.get(field_name).unwrap_or_else(|| panic!("{name}: {field_name} is missing"));
                assert!(fits(*kind, &types), "{name}: {field_name} is {types:?}, not {kind:?}");
                assert_eq!(field["required"].as_bool(), Some(*required), "{name}: {field_name} required");
            }
            assert_eq!(ours.len(), fields.len(), "{name} takes parameters that the Bot API does not know");
        }
    }
}
