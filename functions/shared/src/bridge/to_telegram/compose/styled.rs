//! A text of which the parts that are ours stand in entities: bold, or quoted. People's words never do, so nobody can write a line
//! that looks like one of ours.

use std::ops::Range;

use serde_json::{Value, json};

use crate::{
    platform::names::cut,
    telegram::text::{split_ranges, utf16_len},
};

/// The most entities of one message; Telegram drops the others without a word (core.telegram.org/api/entities).
pub(super) const MAX_ENTITIES: usize = 100;

/// The look of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Bold,
    Quoted,
}

impl Style {
    /// Telegram's word for it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Bold => "bold",
            Self::Quoted => "blockquote",
        }
    }
}

/// A text with its entities, whose places are counted in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::bridge::to_telegram) struct Styled {
    text: String,
    entities: Vec<(Range<usize>, Style)>,
}

impl Styled {
    /// Words of people, or of Avito.
    pub(in crate::bridge::to_telegram) fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), entities: Vec::new() }
    }

    /// Our own words.
    pub(in crate::bridge::to_telegram) fn bold(text: impl Into<String>) -> Self {
        Self::whole(text.into(), Style::Bold)
    }

    /// Words of Avito itself, which are not the buyer's.
    pub(super) fn quoted(text: impl Into<String>) -> Self {
        Self::whole(text.into(), Style::Quoted)
    }

    fn whole(text: String, style: Style) -> Self {
        let entities = if text.is_empty() { Vec::new() } else { vec![(0..text.len(), style)] };
        Self { text, entities }
    }

    pub(in crate::bridge::to_telegram) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Its length, as Telegram counts it.
    pub(super) fn units(&self) -> usize {
        utf16_len(&self.text)
    }

    pub(super) fn count_entities(&self) -> usize {
        self.entities.len()
    }

    /// Appends another text, behind `between` unless one of the two is empty.
    #[must_use]
    pub(in crate::bridge::to_telegram) fn then(mut self, between: &str, other: &Self) -> Self {
        if !self.is_empty() && !other.is_empty() {
            self.text.push_str(between);
        }
        let shift = self.text.len();
        self.text.push_str(&other.text);
        self.entities.extend(other.entities.iter().map(|(part, style)| (part.start + shift..part.end + shift, *style)));
        self
    }

    /// Joins texts, `between` between them. Empty ones are left out.
    pub(in crate::bridge::to_telegram) fn join(between: &str, texts: impl IntoIterator<Item = Self>) -> Self {
        texts.into_iter().fold(Self::default(), |all, text| all.then(between, &text))
    }

    /// Splits it into pieces of at most `limit` UTF-16 units, each with its part of the entities.
    pub(super) fn split(&self, limit: usize) -> Vec<Self> {
        split_ranges(&self.text, limit).into_iter().map(|piece| self.piece(piece)).collect()
    }

    /// Returns its beginning of at most `limit` UTF-16 units, with a mark behind it if something is left out.
    pub(in crate::bridge::to_telegram) fn shortened(&self, limit: usize) -> Self {
        match cut(&self.text, limit).len() {
            whole if whole == self.text.len() => self.clone(),
            length => self.piece(0..length).then("", &Self::plain("…")),
        }
    }

    fn piece(&self, piece: Range<usize>) -> Self {
        let entities = self.entities.iter().filter_map(|(part, style)| {
            let (start, end) = (part.start.max(piece.start), part.end.min(piece.end));
            (start < end).then(|| (start - piece.start..end - piece.start, *style))
        });
        Self { text: self.text[piece.clone()].to_owned(), entities: entities.collect() }
    }

    /// Its entities as the Bot API takes them, at most [`MAX_ENTITIES`].
    pub(in crate::bridge::to_telegram) fn entities(&self) -> Vec<Value> {
        let entity = |(part, style): &(Range<usize>, Style)| {
            let (offset, length) = (utf16_len(&self.text[..part.start]), utf16_len(&self.text[part.clone()]));
            json!({ "type": style.as_str(), "offset": offset, "length": length })
        };
        self.entities.iter().take(MAX_ENTITIES).map(entity).collect()
    }

    /// Stores it in the content of a post: the text in `field`, the entities in `entities_field` if there are any.
    pub(super) fn store(&self, content: &mut Value, field: &str, entities_field: &str) {
        content[field] = json!(self.text);
        if !self.entities.is_empty() {
            content[entities_field] = json!(self.entities());
        }
    }

    /// Returns it as the content of a text post.
    pub(in crate::bridge::to_telegram) fn content(&self) -> Value {
        let mut content = json!({});
        self.store(&mut content, "text", "entities");
        content
    }
}

/// Returns the content of a notice, all of which is ours unless its entities say otherwise.
pub(in crate::bridge::to_telegram) fn as_ours(mut content: Value) -> Value {
    if content.get("entities").is_none()
        && let Some(text) = content["text"].as_str()
    {
        content["entities"] = json!(Styled::bold(text).entities());
    }
    content
}

