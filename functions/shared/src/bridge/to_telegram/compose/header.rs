//! The first post of a topic: the item and the buyer of the chat. While the bot's budget is short, the buyer's first
//! text stands in it too.

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::{
    album,
    message_text::{LANGUAGE, is_link},
    post_text::{self, POST_LIMIT, buyers_name},
    styled::Styled,
};
use crate::{
    bridge::{
        common::{chat_snapshot::snapshot_text, post_kind::PostKind, texts},
        rows::posts::PostDraft,
        to_telegram::work::{BotWork, ClaimedDialog, Post},
    },
    platform::names::{cut, tidy},
    telegram::text::utf16_len,
};

/// The most UTF-16 units of one line of a header.
const LINE_LIMIT: usize = 256;

/// Composes a header: the item as a link, its price and city, the buyer, the account. The item's photo is a preview,
/// which costs no call of its own and cannot fail the post.
pub(in crate::bridge::to_telegram) fn header(dialog: &ClaimedDialog) -> Value {
    let item = dialog.item.as_ref();
    let labels = texts::header_labels(LANGUAGE);
    let name = |text: &str| cut(&tidy(text), LINE_LIMIT).to_owned();
    let title = snapshot_text(item, "title").map(name).filter(|title| !title.is_empty());
    let about = ["price", "city"].into_iter().filter_map(|field| snapshot_text(item, field)).map(name);
    let about = about.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" · ");
    let labelled = |label: &str, name: String| Styled::bold(label).then(" ", &Styled::plain(name));
    let text = Styled::join(
        "\n",
        [
            Styled::plain(title.clone().unwrap_or_default()),
            Styled::plain(about),
            labelled(labels.buyer, buyers_name(dialog.buyer.as_ref())),
            labelled(labels.account, name(&dialog.account_name)),
        ],
    );
    let mut content = text.content();
    if let Some((title, url)) = title.zip(snapshot_text(item, "url").filter(|url| is_link(url)))
        && let Some(entities) = content["entities"].as_array_mut()
    {
        entities.insert(0, json!({ "type": "text_link", "offset": 0, "length": utf16_len(&title), "url": url }));
    }
    if let Some(photo) = snapshot_text(item, "photo").filter(|url| is_link(url)) {
        content["preview"] = json!(photo);
    }
    content
}

/// Returns a new topic's header with the first text below it, and the ids of the messages of that text. None: at least
/// half of the budget is left, another post must come first, or the first draft is not a whole text that fits.
pub(in crate::bridge::to_telegram) fn under_pressure(
    work: &BotWork,
    post: &Post,
    header: &Value,
) -> Option<(Value, Vec<i64>)> {
    let dialog = work.dialog.as_ref()?;
    if post.kind != PostKind::Header || work.posts.len() > 1 || work.outbox.budget.is_half_free(work.outbox.now) {
        return None;
    }
    let zone = TimeZone::get(&dialog.timezone).unwrap_or(TimeZone::UTC);
    let (ready, _) = album::ready_messages(&work.messages, work.outbox.now);
    let first = post_text::drafts(&work.messages[..ready], dialog.last_posted_at, &zone).into_iter().next()?;
    Some((with_first(header, &first)?, first.message_ids))
}

fn with_first(header: &Value, first: &PostDraft) -> Option<Value> {
    let (above, below) = (header["text"].as_str()?, first.content["text"].as_str()?);
    let is_whole = first.kind == PostKind::Text && first.content["reply_to"].is_null() && !first.message_ids.is_empty();
    let fits = utf16_len(above) + 2 + utf16_len(below) <= POST_LIMIT;
    (is_whole && fits).then(|| {
        let mut both = header.clone();
        both["text"] = json!(format!("{above}\n\n{below}"));
        let shift = utf16_len(above) as u64 + 2;
        let mut entities = header["entities"].as_array().cloned().unwrap_or_default();
        for entity in first.content["entities"].as_array().into_iter().flatten() {
            let mut entity = entity.clone();
            entity["offset"] = json!(entity["offset"].as_u64().unwrap_or_default() + shift);
            entities.push(entity);
        }
        both["entities"] = json!(entities);
        both
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(kind: PostKind, content: Value) -> PostDraft {
        PostDraft { kind, content, message_ids: vec![1] }
    }

    #[test]
    fn the_first_text_stands_behind_the_header_and_its_link_stays() {
        let header =
            json!({ "text": "Стол", "entities": [{ "offset": 0, "length": 4 }], "preview": "https://avito.st/1" });
        let first = json!({ "text": "14:05 Продаёте?", "entities": [{ "type": "bold", "offset": 0, "length": 5 }] });
        let both = with_first(&header, &draft(PostKind::Text, first));
        let expected = json!({ "text": "Стол\n\n14:05 Продаёте?", "preview": header["preview"],
            "entities": [{ "offset": 0, "length": 4 }, { "type": "bold", "offset": 6, "length": 5 }] });
        assert_eq!(both, Some(expected));
    }

    #[test]
    fn pictures_replies_pieces_and_long_texts_leave_the_header_alone() {
        let header = json!({ "text": "Стол" });
        let piece = PostDraft { message_ids: Vec::new(), ..draft(PostKind::Text, json!({ "text": "Да" })) };
        for first in [
            draft(PostKind::Photo, json!({ "media": ["https://avito.st/1"] })),
            draft(PostKind::Mirror, json!({ "text": "Да" })),
            draft(PostKind::Text, json!({ "text": "Да", "reply_to": 5 })),
            draft(PostKind::Text, json!({ "text": "я".repeat(POST_LIMIT - 5) })),
            piece,
        ] {
            assert_eq!(with_first(&header, &first), None, "{first:?}");
        }
    }
}
