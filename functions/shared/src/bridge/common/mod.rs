//! Shared by every room of the bridge: queue tasks, claims, states, texts, and calls to Avito within its rate limit.
//! Nothing here writes a row.

pub(in crate::bridge) mod avito_call;
pub(in crate::bridge) mod avito_rate_limit;
pub(in crate::bridge) mod buttons;
pub(in crate::bridge) mod chat_snapshot;
pub(in crate::bridge) mod claim;
pub mod outage;
pub mod post_kind;
pub mod queue_tasks;
pub mod states;
pub(in crate::bridge) mod telegram_budget;
pub(in crate::bridge) mod tenant_cache;
pub mod text_split;
pub(in crate::bridge) mod texts;
pub(in crate::bridge) mod wakeups;
