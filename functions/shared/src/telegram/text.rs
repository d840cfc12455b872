//! Lengths as Telegram counts them: in UTF-16 units, so that one emoji is two or more.

use std::ops::Range;

/// The most units of a message's text.
pub const TEXT_LIMIT: usize = 4096;

/// The most units of a caption.
pub const CAPTION_LIMIT: usize = 1024;

/// The length of `text`, as Telegram counts it.
pub fn utf16_len(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// The beginning of `text` that fits into `limit` units.
pub fn truncate_utf16(text: &str, limit: usize) -> &str {
    &text[..fitting(text, limit)]
}

/// Splits `text` into pieces of at most `limit` units, where a reader would pause. A `limit` below two counts as two,
/// because one character must fit. White space at a cut is left out. No piece is blank: Telegram refuses blank
/// messages.
pub fn split_utf16(text: &str, limit: usize) -> Vec<&str> {
    split_ranges(text, limit).into_iter().map(|piece| &text[piece]).collect()
}

/// As [`split_utf16`]. Returns the places of the pieces, in bytes.
pub fn split_ranges(text: &str, limit: usize) -> Vec<Range<usize>> {
    let limit = limit.max(2);
    let mut pieces = Vec::new();
    let mut rest = text.trim_end();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return pieces;
        }
        let start = text.trim_end().len() - rest.len();
        let (piece, behind) = rest.split_at(cut(rest, limit));
        pieces.push(start..start + piece.trim_end().len());
        rest = behind;
    }
}

/// The number of bytes of `text` that fit into `limit` units.
fn fitting(text: &str, limit: usize) -> usize {
    let mut units = 0;
    let too_much = text.char_indices().find(|(_, char)| {
        units += char.len_utf16();
        units > limit
    });
    too_much.map_or(text.len(), |(index, _)| index)
}

/// The end of the first piece: the best pause in the second half of what fits, otherwise the limit.
fn cut(text: &str, limit: usize) -> usize {
    let end = fitting(text, limit);
    if end == text.len() {
        return end;
    }
    let half = fitting(text, limit / 2);
    let behind = |pause: &str| text[..end].rfind(pause).map(|index| index + pause.len()).filter(|index| *index > half);
    let sentence = [". ", "! ", "? ", "… "].into_iter().filter_map(behind).max();
    let word = || text[..end].rfind(char::is_whitespace).filter(|index| *index > half);
    behind("\n\n").or_else(|| behind("\n")).or(sentence).or_else(word).unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bare(text: &str) -> String {
        text.chars().filter(|char| !char.is_whitespace()).collect()
    }

    proptest! {
        #[test]
        fn lengths_are_those_of_utf_16(text in "\\PC{0,60}") {
            prop_assert_eq!(utf16_len(&text), text.encode_utf16().count());
        }

        #[test]
        fn a_truncated_text_is_the_longest_beginning_that_fits(text in "[a-zя😀❤\u{1f468}]{0,40}", limit in 0usize..50) {
            let short = truncate_utf16(&text, limit);
            prop_assert!(text.starts_with(short) && utf16_len(short) <= limit);
            let next = text[short.len()..].chars().next().map_or(limit + 1, |char| utf16_len(short) + char.len_utf16());
            prop_assert!(next > limit);
        }

        #[test]
        fn pieces_fit_and_together_are_the_whole_text(text in "[a-zя😀. \n]{0,300}|\\PC{0,120}", limit in 1usize..60) {
            let pieces = split_utf16(&text, limit);
            prop_assert!(pieces.iter().all(|piece| utf16_len(piece) <= limit.max(2) && !piece.trim().is_empty()));
            prop_assert_eq!(bare(&pieces.concat()), bare(&text));
        }
    }

    #[test]
    fn a_long_text_is_cut_at_a_paragraph_then_a_line_then_a_sentence_then_a_word() {
        assert_eq!(split_utf16("aaaa bbbb\n\ncccc dddd", 14), ["aaaa bbbb", "cccc dddd"]);
        assert_eq!(split_utf16("aaaa bbbb\ncccc dddd", 14), ["aaaa bbbb", "cccc dddd"]);
        assert_eq!(split_utf16("Aaaa bbbb. Cccc dddd", 14), ["Aaaa bbbb.", "Cccc dddd"]);
        assert_eq!(split_utf16("aaaa bbbb cccc dddd", 15), ["aaaa bbbb cccc", "dddd"]);
        assert_eq!(split_utf16("😀😀😀", 4), ["😀😀", "😀"]);
    }

    #[test]
    fn a_text_that_fits_is_one_piece_and_a_blank_one_none() {
        assert_eq!(split_utf16("  one\n\ntwo ", TEXT_LIMIT), ["one\n\ntwo"]);
        assert!(split_utf16(" \n ", CAPTION_LIMIT).is_empty());
    }
}
