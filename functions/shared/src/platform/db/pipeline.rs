//! One transaction: its requests are sent together, and their answers are awaited together.

use std::{borrow::Cow, future::Future, pin::Pin, task::Poll};

use tokio_postgres::{
    Client, Row,
    types::{ToSql, Type},
};

use super::{
    error::DbError,
    statement::{ResultSets, Sql, Statement},
};

type Request<'a> = Pin<Box<dyn Future<Output = Result<Option<Vec<Row>>, tokio_postgres::Error>> + Send + 'a>>;

/// Requests under way on one connection. The driver queues a request when its future is first polled, so polling them
/// all, in order, sends them in one go.
pub(super) struct Pipeline<'a> {
    client: &'a Client,
    has_plans: bool,
    requests: Vec<Request<'a>>,
}

impl<'a> Pipeline<'a> {
    /// An empty transaction. `has_plans`: planned statements call their functions.
    pub(super) fn new(client: &'a Client, has_plans: bool) -> Self {
        Self { client, has_plans, requests: Vec::new() }
    }

    /// Adds SQL that returns no rows.
    pub(super) fn execute(&mut self, sql: String) {
        let client = self.client;
        self.requests.push(Box::pin(async move { client.batch_execute(&sql).await.map(|()| None) }));
    }

    /// Adds a statement.
    pub(super) fn query(&mut self, statement: &'a Statement) {
        let client = self.client;
        let (definition, sql) = match statement.sql {
            Sql::Planned(planned) if self.has_plans => (None, Cow::Owned(planned.call(statement.params.len()))),
            Sql::Planned(planned) => planned.as_written(statement.params.len()),
            Sql::Text(sql) => (None, Cow::Borrowed(sql)),
        };
        if let Some(definition) = definition {
            self.execute(definition);
        }
        self.requests.push(Box::pin(async move {
            let params: Vec<(&(dyn ToSql + Sync), Type)> = statement
                .params
                .iter()
                .map(|(value, kind)| (value.as_ref() as &(dyn ToSql + Sync), kind.clone()))
                .collect();
            client.query_typed(&sql, &params).await.map(Some)
        }));
    }

    /// Sends the requests and waits for all answers. The first error counts: later ones only say that the transaction
    /// is aborted.
    pub(super) async fn send(mut self) -> Result<ResultSets, DbError> {
        let mut results: Vec<Option<Result<Option<Vec<Row>>, tokio_postgres::Error>>> =
            self.requests.iter().map(|_| None).collect();
        std::future::poll_fn(|context| {
            let mut waiting = false;
            for (request, answer) in self.requests.iter_mut().zip(&mut results) {
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
        for answer in results.into_iter().flatten() {
            rows.extend(answer?);
        }
        Ok(rows)
    }
}
