//! Albums: a buyer sends pictures one by one, so a run of them waits a little for those that still come.
//! Nothing here does I/O.

use std::time::Duration;

use jiff::Timestamp;

use super::{message_text, post_text::MAX_PICTURES};
use crate::bridge::{common::telegram_budget::later, to_telegram::work::PendingMessage};

/// A run is complete after this long without another picture.
const ALBUM_QUIET_DELAY: Duration = Duration::from_secs(3);
/// No picture waits longer than this.
const MAX_ALBUM_DELAY: Duration = Duration::from_secs(8);

/// Returns the number of pending messages that may be posted now, and the time at which the run of pictures behind them
/// is complete.
pub(in crate::bridge::to_telegram) fn ready_messages(
    messages: &[PendingMessage],
    now: Timestamp,
) -> (usize, Timestamp) {
    let run = messages.iter().rev().take_while(|message| message_text::joins_album(message)).count();
    let arrivals = || messages.iter().rev().take(run).map(|message| message.arrived);
    let complete_at = match (arrivals().min(), arrivals().max()) {
        (Some(first), Some(newest)) if run < MAX_PICTURES => {
            later(newest, ALBUM_QUIET_DELAY).min(later(first, MAX_ALBUM_DELAY))
        }
        _ => now,
    };
    (if complete_at > now { messages.len() - run } else { messages.len() }, complete_at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::common::states::MessageOrigin;
    use serde_json::json;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MIN)
    }

    fn message(kind: &str, arrived: i64) -> PendingMessage {
        PendingMessage {
            id: arrived,
            origin: MessageOrigin::Buyer,
            kind: kind.to_owned(),
            text: Some("слово".to_owned()),
            attachments: json!({"image": {"sizes": {"10x10": "https://avito.st/1.jpg"}}}),
            created: None,
            arrived: at(arrived),
            confirmed: true,
            author: None,
            reply_to: None,
        }
    }

    #[test]
    fn pictures_wait_for_three_seconds_of_quiet() {
        let run = [message("text", 0), message("image", 100), message("image", 1500)];
        assert_eq!(ready_messages(&run, at(2000)), (1, at(4500)));
        assert_eq!(ready_messages(&run, at(4500)), (3, at(4500)));
    }

    #[test]
    fn no_picture_waits_longer_than_eight_seconds() {
        let run: Vec<_> = (0..5).map(|index| message("image", index * 2000)).collect();
        assert_eq!(ready_messages(&run, at(7999)), (0, at(8000)));
        assert_eq!(ready_messages(&run, at(8000)), (5, at(8000)));
    }

    #[test]
    fn ten_pictures_and_another_message_end_the_wait() {
        let run: Vec<_> = (0..10).map(|index| message("image", index)).collect();
        assert_eq!(ready_messages(&run, at(10)).0, 10);
        assert_eq!(ready_messages(&[message("image", 0), message("text", 1)], at(2)).0, 2);
        assert_eq!(ready_messages(&[], at(2)).0, 0);
    }
}
