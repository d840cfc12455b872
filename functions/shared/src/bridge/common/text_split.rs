//! Texts as Avito takes and shows them: cut to its limit where a reader would pause, and compared as people see them.

use serde_json::{Value, json};
use unicode_normalization::UnicodeNormalization;

use crate::{platform::names, telegram::text::truncate_utf16};

/// The most UTF-16 units of one message to Avito. Its documentation says 1,000 characters (Avito Messenger API,
/// `sendMessage`), and not how it counts those beyond the basic plane.
pub const AVITO_LIMIT: usize = 1000;

/// Returns a text in the form that does not depend on the service: NFC, white space folded. Equal keys are the same
/// text.
pub fn key(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").nfc().collect()
}

/// Cuts a text into pieces of at most `limit` UTF-16 units, each not blank: at a paragraph's end if there is one in the
/// second half of the first `limit` units, else at a line's or a sentence's, a word's, or at the last grapheme that fits.
pub fn split(text: &str, limit: usize) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let cut = cut(rest, limit);
        let (piece, behind) = rest.split_at(cut);
        pieces.push(piece.trim_end().to_owned());
        rest = behind.trim_start();
    }
    pieces
}

/// Cuts a text into parts for Avito, `{position, text, text_key}` with positions from `first` on, as `sql.insert_parts` takes
/// them.
pub fn parts_of(text: &str, first: usize) -> Vec<Value> {
    (first..)
        .zip(split(text, AVITO_LIMIT))
        .map(|(position, part)| json!({ "position": position, "text_key": key(&part), "text": part }))
        .collect()
}

/// Returns the first piece's length in bytes. The piece has at least one character.
fn cut(text: &str, limit: usize) -> usize {
    let fitting = truncate_utf16(text, limit.max(2));
    if fitting.len() == text.len() {
        return text.len();
    }
    let half = truncate_utf16(text, limit / 2).len();
    let end = names::cut(text, limit.max(2)).len();
    let behind = |pause: &str| fitting.rfind(pause).map(|index| index + pause.len()).filter(|index| *index > half);
    let sentence = [". ", "! ", "? ", "… ", ".\n", "!\n", "?\n"].into_iter().filter_map(behind).max();
    let word = || fitting.rfind(char::is_whitespace).filter(|index| *index > 0);
    behind("\n\n").or_else(|| behind("\n")).or(sentence).or_else(word).unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telegram::text::utf16_len;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_fit_and_together_hold_the_whole_text(text in "[a-zа-я\\.\n ]{0,400}|(\\PC| |\n){0,200}", limit in 4usize..60) {
            let pieces = split(&text, limit);
            prop_assert!(pieces.iter().all(|piece| utf16_len(piece) <= limit && !piece.trim().is_empty()));
            let bare = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(bare(&pieces.concat()), bare(&text));
        }

        #[test]
        fn the_key_of_a_key_is_the_key_itself(text in "\\PC{0,80}") {
            prop_assert_eq!(key(&key(&text)), key(&text));
        }
    }

    #[test]
    fn a_long_text_is_cut_at_a_paragraph_then_a_sentence_then_a_word() {
        assert_eq!(split("aaaa bbbb\n\ncccc dddd", 14), ["aaaa bbbb", "cccc dddd"]);
        assert_eq!(split("Aaaa bbbb. Cccc dddd", 14), ["Aaaa bbbb.", "Cccc dddd"]);
        assert_eq!(split("aaaa bbbb cccc dddd", 14), ["aaaa bbbb", "cccc dddd"]);
        assert_eq!(split("aaaaaaaaaa", 4), ["aaaa", "aaaa", "aa"]);
    }

    #[test]
    fn a_part_is_counted_in_utf_16_units_and_no_grapheme_is_torn_apart() {
        let lengths = |text: &str| {
            parts_of(text, 0)
                .iter()
                .map(|part| utf16_len(part["text"].as_str().unwrap_or_default()))
                .collect::<Vec<_>>()
        };
        assert_eq!(lengths(&"😀".repeat(600)), [1000, 200]);
        assert_eq!(split("a👨‍👩‍👧", 8), ["a", "👨‍👩‍👧"]);
    }

    #[test]
    fn texts_that_look_alike_have_one_key() {
        assert_eq!(key(" й\u{a0} да\r\n"), key("и\u{306} да"));
    }
}
