//! The calls. Each is one request with a timeout; the callers repeat calls, renew tokens and count rate limits.
//! Long because each of Avito's calls is a method of its own here.

use std::{collections::BTreeMap, time::Duration};

use bytes::{Bytes, BytesMut};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{
    Method, RequestBuilder, StatusCode, header,
    multipart::{Form, Part},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use url::Url;

use super::{
    chat::{Chat, ChatsPage},
    error::Error,
    lenient,
    message::{self, Message},
};
use crate::platform::{json, limits, secrets::Secret};

/// The most time a call takes, from connecting to the last byte of the answer.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The assumed life of a token if Avito does not say; it usually says a day.
const TOKEN_LIFE_SECONDS: u64 = 3600;

/// The characters that stay as they are in a path segment: chat ids look like `u2i-eaK3~9_…`.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~').remove(b'.');

/// Avito's number for another reason to block a person than those that it lists.
const OTHER_REASON: i64 = 4;

const RATE_LIMIT: &str = "x-ratelimit-limit";
const RATE_LIMIT_REMAINING: &str = "x-ratelimit-remaining";

/// The most chats or messages of one page (Avito Messenger API, `limit`).
pub const MAX_PAGE_SIZE: u16 = 100;

/// Avito's API, for the account that a call's token belongs to.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    timeout: Duration,
}

/// An answer, and the calls that Avito still allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<T> {
    /// The requested value.
    pub value: T,
    /// The calls still allowed. None: Avito does not say.
    pub rate_limit: Option<RateLimit>,
}

/// The number of calls that Avito allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// `X-RateLimit-Remaining`: the calls left in this minute.
    pub remaining: u32,
    /// `X-RateLimit-Limit`: the calls of every minute.
    pub limit: Option<u32>,
}

/// The right to act for an account for a while.
#[derive(Clone)]
pub struct Token {
    /// The text that each call carries.
    pub access_token: Secret,
    /// The life of the token.
    pub expires_in: Duration,
}

/// The account that a token belongs to.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Account {
    /// The `user_id` of all other calls.
    #[serde(deserialize_with = "lenient::id")]
    pub id: i64,
    /// Its name.
    #[serde(default, deserialize_with = "lenient::text")]
    pub name: Option<String>,
    /// Its e-mail address.
    #[serde(default, deserialize_with = "lenient::text")]
    pub email: Option<String>,
    /// Its telephone number.
    #[serde(default, deserialize_with = "lenient::text")]
    pub phone: Option<String>,
    /// Its public page.
    #[serde(default, deserialize_with = "lenient::text")]
    pub profile_url: Option<String>,
}

/// The filter and the page of a list of chats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ChatsQuery {
    /// True: only chats with unread messages.
    pub unread_only: bool,
    /// `u2i`, `u2u`, `a2u`, separated by commas.
    pub chat_types: &'static str,
    /// The size of the page, 1–100.
    pub limit: u16,
    /// The number of chats before the page, 0–1000.
    pub offset: u16,
}

impl Default for ChatsQuery {
    /// The first hundred chats with people, read or not.
    fn default() -> Self {
        Self { unread_only: false, chat_types: "u2i,u2u", limit: 100, offset: 0 }
    }
}

/// An address that Avito posts messages to. It contains our secret, so it has no `Debug`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Subscription {
    /// The address.
    #[serde(deserialize_with = "lenient::key")]
    pub url: String,
    /// The version of the webhook.
    #[serde(default, deserialize_with = "lenient::text")]
    pub version: Option<String>,
}

/// The effect of a call. If it changes something, an unreadable answer does not mean that nothing was done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    Reads,
    Changes,
}

impl Client {
    /// Calls the API at `base` with `http`, which should follow no redirects and bound the time to connect.
    pub fn new(http: reqwest::Client, base: Url) -> Self {
        Self { http, base, timeout: CALL_TIMEOUT }
    }

