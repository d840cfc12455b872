//! Lambda's Runtime API around one built function, so that a test can choose the function's environment: a queue that
//! is away, a database behind a proxy. The four paths of docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex as PlainMutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc, oneshot};

/// An address at which no server listens.
pub(crate) const NOWHERE: &str = "127.0.0.1:1";

type Reply = oneshot::Sender<Result<Value, Value>>;

struct Runtime {
    events: Mutex<mpsc::UnboundedReceiver<(Value, Reply)>>,
    under_way: PlainMutex<HashMap<String, Reply>>,
}

/// A running function.
pub(crate) struct Function {
    process: Child,
    events: mpsc::UnboundedSender<(Value, Reply)>,
}

/// Returns the path of the program that the stack deployed.
fn program(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/lambda").join(name).join("bootstrap")
}

impl Function {
    /// Starts a function with the stack's environment, but for `changed`.
    pub(crate) async fn start(name: &str, changed: &[(&str, &str)]) -> Self {
        let (events, waiting) = mpsc::unbounded_channel();
        let runtime = Arc::new(Runtime { events: Mutex::new(waiting), under_way: PlainMutex::default() });
        let routes = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(responded))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(failed))
            .route("/2018-06-01/runtime/init/error", post(async || StatusCode::ACCEPTED))
            .with_state(runtime);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        tokio::spawn(async move { axum::serve(listener, routes).await });

        let mut command = Command::new(program(name));
        // Its complaints at the start are seen; its log is not.
        command.env_clear().stdout(Stdio::null()).stderr(Stdio::inherit());
        let aws = ["AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
        for name in aws.map(str::to_owned).into_iter().chain(variables(name)) {
            command.envs(std::env::var(&name).map(|value| (name, value)));
        }
        command.env("AWS_LAMBDA_RUNTIME_API", address).env("AWS_LAMBDA_FUNCTION_NAME", name);
        command.env("AWS_LAMBDA_FUNCTION_VERSION", "1").env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256");
        command.env("AWS_LAMBDA_LOG_GROUP_NAME", "tests").env("AWS_LAMBDA_LOG_STREAM_NAME", "tests");
        command.envs(changed.iter().copied());
        Self { process: command.spawn().expect("the stack has built the function"), events }
    }

    /// Hands an event to the function and waits for its answer.
    pub(crate) async fn invoke(&self, event: Value) -> Value {
        let (reply, answer) = oneshot::channel();
        assert!(self.events.send((event, reply)).is_ok(), "the runtime stands");
        let answer = tokio::time::timeout(Duration::from_secs(30), answer).await.expect("the function answers");
        answer.expect("the runtime stands").expect("the function succeeds")
    }

    /// Hands a request to the function as API Gateway does; returns status, headers and body.
    pub(crate) async fn post(&self, url: &str, headers: &[(&str, &str)], body: &Value) -> (u64, Value, String) {
        let path = url.find("/api/").map_or(url, |start| &url[start..]);
        let mut all = json!({ "content-type": "application/json", "host": "127.0.0.1" });
        for (name, value) in headers {
            all[*name] = json!(value);
        }
        let event = json!({
            "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "", "headers": all,
            "requestContext": {
                "accountId": "1", "apiId": "api", "domainName": "127.0.0.1", "domainPrefix": "api", "requestId": "r",
                "routeKey": "$default", "stage": "$default", "time": "01/Jan/2026:00:00:00 +0000", "timeEpoch": 0,
                "http": {
                    "method": "POST", "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "test",
                },
            },
            "body": body.to_string(), "isBase64Encoded": false,
        });
        let answer = self.invoke(event).await;
        let text = answer["body"].as_str().unwrap_or_default().to_owned();
        (answer["statusCode"].as_u64().expect("a status"), answer["headers"].clone(), text)
    }

    /// Hands one task to a worker as SQS does; the worker must not report it as failed.
    pub(crate) async fn work(&self, task: &Value) {
        let record = json!({
            "messageId": "m1", "receiptHandle": "r1", "body": task.to_string(), "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:tests", "awsRegion": "us-east-1",
            "attributes": { "ApproximateReceiveCount": "1" }, "messageAttributes": {},
        });
        let answer = self.invoke(json!({ "Records": [record] })).await;
        assert_eq!(answer["batchItemFailures"], json!([]));
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Lists the variables that a function says it reads.
fn variables(name: &str) -> Vec<String> {
    let output = run_to_end(name, &[("TUBERRY_DESCRIBE", "1")]);
    let description: Value = serde_json::from_slice(&output.stdout).expect("a description");
    serde_json::from_value(description["x-tuberry"]["environment"].clone()).expect("names of variables")
}

/// Runs a function that is expected to end by itself.
pub(crate) fn run_to_end(name: &str, environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(program(name));
    command.env_clear().env("AWS_LAMBDA_RUNTIME_API", NOWHERE).envs(environment.iter().copied());
    command.output().expect("the stack has built the function")
}

async fn next(State(runtime): State<Arc<Runtime>>) -> (StatusCode, HeaderMap, String) {
    let Some((event, reply)) = runtime.events.lock().await.recv().await else {
        return (StatusCode::GONE, HeaderMap::new(), String::new());
    };
    let id = uuid::Uuid::new_v4().to_string();
    let deadline = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock") + Duration::from_secs(30);
    let headers = HeaderMap::from_iter([
        header("lambda-runtime-aws-request-id", &id),
        header("lambda-runtime-deadline-ms", &deadline.as_millis().to_string()),
        header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:000000000000:function:tests"),
        header("lambda-runtime-trace-id", "Root=1-0-0;Parent=0;Sampled=0"),
        header("content-type", "application/json"),
    ]);
    runtime.under_way.lock().expect("a lock").insert(id, reply);
    (StatusCode::OK, headers, event.to_string())
}

fn header(name: &'static str, value: &str) -> (axum::http::HeaderName, HeaderValue) {
    (axum::http::HeaderName::from_static(name), HeaderValue::from_str(value).expect("a header"))
}

async fn responded(State(runtime): State<Arc<Runtime>>, Path(id): Path<String>, body: String) -> StatusCode {
    runtime.reply(&id, Ok(serde_json::from_str(&body).unwrap_or(Value::Null)))
}

async fn failed(State(runtime): State<Arc<Runtime>>, Path(id): Path<String>, body: String) -> StatusCode {
    runtime.reply(&id, Err(serde_json::from_str(&body).unwrap_or(Value::Null)))
}

impl Runtime {
    fn reply(&self, id: &str, answer: Result<Value, Value>) -> StatusCode {
        if let Some(reply) = self.under_way.lock().expect("a lock").remove(id) {
            let _ = reply.send(answer);
        }
        StatusCode::ACCEPTED
    }
}
