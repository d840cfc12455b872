//! Postgres. A transaction is a list of statements sent in one flight, so none can be open while something outside is
//! called, and every piece of work costs one round trip. Outside such a flight there is no way to query.

use std::{
    borrow::Cow,
    future::Future,
    pin::Pin,
    sync::{
        PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::Mutex;
use tokio_postgres::{
    Client, Row,
    config::SslMode,
    error::SqlState,
    types::{ToSql, Type},
};

use super::{plans::Planned, secrets::Secret};

/// A tenant: the id of a row in `clients`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct ClientId(pub i64);

/// A value that a statement can carry, with its built-in Postgres type.
pub trait Param: ToSql + Sync + Send + 'static {
    /// The type the statement sees.
    const TYPE: Type;
}

macro_rules! params {
    ($($rust:ty => $postgres:ident),* $(,)?) => { $(impl Param for $rust { const TYPE: Type = Type::$postgres; })* };
}
params! {
    bool => BOOL, i32 => INT4, i64 => INT8, f64 => FLOAT8, String => TEXT, &'static str => TEXT, Vec<u8> => BYTEA,
    Timestamp => TIMESTAMPTZ, jiff::civil::Time => TIME, uuid::Uuid => UUID, serde_json::Value => JSONB,
    Vec<i64> => INT8_ARRAY, Vec<String> => TEXT_ARRAY,
}
impl<T: Param> Param for Option<T> {
    const TYPE: Type = T::TYPE;
}

enum Sql {
    Text(&'static str),
    Planned(&'static Planned),
}

/// One SQL statement with its parameters.
pub struct Statement {
    sql: Sql,
    params: Vec<(Box<dyn ToSql + Sync + Send>, Type)>,
}

impl Statement {
    /// A statement whose parameters `$1`, `$2`, … follow by [`Statement::bind`], in that order.
    pub fn new(sql: &'static str) -> Self {
        Self { sql: Sql::Text(sql), params: Vec::new() }
    }

    /// As [`Statement::new`], by a plan that Postgres keeps; see [`planned!`](crate::planned).
    pub fn planned(planned: &'static Planned) -> Self {
        Self { sql: Sql::Planned(planned), params: Vec::new() }
    }

    /// Adds the next parameter.
    #[must_use]
    pub fn bind<T: Param>(mut self, value: T) -> Self {
        self.params.push((Box::new(value), T::TYPE));
        self
    }
}

/// On whose behalf a flight runs: its role and tenant.
pub enum Scope {
    /// One tenant's rows, as `tuberry_app`.
    Tenant(ClientId),
    /// The tenant is that of a row still to be found: the statement runs as `tuberry_service` and must call
    /// `set_config('app.client_id', …, true)` for the row it finds; all that follows runs as `tuberry_app`.
    /// When it finds nothing, the rest sees no row.
    TenantOf(Statement),
    /// Users, sessions, tokens and organisations.
    Identity,
    /// Schedules and lists over all tenants.
    Service,
}

/// What a flight can end in besides rows. Texts carry the SQLSTATE and a constraint's name, never a value.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// Postgres cannot be reached, or did not answer in time. Whether the flight took effect is not known.
    #[error("Postgres cannot be reached: {0}")]
    Unavailable(&'static str),
    /// A constraint was broken.
    #[error("the constraint {constraint} refuses the row ({sqlstate})")]
    Constraint {
        /// The five-character code.
        sqlstate: String,
        /// The constraint's name.
        constraint: String,
    },
    /// Postgres refused the statement.
    #[error("Postgres refused a statement ({0})")]
    Statement(String),
    /// A row is not of the shape the code reads.
    #[error("a row is not as expected")]
    Shape,
}

impl DbError {
    /// The name of the broken constraint.
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Self::Constraint { constraint, .. } => Some(constraint),
            Self::Unavailable(_) | Self::Statement(_) | Self::Shape => None,
        }
    }
}

impl From<tokio_postgres::Error> for DbError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(refusal) = error.as_db_error() else {
            return if error.is_closed() || is_broken(&error) {
                Self::Unavailable("the connection broke")
            } else {
                Self::Shape
            };
        };
        let sqlstate = refusal.code().code().to_owned();
        if gone(refusal.code()) {
            Self::Unavailable("it is shutting down or refuses connections")
        } else if let Some(constraint) = refusal.constraint() {
            Self::Constraint { sqlstate, constraint: constraint.to_owned() }
        } else {
            Self::Statement(sqlstate)
        }
    }
}

