//! Kinds of post, and everything that depends on the kind. Each property is one `match` without a catch-all arm, so a new
//! kind must choose. `post_priority` and `post_order` in `rows/posts.sql` say the same to SQL; a test compares them.

use serde::{Deserialize, Serialize};
use strum::VariantArray;

/// One sort of thing that we ask Telegram to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, strum::IntoStaticStr, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum PostKind {
    /// The first post of a topic: item, price, city, buyer, account.
    Header,
    /// The last delivered messages, in a topic that was created anew.
    Replay,
    /// Texts of a buyer.
    Text,
    /// An answer that was not written in the topic.
    Mirror,
    /// A place on the map.
    Venue,
    /// A voice message.
    Voice,
    /// One picture.
    Photo,
    /// Two to ten pictures.
    Album,
    /// Words of the bridge itself.
    Notice,
    /// Another text in place of one that was sent.
    Edit,
    /// Another name of a topic.
    Rename,
    /// A message that is pinned in its topic.
    Pin,
    /// A topic that is closed.
    CloseTopic,
    /// A topic that is opened again.
    ReopenTopic,
    /// A message that is deleted.
    Delete,
    /// A topic without a dialog that is removed.
    RemoveTopic,
    /// A receipt on an operator's message.
    Reaction,
}

impl PostKind {
    /// The name in the database and in JSON.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The names of all kinds with a property.
    pub fn names(has: fn(Self) -> bool) -> Vec<String> {
        Self::VARIANTS.iter().filter(|kind| has(**kind)).map(|kind| kind.as_str().to_owned()).collect()
    }

    /// The order among what a bot has to post, 1 first: messages, notices, then what only decorates.
    pub fn priority(self) -> i32 {
        match self {
            Self::Header
            | Self::Replay
            | Self::Text
            | Self::Mirror
            | Self::Venue
            | Self::Voice
            | Self::Photo
            | Self::Album => 1,
            Self::Notice => 2,
            Self::Edit
            | Self::Rename
            | Self::Pin
            | Self::CloseTopic
            | Self::ReopenTopic
            | Self::Delete
            | Self::RemoveTopic
            | Self::Reaction => 3,
        }
    }

    /// The order within one dialog, 0 first. None: reactions stand in no order; they are set in batches.
    pub fn order(self) -> Option<i32> {
        match self {
            Self::Header => Some(0),
            Self::Replay => Some(1),
            Self::Text | Self::Mirror | Self::Venue | Self::Voice | Self::Photo | Self::Album | Self::Notice => Some(2),
            Self::Edit
            | Self::Rename
            | Self::Pin
            | Self::CloseTopic
            | Self::ReopenTopic
            | Self::Delete
            | Self::RemoveTopic => Some(3),
            Self::Reaction => None,
        }
    }

    /// Messages of the group's minute that a post takes, of which so many pictures go with one call.
    pub fn cost(self, pictures: u32) -> u32 {
        match self {
            Self::Photo | Self::Album => pictures.max(1),
            Self::Header
            | Self::Replay
            | Self::Text
            | Self::Mirror
            | Self::Venue
            | Self::Voice
            | Self::Notice
            | Self::Edit
            | Self::Rename => 1,
            // Reactions have a budget of their own.
            Self::Pin | Self::CloseTopic | Self::ReopenTopic | Self::Delete | Self::RemoveTopic | Self::Reaction => 0,
        }
    }

    /// True if sending it is one message of Telegram's, so that nothing is to be stored but its id.
    pub fn is_one_message(self) -> bool {
        match self {
            Self::Text | Self::Mirror | Self::Venue | Self::Voice | Self::Photo | Self::Notice => true,
            Self::Header
            | Self::Replay
            | Self::Album
            | Self::Edit
            | Self::Rename
            | Self::Pin
            | Self::CloseTopic
            | Self::ReopenTopic
            | Self::Delete
            | Self::RemoveTopic
            | Self::Reaction => false,
        }
    }

