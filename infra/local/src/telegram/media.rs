//! Files: takes them (upload, address, id), decides by their bytes what they are, and serves them. Only addresses on
//! this machine are fetched: a simulator must not call the internet.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Response, StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};

use super::error::Refusal;
use super::posts;
use super::request::{Params, Upload};
use super::state::{StoredFile, TelegramState};
use crate::calls::Target;
use crate::faults::Subject;
use crate::files;
use crate::pictures;
use crate::world::World;

const MEGABYTE: usize = 1024 * 1024;
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Fetches the files that a call gives by address, before the state is locked.
pub(crate) async fn fetch(client: &reqwest::Client, method: &str, params: &mut Params) -> Result<(), Refusal> {
    let mut addresses = Vec::new();
    for (field, most) in [("photo", 5), ("document", 20), ("voice", 20)] {
        addresses.extend(params.text(field).map(|address| (address.to_owned(), most)));
    }
    for item in params.values.get("media").and_then(Value::as_array).into_iter().flatten() {
        let most = if item["type"] == "photo" { 5 } else { 20 };
        addresses.extend(item["media"].as_str().map(|address| (address.to_owned(), most)));
    }
    let fetched = addresses.into_iter().filter(|(address, _)| address.starts_with("http"));
    for (index, (address, most)) in fetched.collect::<Vec<_>>().into_iter().enumerate() {
        let Some(upload) = get(client, &address, most * MEGABYTE).await else {
            return Err(Refusal::bad_request(&if method == "sendMediaGroup" {
                format!("failed to send message #{} with the error message \"WEBPAGE_CURL_FAILED\"", index + 1)
            } else {
                "failed to get HTTP URL content".to_owned()
            }));
        };
        params.files.insert(address, upload);
    }
    Ok(())
}

async fn get(client: &reqwest::Client, address: &str, most: usize) -> Option<Upload> {
    let url = url::Url::parse(address).ok()?;
    if !matches!(url.host_str(), Some("127.0.0.1" | "localhost")) {
        return None;
    }
    let name = url.path_segments().and_then(Iterator::last).unwrap_or("file").to_owned();
    let answer = client.get(url).timeout(FETCH_TIMEOUT).send().await.ok()?.error_for_status().ok()?;
    let mime = answer.headers().get(header::CONTENT_TYPE).and_then(|mime| mime.to_str().ok());
    let mime = mime.unwrap_or("application/octet-stream").to_owned();
    let bytes = answer.bytes().await.ok()?;
    (bytes.len() <= most).then_some(Upload { name, mime, bytes })
}

/// The kind of a file, and its member in a message. `source` is an id, an address or `attach://part`. Empty: the file
/// is the part with the parameter's own name.
pub(crate) fn content(
    telegram: &mut TelegramState,
    params: &Params,
    field: &'static str,
    source: &str,
) -> Result<(&'static str, Map<String, Value>), Refusal> {
    let part = source.strip_prefix("attach://").unwrap_or(source);
    let upload = params.files.get(part).or_else(|| params.files.get(field).filter(|_| source.is_empty()));
    let file = match (upload, telegram.files.get(source)) {
        (Some(upload), _) => {
            check(field, upload)?;
            telegram.store_file(folder(field), &upload.name, &upload.mime, upload.bytes.clone())
        }
        (None, Some(known)) => known.clone(),
        (None, None) => {
            return Err(Refusal::bad_request("wrong remote file identifier specified: Wrong string length"));
        }
    };
    // A voice whose bytes are none becomes a document, as in the real service.
    let kind = if field == "voice" && !is_voice(&file.bytes) { "document" } else { field };
    let mut content = Map::new();
    content.insert(kind.to_owned(), rendered(kind, &file));
    Ok((kind, content))
}

/// One item of `sendMediaGroup`.
pub(crate) fn album_item(
    telegram: &mut TelegramState,
    params: &Params,
    item: &Map<String, Value>,
) -> Result<(&'static str, Map<String, Value>), Refusal> {
    let own: &[&str] = match item.get("type").and_then(Value::as_str) {
        Some("photo") => &["has_spoiler", "show_caption_above_media"],
        Some("document") => &["thumbnail", "disable_content_type_detection"],
        _ => return Err(Refusal::bad_request("can't parse InputMedia: media type is not served")),
    };
    let shared = ["type", "media", "caption", "parse_mode", "caption_entities"];
    if let Some(unknown) = item.keys().find(|name| !shared.contains(&name.as_str()) && !own.contains(&name.as_str())) {
        return Err(Refusal::bad_request(&format!("InputMedia takes no \"{unknown}\"")));
    }
    let source = item.get("media").and_then(Value::as_str).unwrap_or_default();
    let field = if item["type"] == "photo" { "photo" } else { "document" };
    let caption = posts::caption(item)?;
    let (kind, mut content) = content(telegram, params, field, source)?;
    content.extend(caption);
    Ok((kind, content))
}

