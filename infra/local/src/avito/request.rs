//! The paths that are served, and the calls on them: query and body are checked against the parameters of the method.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::{FromRequest, Multipart};
use axum::http::{Method, Request, header};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::error::Refusal;

const MAX_BODY_BYTES: usize = 26 * 1024 * 1024;

/// A call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Call {
    /// Its name in records and faults.
    pub(crate) name: &'static str,
    pub(crate) user_id: Option<i64>,
    pub(crate) chat: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) body: Map<String, Value>,
    /// Parts of a multipart body: name, media type, bytes.
    pub(crate) parts: Vec<(String, String, Bytes)>,
}

/// Finds the method of a path. The trailing slash of `messages/` is part of it.
pub(crate) fn route(method: &Method, path: &str) -> Option<Call> {
    let segments: Vec<String> = path.trim_start_matches('/').split('/').map(decoded).collect::<Option<_>>()?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let named = |name| Call { name, ..Call::default() };
    let of = |name, user: &str| Some(Call { user_id: Some(user.parse().ok()?), ..named(name) });
    let in_chat = |name, user, chat: &str| Some(Call { chat: Some(chat.to_owned()), ..of(name, user)? });
    match (method.as_str(), segments.as_slice()) {
        ("POST", ["token"]) => Some(named("token")),
        ("GET", ["core", "v1", "accounts", "self"]) => Some(named("self")),
        ("POST", ["messenger", "v3", "webhook"]) => Some(named("webhook.register")),
        ("POST", ["messenger", "v1", "webhook", "unsubscribe"]) => Some(named("webhook.unsubscribe")),
        ("POST", ["messenger", "v1", "subscriptions"]) => Some(named("subscriptions")),
        ("GET", ["messenger", "v1", "accounts", user, "getVoiceFiles"]) => of("voices", user),
        ("POST", ["messenger", "v1", "accounts", user, "uploadImages"]) => of("images.upload", user),
        ("POST", ["messenger", "v2", "accounts", user, "blacklist"]) => of("blacklist", user),
        ("GET", ["messenger", "v2", "accounts", user, "chats"]) => of("chats.list", user),
        ("GET", ["messenger", "v2", "accounts", user, "chats", chat]) => in_chat("chats.get", user, chat),
        ("GET", ["messenger", "v3", "accounts", user, "chats", chat, "messages", ""]) => {
            in_chat("messages.list", user, chat)
        }
        ("POST", ["messenger", "v1", "accounts", user, "chats", chat, "read"]) => in_chat("chat.read", user, chat),
        ("POST", ["messenger", "v1", "accounts", user, "chats", chat, "messages"]) => {
            in_chat("messages.send", user, chat)
        }
        ("POST", ["messenger", "v1", "accounts", user, "chats", chat, "messages", "image"]) => {
            in_chat("messages.image", user, chat)
        }
        ("POST", ["messenger", "v1", "accounts", user, "chats", chat, "messages", message]) if !message.is_empty() => {
            Some(Call { message: Some((*message).to_owned()), ..in_chat("messages.delete", user, chat)? })
        }
        _ => None,
    }
}

fn decoded(segment: &str) -> Option<String> {
    // A plus in a path is a plus; only the form reader takes it for a space.
    let pair = format!("={}", segment.replace('+', "%2B").replace('&', "%26"));
    url::form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned())
}

/// The parameters of each method, in its query and in its body. `!`: required.
fn takes(name: &str) -> (&'static [&'static str], &'static [&'static str]) {
    match name {
        "token" => (&[], &["grant_type!", "client_id!", "client_secret!"]),
        "chats.list" => (&["limit", "offset", "unread_only", "chat_types", "item_ids"], &[]),
        "messages.list" => (&["limit", "offset"], &[]),
        "voices" => (&["voice_ids!"], &[]),
        "messages.send" => (&[], &["message!", "type!"]),
        "messages.image" => (&[], &["image_id!"]),
        "webhook.register" | "webhook.unsubscribe" => (&[], &["url!"]),
        "blacklist" => (&[], &["users!"]),
        _ => (&[], &[]),
    }
}

