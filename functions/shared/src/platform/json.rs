//! The one door for JSON from outside. What Postgres and serde cannot hold is mended here, before anything is read from it.

use std::borrow::Cow;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, Unexpected},
};
use serde_json::Value;

/// Reads JSON of any shape.
///
/// Lone surrogates and bytes that are no UTF-8 become U+FFFD before the text is parsed: one of them would make the whole
/// text unreadable. NUL, which Postgres cannot store, goes from the strings and keys of the parsed value. It never goes
/// from the text, in which the six characters `\u0000` may stand behind a backslash that a person wrote.
pub fn read(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    let text = String::from_utf8_lossy(bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes));
    let mut value = serde_json::from_str(&mend(&text))?;
    remove_nul(&mut value);
    Ok(value)
}

/// True if the JSON nests at most `limit` levels. Brackets inside strings do not count.
pub fn is_shallow(json: &[u8], limit: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > limit {
            return false;
        }
    }
    true
}

/// A field that is missing or whose value does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// The field's path. Empty: the whole value does not fit.
    pub field: String,
    /// The sentence about it, which quotes no value: a value may be a secret.
    pub message: String,
}

/// Reads a value as `T`. An error names the first field that does not fit.
pub fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Misfit> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let (path, said) = (error.path().to_string(), error.inner().to_string());
        let path = if path == "." { "" } else { &path };
        match said.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
            Some(name) if path.is_empty() => Misfit { field: name.to_owned(), message: "is missing".to_owned() },
            Some(name) => Misfit { field: format!("{path}.{name}"), message: "is missing".to_owned() },
            None => Misfit { field: path.to_owned(), message: expectation(&said) },
        }
    })
}

/// Reads a whole number, also one written as text: frontends often send ids so.
pub fn number_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let number = match Value::deserialize(deserializer)? {
        Value::Null => return Ok(None),
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    let misfit = || D::Error::invalid_type(Unexpected::Other("value"), &"a whole number, or one as text");
    number.map(Some).ok_or_else(misfit)
}

/// Returns the end of serde's message, behind the value that it quotes.
fn expectation(said: &str) -> String {
    let Some((_, expected)) = said.rsplit_once(", expected ") else { return "does not fit".to_owned() };
    let expected = match expected {
        "i8" | "i16" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number",
        "f32" | "f64" => "a number",
        structure if structure.starts_with("struct ") || structure.contains(" struct") => "an object",
        other => other,
    };
    format!("expected {expected}")
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// The escape of U+FFFD.
const REPLACEMENT: &str = "\\ufffd";
/// The length of `\uXXXX`.
const ESCAPE: usize = 6;

/// Replaces the escapes of lone surrogates, and escapes control characters that stand bare in a string.
fn mend(text: &str) -> Cow<'_, str> {
    let mut mended = String::new();
    let (mut copied, mut at, mut in_string) = (0, 0, false);
    while let Some(byte) = text.as_bytes().get(at) {
        let (length, instead) = match byte {
            b'\\' => escape(text, at),
            b'"' => {
                in_string = !in_string;
                (1, None)
            }
            control if in_string && *control < 0x20 => (1, Some(format!("\\u{control:04x}").into())),
            _ => (1, None),
        };
        if let Some(instead) = instead {
            mended.push_str(&text[copied..at]);
            mended.push_str(&instead);
            copied = at + length;
        }
        at += length;
    }
    if copied == 0 {
        return text.into();
    }
    mended.push_str(&text[copied..]);
    mended.into()
}

/// Returns the length of the escape at `at`, and its replacement if it is a lone surrogate.
fn escape(text: &str, at: usize) -> (usize, Option<Cow<'static, str>>) {
    let Some(unit) = unit(text, at) else { return (2, None) };
    match unit {
        0xd800..=0xdbff if unit_is_low(text, at + ESCAPE) => (2 * ESCAPE, None),
        0xd800..=0xdfff => (ESCAPE, Some(REPLACEMENT.into())),
        _ => (ESCAPE, None),
    }
}

fn unit_is_low(text: &str, at: usize) -> bool {
    unit(text, at).is_some_and(|unit| (0xdc00..=0xdfff).contains(&unit))
}

/// Returns the UTF-16 unit whose escape stands at `at`. None: another text stands there.
fn unit(text: &str, at: usize) -> Option<u16> {
    let digits = text.get(at..at + ESCAPE)?.strip_prefix("\\u")?;
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
}