fn is_broken(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<std::io::Error>)
}

/// Answers with which a server or a pooler says that this connection is of no use any more.
fn gone(code: &SqlState) -> bool {
    [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::CONNECTION_FAILURE,
        SqlState::CONNECTION_EXCEPTION,
        SqlState::PROTOCOL_VIOLATION,
        SqlState::QUERY_CANCELED,
    ]
    .contains(code)
}

/// Answers with which Postgres undoes a transaction for the sake of another.
fn undone(state: &str) -> bool {
    [SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE].iter().any(|code| code.code() == state)
}

/// Answers that say that `migrate` has not yet made, or no longer keeps, the functions of this code's planned statements.
fn lacks_plans(state: &str) -> bool {
    [SqlState::UNDEFINED_FUNCTION, SqlState::INVALID_SCHEMA_NAME].iter().any(|code| code.code() == state)
}

/// How long statements are sent as they are written, once their functions were missing.
const WITHOUT_PLANS: Duration = Duration::from_secs(60);
/// How often a flight that was undone is sent again.
const UNDONE_REPEATS: usize = 2;

/// Reads a column, or says that the row is not as expected.
pub fn get<'row, T: tokio_postgres::types::FromSql<'row>>(row: &'row Row, column: &str) -> Result<T, DbError> {
    row.try_get(column).map_err(|_| DbError::Shape)
}

/// The rows of each statement of a flight, in the order given.
pub type Answers = Vec<Vec<Row>>;

/// How long Postgres may take to connect and to answer.
#[derive(Clone, Copy)]
pub struct Patience {
    /// For a new connection.
    pub connect: Duration,
    /// For the answers to one flight; Postgres itself gives up a little earlier.
    pub answer: Duration,
}

impl Patience {
    /// For workers and ordinary endpoints.
    pub const USUAL: Self = Self { connect: Duration::from_secs(3), answer: Duration::from_secs(8) };
    /// For a webhook whose sender waits 2 s: something must be left for the second way.
    pub const SHORT: Self = Self { connect: Duration::from_millis(500), answer: Duration::from_millis(900) };
}

/// The process's one connection, opened on first use and again when it broke.
pub struct Db {
    address: Secret,
    extra_roots: String,
    patience: Patience,
    connection: Mutex<Option<Client>>,
    round_trips: AtomicU64,
    lacked_plans: std::sync::Mutex<Option<Instant>>,
    away: std::sync::Mutex<Option<Instant>>,
}

impl Db {
    /// Describes the database; nothing is opened yet. `extra_roots`: PEM certificates besides the public ones.
    pub fn new(address: Secret, extra_roots: String, patience: Patience) -> Self {
        Self {
            address,
            extra_roots,
            patience,
            connection: Mutex::new(None),
            round_trips: AtomicU64::new(0),
            lacked_plans: std::sync::Mutex::new(None),
            away: std::sync::Mutex::new(None),
        }
    }

    /// How many times this process waited for Postgres, connecting apart.
    pub fn round_trips(&self) -> u64 {
        self.round_trips.load(Ordering::Relaxed)
    }

    /// Runs the statements as one transaction in one round trip and commits it.
    ///
    /// A flight whose first answer shows a dead connection is sent once more on a new one. So every flight must decide
    /// by unique keys or compare-and-set: a repeat of one that did commit changes nothing. One that Postgres undid
    /// because it and another waited for each other is sent again.
    pub async fn run(&self, scope: Scope, statements: Vec<Statement>) -> Result<Answers, DbError> {
        for _ in 0..UNDONE_REPEATS {
            match self.run_once(&scope, &statements).await {
                Err(DbError::Statement(state)) if undone(&state) => {
                    metrics::counter!("flights_undone").increment(1);
                    tracing::warn!(state, "Postgres undid a flight for another; it is sent again");
                }
                // Between a deployment and its `migrate`, and long after a rollback: slower, and nothing else.
                Err(DbError::Statement(state)) if lacks_plans(&state) && self.has_plans() => {
                    metrics::counter!("plans_missing").increment(1);
                    tracing::warn!(state, "plans are missing: run `migrate`; statements are sent as they are written");
                    *self.lacked_plans.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                }
                outcome => return outcome,
            }
        }
        self.run_once(&scope, &statements).await
    }