/// Puts our own words above a text of the content, on a line of their own. The entities of the text move behind them.
pub(super) fn put_above(content: &mut Value, above: &Styled, field: &str, entities_field: &str) {
    let below = content[field].as_str().unwrap_or_default();
    let between = if below.is_empty() { "" } else { "\n" };
    let shift = above.units() + utf16_len(between);
    content[field] = json!(format!("{}{between}{below}", above.text()));
    let mut entities = above.entities();
    for entity in content.get(entities_field).and_then(Value::as_array).into_iter().flatten() {
        let mut entity = entity.clone();
        entity["offset"] = json!(entity["offset"].as_u64().unwrap_or_default() + shift as u64);
        entities.push(entity);
    }
    entities.truncate(MAX_ENTITIES);
    content[entities_field] = json!(entities);
}

/// Returns the content of the line of text that stands in for a post's picture, voice or place.
pub(in crate::bridge::to_telegram) fn fallback(content: &Value, has_caption: bool) -> Value {
    let pick = |field: &str| content.get(field).cloned();
    let mut line = json!({ "text": pick("fallback_text").unwrap_or_default() });
    if let Some(entities) = pick("fallback_entities") {
        line["entities"] = entities;
    }
    if let Some(caption) = pick("caption").filter(|_| has_caption) {
        let entities = pick("caption_entities").unwrap_or_else(|| json!([]));
        let below = line;
        line = json!({ "text": caption, "entities": entities });
        append(&mut line, &below);
    }
    if let Some(reply_to) = pick("reply_to") {
        line["reply_to"] = reply_to;
    }
    line
}

/// Appends the text of another content on a line of its own.
fn append(content: &mut Value, other: &Value) {
    let (text, below) = (content["text"].as_str().unwrap_or_default(), other["text"].as_str().unwrap_or_default());
    let shift = utf16_len(text) + 1;
    let mut entities = content["entities"].as_array().cloned().unwrap_or_default();
    for entity in other.get("entities").and_then(Value::as_array).into_iter().flatten() {
        let mut entity = entity.clone();
        entity["offset"] = json!(entity["offset"].as_u64().unwrap_or_default() + shift as u64);
        entities.push(entity);
    }
    content["text"] = json!(format!("{text}\n{below}"));
    content["entities"] = json!(entities);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn entities_are_counted_in_utf_16_units() {
        let text = Styled::plain("😀").then(" ", &Styled::bold("Да")).then("\n", &Styled::quoted("ℹ️"));
        let expected = json!({ "text": "😀 Да\nℹ️", "entities": [
            { "type": "bold", "offset": 3, "length": 2 }, { "type": "blockquote", "offset": 6, "length": 2 }] });
        assert_eq!(text.content(), expected);
        assert_eq!(Styled::plain("Да").content(), json!({ "text": "Да" }));
    }

    #[test]
    fn words_above_a_text_move_its_entities_behind_them() {
        let mut content =
            json!({ "caption": "Да", "caption_entities": [{ "type": "bold", "offset": 0, "length": 2 }] });
        put_above(&mut content, &Styled::bold("😀"), "caption", "caption_entities");
        assert_eq!(content["caption"], "😀\nДа");
        assert_eq!(content["caption_entities"][1], json!({ "type": "bold", "offset": 3, "length": 2 }));
        let mut bare = json!({});
        put_above(&mut bare, &Styled::bold("Я"), "caption", "caption_entities");
        assert_eq!(bare["caption"], "Я");
    }

    #[test]
    fn a_fallback_has_the_caption_above_it_if_its_message_had_one() {
        let content = json!({ "caption": "14:02", "caption_entities": [{ "type": "bold", "offset": 0, "length": 5 }],
            "fallback_text": "📍 Москва", "fallback_entities": [{ "type": "bold", "offset": 0, "length": 2 }], "reply_to": 4 });
        let whole = fallback(&content, true);
        assert_eq!((&whole["text"], &whole["reply_to"]), (&json!("14:02\n📍 Москва"), &json!(4)));
        assert_eq!(whole["entities"][1], json!({ "type": "bold", "offset": 6, "length": 2 }));
        assert_eq!(fallback(&content, false)["text"], "📍 Москва");
    }

    proptest! {
        #[test]
        fn each_piece_keeps_the_entities_of_its_words(
            parts in prop::collection::vec(("[aя😀 \n.]{1,30}", any::<bool>()), 1..8), limit in 2_usize..40,
        ) {
            let all = Styled::join("\n", parts.iter().map(|(text, ours)| {
                if *ours { Styled::bold(text.clone()) } else { Styled::plain(text.clone()) }
            }));
            let ours = |text: &Styled| -> String {
                text.entities.iter().map(|(part, _)| &text.text[part.clone()]).collect::<String>()
            };
            let bare = |text: String| text.chars().filter(|char| !char.is_whitespace()).collect::<String>();
            let pieces = all.split(limit);
            prop_assert!(pieces.iter().all(|piece| piece.units() <= limit));
            prop_assert_eq!(bare(pieces.iter().map(ours).collect()), bare(ours(&all)));
        }
    }
}
