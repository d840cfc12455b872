//! The message that an unreadable update is about. The update may nest too deep, be too large and therefore cut, or have
//! fields of other types; its beginning says all the same where its message stands.

/// The address of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageSketch {
    /// Its chat.
    pub chat_id: i64,
    /// Its id in the chat.
    pub message_id: i64,
    /// Its topic. None: it is in no topic, or the update is cut before it.
    pub thread_id: Option<i64>,
}

/// The fields of an update that have a message of a person.
const MESSAGES: [&str; 2] = ["message", "edited_message"];
/// The names of the open objects that are remembered; a message's address needs no more.
const MAX_PATH: usize = 3;

/// Finds the address of an update's message in any bytes. None: there is none.
pub fn sketch(body: &[u8]) -> Option<MessageSketch> {
    let mut scanner = Scanner { body, at: 0, depth: 0, path: [""; MAX_PATH] };
    let (mut chat_id, mut message_id, mut thread_id) = (None, None, None);
    while let Some((path, number)) = scanner.next_number() {
        match path {
            [root, "message_id", ""] if MESSAGES.contains(&root) => message_id = message_id.or(Some(number)),
            [root, "message_thread_id", ""] if MESSAGES.contains(&root) => thread_id = thread_id.or(Some(number)),
            [root, "chat", "id"] if MESSAGES.contains(&root) => chat_id = chat_id.or(Some(number)),
            _ => {}
        }
    }
    Some(MessageSketch { chat_id: chat_id?, message_id: message_id?, thread_id })
}

/// Walks through JSON, valid or not, without a stack of its own that could overflow.
struct Scanner<'a> {
    body: &'a [u8],
    at: usize,
    /// The number of open objects and lists.
    depth: usize,
    path: [&'a str; MAX_PATH],
}

impl<'a> Scanner<'a> {
    /// Returns the next whole number, with the names that lead to it.
    fn next_number(&mut self) -> Option<([&'a str; MAX_PATH], i64)> {
        loop {
            let start = self.at;
            self.at += 1;
            match *self.body.get(start)? {
                b'{' | b'[' => {
                    self.depth += 1;
                    self.name("");
                }
                b'}' | b']' => {
                    self.name("");
                    self.depth = self.depth.saturating_sub(1);
                }
                b',' => self.name(""),
                b'"' => {
                    let text = self.string();
                    if self.rest().trim_ascii_start().starts_with(b":") {
                        self.name(text);
                    } else if let Ok(number) = text.parse()
                        && self.depth <= MAX_PATH
                    {
                        return Some((self.path, number));
                    }
                }
                b'-' | b'0'..=b'9' => {
                    let length = self.rest().iter().take_while(|byte| !b",}] \n\r\t".contains(byte)).count();
                    self.at += length;
                    let text = std::str::from_utf8(&self.body[start..self.at]);
                    if let Some(number) = text.ok().and_then(|text| text.parse().ok())
                        && self.depth <= MAX_PATH
                    {
                        return Some((self.path, number));
                    }
                }
                _ => {}
            }
        }
    }

    fn rest(&self) -> &'a [u8] {
        self.body.get(self.at..).unwrap_or_default()
    }

    /// Passes over a string whose first quote is read. Returns its text, without reading the escapes in it.
    fn string(&mut self) -> &'a str {
        let start = self.at;
        while let Some(byte) = self.body.get(self.at).filter(|byte| **byte != b'"') {
            self.at += if *byte == b'\\' { 2 } else { 1 };
        }
        let end = self.at.min(self.body.len());
        self.at += 1;
        std::str::from_utf8(&self.body[start..end]).unwrap_or_default()
    }

    /// Stores the name of the field that follows, in the innermost open object.
    fn name(&mut self, name: &'a str) {
        if let Some(place) = self.depth.checked_sub(1).and_then(|index| self.path.get_mut(index)) {
            *place = name;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BEGINNING: &str = r#"{"update_id":7,"message":{"message_id":57,"from":{"id":5,"name":"\"id\":1"},
        "chat":{"id":-1001234567890,"type":"supergroup"},"message_thread_id":12,"reply_to_message":{"message_id":12,
        "chat":{"id":3}},"text":"да","#;

    #[test]
    fn the_address_of_a_message_is_found_in_what_is_cut_too_deep_or_no_json() {
        let expected = Some(MessageSketch { chat_id: -1_001_234_567_890, message_id: 57, thread_id: Some(12) });
        for ending in ["", "\"entities\":[", "\"a\":tru", &format!("\"deep\":{}", "[{\"id\":1,\"a\":".repeat(5000))] {
            assert_eq!(
                sketch(format!("{BEGINNING}{ending}").as_bytes()),
                expected,
                "{}",
                &ending[..ending.len().min(20)]
            );
        }
        let texts = br#"{"edited_message":{"chat":{"id":"-5"},"message_id":"3"}}"#;
        assert_eq!(sketch(texts), Some(MessageSketch { chat_id: -5, message_id: 3, thread_id: None }));
    }

    #[test]
    fn numbers_elsewhere_are_no_address() {
        for body in [
            "",
            "{}",
            "<html>",
            r#"{"message_id":5,"chat":{"id":1}}"#,
            r#"{"callback_query":{"message":{"message_id":5,"chat":{"id":1}}}}"#,
            r#"{"message":[{"message_id":5,"chat":{"id":1}}]}"#,
            r#"{"message":{"message_id":5,"chat":[1]}}"#,
            r#"{"message":{"message_id":5.5,"chat":{"id":1}}}"#,
        ] {
            assert_eq!(sketch(body.as_bytes()), None, "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fail(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[\\[\\]{}\",:a1\\\\-]{0,60}") {
            let _ = (sketch(&bytes), sketch(text.as_bytes()), sketch(format!("{BEGINNING}{text}").as_bytes()));
        }
    }
}