    /// True if a second call changes nothing and succeeds too, so that it is not committed as `sending` before the call. A
    /// second deletion is refused; reactions are set in batches of their own.
    pub fn is_repeatable(self) -> bool {
        match self {
            Self::Edit | Self::Rename | Self::Pin | Self::CloseTopic | Self::ReopenTopic => true,
            Self::Header
            | Self::Replay
            | Self::Text
            | Self::Mirror
            | Self::Venue
            | Self::Voice
            | Self::Photo
            | Self::Album
            | Self::Notice
            | Self::Delete
            | Self::RemoveTopic
            | Self::Reaction => false,
        }
    }

    /// True if it carries no words that would be lost with it: a failed one is tried a few times, and then dropped.
    pub fn only_decorates(self) -> bool {
        match self {
            Self::Edit
            | Self::Rename
            | Self::Pin
            | Self::CloseTopic
            | Self::ReopenTopic
            | Self::Delete
            | Self::RemoveTopic
            | Self::Reaction => true,
            Self::Header
            | Self::Replay
            | Self::Text
            | Self::Mirror
            | Self::Venue
            | Self::Voice
            | Self::Photo
            | Self::Album
            | Self::Notice => false,
        }
    }

    /// True if it makes sense only in a dialog's topic.
    pub fn needs_topic(self) -> bool {
        match self {
            Self::Header | Self::Replay | Self::Rename | Self::CloseTopic | Self::ReopenTopic => true,
            Self::Text
            | Self::Mirror
            | Self::Venue
            | Self::Voice
            | Self::Photo
            | Self::Album
            | Self::Notice
            | Self::Edit
            | Self::Pin
            | Self::Delete
            | Self::RemoveTopic
            | Self::Reaction => false,
        }
    }

    /// True if it shows pictures.
    pub fn is_picture(self) -> bool {
        match self {
            Self::Photo | Self::Album => true,
            Self::Header
            | Self::Replay
            | Self::Text
            | Self::Mirror
            | Self::Venue
            | Self::Voice
            | Self::Notice
            | Self::Edit
            | Self::Rename
            | Self::Pin
            | Self::CloseTopic
            | Self::ReopenTopic
            | Self::Delete
            | Self::RemoveTopic
            | Self::Reaction => false,
        }
    }

    /// True if it has delivery methods: a picture, a voice message or a place.
    pub fn is_media(self) -> bool {
        match self {
            Self::Photo | Self::Album | Self::Voice | Self::Venue => true,
            Self::Header
            | Self::Replay
            | Self::Text
            | Self::Mirror
            | Self::Notice
            | Self::Edit
            | Self::Rename
            | Self::Pin
            | Self::CloseTopic
            | Self::ReopenTopic
            | Self::Delete
            | Self::RemoveTopic
            | Self::Reaction => false,
        }
    }

    /// True if it needs its file before it is committed as `sending`.
    pub fn needs_files(self) -> bool {
        match self {
            Self::Voice => true,
            Self::Header
            | Self::Replay
            | Self::Text
            | Self::Mirror
            | Self::Venue
            | Self::Photo
            | Self::Album
            | Self::Notice
            | Self::Edit
            | Self::Rename
            | Self::Pin
            | Self::CloseTopic
            | Self::ReopenTopic
            | Self::Delete
            | Self::RemoveTopic
            | Self::Reaction => false,
        }
    }

    /// True if the caption, not the text, bears the heading in a group without topics.
    pub fn has_caption(self) -> bool {
        match self {
            Self::Photo | Self::Album | Self::Voice => true,
            Self::Header
            | Self::Replay
            | Self::Text
            | Self::Mirror
            | Self::Venue
            | Self::Notice
            | Self::Edit
            | Self::Rename
            | Self::Pin
            | Self::CloseTopic
            | Self::ReopenTopic
            | Self::Delete
            | Self::RemoveTopic
            | Self::Reaction => false,
        }
    }

    /// True if it ends when its dialog is shown in another group.
    pub fn ends_with_group(self) -> bool {
        match self {
            Self::Header | Self::Replay | Self::Pin | Self::Rename | Self::CloseTopic | Self::ReopenTopic => true,
            Self::Text
            | Self::Mirror
            | Self::Venue
            | Self::Voice
            | Self::Photo
            | Self::Album
            | Self::Notice
            | Self::Edit
            | Self::Delete
            | Self::RemoveTopic
            | Self::Reaction => false,
        }
    }
}