    /// Whether Postgres was away for this process within the last `period`: others may not have noticed yet that it is back.
    pub fn was_away(&self, period: Duration) -> bool {
        let away = *self.away.lock().unwrap_or_else(PoisonError::into_inner);
        away.is_some_and(|since| since.elapsed() < period)
    }

    fn is_away(&self) {
        *self.away.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    async fn run_once(&self, scope: &Scope, statements: &[Statement]) -> Result<Answers, DbError> {
        let mut slot = self.connection.lock().await;
        if let Some(client) = slot.take() {
            if !client.is_closed() {
                match self.fly(&client, scope, statements).await {
                    Err(DbError::Unavailable(_)) => {}
                    outcome => {
                        *slot = Some(client);
                        return outcome;
                    }
                }
            }
            self.is_away();
        }
        let client = self.connect().await.inspect_err(|_| self.is_away())?;
        let outcome = self.fly(&client, scope, statements).await;
        if matches!(outcome, Err(DbError::Unavailable(_))) {
            self.is_away();
        } else {
            *slot = Some(client);
        }
        outcome
    }

    fn has_plans(&self) -> bool {
        let lacked = *self.lacked_plans.lock().unwrap_or_else(PoisonError::into_inner);
        lacked.is_none_or(|since| since.elapsed() > WITHOUT_PLANS)
    }

    /// Runs one statement as [`Db::run`] does.
    pub async fn query(&self, scope: Scope, statement: Statement) -> Result<Vec<Row>, DbError> {
        Ok(self.run(scope, vec![statement]).await?.pop().unwrap_or_default())
    }

    async fn fly(&self, client: &Client, scope: &Scope, statements: &[Statement]) -> Result<Answers, DbError> {
        self.round_trips.fetch_add(1, Ordering::Relaxed);
        let timeout_ms = self.patience.answer.as_millis();
        // BEGIN stands alone: in one string with a setting that fails, no transaction would open at all.
        let mut flight = Flight { has_plans: self.has_plans(), requests: Vec::new() };
        flight.execute(client, "BEGIN".to_owned());
        let limit = format!("SET LOCAL statement_timeout = {timeout_ms}; SET LOCAL ROLE");
        match scope {
            Scope::Tenant(ClientId(id)) => {
                flight.execute(client, format!("{limit} tuberry_app; SET LOCAL app.client_id = {id}"));
            }
            Scope::TenantOf(find) => {
                flight.execute(client, format!("{limit} tuberry_service"));
                flight.query(client, find);
                flight.execute(client, "SET LOCAL ROLE tuberry_app".to_owned());
            }
            Scope::Identity => flight.execute(client, format!("{limit} tuberry_identity")),
            Scope::Service => flight.execute(client, format!("{limit} tuberry_service")),
        }
        for statement in statements {
            flight.query(client, statement);
        }
        flight.execute(client, "COMMIT".to_owned());
        // A connection whose last answer was not read is not used again: the caller took it out of its place.
        tokio::time::timeout(self.patience.answer + Duration::from_millis(100), flight.land())
            .await
            .map_err(|_| DbError::Unavailable("it did not answer in time"))?
    }

    async fn connect(&self) -> Result<Client, DbError> {
        connect(&self.address, &self.extra_roots, self.patience.connect).await
    }
}

/// Opens a connection that the runtime drives until it breaks or its client is dropped.
pub(super) async fn connect(address: &Secret, extra_roots: &str, patience: Duration) -> Result<Client, DbError> {
    let mut config = parse_address(address.expose())?;
    config.application_name("tuberry");
    let opening = async {
        if matches!(config.get_ssl_mode(), SslMode::Disable) {
            let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
            tokio::spawn(connection);
            Ok::<_, DbError>(client)
        } else {
            let tls = tokio_postgres_rustls::MakeRustlsConnect::new(tls_config(extra_roots)?);
            let (client, connection) = config.connect(tls).await?;
            tokio::spawn(connection);
            Ok(client)
        }
    };
    match tokio::time::timeout(patience, opening).await {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(DbError::Statement(state))) => Err(DbError::Statement(state)),
        Ok(Err(_)) => Err(DbError::Unavailable("the connection was refused")),
        Err(_) => Err(DbError::Unavailable("connecting took too long")),
    }
}

