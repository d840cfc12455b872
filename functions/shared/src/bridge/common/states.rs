//! States and origins, as the columns of the database name them. A test compares the names with the `CHECK` lists of the
//! tables.

use serde::{Deserialize, Serialize};

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
