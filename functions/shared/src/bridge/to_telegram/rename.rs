//! The new name of a topic, once its emoji has changed.

use serde_json::{Value, json};

use super::{
    compose::post_text,
    work::{ClaimedDialog, Post},
};
use crate::telegram::text::truncate_utf16;

/// True if a dialog's topic needs a rename that is not scheduled yet.
pub(super) fn needs_rename(dialog: &ClaimedDialog) -> bool {
    dialog.wanted_emoji != dialog.topic_emoji && dialog.scheduled_emoji.as_ref() != Some(&dialog.wanted_emoji)
}

/// Returns the content of a rename that is due. None: the state has changed, or the name is right already.
pub(super) fn rename_content(post: &Post, dialog: &ClaimedDialog) -> Option<Value> {
    let emoji = dialog.wanted_emoji.as_str();
    let is_stale = post.content["emoji"].as_str() != Some(emoji) || emoji == dialog.topic_emoji;
    (!is_stale).then(|| {
        let name = post_text::name_of(dialog);
        json!({ "emoji": emoji, "name": truncate_utf16(format!("{emoji} {name}").trim_start(), post_text::NAME_LIMIT) })
    })
}
