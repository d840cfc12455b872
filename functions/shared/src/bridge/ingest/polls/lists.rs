//! The lists of a poll: the unread chats, and all chats down to the watermark. What cannot be listed is noted, and the poll
//! goes on with what was.

use sha2::{Digest, Sha256};

use super::{
    account::{PollError, PolledAccount},
    pages::{MAX_OFFSET, list},
};
use crate::{avito, bridge::common::avito_call::AvitoCaller, platform::limits};

/// The chats that Avito listed.
#[derive(Default)]
pub(super) struct Lists {
    /// The chats that may have changed since the watermark, newest first. Empty if the first page is as it was.
    pub(super) chats: Vec<avito::Chat>,
    /// True if `chats` reaches down to the watermark, or nothing changed.
    pub(super) is_complete: bool,
    /// True if more chats changed than Avito lists.
    pub(super) is_cut: bool,
    /// The chats with unread messages. None: they were not listed, or are as they were.
    pub(super) unread: Option<Vec<avito::Chat>>,
    /// The digest of the first page. None: it was not listed.
    pub(super) page_digest: Option<Vec<u8>>,
    /// The digest of the unread chats, as far as they were listed.
    pub(super) unread_digest: Option<Vec<u8>>,
    /// The first reason for which a page is missing.
    pub(super) error: Option<PollError>,
}

impl Lists {
    /// Lists the chats of an account.
    pub(super) async fn fetch(account: &PolledAccount, caller: &AvitoCaller<'_>) -> Self {
        let mut lists = Self { unread_digest: account.unread_digest.clone(), ..Self::default() };
        if account.list_unread {
            match unread_chats(account, caller).await {
                Ok(unread) => {
                    let seen = digest(&unread);
                    if account.unread_digest.as_ref() != Some(&seen) {
                        lists.unread = Some(unread);
                        lists.unread_digest = Some(seen);
                    }
                }
                Err(error) => lists.error = Some(error),
            }
        }
        let first = match list(caller, false, 0).await {
            Ok(first) => first,
            Err(error) => {
                lists.error.get_or_insert(error);
                return lists;
            }
        };
        if avito::shows_tariff_placeholders(&first.chats, account.keys.user_id) {
            // Nothing that these lists show is what people wrote.
            return Self {
                error: Some(PollError::Tariff),
                unread_digest: account.unread_digest.clone(),
                ..Self::default()
            };
        }
        let page_digest = digest(&first.chats);
        let has_changes = !account.is_active() || account.digest.as_ref() != Some(&page_digest);
        lists.page_digest = Some(page_digest);
        lists.is_complete = true;
        if has_changes {
            lists.add_pages(account, caller, first).await;
        }
        lists
    }

    /// Adds the chats that may have changed since the watermark, from the first page and those after it.
    async fn add_pages(&mut self, account: &PolledAccount, caller: &AvitoCaller<'_>, first: avito::ChatsPage) {
        let floor = account.floor();
        let is_changed = |chat: &avito::Chat| chat.updated.is_none_or(|updated| updated >= floor);
        let (mut page, mut offset) = (first, 0);
        loop {
            let is_last = is_last(&page) || page.chats.last().is_some_and(|chat| !is_changed(chat));
            self.chats.extend(page.chats.into_iter().filter(is_changed));
            offset += avito::MAX_PAGE_SIZE;
            if is_last {
                return;
            }
            if offset > MAX_OFFSET {
                // Avito serves no more. What was written in the chats behind is not found, unless it is still unread.
                limits::count("chats");
                self.is_cut = true;
                return;
            }
            page = match list(caller, false, offset).await {
                Ok(page) => page,
                Err(error) => {
                    self.is_complete = false;
                    self.error.get_or_insert(error);
                    return;
                }
            };
        }
    }

    /// True if nothing was listed that differs from the last poll.
    pub(super) fn is_unchanged(&self, account: &PolledAccount) -> bool {
        self.unread.is_none()
            && account.is_active()
            && (self.page_digest.is_none() || self.page_digest == account.digest)
    }
}

/// Lists the chats with unread messages that were not too old when the account was connected, in case Avito's order of
/// all chats is not the one that was observed.
async fn unread_chats(account: &PolledAccount, caller: &AvitoCaller<'_>) -> Result<Vec<avito::Chat>, PollError> {
    let oldest = account.oldest_unread();
    let is_wanted = |chat: &avito::Chat| chat.updated.is_none_or(|updated| updated >= oldest);
    let mut unread = Vec::new();
    for offset in (0..=MAX_OFFSET).step_by(usize::from(avito::MAX_PAGE_SIZE)) {
        let page = list(caller, true, offset).await?;
        let is_last = is_last(&page) || !page.chats.iter().any(is_wanted);
        unread.extend(page.chats.into_iter().filter(is_wanted));
        if is_last {
            break;
        }
    }
    Ok(unread)
}

fn is_last(page: &avito::ChatsPage) -> bool {
    page.chats.len() < usize::from(avito::MAX_PAGE_SIZE) || page.has_more == Some(false)
}

/// A digest of ids, times, newest messages with their kinds, and their read times. A page without changes has the same
/// digest as before.
fn digest(chats: &[avito::Chat]) -> Vec<u8> {
    let mut digest = Sha256::new();
    for chat in chats {
        let last = chat.last_message.as_ref();
        digest.update(format!(
            "{:?}{:?}{:?}{:?}{:?};",
            chat.id,
            chat.updated,
            last.map(|message| &message.id),
            last.map(|message| message.kind.as_str()),
            last.and_then(|message| message.read)
        ));
    }
    digest.finalize().to_vec()
}
