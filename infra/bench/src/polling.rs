//! A cycle of polls: the schedule names the accounts that are due, the workers poll each, with and without new
//! messages.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;
use tuberry_local::proxy::Proxy;

use crate::Outcome;
use crate::cost;
use crate::figures::{Figures, Table, count, shown};
use crate::lambda::{Fleet, Lambda, idle};
use crate::load::Part;
use crate::processes::{children_cpu_ms, cpu_ms};
use crate::redis::{self, requests};
use crate::world::World;

/// Numbers of accounts that are polled.
const SIZES: [usize; 3] = [100, 1_000, 10_000];
/// The number of accounts at which a proxy counts the round trips to Postgres; the others are timed.
const COUNTED: usize = SIZES[0];
/// Processes that poll.
const PROCESSES: usize = 4;
/// Organisations that share the accounts.
const TENANTS: usize = 20;
/// Avito's ids of the accounts begin here.
const FIRST: i64 = 5_000_000_000;
/// Accounts are copies of those that were connected: their secrets are encrypted for the same organisation, so they can
/// be decrypted.
const COPY: &str = "
    INSERT INTO avito_accounts OVERRIDING SYSTEM VALUE
    SELECT copy.* FROM generate_series(0, $2::int - 1) AS n
    JOIN avito_accounts a ON a.id = ($1::bigint[])[1 + n % cardinality($1::bigint[])]
    CROSS JOIN LATERAL jsonb_populate_record(NULL::avito_accounts, to_jsonb(a) || jsonb_build_object(
        'id', nextval(pg_get_serial_sequence('avito_accounts', 'id')), 'user_id', $3::bigint + n,
        'api_client_id', 'bench-' || n, 'access_token', NULL, 'token_expires_at', NULL)) AS copy";
const START_POLLS: &str = "
    INSERT INTO account_polls (avito_account_id, client_id)
    SELECT id, client_id FROM avito_accounts WHERE user_id >= $1";
/// Every ten minutes an account's unread chats are listed besides, by a call of its own; that is not measured here.
const DUE: &str = "
    UPDATE account_polls p
    SET unread_list_at = now() + interval '1 day',
        next_poll_at = CASE WHEN a.user_id >= $1 AND a.user_id < $1 + $2 THEN now() ELSE now() + interval '1 day' END
    FROM avito_accounts a WHERE a.id = p.avito_account_id";
/// Messages that were written before the accounts were connected are not new.
const THREE_DAYS: i64 = 3 * 24 * 3600;

/// The measurements of a cycle.
struct Cycle {
    seconds: f64,
    parts: Vec<Part>,
    calls: f64,
    postgres_cpu_ms: f64,
    simulators_cpu_ms: f64,
    round_trips: f64,
    redis: f64,
    new_messages: i64,
}

/// Measures cycles of all sizes.
pub(crate) async fn measure(lambda: &Lambda, world: &mut World, figures: &mut Figures) -> Outcome<Table> {
    world.grow(lambda, TENANTS).await?;
    let most = SIZES[SIZES.len() - 1];
    add_accounts(world, most).await?;
    let head = [
        "accounts",
        "news",
        "outside, ms",
        "seconds",
        "accounts/s",
        "CPU ms an account: functions",
        "Postgres",
        "simulators",
        "Avito calls an account",
        "$ a million polls",
    ];
    let mut table = Table::new(format!("A poll cycle, {PROCESSES} processes"), &head);
    let mut row = |size: usize, what: &str, latency: u64, cycle: &Cycle| {
        let each = |all: f64| shown(all / count(size));
        table.row([
            size.to_string(),
            what.to_owned(),
            latency.to_string(),
            shown(cycle.seconds),
            shown(count(size) / cycle.seconds),
            each(cycle.parts.iter().map(|part| part.cpu_ms).sum()),
            each(cycle.postgres_cpu_ms),
            each(cycle.simulators_cpu_ms),
            each(cycle.calls),
            format!("{:.2}", cycle.parts.iter().map(cost::of).sum::<f64>() / count(size) * 1e6),
        ]);
    };
    let first = cycle(lambda, world, most, false).await?;
    row(most, "first poll of all", 0, &first);
    for size in SIZES {
        for with_new in [false, true] {
            let cycle = cycle(lambda, world, size, with_new).await?;
            let what = if with_new { "1 %" } else { "none" };
            row(size, what, 0, &cycle);
            figures.note(format!("poll/{size} accounts, news {what}/seconds"), cycle.seconds);
            let cpu = cycle.parts.iter().map(|part| part.cpu_ms).sum::<f64>() / count(size);
            figures.note(format!("poll/{size} accounts, news {what}/CPU ms an account"), cpu);
            if !with_new {
                figures.compare(format!("poll/{size} accounts/Avito calls an account"), cycle.calls / count(size));
                if size == COUNTED {
                    let round_trips = cycle.round_trips * 50.0 / count(size);
                    figures.compare(format!("poll/{size} accounts/Postgres round trips a fifty"), round_trips);
                }
                figures
                    .compare(format!("poll/{size} accounts/Redis round trips an account"), cycle.redis / count(size));
            }
        }
    }
    world.simulators.set_latency(50).await?;
    let distant = cycle(lambda, world, most, false).await?;
    world.simulators.set_latency(0).await?;
    row(most, "none", 50, &distant);
    figures.note(format!("poll/{most} accounts, news none, 50 ms/seconds"), distant.seconds);
    Ok(table)
}

