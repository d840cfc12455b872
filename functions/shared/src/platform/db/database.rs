//! The database: runs a transaction in one round trip.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Semaphore;
use tokio_postgres::{Client, Row};

use super::{
    connection::connect,
    error::DbError,
    pipeline::Pipeline,
    rows::ClientId,
    statement::{ResultSets, Scope, Statement},
};
use crate::platform::{
    idle::{MAX_STORE_IDLE, Moment},
    last_event::LastEvent,
    secrets::Secret,
};

/// The time for which stored functions are made for each transaction after they were missing.
const WITHOUT_FUNCTIONS: Duration = Duration::from_secs(60);
/// The most times that a transaction is sent again after it had no effect.
const REPEATS: usize = 2;

/// The time that Postgres may take to connect and to answer.
#[derive(Clone, Copy)]
pub struct Timeouts {
    /// For a new connection.
    pub connect: Duration,
    /// For the answers to one transaction. Postgres itself gives up 100 ms earlier than we do.
    pub answer: Duration,
    /// For the next transaction on a connection. After that it is closed: a server or pooler may have done so unseen.
    pub idle: Duration,
}

impl Timeouts {
    /// For workers and ordinary endpoints.
    pub const USUAL: Self =
        Self { connect: Duration::from_secs(3), answer: Duration::from_secs(8), idle: MAX_STORE_IDLE };
    /// For a webhook, whose sender waits 2 s: without Postgres, time must be left for the intake queue.
    pub const SHORT: Self =
        Self { connect: Duration::from_millis(500), answer: Duration::from_millis(900), idle: MAX_STORE_IDLE };
}

/// The most transactions of a process at the same time, each on its own connection. A worker's tasks belong to
/// different clients, and none shall wait while another client's transaction waits for a row lock. An endpoint has one
/// request at a time and never opens a second connection.
const MAX_CONNECTIONS: usize = 2;

/// The process's connections, opened on first use and again after they broke.
pub struct Db {
    address: Secret,
    extra_roots: String,
    timeouts: Timeouts,
    permits: Semaphore,
    idle: Mutex<Vec<(Client, Moment)>>,
    round_trips: AtomicU64,
    functions_missed: LastEvent,
}

impl Db {
    /// Describes the database; nothing is opened yet. `extra_roots`: PEM certificates besides the public ones.
    pub fn new(address: Secret, extra_roots: String, timeouts: Timeouts) -> Self {
        Self {
            address,
            extra_roots,
            timeouts,
            permits: Semaphore::new(MAX_CONNECTIONS),
            idle: Mutex::default(),
            round_trips: AtomicU64::new(0),
            functions_missed: LastEvent::default(),
        }
    }

    /// The number of times that this process waited for Postgres, without those for connecting.
    pub fn round_trips(&self) -> u64 {
        self.round_trips.load(Ordering::Relaxed)
    }

    /// Runs the statements as one transaction in one round trip and commits it.
    ///
    /// A transaction that fails because an open connection turns out to be dead is sent once more on a new one. So
    /// every transaction must decide by unique keys or compare-and-set: its repetition after a commit then changes
    /// nothing. A transaction is also sent again if Postgres rolled it back after a deadlock or serialization failure,
    /// and if its functions are missing.
    pub async fn run(&self, scope: Scope, statements: Vec<Statement>) -> Result<ResultSets, DbError> {
        for _ in 0..REPEATS {
            // Read before sending: another transaction may find out meanwhile that functions are missing.
            let has_functions = self.has_functions();
            match self.run_once(&scope, &statements, has_functions).await {
                Err(error) if error.is_undone() => {
                    metrics::counter!("transactions_retried").increment(1);
                    tracing::warn!(%error, "Postgres rolled back a transaction because of another; it is sent again");
                }
                // Happens between a deployment and its `migrate`, and long after a rollback. It only costs time.
                Err(error) if error.lacks_functions() && has_functions => {
                    metrics::counter!("sql_functions_missing").increment(1);
                    tracing::warn!(%error, "SQL functions are missing: run `migrate`; they are made for each transaction");
                    self.functions_missed.note();
                }
                outcome => return outcome,
            }
        }
        self.run_once(&scope, &statements, self.has_functions()).await
    }

