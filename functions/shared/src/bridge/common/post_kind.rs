//! The properties of the kinds of posts, as `posts.kind` names them.

/// True if a kind of post carries nothing that people would miss.
pub(in crate::bridge) fn only_decorates(kind: &str) -> bool {
    matches!(kind, "pin" | "reaction" | "delete" | "remove_topic" | "edit" | "rename" | "close_topic" | "reopen_topic")
}

/// True if carrying out a post of this kind twice has the same result as once.
pub(in crate::bridge) fn is_repeatable(kind: &str) -> bool {
    matches!(kind, "pin" | "edit" | "rename" | "close_topic" | "reopen_topic")
}

/// True if a post of this kind becomes one Telegram message, so that nothing but its being sent has to be stored.
pub(in crate::bridge) fn is_one_message(kind: &str) -> bool {
    matches!(kind, "text" | "mirror" | "notice" | "photo" | "voice" | "venue")
}

/// True if a post of this kind has pictures.
pub(in crate::bridge) fn is_picture(kind: &str) -> bool {
    matches!(kind, "photo" | "album")
}

/// True if a post of this kind has a picture, a voice or a location.
pub(in crate::bridge) fn is_media(kind: &str) -> bool {
    is_picture(kind) || matches!(kind, "voice" | "venue")
}

/// True if posts of this kind need their files before they are marked `sending`.
pub(in crate::bridge) fn needs_files(kind: &str) -> bool {
    kind == "voice"
}
