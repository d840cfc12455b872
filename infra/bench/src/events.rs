//! Events as AWS writes them: a request of API Gateway (payload 2.0), a batch of SQS.

use serde_json::{Value, json};

/// A request as API Gateway hands it over.
pub(crate) fn of_request(method: &str, path: &str, headers: &[(&str, &str)], body: Option<&Value>) -> Value {
    let mut all = json!({ "host": "127.0.0.1", "content-type": "application/json" });
    for (name, value) in headers {
        all[*name] = json!(value);
    }
    json!({
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "", "headers": all,
        "requestContext": {
            "accountId": "1", "apiId": "api", "domainName": "127.0.0.1", "domainPrefix": "api", "requestId": "r",
            "routeKey": "$default", "stage": "$default", "time": "01/Jan/2026:00:00:00 +0000", "timeEpoch": 0,
            "http": {
                "method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "bench",
            },
        },
        "body": body.map(Value::to_string), "isBase64Encoded": false,
    })
}

/// A batch of tasks as Lambda hands it over from SQS.
pub(crate) fn of_queue(tasks: &[String]) -> Value {
    let records: Vec<Value> = tasks
        .iter()
        .enumerate()
        .map(|(index, body)| {
            json!({
                "messageId": message_id(index), "receiptHandle": "r", "body": body, "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:bench", "awsRegion": "us-east-1",
                "attributes": { "ApproximateReceiveCount": "1" }, "messageAttributes": {},
            })
        })
        .collect();
    json!({ "Records": records })
}

/// The id of the message at an index of a batch.
pub(crate) fn message_id(index: usize) -> String {
    format!("m{index}")
}
