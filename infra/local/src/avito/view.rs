//! An account's view of its chats: its switches and faults change ids, texts, and the moment at which a message is in a
//! list.

use sha2::{Digest, Sha256};

use super::state::{Account, Chat, Message};
use crate::faults::Faults;
use crate::world::now_ms;

/// The sentence that Avito puts in place of texts while the tariff is missing.
pub(crate) const TARIFF_PLACEHOLDER: &str = "Чтобы видеть сообщения, перейдите на подписку с доступом к API.";

/// Ids of Avito itself: the authors of system messages.
const SYSTEM_IDS: std::ops::RangeInclusive<i64> = 0..=1;

/// The view of one account.
pub(crate) struct View<'a> {
    pub(crate) account: &'a Account,
    faults: &'a Faults,
}

impl<'a> View<'a> {
    pub(crate) fn new(account: &'a Account, faults: &'a Faults) -> Self {
        Self { account, faults }
    }

    /// A user's id as lists show it.
    pub(crate) fn id(&self, id: i64) -> i64 {
        if self.account.switches.hashed_ids { hashed(self.account.user_id, id) } else { id }
    }

    /// The messages of a chat that are in lists by now, newest first; of one second the later one first.
    pub(crate) fn newest_first<'c>(&self, chat: &'c Chat) -> Vec<&'c Message> {
        let mut messages = self.listed(chat).rev().collect::<Vec<_>>();
        messages.sort_by_key(|message| std::cmp::Reverse(message.created));
        messages
    }

    /// The first of them.
    pub(crate) fn newest<'c>(&self, chat: &'c Chat) -> Option<&'c Message> {
        self.listed(chat).max_by_key(|message| message.created)
    }

    fn listed<'c>(&self, chat: &'c Chat) -> impl DoubleEndedIterator<Item = &'c Message> + use<'c> {
        let lag = self.faults.list_lag(chat.user_id, &chat.id).map(|lag| lag.as_millis());
        let (now, own) = (now_ms(), chat.user_id);
        chat.messages.iter().filter(move |message| {
            let age = u128::try_from(now - message.at).unwrap_or_default();
            message.author_id != own || lag.is_none_or(|lag| age >= lag)
        })
    }
}

/// Another id for a user, always the same within an account, and as large as Avito's are. Avito's own ids stay.
pub(crate) fn hashed(account: i64, id: i64) -> i64 {
    if SYSTEM_IDS.contains(&id) {
        return id;
    }
    let digest = Sha256::digest(format!("{account}:{id}"));
    digest.iter().take(6).fold(0_i64, |number, byte| number << 8 | i64::from(*byte)) | 1 << 40
}