/// A file as the object of its kind.
pub(crate) fn rendered(kind: &str, file: &StoredFile) -> Value {
    let mut object = json!({
        "file_id": file.file_id, "file_unique_id": file.unique_id, "file_size": file.bytes.len(),
    });
    match kind {
        "photo" => {
            let (width, height) = pictures::size(&file.bytes).unwrap_or((640, 480));
            object["width"] = json!(width);
            object["height"] = json!(height);
            return json!([object]);
        }
        "voice" => object["duration"] = json!(1),
        "audio" => {
            object["duration"] = json!(1);
            object["file_name"] = json!(file.name);
        }
        "video" | "video_note" | "animation" => {
            object["duration"] = json!(1);
            let sides: &[&str] = if kind == "video_note" { &["length"] } else { &["width", "height"] };
            for side in sides {
                object[side] = json!(320);
            }
        }
        "sticker" => {
            return json!({
                "file_id": file.file_id, "file_unique_id": file.unique_id, "type": "regular", "width": 512,
                "height": 512, "is_animated": false, "is_video": false, "emoji": "👍",
            });
        }
        _ => object["file_name"] = json!(file.name),
    }
    if kind != "video_note" {
        object["mime_type"] = json!(file.mime);
    }
    object
}

/// `getFile`.
pub(crate) fn get_file(telegram: &TelegramState, params: &Params) -> Result<Value, Refusal> {
    let file = telegram.files.get(params.text("file_id").unwrap_or_default());
    let file = file.ok_or_else(|| Refusal::bad_request("invalid file_id"))?;
    if file.bytes.len() > 20 * MEGABYTE {
        return Err(Refusal::bad_request("file is too big"));
    }
    Ok(json!({
        "file_id": file.file_id, "file_unique_id": file.unique_id, "file_size": file.bytes.len(),
        "file_path": file.path,
    }))
}

/// `GET /file/bot<token>/<path>`.
pub(crate) async fn download(world: &World, rest: &str, whole_path: &str) -> Response<Body> {
    let Some((token, path)) = rest.split_once('/') else { return Refusal::not_found().into_response() };
    let mut subject = Subject {
        target: Target::Telegram,
        method: "file".to_owned(),
        token: Some(token.to_owned()),
        ..Subject::default()
    };
    let found = {
        let telegram = &world.state().telegram;
        let file = telegram.files.values().find(|file| file.path == path);
        if let Some(file) = file {
            file.place(&mut subject);
        }
        match (telegram.bot_by_token(token), file) {
            (None, _) => Refusal::unauthorized().into_response(),
            // Telegram answers "octet-stream" for every file, so clients must check the bytes or the name.
            (_, Some(file)) => {
                let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
                (StatusCode::OK, kind, file.bytes.clone()).into_response()
            }
            (_, None) => Refusal::not_found().into_response(),
        }
    };
    let shown = whole_path.replace(token, &format!("{}:***", token.split(':').next().unwrap_or_default()));
    files::serve(world, subject, shown, found).await
}

fn folder(field: &str) -> &'static str {
    match field {
        "photo" => "photos",
        "voice" => "voice",
        _ => "documents",
    }
}

fn check(field: &str, upload: &Upload) -> Result<(), Refusal> {
    if upload.bytes.is_empty() {
        return Err(Refusal::bad_request("file must be non-empty"));
    }
    if upload.bytes.len() > if field == "photo" { 10 } else { 50 } * MEGABYTE {
        return Err(Refusal::status(413, None));
    }
    if field != "photo" {
        return Ok(());
    }
    match pictures::size(&upload.bytes) {
        None => Err(Refusal::bad_request("IMAGE_PROCESS_FAILED")),
        Some((width, height)) if width + height > 10_000 || width.max(height) > 20 * width.min(height) => {
            Err(Refusal::bad_request("PHOTO_INVALID_DIMENSIONS"))
        }
        Some(_) => Ok(()),
    }
}

/// OGG with Opus, MP3 or M4A.
fn is_voice(bytes: &[u8]) -> bool {
    let ogg = bytes.starts_with(b"OggS") && bytes.windows(8).take(64).any(|window| window == b"OpusHead");
    let mp3 = bytes.starts_with(b"ID3") || bytes.starts_with(&[0xff, 0xfb]);
    ogg || mp3 || bytes.get(4..11) == Some(b"ftypM4A")
}
