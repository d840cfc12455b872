//! Dialogs and their messages as a frontend reads them. Nothing that gives access to a file is included: neither its
//! address nor an id for which Telegram or Avito would serve it.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::Row;
use utoipa::ToSchema;

use crate::{
    App, avito,
    bridge::common::states::{DialogState, MessageOrigin, MessageStatus},
    platform::{
        db::{ClientId, DbError, Scope, Statement, get, get_variant},
        page::{Page, Ranked},
    },
};

/// The other side of a dialog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Buyer {
    /// Avito's id of the person.
    pub id: Option<i64>,
    /// The person's name.
    pub name: Option<String>,
}

/// What a dialog is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Item {
    /// Avito's id of the advertisement.
    pub id: Option<i64>,
    /// Its title.
    pub title: Option<String>,
    /// Its price, in words.
    pub price: Option<String>,
    /// Where it is.
    pub city: Option<String>,
    /// Its page.
    pub url: Option<String>,
}

/// The newest message of a dialog, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Preview {
    /// `in` from the buyer or Avito, `out` from us.
    pub direction: String,
    /// `text`, `image`, `voice`, ….
    pub kind: String,
    /// The beginning of its text, if it has one.
    pub text: Option<String>,
}

/// A dialog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Dialog {
    /// Our id of the dialog.
    pub id: i64,
    /// How it stands.
    pub state: DialogState,
    /// Whether the buyer waits for an answer.
    pub unanswered: bool,
    /// The Avito account.
    pub avito_account_id: i64,
    /// The account's name.
    pub account_name: String,
    /// Avito's id of the chat.
    pub avito_chat_id: String,
    /// The other side, once it is known.
    pub buyer: Option<Buyer>,
    /// What it is about; null for chats about nothing.
    pub item: Option<Item>,
    /// When the last message was written.
    pub last_message_at: Timestamp,
    /// The last message; null while all are filtered.
    pub last_message: Option<Preview>,
    /// The bot in whose group it is shown.
    pub bot_id: i64,
    /// The group of its topic, if it has one.
    pub telegram_chat_id: Option<i64>,
    /// Its topic, if it has one.
    pub telegram_topic_id: Option<i64>,
}

/// A filter of dialogs.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only those in this state.
    pub state: Option<DialogState>,
    /// Only those of this account.
    pub avito_account_id: Option<i64>,
    /// Only those whose buyers wait for an answer, or only the others.
    pub unanswered: Option<bool>,
    /// Only those with this text in the buyer's name, the item's title or a message.
    pub search: Option<String>,
}

/// A page of the organisation's dialogs, those with the newest messages first.
pub async fn dialogs(app: &App, client: ClientId, filter: Filter, wanted: Ranked<2>) -> Result<Page<Dialog>, DbError> {
    let Filter { state, avito_account_id, unanswered, search } = filter;
    let after = wanted.after.unwrap_or_default();
    let statement = Statement::call("list_dialogs")
        .arg("limit", wanted.rows())
        .arg("before_at", wanted.after.map(|_| moment(after[0])))
        .arg("before_id", after[1])
        .arg("state", state.map(DialogState::as_str))
        .arg("avito_account_id", avito_account_id)
        .arg("unanswered", unanswered)
        .arg("search_pattern", search.as_deref().map(pattern))
        .arg("is_indexed", search.as_deref().is_some_and(is_indexed));
    let rows = app.db().query(Scope::Tenant(client), statement).await?;
    let ranked = rows.iter().map(|row| {
        let dialog = Dialog::read(row)?;
        let rank = [dialog.last_message_at.as_microsecond(), dialog.id];
        Ok((dialog, rank))
    });
    Ok(wanted.page(ranked.collect::<Result<_, DbError>>()?))
}

/// The time of a cursor; an invalid one counts as earlier than all others.
fn moment(microsecond: i64) -> Timestamp {
    Timestamp::from_microsecond(microsecond).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The pattern that finds exactly this text anywhere.
fn pattern(text: &str) -> String {
    let escaped: String =
        text.chars().flat_map(|c| ['\\'].into_iter().filter(move |_| "%_\\".contains(c)).chain([c])).collect();
    format!("%{escaped}%")
}

/// True if the index of texts knows the searched text: it knows letters and digits alone, three in a row (`pg_trgm`).
fn is_indexed(text: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric()).any(|word| word.chars().count() >= 3)
}

fn text_of(snapshot: &Value, field: &str) -> Option<String> {
    snapshot.get(field)?.as_str().map(str::to_owned)
}