/// Reads a database address. tokio-postgres knows no `verify-full`; our TLS always verifies, so `require` is that.
/// Without `sslmode` the connection is plain.
pub fn parse_address(address: &str) -> Result<tokio_postgres::Config, DbError> {
    let known =
        address.replace("sslmode=verify-full", "sslmode=require").replace("sslmode=verify-ca", "sslmode=require");
    let mut config: tokio_postgres::Config =
        known.parse().map_err(|_| DbError::Unavailable("its address cannot be read"))?;
    if !known.contains("sslmode=") {
        config.ssl_mode(SslMode::Disable);
    }
    Ok(config)
}

fn tls_config(extra_roots: &str) -> Result<rustls::ClientConfig, DbError> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for certificate in CertificateDer::pem_slice_iter(extra_roots.as_bytes()) {
        let certificate = certificate.map_err(|_| DbError::Unavailable("DATABASE_CA is not PEM"))?;
        roots.add(certificate).map_err(|_| DbError::Unavailable("DATABASE_CA holds a certificate that is none"))?;
    }
    rustls::ClientConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_root_certificates(roots).with_no_client_auth())
        .map_err(|_| DbError::Unavailable("TLS could not be set up"))
}

type Landing<'a> = Pin<Box<dyn Future<Output = Result<Option<Vec<Row>>, tokio_postgres::Error>> + Send + 'a>>;

/// Requests under way on one connection. The driver queues a request when its future is first polled, so polling them
/// all, in order, sends them in one go.
struct Flight<'a> {
    has_plans: bool,
    requests: Vec<Landing<'a>>,
}

impl<'a> Flight<'a> {
    fn execute(&mut self, client: &'a Client, sql: String) {
        self.requests.push(Box::pin(async move { client.batch_execute(&sql).await.map(|()| None) }));
    }

    fn query(&mut self, client: &'a Client, statement: &'a Statement) {
        let has_plans = self.has_plans;
        self.requests.push(Box::pin(async move {
            let params: Vec<(&(dyn ToSql + Sync), Type)> = statement
                .params
                .iter()
                .map(|(value, kind)| (value.as_ref() as &(dyn ToSql + Sync), kind.clone()))
                .collect();
            let sql = match statement.sql {
                Sql::Planned(planned) if has_plans => Cow::Owned(planned.call(params.len())),
                Sql::Planned(planned) => Cow::Borrowed(planned.sql()),
                Sql::Text(sql) => Cow::Borrowed(sql),
            };
            client.query_typed(&sql, &params).await.map(Some)
        }));
    }

    /// Waits for all answers. The first error counts: those behind it only say that the transaction is lost.
    async fn land(mut self) -> Result<Answers, DbError> {
        let mut answers: Vec<Option<Result<Option<Vec<Row>>, tokio_postgres::Error>>> =
            self.requests.iter().map(|_| None).collect();
        std::future::poll_fn(|context| {
            let mut waiting = false;
            for (request, answer) in self.requests.iter_mut().zip(&mut answers) {
                if answer.is_none() {
                    match request.as_mut().poll(context) {
                        Poll::Ready(outcome) => *answer = Some(outcome),
                        Poll::Pending => waiting = true,
                    }
                }
            }
            if waiting { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        let mut rows = Vec::new();
        for answer in answers.into_iter().flatten() {
            rows.extend(answer?);
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_asks_for_verification_is_verified() {
        for mode in ["require", "verify-full", "verify-ca"] {
            let config = parse_address(&format!("postgres://u@db.example/tuberry?sslmode={mode}"));
            assert_eq!(config.map(|config| config.get_ssl_mode()).ok(), Some(SslMode::Require));
        }
    }

    #[test]
    fn an_address_that_names_no_mode_is_plain() {
        let config = parse_address("postgres://u@127.0.0.1/tuberry");
        assert_eq!(config.map(|config| config.get_ssl_mode()).ok(), Some(SslMode::Disable));
    }

    #[tokio::test]
    async fn an_unreachable_database_is_told_without_its_address() {
        let db = Db::new(Secret::new("postgres://user:word@127.0.0.1:1/x"), String::new(), Patience::SHORT);
        let outcome = db.query(Scope::Service, Statement::new("SELECT 1")).await;
        assert_eq!(
            outcome.err().map(|error| error.to_string()).as_deref(),
            Some("Postgres cannot be reached: the connection was refused")
        );
    }
}