/// Adds the accounts to poll, each with one old chat.
async fn add_accounts(world: &World, accounts: usize) -> Outcome<()> {
    let originals: Vec<i64> = world.tenants.iter().map(|tenant| tenant.account_id).collect();
    world.database.execute(COPY, &[&originals, &i32::try_from(accounts)?, &FIRST]).await?;
    world.database.execute(START_POLLS, &[&FIRST]).await?;
    let mut tasks = JoinSet::new();
    for index in 0..accounts {
        while tasks.len() >= 16 {
            tasks.join_next().await.unwrap_or(Ok(Ok(())))??;
        }
        let (simulators, tenants) = (world.simulators.clone(), world.tenants.len());
        tasks.spawn(async move {
            // The copies have the secret of the account that they were made from.
            let secret = format!("secret-{}", 1_000_000_000 + index % tenants);
            let user_id = FIRST + i64::try_from(index)?;
            let account = json!({ "client_id": format!("bench-{index}"), "client_secret": secret, "user_id": user_id });
            simulators.post("avito/accounts", &account).await?;
            let chat = json!({ "user_id": user_id, "chat": chat(index), "buyer": { "name": "Покупатель" },
                               "item": { "title": "Стол дубовый" } });
            simulators.post("avito/chats", &chat).await?;
            write(&simulators, index, jiff::Timestamp::now().as_second() - THREE_DAYS).await
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

fn chat(index: usize) -> String {
    format!("u2i-bench-{index}")
}

/// Has the buyer of an account write, without a webhook.
async fn write(simulators: &crate::simulators::Simulators, index: usize, created: i64) -> Outcome<()> {
    let message =
        json!({ "chat": chat(index), "from": "buyer", "text": "Ещё продаётся?", "created": created, "webhook": false });
    simulators.post("avito/messages", &message).await.map(drop)
}

/// Runs one cycle over the first `size` accounts. With `with_new`, one in a hundred has a new message.
async fn cycle(lambda: &Lambda, world: &World, size: usize, with_new: bool) -> Outcome<Cycle> {
    world.forget_and_analyze(lambda).await?;
    for index in (0..size).step_by(100).filter(|_| with_new) {
        write(&world.simulators, index, jiff::Timestamp::now().as_second()).await?;
    }
    world.database.execute(DUE, &[&FIRST, &i64::try_from(size)?]).await?;
    let proxy = Proxy::start(&lambda.plan.database, 0).await?;
    let changed = [("DATABASE_URL", proxy.address.as_str())];
    let schedule = lambda.fleet("poll-avito", 1, &[]).await?;
    let workers = lambda.fleet("poll-accounts", PROCESSES, if size == COUNTED { &changed } else { &[] }).await?;
    lambda.queues.attach(&workers.function);
    let before = (known(world).await?, world.simulators.calls_so_far().await?, requests(&lambda.plan.redis).await?);
    let plan = &lambda.plan;
    let cpu = [schedule.cpu_ms(), workers.cpu_ms(), children_cpu_ms(plan.postgres_pid), cpu_ms(plan.simulators_pid)];
    let began = Instant::now();
    schedule.function.invoke(&json!({})).await?.body?;
    idle(&[&workers.function], Duration::from_secs(300)).await?;
    let seconds = began.elapsed().as_secs_f64();
    let cycle = Cycle {
        seconds,
        parts: [(&schedule, cpu[0]), (&workers, cpu[1])].map(|(fleet, before)| Part::of(fleet, before)).into(),
        calls: count(usize::try_from(world.simulators.calls_so_far().await? - before.1)?),
        postgres_cpu_ms: children_cpu_ms(plan.postgres_pid) - cpu[2],
        simulators_cpu_ms: cpu_ms(plan.simulators_pid) - cpu[3],
        round_trips: count(proxy.round_trips()),
        redis: requests(&plan.redis).await? - before.2 - redis::OWN,
        new_messages: known(world).await? - before.0,
    };
    stop(lambda, schedule, workers).await;
    let expected = if with_new { size.div_ceil(100) } else { 0 };
    if cycle.new_messages != i64::try_from(expected)? {
        return Err(format!("{} messages were found of {expected}", cycle.new_messages).into());
    }
    Ok(cycle)
}

async fn stop(lambda: &Lambda, schedule: Fleet, workers: Fleet) {
    lambda.queues.detach_all();
    schedule.stop().await;
    workers.stop().await;
}

async fn known(world: &World) -> Outcome<i64> {
    Ok(world.database.query_one("SELECT count(*) FROM messages", &[]).await?.get(0))
}