    /// Sets a shorter timeout, for tests.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Requests a token for the account that the keys belong to.
    pub async fn token(&self, client_id: &str, client_secret: &Secret) -> Result<Token, Error> {
        let form =
            [("grant_type", "client_credentials"), ("client_id", client_id), ("client_secret", client_secret.expose())];
        let answer = self.send(self.request(Method::POST, "/token").form(&form)).await?;
        // Avito refuses under status 200 too, so only a token counts as success.
        let body = json::read(&answer.body).unwrap_or(Value::Null);
        let Some(access_token) = body["access_token"].as_str().filter(|token| !token.is_empty()) else {
            return Err(answer.refusal(&body));
        };
        let expires_in = Duration::from_secs(body["expires_in"].as_u64().unwrap_or(TOKEN_LIFE_SECONDS));
        let expires_in = limits::cut("expires_in", expires_in, &limits::TOKEN_LIFE);
        Ok(Token { access_token: Secret::new(access_token.to_owned()), expires_in })
    }

    /// The account that `token` belongs to.
    pub async fn own_account(&self, token: &Secret) -> Result<Reply<Account>, Error> {
        self.call(self.request(Method::GET, "/core/v1/accounts/self"), token, Effect::Reads).await
    }

    /// A page of the account's chats, newest activity first.
    pub async fn chats(&self, token: &Secret, user_id: i64, query: &ChatsQuery) -> Result<Reply<ChatsPage>, Error> {
        let path = format!("/messenger/v2/accounts/{user_id}/chats");
        let reply: Reply<Chats> =
            self.call(self.request(Method::GET, &path).query(query), token, Effect::Reads).await?;
        let Chats { chats, meta } = reply.value;
        Ok(Reply { value: ChatsPage { chats, has_more: meta.has_more }, rate_limit: reply.rate_limit })
    }

    /// One chat, with the names that webhooks leave out.
    pub async fn chat(&self, token: &Secret, user_id: i64, chat_id: &str) -> Result<Reply<Chat>, Error> {
        let path = format!("/messenger/v2/accounts/{user_id}/chats/{}", segment(chat_id)?);
        self.call(self.request(Method::GET, &path), token, Effect::Reads).await
    }

    /// The chat's messages, newest first. They stay unread.
    pub async fn messages(
        &self,
        token: &Secret,
        user_id: i64,
        chat_id: &str,
        limit: u16,
        offset: u16,
    ) -> Result<Reply<Vec<Message>>, Error> {
        // Without its last slash this would be another address.
        let path = format!("/messenger/v3/accounts/{user_id}/chats/{}/messages/", segment(chat_id)?);
        let request = self.request(Method::GET, &path).query(&[("limit", limit), ("offset", offset)]);
        let reply: Reply<Messages> = self.call(request, token, Effect::Reads).await?;
        let (Messages::Bare(List(value)) | Messages::Wrapped { messages: List(value) }) = reply.value;
        Ok(Reply { value, rate_limit: reply.rate_limit })
    }

    /// Sends a text of at most 1,000 characters.
    pub async fn send_text(
        &self,
        token: &Secret,
        user_id: i64,
        chat_id: &str,
        text: &str,
    ) -> Result<Reply<Message>, Error> {
        let path = format!("/messenger/v1/accounts/{user_id}/chats/{}/messages", segment(chat_id)?);
        let body = json!({ "message": { "text": text }, "type": "text" });
        self.call(self.request(Method::POST, &path).json(&body), token, Effect::Changes).await
    }

    /// Uploads a picture of at most 24 MB: JPEG, HEIC, GIF, BMP or PNG. Returns its id; no chat shows it yet.
    pub async fn upload_image(
        &self,
        token: &Secret,
        user_id: i64,
        name: &str,
        bytes: Bytes,
    ) -> Result<Reply<String>, Error> {
        let path = format!("/messenger/v1/accounts/{user_id}/uploadImages");
        let form = Form::new().part("uploadfile[]", Part::stream(bytes).file_name(name.to_owned()));
        let reply: Reply<BTreeMap<String, Value>> =
            self.call(self.request(Method::POST, &path).multipart(form), token, Effect::Changes).await?;
        let id = reply.value.into_keys().next().ok_or(Error::Unknown(None))?;
        Ok(Reply { value: id, rate_limit: reply.rate_limit })
    }

    /// Sends a picture that was uploaded before.
    pub async fn send_image(
        &self,
        token: &Secret,
        user_id: i64,
        chat_id: &str,
        image_id: &str,
    ) -> Result<Reply<Message>, Error> {
        let path = format!("/messenger/v1/accounts/{user_id}/chats/{}/messages/image", segment(chat_id)?);
        let body = json!({ "image_id": image_id });
        self.call(self.request(Method::POST, &path).json(&body), token, Effect::Changes).await
    }