/// Cuts strings of more than `limit` bytes, each with a mark at its end. Returns how many were cut.
pub fn shorten(value: &mut Value, limit: usize) -> u64 {
    match value {
        Value::String(text) if text.len() > limit => {
            text.truncate(text.floor_char_boundary(limit));
            text.push('…');
            1
        }
        Value::Array(values) => values.iter_mut().map(|value| shorten(value, limit)).sum(),
        Value::Object(fields) => fields.values_mut().map(|value| shorten(value, limit)).sum(),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

fn remove_nul(value: &mut Value) {
    match value {
        Value::String(text) => text.retain(|char| char != '\0'),
        Value::Array(values) => values.iter_mut().for_each(remove_nul),
        Value::Object(fields) => {
            fields.values_mut().for_each(remove_nul);
            let with_nul: Vec<String> = fields.keys().filter(|key| key.contains('\0')).cloned().collect();
            for key in with_nul {
                if let Some(value) = fields.remove(&key) {
                    // A field that has this name without a NUL keeps its value.
                    fields.entry(key.replace('\0', "")).or_insert(value);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn text(json: &str) -> String {
        read(json.as_bytes())
            .ok()
            .and_then(|value| value.as_str().map(str::to_owned))
            .unwrap_or_else(|| panic!("{json}"))
    }

    #[test]
    fn a_lone_surrogate_becomes_the_replacement_character_and_a_pair_stays() {
        for (json, expected) in [
            (r#""\ud83d""#, "\u{fffd}"),
            (r#""\uDE00""#, "\u{fffd}"),
            (r#""a\ud83d\ud83d\ude00b""#, "a\u{fffd}😀b"),
            (r#""\ud83d\n""#, "\u{fffd}\n"),
            (r#""\ud83dя""#, "\u{fffd}я"),
            (r#""\ud83d\\ude00""#, "\u{fffd}\\ude00"),
            (r#""\\ud83d""#, "\\ud83d"),
            (r#""\u0441""#, "с"),
        ] {
            assert_eq!(text(json), expected, "{json}");
        }
        assert_eq!(read(br#"{"\ud83d":1}"#).ok(), Some(json!({ "\u{fffd}": 1 })));
    }

    #[test]
    fn a_nul_character_goes_from_strings_and_keys_and_its_escape_in_a_persons_words_stays() {
        assert_eq!(text(r#""А\u0000Б""#), "АБ");
        assert_eq!(text(r#""что значит \\u0000?""#), r"что значит \u0000?");
        assert_eq!(text(r#""\\\u0000""#), "\\");
        let nested = read(br#"{"a\u0000":[{"b":"\u0000c"}],"a":1,"d\u0000":2}"#).ok();
        assert_eq!(nested, Some(json!({ "a": 1, "d": 2 })));
    }

    #[test]
    fn bytes_that_are_no_text_cost_only_themselves() {
        assert_eq!(
            read(b"{\"a\":\"x\xff\xed\xa0\xbdy\",\"b\":1}").ok().map(|value| value["b"].clone()),
            Some(json!(1))
        );
        assert_eq!(read(b"\xef\xbb\xbf{\"a\":\"b\nc\0d\"}").ok(), Some(json!({ "a": "b\ncd" })));
        assert!(read(b"").is_err() && read(b"<html>").is_err() && read(br#"{"a":"\u12"}"#).is_err());
        assert!(read(br#""\"#).is_err() && read("\"\\я\"".as_bytes()).is_err());
    }

    #[test]
    fn a_long_string_is_cut_with_a_mark_and_others_stay() {
        let mut value = json!({ "a": ["яяя", "яя"], "b": "12345" });
        assert_eq!(shorten(&mut value, 5), 1);
        assert_eq!(value, json!({ "a": ["яя…", "яя"], "b": "12345" }));
    }

    #[test]
    fn a_field_that_does_not_fit_is_named_by_its_path_and_its_value_never() {
        #[derive(Debug, serde::Deserialize)]
        struct Inner {
            #[expect(dead_code, reason = "it is only read")]
            count: i64,
        }
        #[derive(Debug, serde::Deserialize)]
        struct Outer {
            #[expect(dead_code, reason = "it is only read")]
            name: String,
            #[expect(dead_code, reason = "it is only read")]
            list: Vec<Inner>,
        }
        let misfit = |value: Value| typed::<Outer>(value).err().map(|misfit| (misfit.field, misfit.message));
        let expected = |field: &str, message: &str| Some((field.to_owned(), message.to_owned()));
        assert_eq!(misfit(json!({ "list": [] })), expected("name", "is missing"));
        assert_eq!(misfit(json!({ "name": 5, "list": [] })), expected("name", "expected a string"));
        assert_eq!(
            misfit(json!({ "name": "a", "list": [{ "count": 1 }, {}] })),
            expected("list[1].count", "is missing")
        );
        let secret = json!({ "name": "a", "list": [{ "count": "secret, expected i32" }] });
        assert_eq!(misfit(secret), expected("list[0].count", "expected a whole number"));
    }

    #[test]
    fn an_id_is_read_as_a_number_or_as_text() {
        #[derive(serde::Deserialize)]
        struct Body {
            #[serde(default, deserialize_with = "number_or_text")]
            id: Option<i64>,
        }
        let id = |body: Value| typed::<Body>(body).map(|body| body.id).map_err(|misfit| (misfit.field, misfit.message));
        for body in [json!({ "id": -1_001_234_567_890_i64 }), json!({ "id": " -1001234567890 " })] {
            assert_eq!(id(body), Ok(Some(-1_001_234_567_890)));
        }
        assert_eq!((id(json!({})), id(json!({ "id": null }))), (Ok(None), Ok(None)));
        for odd in [json!("-100a"), json!(""), json!(1.5), json!(true), json!([1]), json!(u64::MAX)] {
            assert_eq!(id(json!({ "id": odd })), Err(("id".into(), "expected a whole number, or one as text".into())));
        }
    }

    proptest! {
        #[test]
        fn json_of_any_text_is_read_as_written_but_for_nul(text in any::<String>(), key in any::<String>()) {
            let written = json!({ key.clone(): [text] });
            let read = read(written.to_string().as_bytes());
            prop_assert_eq!(read.ok(), Some(json!({ key.replace('\0', ""): [text.replace('\0', "")] })));
        }

        #[test]
        fn any_row_of_escapes_is_a_string(units in prop::collection::vec(any::<u16>(), 0..20)) {
            let escapes = units.iter().map(|unit| format!("\\u{unit:04x}")).collect::<Vec<_>>().concat();
            let expected = String::from_utf16_lossy(&units).replace('\0', "");
            prop_assert_eq!(super::read(format!("\"{escapes}\"").as_bytes()).ok(), Some(json!(expected)));
        }

        #[test]
        fn no_bytes_make_it_fail_but_as_an_error(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = read(&bytes);
        }
    }
}
