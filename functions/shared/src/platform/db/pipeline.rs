//! One transaction: its requests are sent together, and their answers are awaited together.

use std::{borrow::Cow, future::Future, pin::Pin, task::Poll};

use tokio_postgres::{Client, Row};

use super::{
    error::DbError,
    functions,
    statement::{ResultSets, Statement},
};
use crate::sql;

type Request<'a> = Pin<Box<dyn Future<Output = Result<Vec<Row>, tokio_postgres::Error>> + Send + 'a>>;

/// Requests under way on one connection. The driver queues a request when its future is first polled, so polling them
/// all, in order, sends them in one go.
pub(super) struct Pipeline<'a> {
    client: &'a Client,
    has_functions: bool,
    requests: Vec<Request<'a>>,
    /// For each request: its statement. None: SQL that returns no rows.
    statements: Vec<Option<&'a Statement>>,
}

impl<'a> Pipeline<'a> {
    /// An empty transaction. `has_functions`: the schema of the stored functions is there; if not, [`Pipeline::make_functions`]
    /// has to come before the first statement that calls one.
    pub(super) fn new(client: &'a Client, has_functions: bool) -> Self {
        Self { client, has_functions, requests: Vec::new(), statements: Vec::new() }
    }

    /// Adds SQL that returns no rows.
    pub(super) fn execute(&mut self, sql: impl Into<Cow<'static, str>>) {
        let (client, sql) = (self.client, sql.into());
        self.requests.push(Box::pin(async move { client.batch_execute(&sql).await.map(|()| Vec::new()) }));
        self.statements.push(None);
    }

    /// Adds the stored functions themselves, for this transaction.
    pub(super) fn make_functions(&mut self) {
        self.execute(functions::temporary());
    }

    /// Adds a statement.
    pub(super) fn query(&mut self, statement: &'a Statement) {
        let client = self.client;
        let sql = statement.text(if self.has_functions { sql::SCHEMA } else { functions::TEMPORARY });
        self.requests.push(Box::pin(async move { client.query_typed(&sql, &statement.params()).await }));
        self.statements.push(Some(statement));
    }

    /// Sends the requests and waits for all answers. The first error counts: later ones only say that the transaction
    /// is aborted.
    pub(super) async fn send(mut self) -> Result<ResultSets, DbError> {
        let mut answers: Vec<Option<Result<Vec<Row>, tokio_postgres::Error>>> =
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
        let mut results = ResultSets::default();
        for (answer, statement) in answers.into_iter().flatten().zip(self.statements) {
            let rows = answer?;
            if let Some(statement) = statement {
                results.push(statement.labels(), rows);
            }
        }
        Ok(results)
    }
}
