//! The delivery methods of a post, the best first, and the next one after a refusal.

use serde_json::{Value, json};

use crate::{
    bridge::{
        common::{
            post_kind::PostKind,
            texts::{self, Language},
        },
        rows::posts,
        to_telegram::work::Post,
    },
    platform::db::Statement,
};

/// The delivery method of a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeliveryMethod {
    /// Telegram fetches the pictures itself.
    Url,
    /// We fetch the pictures and upload them.
    Upload,
    /// As `Upload`, but each picture is a message of its own.
    OneByOne,
    /// As a voice note or a location.
    Native,
    /// As a file.
    Document,
    /// As a line of text.
    TextLine,
}

impl DeliveryMethod {
    const ALL: [(&'static str, Self); 6] = [
        ("url", Self::Url),
        ("upload", Self::Upload),
        ("one_by_one", Self::OneByOne),
        ("native", Self::Native),
        ("document", Self::Document),
        ("text_line", Self::TextLine),
    ];

    pub(super) fn of(post: &Post) -> Self {
        let named = post.content.get("method").and_then(Value::as_str);
        let usual = if post.kind.is_picture() { Self::Url } else { Self::Native };
        Self::ALL.iter().find(|(name, _)| Some(*name) == named).map_or(usual, |(_, method)| *method)
    }

    pub(super) fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, method)| *method == self).map_or("", |(name, _)| name)
    }

    /// Returns the method to use when Telegram refuses this one. None: this is the last one.
    fn next(self, kind: PostKind) -> Option<Self> {
        match self {
            Self::Url => Some(Self::Upload),
            Self::Upload if kind == PostKind::Album => Some(Self::OneByOne),
            Self::Upload | Self::OneByOne => Some(Self::Document),
            Self::Native if kind == PostKind::Voice => Some(Self::Document),
            Self::Native | Self::Document => Some(Self::TextLine),
            Self::TextLine => None,
        }
    }

    /// True if one call sends all pictures.
    pub(super) fn is_whole(self) -> bool {
        matches!(self, Self::Url | Self::Upload)
    }
}

/// Has the post sent by the next delivery method. `is_uncertain`: some of its messages may be in the topic already.
/// None: no method is left.
pub(in crate::bridge::to_telegram) fn use_next_method(post: &Post, is_uncertain: bool) -> Option<Vec<Statement>> {
    let next = DeliveryMethod::of(post).next(post.kind).filter(|_| post.kind.is_media())?;
    let mut content = post.content.clone();
    content["method"] = json!(next.as_str());
    metrics::counter!("posts_fallback_used").increment(1);
    Some(vec![posts::replace_content(post.id, content, Vec::new(), is_uncertain)])
}

/// Requeues a post of text that Telegram refused, in its next plainer form: without its preview, without its reply, without its
/// entities, and what shows people's messages at last as a line. None: it has no plainer form.
pub(in crate::bridge::to_telegram) fn plainer(post: &Post) -> Option<Vec<Statement>> {
    let mut content = post.content.clone();
    let fields = content.as_object_mut()?;
    let is_plainer = ["preview", "reply_to", "entities"].iter().any(|field| fields.remove(*field).is_some());
    if !is_plainer {
        let shows_messages = matches!(post.kind, PostKind::Text | PostKind::Mirror | PostKind::Replay);
        let line = texts::kind_line("", Language::Russian);
        if !shows_messages || content["text"] == line {
            return None;
        }
        content["text"] = json!(line);
    }
    metrics::counter!("posts_fallback_used").increment(1);
    Some(vec![posts::replace_content(post.id, content, Vec::new(), false)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post_of(kind: PostKind) -> Post {
        let content = json!({"media": ["https://avito.st/1.jpg"], "voice_id": "v"});
        Post {
            id: 1,
            kind,
            content,
            outcome_unknown: false,
            attempts: 0,
            answers_lost: 0,
            failed_since: None,
            chat_id: None,
            thread_id: None,
        }
    }

    fn methods(kind: PostKind) -> Vec<&'static str> {
        let post = post_of(kind);
        std::iter::successors(Some(DeliveryMethod::of(&post)), |method| method.next(kind))
            .map(DeliveryMethod::as_str)
            .collect()
    }

    #[test]
    fn each_kind_has_its_methods_and_all_end_in_a_text_line() {
        assert_eq!(methods(PostKind::Photo), ["url", "upload", "document", "text_line"]);
        assert_eq!(methods(PostKind::Album), ["url", "upload", "one_by_one", "document", "text_line"]);
        assert_eq!(methods(PostKind::Voice), ["native", "document", "text_line"]);
        assert_eq!(methods(PostKind::Venue), ["native", "text_line"]);
    }

    #[test]
    fn a_header_has_a_plainer_form_while_it_has_a_photo_or_links_and_a_text_ends_as_a_line() {
        let mut post = Post {
            kind: PostKind::Header,
            content: json!({ "text": "Стол", "preview": "https://avito.st/1" }),
            ..post_of(PostKind::Header)
        };
        assert!(plainer(&post).is_some());
        post.content = json!({ "text": "Стол", "entities": [] });
        assert!(plainer(&post).is_some());
        post.content = json!({ "text": "Стол" });
        assert!(plainer(&post).is_none());
        post.kind = PostKind::Text;
        assert!(plainer(&post).is_some());
        post.content = json!({ "text": texts::kind_line("", Language::Russian) });
        assert!(plainer(&post).is_none());
    }
}
