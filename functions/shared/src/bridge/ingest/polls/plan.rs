//! The plan of a poll: which chats are read, in which order, and the watermark that follows. Pure rules.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

use jiff::Timestamp;

use super::{
    cursors::{Cursor, Listed},
    lists::Lists,
    times,
};
use crate::avito;

/// The account and the moment for which a poll is planned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Avito's id of the account.
    pub(super) user_id: i64,
    /// The time at which the account was connected, seconds.
    pub(super) started: i64,
    /// The present time.
    pub(super) now: Timestamp,
}

/// A chat to be read.
#[derive(Debug)]
pub(super) struct ChatToRead<'a> {
    pub(super) id: &'a str,
    /// The chat as it is listed. None: it is read again because it is due, and no list showed it.
    pub(super) chat: Option<&'a avito::Chat>,
    pub(super) listed: Listed,
    /// The newest message that was read before. None: no message was.
    pub(super) synced: Option<&'a str>,
    /// The failures before, in a row.
    pub(super) attempts: i32,
    /// True if the last poll broke off in it.
    pub(super) is_begun: bool,
}

/// The plan of a poll.
#[derive(Default)]
pub(super) struct Plan<'a> {
    /// Chats of which the list alone tells enough.
    pub(super) from_list: Vec<(&'a str, Listed)>,
    /// Chats to read, in this order: where the last poll broke off, unread ones, other changed ones, each the newest
    /// first; and last those that failed before.
    pub(super) to_read: Vec<ChatToRead<'a>>,
    /// Chats that changed and may not be tried yet: only what the list shows of them is recorded.
    pub(super) waiting: Vec<(&'a avito::Chat, Listed)>,
}

impl<'a> Plan<'a> {
    /// Plans a poll of these lists, with the rows of their chats and of those that are due.
    pub(super) fn new(moment: Moment, lists: &'a Lists, cursors: &'a HashMap<String, Cursor>) -> Self {
        let now = moment.now.as_second();
        let unread: HashSet<&str> = lists.unread.iter().flatten().map(|chat| chat.id.as_str()).collect();
        let is_unread = |chat: &avito::Chat| {
            let last = chat.last_message.as_ref();
            unread.contains(chat.id.as_str()) || last.is_some_and(|message| message.is_read == Some(false))
        };
        let (mut plan, mut seen, mut ranked) = (Self::default(), HashSet::new(), Vec::new());
        for chat in lists.unread.iter().flatten().chain(&lists.chats).filter(|chat| seen.insert(chat.id.as_str())) {
            let listed = Listed::of(chat, now);
            let cursor = cursors.get(&chat.id);
            let age = Reverse(chat.updated.and_then(|updated| times::clamped(updated, now)).unwrap_or(now));
            match action(moment, chat, &listed, cursor, is_unread(chat)) {
                Action::Nothing => {}
                Action::FromList => plan.from_list.push((chat.id.as_str(), listed)),
                Action::Wait => plan.waiting.push((chat, listed)),
                Action::Read(rank) => ranked.push((rank, age, to_read(&chat.id, Some(chat), listed, cursor))),
            }
        }
        for (id, cursor) in cursors.iter().filter(|(id, _)| !seen.contains(id.as_str())) {
            if cursor.is_begun || is_due(cursor, moment.now) {
                let rank = if cursor.is_begun { Rank::Begun } else { Rank::FailedBefore };
                ranked.push((rank, Reverse(0), to_read(id, None, cursor.listed.clone(), Some(cursor))));
            }
        }
        ranked.sort_by_key(|(rank, age, _)| (*rank, *age));
        plan.to_read = ranked.into_iter().map(|(_, _, chat)| chat).collect();
        plan
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Begun,
    Unread,
    Changed,
    FailedBefore,
}

enum Action {
    Nothing,
    FromList,
    Wait,
    Read(Rank),
}

fn action(moment: Moment, chat: &avito::Chat, listed: &Listed, cursor: Option<&Cursor>, is_unread: bool) -> Action {
    let new = if is_unread { Rank::Unread } else { Rank::Changed };
    let Some(cursor) = cursor else {
        let is_old = chat.last_message.as_ref().is_some_and(|message| {
            let is_before = message.created.is_some_and(|created| created < moment.started);
            is_before && (message.is_own(moment.user_id) || !is_unread)
        });
        return if is_old { Action::FromList } else { Action::Read(new) };
    };
    let has_changed = cursor.listed != *listed;
    match cursor.failures {
        _ if cursor.is_begun => Action::Read(Rank::Begun),
        None if has_changed => Action::Read(new),
        Some(_) if is_due(cursor, moment.now) => Action::Read(Rank::FailedBefore),
        Some(failures) if has_changed && failures.due_at.is_none() => Action::Read(Rank::FailedBefore),
        Some(_) if has_changed => Action::Wait,
        None | Some(_) => Action::Nothing,
    }
}

/// True if the chat failed before and may be tried again.
fn is_due(cursor: &Cursor, now: Timestamp) -> bool {
    cursor.failures.and_then(|failures| failures.due_at).is_some_and(|due_at| due_at <= now)
}

fn to_read<'a>(
    id: &'a str,
    chat: Option<&'a avito::Chat>,
    listed: Listed,
    cursor: Option<&'a Cursor>,
) -> ChatToRead<'a> {
    // A chat that was forgotten after a week begins a new count.
    let failures = cursor.and_then(|cursor| cursor.failures).filter(|failures| failures.due_at.is_some());
    ChatToRead {
        id,
        chat,
        listed,
        synced: cursor.and_then(|cursor| cursor.synced.as_deref()),
        attempts: failures.map_or(0, |failures| failures.attempts),
        is_begun: cursor.is_some_and(|cursor| cursor.is_begun),
    }
}

/// Returns the time below which every listed chat was dealt with, but for those that are left. None: it is not known.
pub(super) fn watermark(lists: &Lists, left: &HashSet<&str>, now: i64) -> Option<i64> {
    if !lists.is_complete {
        return None;
    }
    let time = |chat: &avito::Chat| chat.updated.and_then(|updated| times::clamped(updated, now));
    let mut of_left = lists.chats.iter().filter(|chat| left.contains(chat.id.as_str())).peekable();
    if of_left.peek().is_some() {
        // A chat of an unknown time may be anywhere.
        return of_left.map(time).collect::<Option<Vec<i64>>>()?.into_iter().min();
    }
    lists.chats.iter().filter_map(time).max()
}

#[cfg(test)]
mod tests;
