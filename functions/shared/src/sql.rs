//! The SQL of the stored functions: every `.sql` file of this crate, and the name of the schema they are installed in.
//! Text only: nothing here knows a database, so it stands below every floor.

/// The files, each with its path below `src/`, in the order in which they are installed.
pub const FILES: &[(&str, &str)] = &[
    ("tenancy/tenants.sql", include_str!("tenancy/tenants.sql")),
    ("tenancy/accounts/keys.sql", include_str!("tenancy/accounts/keys.sql")),
    ("tenancy/accounts/webhooks/webhooks.sql", include_str!("tenancy/accounts/webhooks/webhooks.sql")),
    ("tenancy/accounts/change.sql", include_str!("tenancy/accounts/change.sql")),
    ("tenancy/bots/change.sql", include_str!("tenancy/bots/change.sql")),
    ("bridge/common/tenant_cache.sql", include_str!("bridge/common/tenant_cache.sql")),
    ("bridge/rows/account_work.sql", include_str!("bridge/rows/account_work.sql")),
    ("bridge/rows/parts.sql", include_str!("bridge/rows/parts.sql")),
    ("bridge/rows/posts.sql", include_str!("bridge/rows/posts.sql")),
    ("bridge/rows/bot_outbox.sql", include_str!("bridge/rows/bot_outbox.sql")),
    ("bridge/rows/topic_emoji.sql", include_str!("bridge/rows/topic_emoji.sql")),
    ("bridge/rows/handover.sql", include_str!("bridge/rows/handover.sql")),
    ("bridge/rows/receipts.sql", include_str!("bridge/rows/receipts.sql")),
    ("bridge/ingest/record.sql", include_str!("bridge/ingest/record.sql")),
    ("bridge/ingest/polls/account.sql", include_str!("bridge/ingest/polls/account.sql")),
    ("bridge/ingest/polls/cursors.sql", include_str!("bridge/ingest/polls/cursors.sql")),
    ("bridge/ingest/polls/poll.sql", include_str!("bridge/ingest/polls/poll.sql")),
    ("bridge/ingest/polls/schedule.sql", include_str!("bridge/ingest/polls/schedule.sql")),
    ("bridge/ingest/polls/confirm.sql", include_str!("bridge/ingest/polls/confirm.sql")),
    ("bridge/auto_reply.sql", include_str!("bridge/auto_reply.sql")),
    ("bridge/forget.sql", include_str!("bridge/forget.sql")),
    ("bridge/api/history.sql", include_str!("bridge/api/history.sql")),
    ("bridge/api/relocation.sql", include_str!("bridge/api/relocation.sql")),
    ("bridge/api/reply.sql", include_str!("bridge/api/reply.sql")),
    ("bridge/operator/insert.sql", include_str!("bridge/operator/insert.sql")),
    ("bridge/operator/commands.sql", include_str!("bridge/operator/commands.sql")),
    ("bridge/operator/edits.sql", include_str!("bridge/operator/edits.sql")),
    ("bridge/operator/albums.sql", include_str!("bridge/operator/albums.sql")),
    ("bridge/operator/callbacks.sql", include_str!("bridge/operator/callbacks.sql")),
    ("bridge/to_telegram/claim.sql", include_str!("bridge/to_telegram/claim.sql")),
    ("bridge/to_telegram/receipts.sql", include_str!("bridge/to_telegram/receipts.sql")),
    ("bridge/to_telegram/worker.sql", include_str!("bridge/to_telegram/worker.sql")),
    ("bridge/to_avito/blocking.sql", include_str!("bridge/to_avito/blocking.sql")),
    ("bridge/to_avito/outcomes.sql", include_str!("bridge/to_avito/outcomes.sql")),
    ("bridge/to_avito/edits.sql", include_str!("bridge/to_avito/edits.sql")),
    ("bridge/to_avito/claim.sql", include_str!("bridge/to_avito/claim.sql")),
];

/// The schema of the functions. It bears a digest of all texts, so two versions of the code each call their own functions.
pub const SCHEMA: &str = match std::str::from_utf8(&SCHEMA_NAME) {
    Ok(name) => name,
    Err(_) => panic!("hexadecimal digits are UTF-8"),
};

const SCHEMA_NAME: [u8; 12] = schema_name();

/// Returns `sql_` and eight hexadecimal digits.
const fn schema_name() -> [u8; 12] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digest = digest();
    let mut name = *b"sql_00000000";
    let mut index = 0;
    while index < 8 {
        name[4 + index] = DIGITS[(digest >> (28 - 4 * index) & 0xf) as usize];
        index += 1;
    }
    name
}

/// Returns the FNV-1a digest of all texts, folded to 32 bits. It is short, and known when the code is compiled.
const fn digest() -> u32 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut file = 0;
    while file < FILES.len() {
        let text = FILES[file].1.as_bytes();
        let mut index = 0;
        while index < text.len() {
            hash = (hash ^ text[index] as u64).wrapping_mul(0x0100_0000_01b3);
            index += 1;
        }
        file += 1;
    }
    (hash >> 32) as u32 ^ (hash & 0xffff_ffff) as u32
}
