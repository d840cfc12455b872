//! A bot's calls: frankenstein names the methods and their parameters, the transport is ours.
//! Its own client prints whole answers in errors, knows no status and uploads only from a disk.

use std::{fmt, path::PathBuf, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use frankenstein::{AsyncTelegramApi, response::MethodResponse};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{
    RequestBuilder, header,
    multipart::{Form, Part},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use url::Url;

use super::error::Error;
use crate::platform::{json, secrets::Secret};

/// The most time a call takes, from connecting to the last byte of the answer.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest file that Telegram gives to bots (Bot API, `getFile`).
pub const MAX_DOWNLOAD_BYTES: usize = 20 * 1024 * 1024;

/// The characters of a token. Any other one in it, typed by a person, must not lead to another address.
const TOKEN: &AsciiSet = &NON_ALPHANUMERIC.remove(b':').remove(b'-').remove(b'_');

/// One bot. All methods of the Bot API are those of [`AsyncTelegramApi`]; [`Bot::call`] and [`Bot::upload`] read as
/// much of a result as the caller needs.
#[derive(Clone)]
pub struct Bot {
    http: reqwest::Client,
    api_base: Url,
    pub(super) token: Secret,
    timeout: Duration,
}

/// A file in memory. The parameters refer to it as `attach://<name>`.
pub struct Attachment {
    /// Its name in the parameters.
    pub name: String,
    /// Its name in Telegram.
    pub file_name: String,
    /// Its bytes.
    pub bytes: Bytes,
}

/// The fields that we read of a sent message. The full type refuses a message with any word that is new to it, and then
/// a message that was sent would count as lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Sent {
    /// Its id in the chat.
    pub message_id: i64,
    /// Its chat; another one than requested if the group has moved.
    pub chat: SentTo,
    /// Its topic. None: it is in no topic.
    #[serde(default)]
    pub message_thread_id: Option<i64>,
}

/// The chat that a message was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct SentTo {
    /// The chat's id.
    pub id: i64,
}

/// A file that Telegram stores, as `getFile` describes it.
#[derive(Deserialize)]
struct StoredFile {
    file_path: Option<String>,
}

/// The characters that stay as they are in a file's path.
const FILE_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.');

impl Bot {
    /// Calls the API at `api_base` as the bot of `token`, with `http`, which should follow no redirects and bound the
    /// time to connect.
    pub fn new(http: reqwest::Client, api_base: Url, token: Secret) -> Self {
        Self { http, api_base, token, timeout: CALL_TIMEOUT }
    }

    /// Sets a shorter timeout, for tests.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Calls `method` and reads its result as `T`, usually [`Sent`].
    pub async fn call<P: Serialize + Sync, T: DeserializeOwned>(&self, method: &str, params: &P) -> Result<T, Error> {
        let request = self.post(method).json(params);
        self.send::<MethodResponse<T>>(request).await.map(|response| response.result)
    }

    /// As [`Bot::call`], with files to which the parameters refer as `attach://<name>`.
    pub async fn upload<P: Serialize + Sync, T: DeserializeOwned>(
        &self,
        method: &str,
        params: &P,
        files: Vec<Attachment>,
    ) -> Result<T, Error> {
        let request = self.post(method).multipart(form(params, files)?);
        self.send::<MethodResponse<T>>(request).await.map(|response| response.result)
    }

    /// The address of a file that a person sent, valid for an hour. The address contains the token.
    pub async fn file_address(&self, file_id: &str) -> Result<Secret, Error> {
        let file: StoredFile = self.call("getFile", &json!({ "file_id": file_id })).await?;
        let path = file.file_path.filter(|path| !path.split('/').any(|part| part == "..")).ok_or(Error::Unreadable)?;
        let base = self.api_base.as_str().trim_end_matches('/');
        let token = utf8_percent_encode(self.token.expose(), TOKEN);
        Ok(Secret::new(format!("{base}/file/bot{token}/{}", utf8_percent_encode(&path, FILE_PATH))))
    }

    fn post(&self, method: &str) -> RequestBuilder {
        let base = self.api_base.as_str().trim_end_matches('/');
        let token = utf8_percent_encode(self.token.expose(), TOKEN);
        self.http.post(format!("{base}/bot{token}/{method}"))
    }

    async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Error> {
        let response = request.timeout(self.timeout).send().await.map_err(Error::from_transport)?;
        let status = response.status();
        let retry_after =
            response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = response.bytes().await.map_err(Error::from_transport)?;
        if !status.is_success() {
            return Err(Error::from_answer(status.as_u16(), retry_after.map(Duration::from_secs), &body));
        }
        json::read(&body).and_then(serde_json::from_value).map_err(|_| misread(status.as_u16(), &body))
    }
}

/// The error of an unexpected answer under a status of success.
fn misread(status: u16, body: &[u8]) -> Error {
    match json::read(body).map(|body| body["ok"].as_bool()) {
        Ok(Some(true)) => Error::Unreadable,
        Ok(Some(false)) => Error::from_answer(status, None, body),
        Ok(None) | Err(_) => Error::Unknown(None),
    }
}

/// The parameters as fields of a form, each as the Bot API wants it, and the files behind them.
fn form<P: Serialize>(params: &P, files: Vec<Attachment>) -> Result<Form, Error> {
    let mut form = Form::new();
    if let Value::Object(fields) = serde_json::to_value(params).map_err(not_sent)? {
        for (name, value) in fields {
            form = match value {
                Value::Null => form,
                Value::String(text) => form.text(name, text),
                other => form.text(name, other.to_string()),
            };
        }
    }
    for file in files {
        form = form.part(file.name, Part::stream(file.bytes).file_name(file.file_name));
    }
    Ok(form)
}

fn not_sent(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::NotSent(error.into())
}

#[async_trait]
impl AsyncTelegramApi for Bot {
    type Error = Error;

    async fn request<Params, Output>(&self, method: &str, params: Option<Params>) -> Result<Output, Error>
    where
        Params: Serialize + fmt::Debug + Send,
        Output: DeserializeOwned,
    {
        let request = self.post(method);
        self.send(match params {
            Some(params) => request.json(&params),
            None => request,
        })
        .await
    }

    /// Uploads files on a disk; the trait's methods do so when they are given paths.
    async fn request_with_form_data<Params, Output>(
        &self,
        method: &str,
        params: Params,
        files: Vec<(&str, PathBuf)>,
    ) -> Result<Output, Error>
    where
        Params: Serialize + fmt::Debug + Send,
        Output: DeserializeOwned,
    {
        let mut fields = serde_json::to_value(&params).map_err(not_sent)?;
        let mut attachments = Vec::new();
        for (name, path) in files {
            if let Some(fields) = fields.as_object_mut() {
                fields.remove(name);
            }
            let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let bytes = std::fs::read(&path).map_err(not_sent)?.into();
            attachments.push(Attachment { name: name.to_owned(), file_name, bytes });
        }
        let request = self.post(method).multipart(form(&fields, attachments)?);
        self.send(request).await
    }
}
