//! Names that people gave: of buyers, items, accounts, operators and groups. Whoever chose one may have put anything into it,
//! and it stands in lines of ours.

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};
use unicode_segmentation::UnicodeSegmentation;

/// Returns a name as one line: NFC, white space folded, no control characters, no marks that turn the direction of writing.
/// It is empty if nothing visible is left: Telegram refuses such titles.
pub fn tidy(name: &str) -> String {
    let plain: String = name
        .chars()
        .filter(|char| char.is_whitespace() || !char.is_control() && !turns_direction(*char))
        .map(|char| if is_blank(char) { ' ' } else { char })
        .collect();
    let line = plain.split_whitespace().collect::<Vec<_>>().join(" ").nfc().collect::<String>();
    if line.chars().any(is_visible) { line } else { String::new() }
}

/// Returns the beginning of a text that fits into `limit` UTF-16 units. Its end is the border of a grapheme, unless the first
/// grapheme does not fit.
pub fn cut(text: &str, limit: usize) -> &str {
    let units = |text: &str| text.chars().map(char::len_utf16).sum::<usize>();
    match fitting(text.grapheme_indices(true).map(|(at, grapheme)| (at, units(grapheme))), limit) {
        None => text,
        Some(0) => {
            let end = fitting(text.char_indices().map(|(at, char)| (at, char.len_utf16())), limit);
            &text[..end.unwrap_or(text.len())]
        }
        Some(end) => text[..end].trim_end(),
    }
}

/// Returns the place of the first piece that does not fit any more. The pieces come with their places and lengths.
fn fitting(mut pieces: impl Iterator<Item = (usize, usize)>, limit: usize) -> Option<usize> {
    let mut used = 0;
    pieces.find_map(|(at, length)| {
        used += length;
        (used > limit).then_some(at)
    })
}

/// True for marks and overrides of direction (UAX #9): with one, a name can make the rest of its line read backwards.
fn turns_direction(char: char) -> bool {
    matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// True for characters that show nothing and are no white space to Unicode: the Mongolian vowel separator, the empty Braille
/// cell, the place of an object. Telegram takes them for spaces, as its open client does (`strip_empty_characters`).
fn is_blank(char: char) -> bool {
    matches!(char, '\u{180e}' | '\u{2800}' | '\u{fffc}')
}

/// True if a character shows something by itself. Default-ignorable characters (UAX #44), among them the Hangul fillers, do not.
fn is_visible(char: char) -> bool {
    let is_ignorable = matches!(
        char,
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    );
    !char.is_whitespace()
        && !char.is_control()
        && !turns_direction(char)
        && !is_blank(char)
        && !is_ignorable
        && !is_combining_mark(char)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_is_one_line_in_the_direction_of_its_letters() {
        for (name, tidied) in [
            ("Анна", "Анна"),
            (" Стол\n\tдубовый\u{2028}новый ", "Стол дубовый новый"),
            ("А\0Б\u{7}В", "АБВ"),
            ("Иван \u{202e}ротартсинимдА\u{202c}", "Иван ротартсинимдА"),
            ("\u{2066}Олег\u{2069}\u{200f}", "Олег"),
            ("и\u{306}од", "йод"),
            ("А\u{2800}Б", "А Б"),
            ("👨‍👩‍👧 семья", "👨‍👩‍👧 семья"),
        ] {
            assert_eq!(tidy(name), tidied, "{name:?}");
        }
    }

    #[test]
    fn a_name_that_shows_nothing_is_empty() {
        for name in [
            "",
            " \n",
            "\u{3164}",
            "\u{2800}\u{2800}",
            "\u{200b}\u{200d}\u{feff}",
            "\u{115f}\u{1160}\u{ffa0}",
            "\u{ad}",
            "\u{e0020}\u{fe0f}",
            "\u{202e}",
            "\u{301}",
            "\u{180e}",
            "\u{fffc}",
            "\u{2060}",
        ] {
            assert_eq!(tidy(name), "", "{name:?}");
        }
    }

    #[test]
    fn a_name_is_cut_at_the_border_of_a_grapheme() {
        assert_eq!(cut("Анна", 4), "Анна");
        assert_eq!(cut("Анна", 3), "Анн");
        assert_eq!(cut("😀😀", 3), "😀");
        assert_eq!(cut("a👨‍👩‍👧", 8), "a", "half a family would be another one");
        assert_eq!(cut("👨‍👩‍👧", 2), "👨", "a first grapheme that does not fit");
        assert_eq!(cut("е\u{301}е\u{301}", 3), "е\u{301}");
        assert_eq!(cut("стол ·", 5), "стол");
    }

    proptest! {
        #[test]
        fn a_tidied_name_stays_as_it_is(name in any::<String>()) {
            let once = tidy(&name);
            prop_assert_eq!(tidy(&once), once.clone());
            prop_assert!(!once.chars().any(|char| char.is_control() || turns_direction(char)));
            prop_assert!(once.is_empty() || once.chars().any(is_visible));
            prop_assert_eq!(once.trim(), once.as_str());
        }

        #[test]
        fn what_is_cut_fits_and_ends_at_a_border(text in "(\\PC|👨‍👩‍👧|е\u{301}|🇷🇺|\r\n){0,40}", limit in 0_usize..60) {
            let short = cut(&text, limit);
            prop_assert!(text.starts_with(short) && short.encode_utf16().count() <= limit);
            let borders = text.grapheme_indices(true).map(|(at, _)| at).chain([text.len()]).collect::<Vec<_>>();
            let first = borders.get(1).copied().unwrap_or_default();
            prop_assert!(short.len() < first || text[short.len()..].chars().next().is_none_or(char::is_whitespace)
                         || borders.contains(&short.len()));
        }
    }
}