    async fn run_once(
        &self,
        scope: &Scope,
        statements: &[Statement],
        has_functions: bool,
    ) -> Result<ResultSets, DbError> {
        let _permit = self.permits.acquire().await.map_err(|_| DbError::Unavailable("the process ends"))?;
        if let Some(client) = self.idle() {
            match self.run_on(&client, scope, statements, has_functions).await {
                // The cause has ended the other idle connections too.
                Err(DbError::Unavailable(_)) => self.with_idle(Vec::clear),
                outcome => {
                    self.keep(client);
                    return outcome;
                }
            }
        }
        let client = connect(&self.address, &self.extra_roots, self.timeouts.connect).await?;
        let outcome = self.run_on(&client, scope, statements, has_functions).await;
        if !matches!(outcome, Err(DbError::Unavailable(_))) {
            self.keep(client);
        }
        outcome
    }

    /// Closes the connections that were idle for too long, and takes the one that was used last. None: no connection is
    /// idle.
    fn idle(&self) -> Option<Client> {
        self.with_idle(|idle| {
            idle.retain(|(client, since)| !client.is_closed() && since.elapsed() < self.timeouts.idle);
            idle.pop().map(|(client, _)| client)
        })
    }

    /// Closes the idle connections.
    pub fn close_idle(&self) {
        self.with_idle(Vec::clear);
    }

    fn keep(&self, client: Client) {
        self.with_idle(|idle| idle.push((client, Moment::now())));
    }

    fn with_idle<T>(&self, act: impl FnOnce(&mut Vec<(Client, Moment)>) -> T) -> T {
        act(&mut self.idle.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn has_functions(&self) -> bool {
        !self.functions_missed.is_within(WITHOUT_FUNCTIONS)
    }

    /// Runs one statement as [`Db::run`] does.
    pub async fn query(&self, scope: Scope, statement: Statement) -> Result<Vec<Row>, DbError> {
        Ok(self.run(scope, vec![statement]).await?.into_last())
    }

    async fn run_on(
        &self,
        client: &Client,
        scope: &Scope,
        statements: &[Statement],
        has_functions: bool,
    ) -> Result<ResultSets, DbError> {
        self.round_trips.fetch_add(1, Ordering::Relaxed);
        let timeout_ms = self.timeouts.answer.as_millis();
        let mut pipeline = Pipeline::new(client, has_functions);
        // The texts have only numbers and words of our own. If one of them were no valid SQL, nothing of it would run. If the
        // first were none, no transaction would open.
        let begin = format!("BEGIN; SET LOCAL statement_timeout = {timeout_ms}");
        let calls = |statement: &Statement| statement.calls_functions();
        let finds_by_call = matches!(scope, Scope::TenantOf(find) if calls(find));
        let makes_functions = !has_functions && (finds_by_call || statements.iter().any(calls));
        if makes_functions {
            // Made before the role is taken: only a function's owner may replace it, and all roles share the fragments.
            pipeline.execute(begin.clone());
            pipeline.make_functions();
        }
        let take_role = |role: &str| {
            if makes_functions { format!("SET LOCAL ROLE {role}") } else { format!("{begin}; SET LOCAL ROLE {role}") }
        };
        match scope {
            Scope::Tenant(ClientId(id)) => {
                pipeline.execute(format!("{}; SET LOCAL app.client_id = {id}", take_role("tuberry_app")));
            }
            Scope::TenantOf(find) => {
                pipeline.execute(take_role("tuberry_service"));
                pipeline.query(find);
                pipeline.execute("SET LOCAL ROLE tuberry_app");
            }
            Scope::Identity => pipeline.execute(take_role("tuberry_identity")),
            Scope::Service => pipeline.execute(take_role("tuberry_service")),
        }
        for statement in statements {
            pipeline.query(statement);
        }
        pipeline.execute("COMMIT");
        // A connection with unread answers is not used again: the caller has taken it out of `idle`.
        tokio::time::timeout(self.timeouts.answer + Duration::from_millis(100), pipeline.send())
            .await
            .map_err(|_| DbError::Unavailable("it did not answer in time"))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_unreachable_database_is_reported_without_its_address() {
        let db = Db::new(Secret::new("postgres://user:word@127.0.0.1:1/x"), String::new(), Timeouts::SHORT);
        let outcome = db.query(Scope::Service, Statement::new("SELECT 1")).await;
        assert_eq!(
            outcome.err().map(|error| error.to_string()).as_deref(),
            Some("Postgres cannot be reached: the connection was refused")
        );
    }
}
