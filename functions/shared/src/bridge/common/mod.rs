//! What every room of the bridge uses: queue tasks, claims, texts, and calls to Avito within its rate limit. Nothing here
//! writes a row.

pub mod avito_rate_limit;
pub mod claim;
pub(in crate::bridge) mod post_kind;
pub mod queue_tasks;
pub mod telegram_budget;
pub mod tenant_cache;
pub mod text_split;
pub mod texts;
