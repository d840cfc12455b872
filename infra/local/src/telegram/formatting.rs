//! Formatted text: `entities` are checked, `parse_mode=HTML` is parsed by the strict rules of the real service. An
//! unescaped `<` of a buyer loses the message there, so it must here too.

use serde_json::{Map, Value, json};

use super::error::Refusal;

const MAX_TEXT_CHARS: usize = 4096;

const ENTITIES: &str = "mention hashtag cashtag bot_command url email phone_number bold italic underline strikethrough \
    spoiler blockquote expandable_blockquote code pre text_link text_mention custom_emoji date_time";

/// Tags of HTML mode and their entities.
const TAGS: [(&str, &str); 14] = [
    ("b", "bold"),
    ("strong", "bold"),
    ("i", "italic"),
    ("em", "italic"),
    ("u", "underline"),
    ("ins", "underline"),
    ("s", "strikethrough"),
    ("strike", "strikethrough"),
    ("del", "strikethrough"),
    ("tg-spoiler", "spoiler"),
    ("a", "text_link"),
    ("code", "code"),
    ("pre", "pre"),
    ("blockquote", "blockquote"),
];

/// The members of a text message.
pub(crate) fn text(values: &Map<String, Value>) -> Result<Map<String, Value>, Refusal> {
    let (text, entities) = read(values, "text", "entities")?;
    if text.trim().is_empty() {
        return Err(Refusal::bad_request("message text is empty"));
    }
    if text.chars().count() > MAX_TEXT_CHARS {
        return Err(Refusal::bad_request("message is too long"));
    }
    let mut content = Map::new();
    content.insert("text".to_owned(), json!(text));
    if !entities.is_empty() {
        content.insert("entities".to_owned(), json!(entities));
    }
    Ok(content)
}

/// The plain text and its entities, given as entities or as HTML.
pub(crate) fn read(
    values: &Map<String, Value>,
    text_name: &str,
    entities_name: &str,
) -> Result<(String, Vec<Value>), Refusal> {
    let text = values.get(text_name).and_then(Value::as_str).unwrap_or_default();
    let entities = values.get(entities_name).and_then(Value::as_array);
    match (values.get("parse_mode").and_then(Value::as_str), entities) {
        (Some(_), Some(_)) => Err(Refusal::bad_request("parse_mode and entities exclude each other")),
        (Some(mode), None) if mode.eq_ignore_ascii_case("html") => html(text),
        (Some(_), None) => Err(Refusal::bad_request("unsupported parse_mode")),
        (None, None) => Ok((text.to_owned(), Vec::new())),
        (None, Some(entities)) => {
            let length = text.encode_utf16().count();
            if entities.iter().any(|entity| !fits(entity, length)) {
                return Err(Refusal::bad_request("ENTITY_BOUNDS_INVALID"));
            }
            let is_without_address =
                |entity: &Value| entity["type"] == "text_link" && !entity["url"].as_str().is_some_and(is_address);
            if entities.iter().any(is_without_address) {
                return Err(Refusal::bad_request("ENTITY_URL_INVALID"));
            }
            Ok((text.to_owned(), entities.clone()))
        }
    }
}

fn fits(entity: &Value, text_length: usize) -> bool {
    let number = |name: &str| entity[name].as_u64().and_then(|number| usize::try_from(number).ok());
    let within = match (number("offset"), number("length")) {
        (Some(offset), Some(length)) => length > 0 && offset + length <= text_length,
        _ => false,
    };
    let kind = entity["type"].as_str().unwrap_or_default();
    within && ENTITIES.split_whitespace().any(|known| known == kind)
}

/// True if Telegram takes an address as that of a link: http is understood where no scheme is named, and a host has a
/// dot.
pub(crate) fn is_address(address: &str) -> bool {
    let scheme = address.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    let parsed = |address: &str| url::Url::parse(address).ok();
    match scheme.as_deref() {
        Some("tg" | "ton" | "tonsite") => parsed(address).is_some_and(|url| url.has_host()),
        Some("http" | "https") => parsed(address).is_some_and(|url| url.host_str().is_some_and(is_host)),
        Some(_) => false,
        None => parsed(&format!("http://{address}")).is_some_and(|url| url.host_str().is_some_and(is_host)),
    }
}