impl Dialog {
    fn read(row: &Row) -> Result<Self, DbError> {
        let (buyer, item): (Option<Value>, Option<Value>) = (get(row, "buyer")?, get(row, "item")?);
        let number = |snapshot: &Value| snapshot.get("id").and_then(Value::as_i64);
        let state: DialogState = get_variant(row, "state")?;
        let direction: Option<String> = get(row, "direction")?;
        let preview = |direction| -> Result<Preview, DbError> {
            Ok(Preview { direction, kind: get(row, "kind")?, text: get(row, "text")? })
        };
        Ok(Self {
            id: get(row, "id")?,
            state,
            unanswered: state.is_unanswered(),
            avito_account_id: get(row, "avito_account_id")?,
            account_name: get(row, "account_name")?,
            avito_chat_id: get(row, "avito_chat_id")?,
            buyer: buyer.map(|buyer| Buyer { id: number(&buyer), name: text_of(&buyer, "name") }),
            item: item.map(|item| Item {
                id: number(&item),
                title: text_of(&item, "title"),
                price: text_of(&item, "price"),
                city: text_of(&item, "city"),
                url: text_of(&item, "url"),
            }),
            last_message_at: get(row, "last_message_at")?,
            last_message: direction.map(preview).transpose()?,
            bot_id: get(row, "bot_id")?,
            telegram_chat_id: get(row, "telegram_chat_id")?,
            telegram_topic_id: get(row, "telegram_topic_id")?,
        })
    }
}

/// What a message holds besides its text. A file is fetched by its number, never by an address.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Attachment {
    /// Its number within the message, from 0.
    pub n: usize,
    /// `image`, `voice`, `file`, `location`, `link` or `item`.
    pub kind: String,
    /// A file's name, or the title of a place, a page or an advertisement.
    pub name: Option<String>,
    /// The page that a link or an advertisement leads to, as it was written.
    pub url: Option<String>,
    /// Of a place.
    pub latitude: Option<f64>,
    /// Of a place.
    pub longitude: Option<f64>,
}

/// A message of a dialog.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Message {
    /// Our id of the message.
    pub id: i64,
    /// The dialog.
    pub dialog_id: i64,
    /// `in` from the buyer or Avito, `out` from us.
    pub direction: String,
    /// Who wrote it: `buyer`, `system` (Avito), `operator` (in the topic), `api`, `avito_app` or `auto_reply`.
    #[schema(value_type = String)]
    pub origin: MessageOrigin,
    /// The name of whoever of us wrote it.
    pub author_name: Option<String>,
    /// `text`, `image`, `voice`, `location`, `link`, `item`, `call`, ….
    pub kind: String,
    /// Its text, or a caption.
    pub text: Option<String>,
    /// What it holds besides.
    pub attachments: Vec<Attachment>,
    /// `received`, `filtered`, `sending`, `sent`, `delivered`, `read` or `failed`.
    #[schema(value_type = String)]
    pub status: MessageStatus,
    /// Whether it may stand twice where it went.
    pub maybe_duplicate: bool,
    /// Why it failed.
    pub error: Option<String>,
    /// Whether its writer took it back.
    pub deleted: bool,
    /// When it was written.
    pub created_at: Timestamp,
}

/// A page of a dialog's messages, newest first. None: the organisation has no such dialog.
pub async fn messages(
    app: &App,
    client: ClientId,
    dialog_id: i64,
    wanted: Ranked<3>,
) -> Result<Option<Page<Message>>, DbError> {
    let after = wanted.after.unwrap_or_default();
    let list = Statement::new(
        "SELECT message.* FROM messages m CROSS JOIN LATERAL sql.message_details(m) AS message
         WHERE m.client_id = current_client_id() AND m.dialog_id = $1
           AND ($3::timestamptz IS NULL OR (coalesce(m.avito_created, m.created_at), m.avito_position, m.id) < ($3, $4, $5))
         ORDER BY coalesce(m.avito_created, m.created_at) DESC, m.avito_position DESC, m.id DESC
         LIMIT $2",
    )
    .bind(dialog_id)
    .bind(wanted.rows())
    .bind(wanted.after.map(|_| moment(after[0])))
    .bind(i32::try_from(after[1]).unwrap_or_default())
    .bind(after[2]);
    let exists = Statement::new("SELECT id FROM dialogs WHERE id = $1").bind(dialog_id);
    let results = app.db().run(Scope::Tenant(client), vec![exists, list]).await?;
    if results.first().is_none_or(Vec::is_empty) {
        return Ok(None);
    }
    let ranked = results.iter().skip(1).flatten().map(|row| {
        let message = Message::read(row)?;
        let rank = [message.created_at.as_microsecond(), get::<i32>(row, "avito_position")?.into(), message.id];
        Ok((message, rank))
    });
    Ok(Some(wanted.page(ranked.collect::<Result<_, DbError>>()?)))
}

