//! States and origins, as the columns of the database name them. A test compares the names with the `CHECK` lists of the
//! tables.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The writer of a message, as in `messages.origin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr, strum::VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum MessageOrigin {
    /// The buyer.
    Buyer,
    /// Avito itself.
    System,
    /// An operator, in the topic.
    Operator,
    /// The seller, in Avito's app.
    AvitoApp,
    /// A user of the client, through the API.
    Api,
    /// The auto-reply.
    AutoReply,
}

/// The status of a message, as in `messages.status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, strum::IntoStaticStr, strum::VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum MessageStatus {
    /// Avito reported it. It is not posted yet.
    Received,
    /// It is never shown: the settings leave it out, or Avito knows no such chat.
    Filtered,
    /// Ours. It is on its way to Avito.
    Sending,
    /// Ours. Avito has it.
    Sent,
    /// It is posted in the topic.
    Delivered,
    /// The buyer has read it.
    Read,
    /// It could not be posted, or Avito did not take it.
    Failed,
}

/// How a dialog stands.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, strum::IntoStaticStr, strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum DialogState {
    /// The buyer waits for an answer.
    Waiting,
    /// The last word is ours.
    Answered,
    /// Somebody closed it.
    Closed,
    /// The buyer is blocked in Avito.
    Blocked,
}

impl DialogState {
    /// The name in the database and in JSON.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// True if the buyer waits for an answer.
    pub fn is_unanswered(self) -> bool {
        match self {
            Self::Waiting => true,
            Self::Answered | Self::Closed | Self::Blocked => false,
        }
    }

    /// True if the dialog's topic is to be closed.
    pub fn is_closed(self) -> bool {
        match self {
            Self::Closed => true,
            Self::Waiting | Self::Answered | Self::Blocked => false,
        }
    }
}

/// The state of a part, as in `parts.state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, strum::IntoStaticStr, strum::VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum PartState {
    /// It is still to be sent.
    Pending,
    /// Avito is being asked to send it, or the outcome of that call is unknown.
    Sending,
    /// Avito has it.
    Sent,
    /// Avito did not take it.
    Failed,
    /// It is not sent any more.
    Cancelled,
    /// It is to be deleted in Avito.
    Deleting,
    /// It is deleted in Avito.
    Deleted,
}

impl PartState {
    /// True if an earlier call may have sent the part.
    pub fn is_outcome_unknown(self) -> bool {
        match self {
            Self::Sending => true,
            Self::Pending | Self::Sent | Self::Failed | Self::Cancelled | Self::Deleting | Self::Deleted => false,
        }
    }

    /// True if the part is to be deleted in Avito.
    pub fn is_to_delete(self) -> bool {
        match self {
            Self::Deleting => true,
            Self::Pending | Self::Sending | Self::Sent | Self::Failed | Self::Cancelled | Self::Deleted => false,
        }
    }
}

/// The state of a post, as in `posts.state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum PostState {
    /// It is still to be sent.
    Pending,
    /// Telegram is being asked to post it, or the outcome of that call is unknown.
    Sending,
    /// Telegram has it, or it is not needed any more.
    Sent,
    /// Telegram did not take it.
    Failed,
}

impl PostState {
    /// The name in the database.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
