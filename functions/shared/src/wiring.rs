//! One line turns a handler into a Lambda function: `lambda!` for an endpoint, `worker!` for a queue, `schedule!` for
//! the rest. Each reads its environment, names all its faults in one sentence, and can describe itself.

use std::{
    pin::Pin,
    process::ExitCode,
    time::{Duration, Instant, SystemTime},
};

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use axum::{
    Router,
    routing::{MethodFilter, MethodRouter},
};
use lambda_http::RequestExt;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};
use tracing::Instrument;
use utoipa::openapi::HttpMethod;

use crate::{
    app::{App, Need, variables},
    platform::{
        config::SECRETS,
        http::{Edge, Problem, answer},
        queue::{Batch, Task},
        telemetry,
    },
};

use app_source::AppSource;

mod app_source;

/// A binary's name and needs.
pub struct Function {
    /// `<area>-<what>`, as in `Cargo.toml` and the template.
    pub name: &'static str,
    /// The needs, from which follow its environment variables.
    pub needs: &'static [Need],
}

impl Function {
    /// True if the process shall describe itself instead of working.
    fn is_asked_to_describe() -> bool {
        std::env::var_os("TUBERRY_DESCRIBE").is_some()
    }

    /// Prints `document`, with the function's name, environment variables and secrets added.
    fn describe(&self, mut document: Value) -> ExitCode {
        let environment: Vec<_> = variables(self.needs).iter().map(|variable| variable.name).collect();
        let is_secret = |name: &&&str| SECRETS.iter().any(|secret| secret.name == **name);
        let secrets: Vec<_> = environment.iter().filter(is_secret).collect();
        document["x-tuberry"] = json!({ "function": self.name, "environment": environment, "secrets": secrets });
        print(&document.to_string());
        ExitCode::SUCCESS
    }

    fn start(&self) -> Option<&'static AppSource> {
        match AppSource::from_env(self.needs) {
            Ok(source) => {
                telemetry::start(self.name);
                Some(Box::leak(Box::new(source)))
            }
            Err(error) => {
                complain(&format!("{}: {error}", self.name));
                None
            }
        }
    }
}

#[expect(clippy::print_stdout, reason = "a description is asked for on standard output")]
fn print(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "without a configuration there is no log yet")]
fn complain(text: &str) {
    eprintln!("{text}");
}