impl Call {
    /// Reads query and body.
    pub(crate) async fn read(mut self, request: Request<Body>) -> Result<Self, Refusal> {
        let token = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        self.token = token.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned);
        if let Some(query) = request.uri().query() {
            self.query = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        }
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if self.name == "images.upload" {
            self.parts = parts(request).await.ok_or_else(|| Refusal::invalid("uploadfile[]", "multipart expected"))?;
            return Ok(self);
        }
        let body = axum::body::to_bytes(request.into_body(), MAX_BODY_BYTES).await;
        let body = body.map_err(|_| Refusal::new(413, "Request entity too large"))?;
        let wants_form = self.name == "token";
        match kind.as_str() {
            _ if body.is_empty() => {}
            "application/x-www-form-urlencoded" if wants_form => {
                let pairs = url::form_urlencoded::parse(&body);
                self.body = pairs.map(|(name, value)| (name.into_owned(), json!(value))).collect();
            }
            "application/json" if !wants_form => {
                self.body = serde_json::from_slice(&body).map_err(|_| Refusal::invalid("body", "object expected"))?;
            }
            _ => return Err(Refusal::new(400, "Unexpected content type")),
        }
        Ok(self)
    }

    /// Refuses unknown and missing members.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let (query, body) = takes(self.name);
        check_names(query, self.query.keys())?;
        check_names(body, self.body.keys())
    }

    /// A number of the query within bounds.
    pub(crate) fn number(&self, name: &str, default: usize, least: usize, most: usize) -> Result<usize, Refusal> {
        let Some(text) = self.query.get(name) else { return Ok(default) };
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| Refusal::invalid(name, &format!("must be from {least} to {most}")))
    }

    /// Names of the query's list.
    pub(crate) fn list(&self, name: &str) -> Option<Vec<&str>> {
        Some(self.query.get(name)?.split(',').filter(|entry| !entry.is_empty()).collect())
    }

    /// A text of the body.
    pub(crate) fn text(&self, name: &str) -> Result<&str, Refusal> {
        let text = self.body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        text.ok_or_else(|| Refusal::invalid(name, "must be a non-empty string"))
    }

    /// The call for the record, without the account's secret.
    pub(crate) fn recorded(&self) -> Value {
        let mut shown: Map<String, Value> =
            self.query.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        shown.extend(self.body.clone());
        if shown.contains_key("client_secret") {
            shown.insert("client_secret".to_owned(), json!("***"));
        }
        for (name, mime, bytes) in &self.parts {
            shown.insert(name.clone(), json!({ "file": mime, "bytes": bytes.len() }));
        }
        if let Some(message) = &self.message {
            shown.insert("message_id".to_owned(), json!(message));
        }
        Value::Object(shown)
    }
}

fn check_names<'a>(known: &[&str], mut given: impl Iterator<Item = &'a String> + Clone) -> Result<(), Refusal> {
    let bare = |name: &str| name.trim_end_matches('!').to_owned();
    for required in known.iter().filter(|name| name.ends_with('!')).map(|name| bare(name)) {
        if !given.clone().any(|name| *name == required) {
            return Err(Refusal::invalid(&required, "is required"));
        }
    }
    match given.find(|name| !known.iter().any(|known| bare(known) == **name)) {
        Some(unknown) => Err(Refusal::invalid(unknown, "is unknown")),
        None => Ok(()),
    }
}

async fn parts(request: Request<Body>) -> Option<Vec<(String, String, Bytes)>> {
    let mut multipart = Multipart::from_request(request, &()).await.ok()?;
    let mut parts = Vec::new();
    while let Some(part) = multipart.next_field().await.ok()? {
        let name = part.name().unwrap_or_default().to_owned();
        let mime = part.content_type().unwrap_or("application/octet-stream").to_owned();
        parts.push((name, mime, part.bytes().await.ok()?));
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    fn spec() -> Option<Value> {
        let folder = std::env::var_os("TUBERRY_SPECS")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/specs"), PathBuf::from);
        let text = std::fs::read_to_string(folder.join("avito-messenger.openapi.json")).ok()?;
        serde_json::from_str(&text).ok()
    }

    #[test]
    fn every_operation_of_the_messenger_is_served_and_takes_the_query_of_the_specification() {
        let Some(spec) = spec() else {
            eprintln!("skipped: the specification of the messenger is not on this machine");
            return;
        };
        for (path, operations) in spec["paths"].as_object().expect("paths") {
            let filled = path.replace("{user_id}", "1").replace("{chat_id}", "u2i-1").replace("{message_id}", "ab");
            let verb = if operations.get("get").is_some() { Method::GET } else { Method::POST };
            let call = route(&verb, &filled).unwrap_or_else(|| panic!("{verb} {path} is not served"));
            let named = |parameter: &Value| {
                let reference = parameter["$ref"].as_str().expect("a reference").trim_start_matches('#');
                spec.pointer(reference).cloned().expect("a parameter")
            };
            let parameters = operations["parameters"].as_array().expect("parameters").iter().map(named);
            let query: BTreeSet<String> = parameters
                .filter(|parameter| parameter["in"] == "query")
                .map(|parameter| {
                    let suffix = if parameter["required"] == true { "!" } else { "" };
                    format!("{}{suffix}", parameter["name"].as_str().expect("a name"))
                })
                .collect();
            let ours: BTreeSet<String> = takes(call.name).0.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(ours, query, "{verb} {path}");
        }
    }

    #[test]
    fn the_trailing_slash_of_the_message_list_and_escaped_chat_ids_count() {
        let path = "/messenger/v3/accounts/7/chats/u2i-a%7Eb_c-d/messages";
        assert!(route(&Method::GET, path).is_none());
        let call = route(&Method::GET, &format!("{path}/")).expect("a route");
        assert_eq!((call.chat.as_deref(), call.user_id), (Some("u2i-a~b_c-d"), Some(7)));
    }
}