fn is_host(host: &str) -> bool {
    host.starts_with('[') || host.split('.').count() > 1 && host.split('.').all(|label| !label.is_empty())
}

fn html(source: &str) -> Result<(String, Vec<Value>), Refusal> {
    let refuse = |why: String| Refusal::bad_request(&format!("can't parse entities: {why}"));
    let (mut text, mut entities, mut open) = (String::new(), Vec::new(), Vec::new());
    let mut rest = source;
    while let Some(at) = rest.find(['<', '&']) {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let offset = source.len() - rest.len();
        if let Some(after) = rest.strip_prefix('&') {
            let (unescaped, length) = unescape(after);
            text.push(unescaped);
            rest = &after[length..];
            continue;
        }
        let end = rest.find('>').ok_or_else(|| refuse(format!("Unclosed start tag at byte offset {offset}")))?;
        let tag = &rest[1..end];
        rest = &rest[end + 1..];
        let units = text.encode_utf16().count();
        if let Some(name) = tag.strip_prefix('/') {
            let (opened, kind, start, url): (String, &str, usize, Option<String>) =
                open.pop().ok_or_else(|| refuse(format!("Unexpected end tag at byte offset {offset}")))?;
            if opened != name.trim().to_ascii_lowercase() {
                return Err(refuse(format!("Unmatched end tag at byte offset {offset}, expected \"</{opened}>\"")));
            }
            let mut entity = json!({ "type": kind, "offset": start, "length": units - start });
            if let Some(url) = url {
                entity["url"] = json!(url);
            }
            if units > start {
                entities.push(entity);
            }
        } else {
            let name = tag.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
            let kind = TAGS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
            let kind =
                kind.ok_or_else(|| refuse(format!("Unsupported start tag \"{name}\" at byte offset {offset}")))?;
            let url = tag.split_once("href=\"").and_then(|(_, url)| url.split('"').next()).map(str::to_owned);
            open.push((name, kind, units, url));
        }
    }
    text.push_str(rest);
    if let Some((name, ..)) = open.pop() {
        return Err(refuse(format!("Can't find end tag corresponding to start tag \"{name}\"")));
    }
    entities.sort_by_key(|entity| entity["offset"].as_u64());
    Ok((text, entities))
}

/// One of the four named references, or the ampersand itself; and the length that it took of the text.
fn unescape(after: &str) -> (char, usize) {
    let named = [("lt;", '<'), ("gt;", '>'), ("amp;", '&'), ("quot;", '"')];
    named.iter().find(|(name, _)| after.starts_with(name)).map_or(('&', 0), |(name, meant)| (*meant, name.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(source: &str) -> Result<(String, Vec<Value>), Refusal> {
        let values = json!({ "text": source, "parse_mode": "HTML" });
        read(values.as_object().expect("an object"), "text", "entities")
    }

    #[test]
    fn html_becomes_plain_text_with_entities_counted_in_utf_16() {
        let (text, entities) = parsed("🔴 <b>a &lt; b</b>").expect("valid HTML");
        assert_eq!(text, "🔴 a < b");
        assert_eq!(entities, [json!({ "type": "bold", "offset": 3, "length": 5 })]);
    }

    #[test]
    fn an_address_has_a_host_with_a_dot_and_a_scheme_that_telegram_opens() {
        for address in
            ["https://avito.ru/items/7", "avito.ru/items", "HTTP://a.b", "tg://user?id=7", "http://127.0.0.1:9/a"]
        {
            assert!(is_address(address), "{address}");
        }
        for address in [
            "",
            " ",
            "/items/7",
            "https://",
            "https://avito",
            "нет",
            "javascript:alert(1)",
            "ftp://a.b",
            "https://a .b",
        ] {
            assert!(!is_address(address), "{address}");
        }
    }

    #[test]
    fn an_unescaped_bracket_of_a_person_is_refused_as_the_real_service_refuses_it() {
        for source in ["2 < 3", "<iPhone 15>", "<b>open", "</b>"] {
            let refusal = parsed(source).expect_err("not HTML");
            assert!(refusal.description.contains("can't parse entities"), "{source}: {}", refusal.description);
        }
    }
}
