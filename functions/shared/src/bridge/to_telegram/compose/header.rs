//! The first post of a topic: the item and the buyer of the chat. While the bot's budget is short, the buyer's first
//! text stands in it too.

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::{
    album,
    message_text::{LANGUAGE, is_link, one_line},
    post_text::{self, POST_LIMIT},
};
use crate::{
    bridge::{
        common::{chat_snapshot::snapshot_text, post_kind::PostKind, texts},
        rows::posts::PostDraft,
        to_telegram::work::{BotWork, ClaimedDialog, Post},
    },
    telegram::text::utf16_len,
};

/// Composes a header: the item as a link, its price and city, the buyer, the account. The item's photo is a preview,
/// which costs no call of its own and cannot fail the post.
pub(in crate::bridge::to_telegram) fn header(dialog: &ClaimedDialog) -> Value {
    let item = dialog.item.as_ref();
    let labels = texts::header_labels(LANGUAGE);
    let title = snapshot_text(item, "title").map(one_line);
    let about = [snapshot_text(item, "price"), snapshot_text(item, "city")]
        .into_iter()
        .flatten()
        .map(one_line)
        .collect::<Vec<_>>()
        .join(" · ");
    let buyer = snapshot_text(dialog.buyer.as_ref(), "name").unwrap_or(texts::nameless_buyer(LANGUAGE));
    let lines = [
        title.clone().unwrap_or_default(),
        about,
        format!("{} {}", labels.buyer, one_line(buyer)),
        format!("{} {}", labels.account, one_line(&dialog.account_name)),
    ];
    let text = lines.iter().filter(|line| !line.is_empty()).cloned().collect::<Vec<_>>().join("\n");
    let mut content = json!({ "text": text });
    if let Some((title, url)) = title.zip(snapshot_text(item, "url").filter(|url| is_link(url))) {
        content["entities"] = json!([{ "type": "text_link", "offset": 0, "length": utf16_len(&title), "url": url }]);
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
        let both = with_first(&header, &draft(PostKind::Text, json!({ "text": "Продаёте?" })));
        let expected =
            json!({ "text": "Стол\n\nПродаёте?", "entities": header["entities"], "preview": header["preview"] });
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