fn exit(name: &str, outcome: Result<(), Error>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{name}: the Lambda runtime stopped: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Method and path of an endpoint.
pub struct Route {
    /// The method, as axum matches it.
    pub filter: MethodFilter,
    path: String,
    /// Method and path, as the log names them.
    name: String,
}

impl Route {
    /// Reads method and path from the `#[utoipa::path]` of an operation.
    pub fn of<T: utoipa::Path>() -> Self {
        let (filter, method) = match T::methods().as_slice() {
            [HttpMethod::Get, ..] => (MethodFilter::GET, "GET"),
            [HttpMethod::Put, ..] => (MethodFilter::PUT, "PUT"),
            [HttpMethod::Patch, ..] => (MethodFilter::PATCH, "PATCH"),
            [HttpMethod::Delete, ..] => (MethodFilter::DELETE, "DELETE"),
            _ => (MethodFilter::POST, "POST"),
        };
        let path = T::path();
        Self { filter, name: format!("{method} {path}"), path }
    }
}

/// Runs an endpoint. Makes its `document` only if the process shall describe itself.
pub async fn serve(
    function: Function,
    route: Route,
    handler: MethodRouter<&'static App>,
    document: fn() -> utoipa::openapi::OpenApi,
) -> ExitCode {
    if Function::is_asked_to_describe() {
        return function.describe(serde_json::to_value(document()).unwrap_or_default());
    }
    let Some(source) = function.start() else { return ExitCode::FAILURE };
    let routes = Router::new().route(&route.path, handler);
    let route: &'static str = Box::leak(route.name.into_boxed_str());
    let service = service_fn(move |request: lambda_http::Request| {
        let routes = routes.clone();
        async move {
            let service: Router = match source.app().await {
                Ok(app) => routes.with_state(app),
                Err(error) => {
                    tracing::error!(%error, "the function has no configuration to work with");
                    Router::new().fallback(async || Problem::unavailable())
                }
            };
            let request_id = request.lambda_context_ref().map(|context| context.request_id.clone()).unwrap_or_default();
            let span = tracing::info_span!("request", request_id);
            let request = request.map(axum::body::Body::new);
            let response = answer(service, request, Edge { route, request_id: &request_id }).instrument(span).await;
            telemetry::flush();
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    exit(function.name, lambda_http::run(service).await)
}

/// Runs a worker: `handle` gets each batch of its queue and returns the messages that go back.
pub async fn work<T: Task, F: Future<Output = SqsBatchResponse>>(
    function: Function,
    handle: fn(&'static App, Batch<T>) -> F,
) -> ExitCode {
    run(function, move |app, event: LambdaEvent<SqsEvent>| async move {
        let deadline = deadline(event.context.deadline);
        Ok(handle(app, Batch::read(event.payload, deadline)).await)
    })
    .await
}

/// Runs a function that a schedule or a person starts: `handle` gets the event unchanged.
pub async fn tick<F: Future<Output = Result<Value, Error>>>(
    function: Function,
    handle: fn(&'static App, Value) -> F,
) -> ExitCode {
    run(function, move |app, event: LambdaEvent<Value>| handle(app, event.payload)).await
}

async fn run<I, O, F>(function: Function, handle: impl Fn(&'static App, LambdaEvent<I>) -> F + Copy) -> ExitCode
where
    I: for<'de> serde::Deserialize<'de>,
    O: serde::Serialize,
    F: Future<Output = Result<O, Error>>,
{
    if Function::is_asked_to_describe() {
        return function.describe(json!({}));
    }
    let Some(source) = function.start() else { return ExitCode::FAILURE };
    let service = service_fn(|event: LambdaEvent<I>| {
        let span = tracing::info_span!("invocation", request_id = event.context.request_id);
        let work: Pin<Box<dyn Future<Output = Result<O, Error>>>> =
            Box::pin(async move { handle(source.app().await?, event).await });
        async move {
            let outcome = work.await;
            if let Err(error) = &outcome {
                tracing::error!(%error, "the invocation failed");
            }
            telemetry::flush();
            outcome
        }
        .instrument(span)
    });
    exit(function.name, lambda_runtime::run(service).await)
}

/// The moment at which Lambda stops the process, from its wall-clock deadline in milliseconds.
fn deadline(epoch_ms: u64) -> Instant {
    let wall = SystemTime::UNIX_EPOCH + Duration::from_millis(epoch_ms);
    Instant::now() + wall.duration_since(SystemTime::now()).unwrap_or_default()
}

/// Makes an endpoint of a handler. Only the handler's `#[utoipa::path]` names method and path; the `__path_…` beside
/// the handler is the type that this attribute generates.
#[macro_export]
macro_rules! lambda {
    ($name:literal, $handler:ident as $operation:ident, [$($need:ident),* $(,)?]) => {
        #[derive(utoipa::OpenApi)]
        #[openapi(paths($handler))]
        struct Document;

        #[tokio::main(flavor = "current_thread")]
        async fn main() -> std::process::ExitCode {
            let function = $crate::wiring::Function { name: $name, needs: &[$($crate::app::Need::$need),*] };
            let route = $crate::wiring::Route::of::<$operation>();
            let handler = axum::routing::on(route.filter, $handler);
            $crate::wiring::serve(function, route, handler, <Document as utoipa::OpenApi>::openapi).await
        }
    };
}

/// Makes a queue's consumer of an `async fn(&'static App, Batch<Task>) -> SqsBatchResponse`.
#[macro_export]
macro_rules! worker {
    ($name:literal, $handler:ident, [$($need:ident),* $(,)?]) => {
        #[tokio::main(flavor = "current_thread")]
        async fn main() -> std::process::ExitCode {
            let function = $crate::wiring::Function { name: $name, needs: &[$($crate::app::Need::$need),*] };
            $crate::wiring::work(function, $handler).await
        }
    };
}

/// Makes a function that a schedule or a person starts of an `async fn(&'static App, Value) -> Result<Value, Error>`.
#[macro_export]
macro_rules! schedule {
    ($name:literal, $handler:ident, [$($need:ident),* $(,)?]) => {
        #[tokio::main(flavor = "current_thread")]
        async fn main() -> std::process::ExitCode {
            let function = $crate::wiring::Function { name: $name, needs: &[$($crate::app::Need::$need),*] };
            $crate::wiring::tick(function, $handler).await
        }
    };
}
