//! Buttons under notices: the action that each asks for, and the keyboards that show them.

use serde_json::{Value, json};

use super::texts::{self, Language};

/// The action of a button. The number is a row's id: of `messages` for the first two, of `dialogs` for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bridge) enum Button {
    Retry(i64),
    Cancel(i64),
    Block(i64),
    DontBlock(i64),
}

impl Button {
    pub(in crate::bridge) fn parse(data: &str) -> Option<Self> {
        let (action, id) = data.split_once(':')?;
        let id = id.parse().ok()?;
        match action {
            "again" => Some(Self::Retry(id)),
            "drop" => Some(Self::Cancel(id)),
            "block" => Some(Self::Block(id)),
            "keep" => Some(Self::DontBlock(id)),
            _ => None,
        }
    }
}

fn row(buttons: [(&str, &str); 2]) -> Value {
    let buttons = buttons.map(|(text, data)| json!({ "text": text, "callback_data": data }));
    json!({ "inline_keyboard": [buttons] })
}

/// Returns the buttons under an answer that Avito refused. `{id}` is to be replaced by the message's id.
pub(in crate::bridge) fn failure_buttons() -> Value {
    let (again, drop) = texts::retry_and_cancel(Language::Russian);
    row([(again, "again:{id}"), (drop, "drop:{id}")])
}

/// Returns the buttons under the question if a buyer is to be blocked. `{id}` is to be replaced by the dialog's id.
pub(in crate::bridge) fn block_buttons() -> Value {
    let (block, keep) = texts::block_and_dont_block(Language::Russian);
    row([(block, "block:{id}"), (keep, "keep:{id}")])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_button_can_be_parsed_and_fits_into_64_bytes() {
        for keyboard in [failure_buttons(), block_buttons()] {
            for button in keyboard["inline_keyboard"][0].as_array().expect("a row") {
                let data = button["callback_data"].as_str().expect("data").replace("{id}", &i64::MAX.to_string());
                assert!(Button::parse(&data).is_some() && data.len() <= 64, "{data}");
            }
        }
    }

    proptest! {
        #[test]
        fn forged_callback_data_is_a_known_button_or_none(data in "\\PC{0,64}|(again|drop):[0-9a-z-]{0,30}") {
            if let Some(button) = Button::parse(&data) {
                let id = data.split_once(':').and_then(|(_, id)| id.parse().ok()).unwrap_or_default();
                let known = [Button::Retry(id), Button::Cancel(id), Button::Block(id), Button::DontBlock(id)];
                prop_assert!(known.contains(&button));
            }
        }
    }
}