    /// The address of a voice message's file, valid for an hour. None: Avito has no such file.
    pub async fn voice_file(
        &self,
        token: &Secret,
        user_id: i64,
        voice_id: &str,
    ) -> Result<Reply<Option<String>>, Error> {
        let path = format!("/messenger/v1/accounts/{user_id}/getVoiceFiles");
        let request = self.request(Method::GET, &path).query(&[("voice_ids", voice_id)]);
        let mut reply: Reply<VoiceFiles> = self.call(request, token, Effect::Reads).await?;
        Ok(Reply { value: reply.value.voices_urls.remove(voice_id), rate_limit: reply.rate_limit })
    }

    /// Deletes a message of the account that is not older than an hour. It stays in the chat as deleted.
    pub async fn delete_message(
        &self,
        token: &Secret,
        user_id: i64,
        chat_id: &str,
        message_id: &str,
    ) -> Result<Reply<()>, Error> {
        let (chat, message) = (segment(chat_id)?, segment(message_id)?);
        let path = format!("/messenger/v1/accounts/{user_id}/chats/{chat}/messages/{message}");
        self.call::<Done>(self.request(Method::POST, &path), token, Effect::Changes).await.map(Reply::done)
    }

    /// Blocks a person for the account, for another reason than spam, fraud or insults. `item_id`: the advertisement
    /// that the chat is about.
    pub async fn block(
        &self,
        token: &Secret,
        user_id: i64,
        blocked: i64,
        item_id: Option<i64>,
    ) -> Result<Reply<()>, Error> {
        let mut context = json!({ "reason_id": OTHER_REASON });
        if let Some(item_id) = item_id {
            context["item_id"] = json!(item_id);
        }
        let body = json!({ "users": [{ "user_id": blocked, "context": context }] });
        let path = format!("/messenger/v2/accounts/{user_id}/blacklist");
        let request = self.request(Method::POST, &path).json(&body).bearer_auth(token.expose());
        let answer = self.send(request).await?;
        // A successful answer has no content.
        if answer.status.is_success() && answer.body.is_empty() {
            return Ok(Reply { value: (), rate_limit: answer.rate_limit });
        }
        answer.read::<Done>(Effect::Changes).map(Reply::done)
    }

    /// Marks the whole chat read; the buyer sees that.
    pub async fn mark_read(&self, token: &Secret, user_id: i64, chat_id: &str) -> Result<Reply<()>, Error> {
        let path = format!("/messenger/v1/accounts/{user_id}/chats/{}/read", segment(chat_id)?);
        self.call::<Done>(self.request(Method::POST, &path), token, Effect::Changes).await.map(Reply::done)
    }

    /// Has Avito post messages to `url`. An address that is already registered is no error.
    pub async fn register_webhook(&self, token: &Secret, url: &str) -> Result<Reply<()>, Error> {
        let request = self.request(Method::POST, "/messenger/v3/webhook").json(&json!({ "url": url }));
        match self.call::<Done>(request, token, Effect::Changes).await {
            Err(Error::Refused { status: 409, .. }) => Ok(Reply { value: (), rate_limit: None }),
            outcome => outcome.map(Reply::done),
        }
    }

    /// Has Avito post no more messages to `url`.
    pub async fn unsubscribe_webhook(&self, token: &Secret, url: &str) -> Result<Reply<()>, Error> {
        let request = self.request(Method::POST, "/messenger/v1/webhook/unsubscribe").json(&json!({ "url": url }));
        self.call::<Done>(request, token, Effect::Changes).await.map(Reply::done)
    }

