use proptest::prelude::*;
use serde_json::json;

use super::{super::cursors::Failures, *};

/// A moment in the past: what Avito says of later ones is cut to now.
const NOW: i64 = 1_700_000_000;
const STARTED: i64 = NOW - 3600;
const USER: i64 = 7;

fn moment() -> Moment {
    Moment { user_id: USER, started: STARTED, now: at(NOW) }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap_or_default()
}

/// A chat whose newest message is of this time, written by `author` and read or not.
fn chat(id: &str, updated: i64, author: i64, is_read: bool) -> avito::Chat {
    let message = json!({ "id": format!("{id}-last"), "author_id": author, "created": updated, "type": "text",
                          "content": { "text": "Да" }, "is_read": is_read });
    serde_json::from_value(json!({ "id": id, "updated": updated, "last_message": message }))
        .unwrap_or_else(|error| panic!("{error}"))
}

fn lists(chats: Vec<avito::Chat>, unread: Vec<avito::Chat>) -> Lists {
    Lists { chats, unread: Some(unread), is_complete: true, ..Lists::default() }
}

fn read_before(chat: &avito::Chat) -> Cursor {
    Cursor { listed: Listed::of(chat, NOW), synced: Some(format!("{}-before", chat.id)), ..Cursor::default() }
}

fn failed(chat: &avito::Chat, due_at: Option<i64>) -> Cursor {
    Cursor { failures: Some(Failures { attempts: 3, due_at: due_at.map(at) }), ..read_before(chat) }
}

fn ids(plan: &Plan<'_>) -> Vec<String> {
    plan.to_read.iter().map(|chat| chat.id.to_owned()).collect()
}

#[test]
fn a_chat_from_before_the_start_is_read_only_if_it_is_unread_and_not_our_own() {
    let before = STARTED - 60;
    let listed = lists(
        vec![
            chat("own", before, USER, true),
            chat("read", before, 1, true),
            chat("new", STARTED + 60, 1, true),
            chat("own-and-unread", before, USER, false),
        ],
        vec![chat("unread", before, 1, true)],
    );
    let none = HashMap::new();
    let plan = Plan::new(moment(), &listed, &none);
    assert_eq!(ids(&plan), ["unread", "new"]);
    assert_eq!(plan.from_list.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ["own", "read", "own-and-unread"]);
}

#[test]
fn the_last_poll_is_continued_then_unread_chats_come_then_changed_ones_and_last_those_that_failed() {
    let after = STARTED + 60;
    let [begun, failing, old, new] = ["begun", "failing", "old", "new"].map(|id| chat(id, after, 1, true));
    let unread = [chat("older", STARTED + 10, 1, false), chat("newer", STARTED + 20, 1, false)];
    let mut cursors: HashMap<String, Cursor> = HashMap::new();
    cursors.insert("begun".to_owned(), Cursor { is_begun: true, ..Cursor::default() });
    cursors.insert("failing".to_owned(), failed(&failing, Some(NOW - 1)));
    cursors.insert("old".to_owned(), read_before(&old));
    cursors.insert("unlisted".to_owned(), failed(&chat("unlisted", STARTED, 1, true), Some(NOW)));
    let listed = lists(vec![failing, new, old, begun], unread.into());
    let plan = Plan::new(moment(), &listed, &cursors);
    assert_eq!(ids(&plan), ["begun", "newer", "older", "new", "failing", "unlisted"]);
    assert_eq!(plan.to_read.last().map(|chat| chat.attempts), Some(3));
}

#[test]
fn a_chat_that_failed_waits_for_its_time_and_what_the_list_shows_of_it_is_recorded() {
    let before = chat("failing", STARTED + 60, 1, true);
    let changed = chat("failing", STARTED + 90, 1, true);
    let plan_of = |listed: &avito::Chat, due_at: Option<i64>| {
        let cursors = HashMap::from([("failing".to_owned(), failed(&before, due_at))]);
        let listed = lists(vec![listed.clone()], Vec::new());
        let plan = Plan::new(moment(), &listed, &cursors);
        (plan.to_read.iter().map(|chat| chat.attempts).collect::<Vec<_>>(), plan.waiting.len())
    };
    assert_eq!(plan_of(&before, Some(NOW + 60)), (vec![], 0));
    assert_eq!(plan_of(&changed, Some(NOW + 60)), (vec![], 1));
    assert_eq!(plan_of(&before, Some(NOW)), (vec![3], 0));
    assert_eq!(plan_of(&before, None), (vec![], 0), "after a week");
    assert_eq!(plan_of(&changed, None), (vec![0], 0), "after a week, it begins anew");
}

#[test]
fn a_message_that_its_writer_deleted_is_a_change_of_its_chat() {
    let before = chat("one", STARTED + 60, 1, true);
    let mut after = before.clone();
    after.last_message.as_mut().into_iter().for_each(|message| message.kind = avito::Kind::Deleted);
    let cursors = HashMap::from([("one".to_owned(), read_before(&before))]);
    let (same, deleted) = (lists(vec![before], Vec::new()), lists(vec![after], Vec::new()));
    assert_eq!(ids(&Plan::new(moment(), &same, &cursors)), [""; 0]);
    assert_eq!(ids(&Plan::new(moment(), &deleted, &cursors)), ["one"]);
}

#[test]
fn a_time_in_milliseconds_does_not_make_a_chat_change_in_every_poll_nor_moves_the_watermark_beyond_now() {
    let strange = chat("strange", NOW * 1000, 1, true);
    let later = chat("strange", NOW * 1000 + 7, 1, true);
    let cursors = HashMap::from([("strange".to_owned(), read_before(&strange))]);
    let listed = lists(vec![later], Vec::new());
    assert_eq!(ids(&Plan::new(moment(), &listed, &cursors)), [""; 0]);
    assert_eq!(watermark(&listed, &HashSet::new(), NOW), Some(NOW));
}

proptest! {
    #[test]
    fn every_chat_that_is_left_is_listed_again_by_the_next_poll(
        chats in prop::collection::vec((prop::option::of(prop_oneof![NOW - 5000..NOW + 5000, any::<i64>()]), any::<bool>()), 0..40),
    ) {
        let all: Vec<avito::Chat> = (0..).zip(&chats).map(|(index, (updated, _))| {
            let mut listed = chat(&format!("c{index}"), NOW, 1, true);
            listed.updated = *updated;
            listed
        }).collect();
        let left: HashSet<&str> =
            all.iter().zip(&chats).filter(|(_, (_, left))| *left).map(|(chat, _)| chat.id.as_str()).collect();
        let listed = lists(all.clone(), Vec::new());
        if let Some(watermark) = watermark(&listed, &left, NOW) {
            prop_assert!(watermark <= NOW);
            for chat in all.iter().filter(|chat| left.contains(chat.id.as_str())) {
                prop_assert!(chat.updated.is_some_and(|updated| updated >= watermark));
            }
        }
    }
}
