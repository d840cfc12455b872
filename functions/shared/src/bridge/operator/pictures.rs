//! The files of operators that Avito takes, by their description in the update. Any other is refused at once. Telegram
//! has the lower limit of size: Avito takes 24 MB.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    bridge::common::{
        text_split,
        texts::{self, Language},
    },
    telegram::{
        MAX_DOWNLOAD_BYTES,
        update::{Content, File, Media, Message},
    },
};

/// The time that an album's first pictures wait for the next ones.
pub(super) const ALBUM_WAIT: Duration = Duration::from_millis(1500);

/// The kinds of picture that Avito takes: MIME type and endings of file names.
const ACCEPTED: [(&str, &[&str]); 6] = [
    ("image/jpeg", &["jpg", "jpeg"]),
    ("image/png", &["png"]),
    ("image/gif", &["gif"]),
    ("image/bmp", &["bmp"]),
    ("image/heic", &["heic"]),
    ("image/heif", &["heif"]),
];

/// The outcome of a message that is not a text.
pub(super) enum Sendable {
    /// The message goes to Avito in these parts, as `jsonb_to_recordset` reads them.
    Parts(Value),
    /// The message does not go, and the operator gets this text.
    Refused(&'static str),
}

/// Returns the parts of an operator's picture, or the refusal of anything else that is not a text.
pub(super) fn sendable(message: &Message, language: Language) -> Sendable {
    let Content::Media { media, caption, file } = &message.content else {
        return Sendable::Refused(texts::not_taken("", language));
    };
    let Some(file) = file.as_ref().filter(|file| *media == Media::Photo || looks_like_picture(file)) else {
        return Sendable::Refused(texts::not_taken(media.as_str(), language));
    };
    if file.size.is_some_and(|size| size > MAX_DOWNLOAD_BYTES as u64) {
        return Sendable::Refused(texts::too_large(language));
    }
    let picture = json!({ "file_id": file.id, "unique_id": file.unique_id, "name": file.name });
    let mut parts = vec![json!({ "position": 0, "kind": "image", "attachment": picture })];
    parts.extend(text_split::parts_of(caption.as_deref().unwrap_or_default(), 1).into_iter().map(|mut part| {
        part["kind"] = json!("text");
        part
    }));
    Sendable::Parts(json!(parts))
}

fn looks_like_picture(file: &File) -> bool {
    let mime = file.mime.as_deref().unwrap_or_default().to_ascii_lowercase();
    let ending =
        file.name.as_deref().and_then(|name| name.rsplit_once('.')).map(|(_, ending)| ending.to_ascii_lowercase());
    ACCEPTED.iter().any(|(accepted, endings)| {
        mime == *accepted || (mime.is_empty() && ending.as_deref().is_some_and(|ending| endings.contains(&ending)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telegram::update::Update;

    fn written(content: &Value) -> Message {
        let mut message = json!({"message_id": 5, "chat": {"id": -5, "type": "supergroup"}});
        for (field, value) in content.as_object().into_iter().flatten() {
            message[field] = value.clone();
        }
        let update = Update::from_value(&json!({"update_id": 1, "message": message}));
        update.message().cloned().unwrap_or_else(|| panic!("a message"))
    }

    fn refusal(content: &Value) -> &'static str {
        match sendable(&written(content), Language::Russian) {
            Sendable::Refused(why) => why,
            Sendable::Parts(parts) => panic!("{parts}"),
        }
    }

    fn parts(content: &Value) -> Value {
        match sendable(&written(content), Language::Russian) {
            Sendable::Refused(why) => panic!("{why}"),
            Sendable::Parts(parts) => parts,
        }
    }

    #[test]
    fn a_photo_is_sent_in_its_largest_size_and_its_caption_follows() {
        let sizes = json!([{"file_id": "s", "width": 90, "height": 60}, {"file_id": "l", "width": 900, "height": 600}]);
        let parts = parts(&json!({"photo": sizes, "caption": "Вот"}));
        assert_eq!(parts[0]["attachment"]["file_id"], "l");
        assert_eq!(
            (&parts[1]["text"], &parts[1]["position"], parts.as_array().map(Vec::len)),
            (&json!("Вот"), &json!(1), Some(2))
        );
    }

    #[test]
    fn pictures_sent_as_files_are_accepted_and_other_files_are_refused() {
        let document =
            |mime: &str, name: &str| json!({"document": {"file_id": "d", "mime_type": mime, "file_name": name}});
        assert_eq!(parts(&document("image/heic", "a"))[0]["attachment"]["file_id"], "d");
        let nameless_kind = json!({"document": {"file_id": "d", "file_name": "a.PNG"}});
        assert_eq!(parts(&nameless_kind)[0]["kind"], "image");
        for (mime, name) in [("application/pdf", "a.pdf"), ("image/webp", "a.webp"), ("text/plain", "a.jpg")] {
            assert!(refusal(&document(mime, name)).contains("из файлов"), "{mime}");
        }
    }

    #[test]
    fn media_that_avito_does_not_take_is_refused_with_the_reason() {
        for (kind, word) in [
            ("voice", "голосовые"),
            ("audio", "голосовые"),
            ("video", "видео"),
            ("video_note", "видео"),
            ("animation", "видео"),
            ("sticker", "стикеры"),
            ("contact", "контакты"),
            ("location", "места"),
            ("poll", "опросы"),
            ("game", "только текст"),
        ] {
            assert!(refusal(&json!({ kind: {} })).contains(word), "{kind}");
        }
        let large = json!({"document": {"file_id": "d", "mime_type": "image/png", "file_size": 21 * 1024 * 1024}});
        assert!(refusal(&large).contains("20 МБ"));
    }
}