    /// The addresses that Avito posts messages to.
    pub async fn subscriptions(&self, token: &Secret) -> Result<Reply<Vec<Subscription>>, Error> {
        let request = self.request(Method::POST, "/messenger/v1/subscriptions");
        let reply: Reply<Subscriptions> = self.call(request, token, Effect::Reads).await?;
        Ok(Reply { value: reply.value.subscriptions, rate_limit: reply.rate_limit })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.base.as_str().trim_end_matches('/'));
        self.http.request(method, url)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        token: &Secret,
        effect: Effect,
    ) -> Result<Reply<T>, Error> {
        self.send(request.bearer_auth(token.expose())).await?.read(effect)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Answer, Error> {
        let response = request.timeout(self.timeout).send().await.map_err(Error::from_transport)?;
        let header = |name: &str| response.headers().get(name)?.to_str().ok()?.trim().parse::<u32>().ok();
        let limit = header(RATE_LIMIT).map(|limit| limits::cut("calls_a_minute", limit, &limits::CALLS_A_MINUTE));
        let rate_limit = header(RATE_LIMIT_REMAINING)
            .map(|remaining| RateLimit { remaining: limits::cut("calls_left", remaining, &limits::CALLS_LEFT), limit });
        let retry_after = header(header::RETRY_AFTER.as_str())
            .map(|seconds| limits::cut("retry_after", Duration::from_secs(seconds.into()), &limits::WAIT));
        let status = response.status();
        let body = read_body(response).await?;
        Ok(Answer { status, rate_limit, retry_after, body })
    }
}

/// Reads the body of an answer. One that is too large is cut, and so cannot be read.
async fn read_body(mut response: reqwest::Response) -> Result<Bytes, Error> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(Error::from_transport)? {
        body.extend_from_slice(&chunk);
        if body.len() > limits::MAX_BODY {
            limits::count("body");
            break;
        }
    }
    Ok(body.freeze())
}

/// A whole answer, not yet parsed.
struct Answer {
    status: StatusCode,
    rate_limit: Option<RateLimit>,
    retry_after: Option<Duration>,
    body: Bytes,
}

impl Answer {
    fn read<T: DeserializeOwned>(self, effect: Effect) -> Result<Reply<T>, Error> {
        let unreadable = match effect {
            Effect::Reads => Error::Unavailable { status: self.status.as_u16() },
            Effect::Changes => Error::Unknown(None),
        };
        if !self.status.is_success() {
            return Err(Error::from_answer(self.status, self.retry_after, &self.body));
        }
        let Ok(mut body) = json::read(&self.body) else { return Err(unreadable) };
        if json::shorten(&mut body, limits::MAX_STRING) > 0 {
            limits::count("string");
        }
        if let Some(hidden) = Error::hidden_in(self.status, &body) {
            return Err(hidden);
        }
        let value = serde_json::from_value(body).map_err(|_| unreadable)?;
        Ok(Reply { value, rate_limit: self.rate_limit })
    }

    /// The reason that it contains no token.
    fn refusal(&self, body: &Value) -> Error {
        if !self.status.is_success() {
            return Error::from_answer(self.status, self.retry_after, &self.body);
        }
        let is_outage = matches!(body["error"].as_str(), Some("server_error" | "temporarily_unavailable"));
        Error::hidden_in(self.status, body)
            .filter(|_| !is_outage)
            .unwrap_or(Error::Unavailable { status: self.status.as_u16() })
    }
}

impl<T> Reply<T> {
    fn done(self) -> Reply<()> {
        Reply { value: (), rate_limit: self.rate_limit }
    }
}

/// Encodes `id` as one segment of a path. An id of dots only would climb the path, so it names no chat.
fn segment(id: &str) -> Result<String, Error> {
    if id.trim_matches('.').is_empty() {
        return Err(Error::Refused { status: 404, code: None, message: "no such chat".to_owned() });
    }
    Ok(utf8_percent_encode(id, SEGMENT).to_string())
}

#[derive(Deserialize)]
struct Chats {
    #[serde(deserialize_with = "lenient::list")]
    chats: Vec<Chat>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    meta: Meta,
}

#[derive(Default, Deserialize)]
struct Meta {
    has_more: Option<bool>,
}

#[derive(Deserialize)]
struct List(#[serde(deserialize_with = "message::list")] Vec<Message>);

/// A list of messages. The specification says a bare list; Avito wraps it as often.
#[derive(Deserialize)]
#[serde(untagged)]
enum Messages {
    Bare(List),
    Wrapped { messages: List },
}

#[derive(Deserialize)]
struct VoiceFiles {
    #[serde(default, deserialize_with = "lenient::or_default")]
    voices_urls: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Subscriptions {
    #[serde(deserialize_with = "lenient::list")]
    subscriptions: Vec<Subscription>,
}

/// `{"ok": true}`, or any other object that reports no failure.
#[derive(Deserialize)]
struct Done {}