/// Selects the message that the transaction created, by `app.result_id`.
pub(super) fn select_created() -> Statement {
    Statement::new(
        "SELECT message.* FROM messages m CROSS JOIN LATERAL sql.message_details(m) AS message
         WHERE m.id = nullif(current_setting('app.result_id', true), '')::bigint",
    )
}

impl Message {
    /// Reads a row of [`select_created`] and of the list.
    pub(super) fn read(row: &Row) -> Result<Self, DbError> {
        Ok(Self {
            id: get(row, "id")?,
            dialog_id: get(row, "dialog_id")?,
            direction: get(row, "direction")?,
            origin: get_variant(row, "origin")?,
            author_name: get(row, "author_name")?,
            kind: get(row, "kind")?,
            text: get(row, "text")?,
            attachments: attachments(get(row, "attachments")?, get::<Option<Value>>(row, "pictures")?.as_ref()),
            status: get_variant(row, "status")?,
            maybe_duplicate: get(row, "maybe_duplicate")?,
            error: get(row, "error")?,
            deleted: get(row, "deleted")?,
            created_at: get(row, "created_at")?,
        })
    }

    /// Returns the message as it was accepted, whatever its status is by now.
    pub(super) fn when_taken(self) -> Self {
        Self { status: MessageStatus::Sending, maybe_duplicate: false, error: None, ..self }
    }
}

/// The attachments of a message: the pictures that an operator sent, by name, and those of Avito's content.
fn attachments(content: Value, pictures: Option<&Value>) -> Vec<Attachment> {
    let content: avito::Content = serde_json::from_value(content).unwrap_or_default();
    let of = |kind: &str| Attachment { kind: kind.to_owned(), ..Attachment::default() };
    let pictures = pictures.and_then(Value::as_array).into_iter().flatten();
    let mut all: Vec<Attachment> =
        pictures.map(|name| Attachment { name: name.as_str().map(str::to_owned), ..of("image") }).collect();
    all.extend(content.image.map(|_| of("image")));
    all.extend(content.voice.map(|_| of("voice")));
    all.extend(content.file.map(|file| Attachment { name: file.name, ..of("file") }));
    all.extend(content.location.map(|location| Attachment {
        name: location.title.or(location.text),
        latitude: location.lat,
        longitude: location.lon,
        ..of("location")
    }));
    all.extend(content.link.map(|link| Attachment {
        name: link.preview.and_then(|preview| preview.title),
        url: link.url.or(link.text),
        ..of("link")
    }));
    all.extend(content.item.map(|item| Attachment { name: item.title, url: item.item_url, ..of("item") }));
    for (n, attachment) in all.iter_mut().enumerate() {
        attachment.n = n;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn wildcards_in_a_search_are_matched_literally() {
        assert_eq!(pattern(r"50%_\ скидка"), r"%50\%\_\\ скидка%");
    }

    #[test]
    fn the_index_is_asked_for_three_letters_or_digits_in_a_row() {
        assert!(["стол", "а 123", "(ещё)"].into_iter().all(is_indexed));
        assert!(["%%%", "😀😀😀", "да но", "_а_б_в"].into_iter().all(|text| !is_indexed(text)));
    }

    #[test]
    fn attachments_are_numbered_and_name_no_address_of_a_file() {
        let content = json!({
            "image": { "sizes": { "640x480": "https://avito.st/secret.jpg" } },
            "voice": { "voice_id": "secret" },
            "link": { "url": "https://example.com/a", "text": "https://example.com/a" },
        });
        let listed = attachments(content, Some(&json!(["стол.jpg", null])));
        let kinds: Vec<_> = listed.iter().map(|attachment| (attachment.n, attachment.kind.as_str())).collect();
        assert_eq!(kinds, [(0, "image"), (1, "image"), (2, "image"), (3, "voice"), (4, "link")]);
        assert!(!json!(listed).to_string().contains("secret"));
        assert_eq!((listed[0].name.as_deref(), listed[1].name.as_deref()), (Some("стол.jpg"), None));
        assert_eq!(attachments(json!(null), None), []);
    }
}
