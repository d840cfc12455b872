//! Names of topics as Telegram takes them: it strips what cannot be seen, and refuses a name of which nothing is left.

/// Characters that take no place or show nothing, besides white space and control characters: joiners and other
/// zero-width ones, marks of direction, fillers, variation selectors, tags.
const INVISIBLE: [std::ops::RangeInclusive<char>; 17] = [
    '\u{ad}'..='\u{ad}',
    '\u{34f}'..='\u{34f}',
    '\u{61c}'..='\u{61c}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180f}',
    '\u{200b}'..='\u{200f}',
    '\u{202a}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{2800}'..='\u{2800}',
    '\u{3164}'..='\u{3164}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{feff}'..='\u{feff}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{fff0}'..='\u{fffc}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0000}'..='\u{e0fff}',
];

/// True if something of the name can be seen.
pub(crate) fn is_visible(name: &str) -> bool {
    let shows = |c: char| !(c.is_whitespace() || c.is_control() || INVISIBLE.iter().any(|range| range.contains(&c)));
    name.chars().any(shows)
}

#[cfg(test)]
mod tests {
    use super::is_visible;

    #[test]
    fn of_fillers_joiners_and_control_characters_nothing_can_be_seen() {
        for name in ["", " \n", "\u{3164}", "\u{2800}\u{200d}", "\0\u{1f}", "\u{202e}\u{feff} \u{a0}", "\u{fe0f}"] {
            assert!(!is_visible(name), "{name:?}");
        }
        for name in ["А", "\u{3164}.", "👨\u{200d}💻", "١", "\u{202e}abc"] {
            assert!(is_visible(name), "{name:?}");
        }
    }
}
