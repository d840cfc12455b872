//! Reads a call in any of the forms the Bot API takes: query, form, JSON or multipart.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::{FromRequest, Multipart};
use axum::http::{Request, header};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::error::Refusal;

/// The real service takes 50 MB of file and some text around it.
const MAX_BODY_BYTES: usize = 52 * 1024 * 1024;

/// An uploaded or fetched file.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    pub(crate) name: String,
    pub(crate) mime: String,
    pub(crate) bytes: Bytes,
}

/// The parameters of a call. Files stand under the name of their part, fetched ones under their address.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params {
    pub(crate) values: Map<String, Value>,
    pub(crate) files: BTreeMap<String, Upload>,
}

impl Params {
    /// Parameters given as one JSON object.
    pub(crate) fn of(values: Map<String, Value>) -> Self {
        Self { values, files: BTreeMap::new() }
    }

    /// A whole number.
    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        self.values.get(name)?.as_i64()
    }

    /// A text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.as_str()
    }

    /// A yes or no; no when absent.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.values.get(name).and_then(Value::as_bool).unwrap_or_default()
    }

    /// The names of the uploaded parts.
    pub(crate) fn parts(&self) -> Vec<&str> {
        self.files.keys().map(String::as_str).collect()
    }

    /// The parameters for the record: files by name and size.
    pub(crate) fn recorded(&self) -> Value {
        let mut shown = self.values.clone();
        for (name, file) in &self.files {
            shown.insert(name.clone(), json!({ "file": file.name, "bytes": file.bytes.len() }));
        }
        Value::Object(shown)
    }
}

/// Reads the parameters, as they were given.
pub(crate) async fn read(request: Request<Body>) -> Result<Params, Refusal> {
    let mut params = Params::default();
    if let Some(query) = request.uri().query() {
        add_form(&mut params, query.as_bytes())?;
    }
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind == "multipart/form-data" {
        let multipart = Multipart::from_request(request, &()).await.map_err(|_| unreadable())?;
        add_parts(&mut params, multipart).await?;
        return Ok(params);
    }
    let body =
        axum::body::to_bytes(request.into_body(), MAX_BODY_BYTES).await.map_err(|_| Refusal::status(413, None))?;
    match kind.as_str() {
        _ if body.is_empty() => {}
        "application/json" => {
            let given: Map<String, Value> =
                serde_json::from_slice(&body).map_err(|_| Refusal::bad_request("object expected as the JSON body"))?;
            for (name, value) in given {
                insert(&mut params, name, value)?;
            }
        }
        "application/x-www-form-urlencoded" => add_form(&mut params, &body)?,
        _ => return Err(Refusal::bad_request("unsupported content type of the body")),
    }
    Ok(params)
}

fn add_form(params: &mut Params, form: &[u8]) -> Result<(), Refusal> {
    for (name, value) in url::form_urlencoded::parse(form) {
        insert(params, name.into_owned(), Value::String(value.into_owned()))?;
    }
    Ok(())
}

fn insert(params: &mut Params, name: String, value: Value) -> Result<(), Refusal> {
    if params.values.contains_key(&name) {
        return Err(Refusal::bad_request(&format!("parameter \"{name}\" is given twice")));
    }
    params.values.insert(name, value);
    Ok(())
}

async fn add_parts(params: &mut Params, mut multipart: Multipart) -> Result<(), Refusal> {
    while let Some(part) = multipart.next_field().await.map_err(|_| unreadable())? {
        let name = part.name().unwrap_or_default().to_owned();
        let file = part.file_name().map(str::to_owned);
        let mime = part.content_type().unwrap_or("application/octet-stream").to_owned();
        let bytes = part.bytes().await.map_err(|_| unreadable())?;
        if let Some(file) = file {
            params.files.insert(name, Upload { name: file, mime, bytes });
        } else {
            let text = String::from_utf8(bytes.to_vec());
            let text = text.map_err(|_| Refusal::bad_request("strings must be encoded in UTF-8"))?;
            insert(params, name, Value::String(text))?;
        }
    }
    Ok(())
}

fn unreadable() -> Refusal {
    Refusal::bad_request("can't read the multipart body")
}
